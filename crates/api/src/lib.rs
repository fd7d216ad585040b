//! The contract: the custom resources of `emrcontainers.services.k8s.aws/v1alpha1`.
//!
//! Types, schemas, validation rules, conditions and the names that users and other programs depend on.
//! Must not know a Kubernetes client, an async runtime or AWS. Invariant: a manifest written for AWS's own
//! controller decodes and means the same; what is added is optional.

#![allow(unreachable_pub, reason = "the KubeSchema derive repeats the type inside a function")]
#![allow(clippy::duplicated_attributes, reason = "each printer column of the derive has a type and a path")]

pub mod annotations;
pub mod condition;
mod crd;
pub mod iam_role_selector;
pub mod job_run;
pub mod overrides;
pub mod reference;
pub mod schema;
pub mod status;
pub mod virtual_cluster;

pub use condition::{Condition, ConditionStatus};
pub use crd::crds;
pub use iam_role_selector::{IAMRoleSelector, IAMRoleSelectorSpec};
pub use job_run::{JobRun, JobRunSpec, JobRunStatus};
pub use virtual_cluster::{VirtualCluster, VirtualClusterSpec, VirtualClusterStatus};

/// The API group.
pub const GROUP: &str = "emrcontainers.services.k8s.aws";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// Finalizer of a JobRun: while it is there, a live job may belong to the object.
pub const JOB_RUN_FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/JobRun";
/// Finalizer of a VirtualCluster: while it is there, a live virtual cluster may belong to the object.
pub const VIRTUAL_CLUSTER_FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/VirtualCluster";
/// Name of the leader election lease, shared with AWS's controller so that only one of both acts.
pub const LEASE: &str = "ack-emrcontainers.services.k8s.aws";

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
pub mod field_export;
pub mod iam_role_selector;
pub mod job_run;
pub mod overrides;
pub mod reference;
pub mod schema;
pub mod status;
pub mod virtual_cluster;

pub use condition::{Condition, ConditionStatus};
pub use crd::crds;
pub use field_export::{FieldExport, FieldExportSpec, FieldExportStatus};
pub use iam_role_selector::{IAMRoleSelector, IAMRoleSelectorSpec};
pub use job_run::{JobRun, JobRunSpec, JobRunStatus};
pub use virtual_cluster::{VirtualCluster, VirtualClusterSpec, VirtualClusterStatus};

/// The API group.
pub const GROUP: &str = "emrcontainers.services.k8s.aws";
/// The API group of the kinds that all controllers of the ACK family share.
pub const SHARED_GROUP: &str = "services.k8s.aws";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// Finalizer of a JobRun: while it is there, a live job may belong to the object.
pub const JOB_RUN_FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/JobRun";
/// Finalizer of a VirtualCluster: while it is there, a live virtual cluster may belong to the object.
pub const VIRTUAL_CLUSTER_FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/VirtualCluster";
/// Finalizer of a FieldExport: while it is there, a key of its target may be the export's. Every controller of the ACK
/// family uses the same name, and takes it off any FieldExport that is deleted.
pub const FIELD_EXPORT_FINALIZER: &str = "finalizers.services.k8s.aws/FieldExport";
/// Name of the leader election lease, shared with AWS's controller so that only one of both acts.
pub const LEASE: &str = "ack-emrcontainers.services.k8s.aws";

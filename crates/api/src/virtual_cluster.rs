//! The kind `VirtualCluster`: binds EMR to one namespace of one EKS cluster.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::schema::{IMMUTABLE, immutable, pattern};
use crate::status::AckResourceMetadata;

/// The cluster takes job runs.
pub const RUNNING: &str = "RUNNING";
/// The cluster is being deleted.
pub const TERMINATING: &str = "TERMINATING";
/// The cluster is gone.
pub const TERMINATED: &str = "TERMINATED";
/// The deletion failed, because EMR has lost its access to the namespace.
pub const ARRESTED: &str = "ARRESTED";

/// Once the cluster exists, a field that the service can't add later can't be added here either.
fn settled(field: &str) -> Rule {
    Rule::new(format!(
        "!has(oldSelf.status) || !has(oldSelf.status.id) || \
         (has(self.spec) && has(self.spec.{field})) == (has(oldSelf.spec) && has(oldSelf.spec.{field}))"
    ))
    .message(IMMUTABLE)
    .field_path(format!(".spec.{field}"))
}

/// Binds Amazon EMR to one namespace of one EKS cluster.
#[allow(
    clippy::duplicated_attributes,
    reason = "clippy takes the keys of two printer columns for one attribute twice"
)]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "emrcontainers.services.k8s.aws",
    version = "v1alpha1",
    kind = "VirtualCluster",
    plural = "virtualclusters",
    singular = "virtualcluster",
    shortname = "emrvc",
    category = "emr",
    namespaced,
    status = "VirtualClusterStatus",
    derive = "PartialEq",
    doc = "VirtualCluster binds Amazon EMR to one namespace of one EKS cluster.",
    validation = settled("securityConfigurationID"),
    validation = settled("sessionEnabled"),
    printcolumn(name = "ID", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "STATE", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "NAMESPACE",
        type_ = "string",
        json_path = ".spec.containerProvider.info.eksInfo.namespace"
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct VirtualClusterSpec {
    /// The EKS cluster and namespace.
    #[x_kube(validation = immutable())]
    pub container_provider: ContainerProvider,
    /// Name of the virtual cluster at AWS.
    #[schemars(length(min = 1, max = 64), regex(pattern = pattern::NAME))]
    #[x_kube(validation = immutable())]
    pub name: String,
    /// How many job runs run and wait at a time; can be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_configuration: Option<SchedulerConfiguration>,
    /// Id of the security configuration.
    #[serde(rename = "securityConfigurationID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = pattern::ID))]
    #[x_kube(validation = immutable())]
    pub security_configuration_id: Option<String>,
    /// Whether interactive sessions can be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = immutable())]
    pub session_enabled: Option<bool>,
    /// Tags of the virtual cluster at AWS; can be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
}

/// The EKS cluster and namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContainerProvider {
    /// Name of the EKS cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = pattern::EKS_CLUSTER))]
    pub id: Option<String>,
    /// More about the container provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<ContainerInfo>,
    /// `EKS`. The name ends in an underscore, as upstream's.
    #[serde(rename = "type_", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
}

/// More about the container provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerInfo {
    /// The namespace in the EKS cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eks_info: Option<EksInfo>,
}

/// The namespace in the EKS cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksInfo {
    /// Namespace in which jobs run; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::NAMESPACE))]
    pub namespace: Option<String>,
    /// Node label that the namespace's jobs are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = pattern::NODE_LABEL))]
    pub node_label: Option<String>,
}

/// How many job runs run and wait at a time. The service knows the bounds, which it has moved before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerConfiguration {
    /// Job runs that run at a time; the service's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_job_runs: Option<i32>,
    /// Job runs that wait at a time; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_queue_job_runs: Option<i32>,
}

/// What is known of the virtual cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualClusterStatus {
    /// Where the virtual cluster is at AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_resource_metadata: Option<AckResourceMetadata>,
    /// Observations of the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the service created the virtual cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub created_at: Option<Timestamp>,
    /// Id of the virtual cluster at AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Value of the retry annotation that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_retry: Option<String>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How often the virtual cluster was refused for good; part of the token of the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<i32>,
    /// How many job runs run and wait, when it was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_status: Option<SchedulerStatus>,
    /// State of the virtual cluster, in AWS's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// How many job runs run and wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerStatus {
    /// Job runs that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_concurrent_job_runs: Option<i32>,
    /// Job runs that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_in_queue_job_runs: Option<i32>,
}

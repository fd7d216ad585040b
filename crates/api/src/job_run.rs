//! The kind `JobRun`: one Spark job.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::overrides::Overrides;
use crate::reference::ResourceReference;
use crate::schema::{immutable, pattern};
use crate::status::AckResourceMetadata;

/// The service's state of a run that waits to be handed to the cluster.
pub const PENDING: &str = "PENDING";
/// Handed to the cluster, waiting for room.
pub const SUBMITTED: &str = "SUBMITTED";
/// The Spark driver runs.
pub const RUNNING: &str = "RUNNING";
/// Ended with success.
pub const COMPLETED: &str = "COMPLETED";
/// Could not be submitted, or ended without success.
pub const FAILED: &str = "FAILED";
/// A cancel was asked for.
pub const CANCEL_PENDING: &str = "CANCEL_PENDING";
/// Ended by a cancel.
pub const CANCELLED: &str = "CANCELLED";

/// Whether nothing more happens to a run in this state. States that AWS adds later count as live.
pub fn is_final(state: &str) -> bool {
    matches!(state, COMPLETED | FAILED | CANCELLED)
}

/// One Spark job on Amazon EMR on EKS: submitted once, observed to its end, cancelled when the object is deleted.
#[allow(
    clippy::duplicated_attributes,
    reason = "clippy takes the keys of two printer columns for one attribute twice"
)]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "emrcontainers.services.k8s.aws",
    version = "v1alpha1",
    kind = "JobRun",
    plural = "jobruns",
    singular = "jobrun",
    shortname = "emrjr",
    category = "emr",
    namespaced,
    status = "JobRunStatus",
    derive = "PartialEq",
    doc = "JobRun is a Spark job on Amazon EMR on EKS: submitted once, observed to its end, cancelled when the object is deleted.",
    printcolumn(name = "Job-ID", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "STATE", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "REASON", type_ = "string", json_path = ".status.failureReason", priority = "1"),
    printcolumn(
        name = "CLUSTER",
        type_ = "string",
        json_path = ".spec.virtualClusterRef.from.name",
        priority = "1"
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".status.state"
)]
#[x_kube(validation = Rule::new("!(has(self.configurationOverrides) && has(self.overrides))").message("set configurationOverrides (text) or overrides (typed), not both"))]
#[serde(rename_all = "camelCase")]
pub struct JobRunSpec {
    /// Settings that the run adds to or changes in the defaults: YAML or JSON text, keys in any case.
    /// `overrides` is the same as an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = immutable())]
    pub configuration_overrides: Option<String>,
    /// ARN of the IAM role that the job runs as.
    #[serde(rename = "executionRoleARN", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 2048), regex(pattern = pattern::ROLE_ARN))]
    #[x_kube(validation = immutable())]
    pub execution_role_arn: Option<String>,
    /// Refers to a Role of iam.services.k8s.aws/v1alpha1 instead of giving its ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_role_ref: Option<ResourceReference>,
    /// What runs: exactly one driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = immutable())]
    pub job_driver: Option<JobDriver>,
    /// Name of the run at AWS; the object's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = pattern::NAME))]
    #[x_kube(validation = immutable())]
    pub name: Option<String>,
    /// The same as `configurationOverrides`, as an object spelled as in the StartJobRun request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = immutable())]
    pub overrides: Option<Overrides>,
    /// Release of EMR, such as `emr-7.10.0-latest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = pattern::RELEASE_LABEL))]
    #[x_kube(validation = immutable())]
    pub release_label: Option<String>,
    /// How often the service starts the driver anew when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = immutable())]
    pub retry_policy_configuration: Option<RetryPolicyConfiguration>,
    /// Tags of the run at AWS; can be changed while the run is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Id of the virtual cluster that the job runs in.
    #[serde(rename = "virtualClusterID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = pattern::ID))]
    #[x_kube(validation = immutable())]
    pub virtual_cluster_id: Option<String>,
    /// Refers to a VirtualCluster object instead of giving an id; the run waits until it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_cluster_ref: Option<ResourceReference>,
}

/// What runs: exactly one of the drivers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.sparkSubmitJobDriver) != has(self.sparkSQLJobDriver)").message("set exactly one of sparkSubmitJobDriver and sparkSQLJobDriver"))]
#[serde(rename_all = "camelCase")]
pub struct JobDriver {
    /// Runs a jar or Python file by spark-submit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spark_submit_job_driver: Option<SparkSubmitJobDriver>,
    /// Runs a SQL file by Spark SQL (EMR 6.7.0 and later).
    #[serde(rename = "sparkSQLJobDriver", default, skip_serializing_if = "Option::is_none")]
    pub spark_sql_job_driver: Option<SparkSqlJobDriver>,
}

/// Runs a jar or Python file by spark-submit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SparkSubmitJobDriver {
    /// Jar or Python file, such as `s3://bucket/job.py` or `local:///path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub entry_point: Option<String>,
    /// Arguments of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_point_arguments: Option<Vec<String>>,
    /// Parameters of spark-submit, such as `--conf spark.executor.instances=2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 102_400))]
    pub spark_submit_parameters: Option<String>,
}

/// Runs a SQL file by Spark SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SparkSqlJobDriver {
    /// SQL file, such as `s3://bucket/queries.sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub entry_point: Option<String>,
    /// Parameters of Spark SQL, such as `-hivevar KEY=value`.
    #[serde(rename = "sparkSQLParameters", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 102_400))]
    pub spark_sql_parameters: Option<String>,
}

/// How often the service starts the driver anew when it fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicyConfiguration {
    /// Attempts in all; each further one is billed as another run. 1 means no retry.
    pub max_attempts: i32,
}

/// What is known of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRunStatus {
    /// Where the run is at AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_resource_metadata: Option<AckResourceMetadata>,
    /// How often the driver was started, where a retry policy is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Observations of the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the service created the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub created_at: Option<Timestamp>,
    /// Why the run failed: USER_ERROR, VALIDATION_ERROR, CLUSTER_UNAVAILABLE or INTERNAL_ERROR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub finished_at: Option<Timestamp>,
    /// Id of the run at AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Value of the retry annotation that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_retry: Option<String>,
    /// Where the logs are, from what was configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<JobRunLogs>,
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How often the run was refused for good; part of the token of the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusals: Option<i32>,
    /// State of the run, in AWS's words; FAILED also when it was refused for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// More about the state, in AWS's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_details: Option<String>,
    /// Id of the virtual cluster that the run was submitted to.
    #[serde(rename = "virtualClusterID", default, skip_serializing_if = "Option::is_none")]
    pub virtual_cluster_id: Option<String>,
}

/// Where the logs of a run are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRunLogs {
    /// CloudWatch log group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_watch_log_group: Option<String>,
    /// Prefix of the run's log streams in that group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_watch_log_stream_prefix: Option<String>,
    /// S3 URI under which the run's logs are.
    #[serde(rename = "s3URI", default, skip_serializing_if = "Option::is_none")]
    pub s3_uri: Option<String>,
}

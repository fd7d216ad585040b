//! `ConfigurationOverrides` of a StartJobRun request: as a custom resource holds it, and as it is sent.
//!
//! Two forms, because a structural schema can't nest without end: [`Overrides`] is the CRD's typed field, whose inner
//! `configurations` are open objects; [`ConfigurationOverrides`] is the request, read from either form by the operator.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::open_objects;

/// What a job run adds to or changes in the defaults, spelled as in the StartJobRun request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overrides {
    /// Settings by classification, such as `spark-defaults`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub application_configuration: Option<Vec<OverridesConfiguration>>,
    /// Where logs go, and whether the Spark UI is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring_configuration: Option<MonitoringConfiguration>,
}

/// Settings of one classification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverridesConfiguration {
    /// Classification, such as `spark-defaults`.
    #[schemars(length(min = 1, max = 1024))]
    pub classification: String,
    /// Settings inside this classification, each an object of the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_objects")]
    pub configurations: Option<Vec<serde_json::Value>>,
    /// Key and value of each setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
}

/// The request's member, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigurationOverrides {
    /// Settings by classification.
    pub application_configuration: Vec<Configuration>,
    /// Where logs go, and whether the Spark UI is kept.
    pub monitoring_configuration: Option<MonitoringConfiguration>,
}

/// Settings of one classification, with those inside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Classification, such as `spark-defaults`.
    pub classification: String,
    /// Key and value of each setting.
    pub properties: BTreeMap<String, String>,
    /// Settings inside this classification.
    pub configurations: Vec<Configuration>,
}

/// Where logs go, and whether the Spark UI is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringConfiguration {
    /// Logs to CloudWatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_watch_monitoring_configuration: Option<CloudWatchMonitoringConfiguration>,
    /// Rotation of container logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_log_rotation_configuration: Option<ContainerLogRotationConfiguration>,
    /// Logs that AWS keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_logs: Option<ManagedLogs>,
    /// `ENABLED` (the service's default) or `DISABLED`: whether the Spark UI can be opened after the run.
    #[serde(rename = "persistentAppUI", default, skip_serializing_if = "Option::is_none")]
    pub persistent_app_ui: Option<String>,
    /// Logs to S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3_monitoring_configuration: Option<S3MonitoringConfiguration>,
}

/// Logs to CloudWatch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudWatchMonitoringConfiguration {
    /// Log group.
    #[schemars(length(min = 1, max = 512))]
    pub log_group_name: String,
    /// Prefix of the log stream names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_stream_name_prefix: Option<String>,
}

/// Logs to S3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3MonitoringConfiguration {
    /// ARN of the KMS key that encrypts the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key_arn: Option<String>,
    /// S3 URI under which logs are written.
    #[schemars(length(min = 1, max = 10280))]
    pub log_uri: String,
}

/// Rotation of container logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerLogRotationConfiguration {
    /// How many files are kept.
    pub max_files_to_keep: i32,
    /// Size at which a file is rotated, such as `10MB`.
    pub rotation_size: String,
}

/// Logs that AWS keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedLogs {
    /// `ENABLED` or `DISABLED`.
    #[serde(rename = "allowAWSToRetainLogs", default, skip_serializing_if = "Option::is_none")]
    pub allow_aws_to_retain_logs: Option<String>,
    /// ARN of the KMS key that encrypts the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key_arn: Option<String>,
}

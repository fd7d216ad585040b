//! JSON shapes of the API, with the names of the AWS service model.
//!
//! Unknown members of a request are dropped, as AWS does, because they have no place here.
//! Must not check values: `validate` does.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

pub(crate) type Tags = BTreeMap<String, String>;

macro_rules! shapes {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$meta])*
            #[allow(clippy::struct_field_names, reason = "the names are those of the service model")]
            #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase")]
            pub(crate) struct $name {
                $(
                    #[serde(skip_serializing_if = "Option::is_none")]
                    $(#[$field_meta])*
                    pub(crate) $field: Option<$kind>,
                )*
            }
        )*
    };
}

shapes! {
    CreateVirtualCluster {
        name: String,
        container_provider: ContainerProvider,
        client_token: String,
        tags: Tags,
        security_configuration_id: String,
        session_enabled: bool,
        scheduler_configuration: SchedulerConfiguration,
    }
    UpdateVirtualCluster { client_token: String, scheduler_configuration: SchedulerConfiguration }
    ContainerProvider { id: String, #[serde(rename = "type")] kind: String, info: ContainerInfo }
    ContainerInfo { eks_info: EksInfo }
    EksInfo { namespace: String, node_label: String }
    SchedulerConfiguration { max_in_queue_job_runs: i64, max_concurrent_job_runs: i64 }

    StartJobRun {
        name: String,
        client_token: String,
        execution_role_arn: String,
        release_label: String,
        job_driver: JobDriver,
        configuration_overrides: ConfigurationOverrides,
        tags: Tags,
        job_template_id: String,
        retry_policy_configuration: RetryPolicyConfiguration,
    }
    JobDriver { spark_submit_job_driver: SparkSubmitJobDriver, spark_sql_job_driver: SparkSqlJobDriver }
    SparkSubmitJobDriver {
        entry_point: String,
        entry_point_arguments: Vec<String>,
        spark_submit_parameters: String,
    }
    SparkSqlJobDriver { entry_point: String, spark_sql_parameters: String }
    RetryPolicyConfiguration { max_attempts: i64 }
    ConfigurationOverrides {
        application_configuration: Vec<Configuration>,
        monitoring_configuration: MonitoringConfiguration,
    }
    Configuration {
        classification: String,
        properties: BTreeMap<String, String>,
        configurations: Vec<Configuration>,
    }
    MonitoringConfiguration {
        managed_logs: ManagedLogs,
        #[serde(rename = "persistentAppUI")]
        persistent_app_ui: String,
        cloud_watch_monitoring_configuration: CloudWatchMonitoringConfiguration,
        s3_monitoring_configuration: S3MonitoringConfiguration,
        container_log_rotation_configuration: ContainerLogRotationConfiguration,
    }
    ManagedLogs {
        #[serde(rename = "allowAWSToRetainLogs")]
        allow_aws_to_retain_logs: String,
        encryption_key_arn: String,
    }
    CloudWatchMonitoringConfiguration { log_group_name: String, log_stream_name_prefix: String }
    S3MonitoringConfiguration { log_uri: String, encryption_key_arn: String }
    ContainerLogRotationConfiguration { rotation_size: String, max_files_to_keep: i64 }

    TagResource { tags: Tags }
}

/// A virtual cluster in a reply.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VirtualClusterView<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) arn: String,
    pub(crate) state: &'a str,
    pub(crate) container_provider: &'a ContainerProvider,
    #[serde(serialize_with = "date")]
    pub(crate) created_at: Timestamp,
    pub(crate) tags: &'a Tags,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) security_configuration_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scheduler_configuration: Option<&'a SchedulerConfiguration>,
    pub(crate) scheduler_status: SchedulerStatus,
}

/// The counts that a virtual cluster reports.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SchedulerStatus {
    pub(crate) current_in_queue_job_runs: usize,
    pub(crate) current_concurrent_job_runs: usize,
}

/// A job run in a reply; lists leave out what only DescribeJobRun says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobRunView<'a> {
    pub(crate) id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    pub(crate) virtual_cluster_id: &'a str,
    pub(crate) arn: String,
    pub(crate) state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) execution_role_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) release_label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) configuration_overrides: Option<&'a ConfigurationOverrides>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job_driver: Option<&'a JobDriver>,
    #[serde(serialize_with = "date")]
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_date")]
    pub(crate) finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state_details: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure_reason: Option<&'a str>,
    pub(crate) tags: &'a Tags,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_policy_configuration: Option<&'a RetryPolicyConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_policy_execution: Option<RetryPolicyExecution>,
}

/// How many driver attempts a run has made.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RetryPolicyExecution {
    pub(crate) current_attempt_count: u32,
}

/// A page of ListJobRuns.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobRunPage<'a> {
    pub(crate) job_runs: Vec<JobRunView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_token: Option<String>,
}

/// A page of ListVirtualClusters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VirtualClusterPage<'a> {
    pub(crate) virtual_clusters: Vec<VirtualClusterView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_token: Option<String>,
}

fn date<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    crate::clock::whole_seconds(*at).serialize(serializer)
}

#[allow(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn maybe_date<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(crate::clock::whole_seconds).serialize(serializer)
}

//! What DescribeJobRun says of a run beyond what lists say: what was asked for. In our types.
//!
//! Needed once in a run's life at most, when it is taken over, so that the poller's answers don't carry it.

use aws_sdk_emrcontainers::types as sdk;
use emrcontainers_api::job_run::{JobDriver, SparkSqlJobDriver, SparkSubmitJobDriver};
use emrcontainers_api::overrides::{
    CloudWatchMonitoringConfiguration, Configuration, ConfigurationOverrides,
    ContainerLogRotationConfiguration, ManagedLogs, MonitoringConfiguration, S3MonitoringConfiguration,
};

/// What a run was asked for with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobRunDetails {
    /// The role that the job assumes.
    pub execution_role_arn: Option<String>,
    /// The release of EMR.
    pub release_label: Option<String>,
    /// What runs.
    pub job_driver: Option<JobDriver>,
    /// What was changed in the defaults; the service adds its own.
    pub configuration_overrides: Option<ConfigurationOverrides>,
    /// How often the driver is tried.
    pub max_attempts: Option<i32>,
}

impl From<&sdk::JobRun> for JobRunDetails {
    fn from(run: &sdk::JobRun) -> Self {
        Self {
            execution_role_arn: run.execution_role_arn.clone(),
            release_label: run.release_label.clone(),
            job_driver: run.job_driver.as_ref().map(job_driver),
            configuration_overrides: run.configuration_overrides.as_ref().map(overrides),
            max_attempts: run.retry_policy_configuration.as_ref().map(|policy| policy.max_attempts),
        }
    }
}

fn job_driver(driver: &sdk::JobDriver) -> JobDriver {
    JobDriver {
        spark_submit_job_driver: driver.spark_submit_job_driver.as_ref().map(|submit| SparkSubmitJobDriver {
            entry_point: Some(submit.entry_point.clone()),
            entry_point_arguments: submit.entry_point_arguments.clone().filter(|list| !list.is_empty()),
            spark_submit_parameters: submit.spark_submit_parameters.clone(),
        }),
        spark_sql_job_driver: driver.spark_sql_job_driver.as_ref().map(|sql| SparkSqlJobDriver {
            entry_point: sql.entry_point.clone(),
            spark_sql_parameters: sql.spark_sql_parameters.clone(),
        }),
    }
}

fn overrides(overrides: &sdk::ConfigurationOverrides) -> ConfigurationOverrides {
    ConfigurationOverrides {
        application_configuration: configurations(overrides.application_configuration.as_deref()),
        monitoring_configuration: overrides.monitoring_configuration.as_ref().map(monitoring),
    }
}

fn configurations(list: Option<&[sdk::Configuration]>) -> Vec<Configuration> {
    let convert = |configuration: &sdk::Configuration| Configuration {
        classification: configuration.classification.clone(),
        properties: configuration.properties.clone().into_iter().flatten().collect(),
        configurations: configurations(configuration.configurations.as_deref()),
    };
    list.unwrap_or_default().iter().map(convert).collect()
}

fn monitoring(monitoring: &sdk::MonitoringConfiguration) -> MonitoringConfiguration {
    MonitoringConfiguration {
        cloud_watch_monitoring_configuration: monitoring.cloud_watch_monitoring_configuration.as_ref().map(
            |logs| CloudWatchMonitoringConfiguration {
                log_group_name: logs.log_group_name.clone(),
                log_stream_name_prefix: logs.log_stream_name_prefix.clone(),
            },
        ),
        container_log_rotation_configuration: monitoring.container_log_rotation_configuration.as_ref().map(
            |rotation| ContainerLogRotationConfiguration {
                max_files_to_keep: rotation.max_files_to_keep,
                rotation_size: rotation.rotation_size.clone(),
            },
        ),
        managed_logs: monitoring.managed_logs.as_ref().map(|logs| ManagedLogs {
            allow_aws_to_retain_logs: logs
                .allow_aws_to_retain_logs
                .as_ref()
                .map(|allow| allow.as_str().to_owned()),
            encryption_key_arn: logs.encryption_key_arn.clone(),
        }),
        persistent_app_ui: monitoring.persistent_app_ui.as_ref().map(|ui| ui.as_str().to_owned()),
        s3_monitoring_configuration: monitoring.s3_monitoring_configuration.as_ref().map(|logs| {
            S3MonitoringConfiguration {
                encryption_key_arn: logs.encryption_key_arn.clone(),
                log_uri: logs.log_uri.clone(),
            }
        }),
    }
}

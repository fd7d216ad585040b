//! From our types to the SDK's and back. Nothing is checked here: what is wrong, the service refuses in its own words.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_emrcontainers::types as sdk;
use aws_smithy_types::DateTime;
use aws_smithy_types::error::operation::BuildError;
use emrcontainers_api::job_run::JobDriver;
use emrcontainers_api::overrides::{Configuration, ConfigurationOverrides, MonitoringConfiguration};
use emrcontainers_api::virtual_cluster::SchedulerConfiguration;
use jiff::Timestamp;

use super::model::{JobRun, VirtualCluster};

pub(super) fn timestamp(time: DateTime) -> Option<Timestamp> {
    let nanos = i32::try_from(time.subsec_nanos()).ok()?;
    Timestamp::new(time.secs(), nanos).ok()
}

/// To the second, as the service keeps times.
pub(super) fn date_time(time: Timestamp) -> DateTime {
    DateTime::from_secs(time.as_second())
}

pub(super) fn tags(tags: BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!tags.is_empty()).then(|| tags.into_iter().collect())
}

fn tags_back(tags: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    tags.unwrap_or_default().into_iter().collect()
}

pub(super) fn scheduler(configuration: &SchedulerConfiguration) -> sdk::SchedulerConfiguration {
    sdk::SchedulerConfiguration::builder()
        .set_max_concurrent_job_runs(configuration.max_concurrent_job_runs)
        .set_max_in_queue_job_runs(configuration.max_in_queue_job_runs)
        .build()
}

pub(super) fn container_provider(
    eks_cluster: String,
    namespace: Option<String>,
    node_label: Option<String>,
) -> Result<sdk::ContainerProvider, BuildError> {
    let eks = sdk::EksInfo::builder().set_namespace(namespace).set_node_label(node_label).build();
    sdk::ContainerProvider::builder()
        .r#type(sdk::ContainerProviderType::Eks)
        .id(eks_cluster)
        .info(sdk::ContainerInfo::EksInfo(eks))
        .build()
}

pub(super) fn job_driver(driver: JobDriver) -> Result<sdk::JobDriver, BuildError> {
    let submit = driver.spark_submit_job_driver.map(|submit| {
        sdk::SparkSubmitJobDriver::builder()
            .entry_point(submit.entry_point.unwrap_or_default())
            .set_entry_point_arguments(submit.entry_point_arguments)
            .set_spark_submit_parameters(submit.spark_submit_parameters)
            .build()
    });
    let sql = driver.spark_sql_job_driver.map(|sql| {
        sdk::SparkSqlJobDriver::builder()
            .set_entry_point(sql.entry_point)
            .set_spark_sql_parameters(sql.spark_sql_parameters)
            .build()
    });
    Ok(sdk::JobDriver::builder()
        .set_spark_submit_job_driver(submit.transpose()?)
        .set_spark_sql_job_driver(sql)
        .build())
}

pub(super) fn overrides(
    overrides: ConfigurationOverrides,
) -> Result<sdk::ConfigurationOverrides, BuildError> {
    let monitoring = overrides.monitoring_configuration.map(monitoring).transpose()?;
    Ok(sdk::ConfigurationOverrides::builder()
        .set_application_configuration(configurations(overrides.application_configuration)?)
        .set_monitoring_configuration(monitoring)
        .build())
}

fn configurations(list: Vec<Configuration>) -> Result<Option<Vec<sdk::Configuration>>, BuildError> {
    if list.is_empty() {
        return Ok(None);
    }
    let convert = |configuration: Configuration| {
        sdk::Configuration::builder()
            .classification(configuration.classification)
            .set_properties(tags(configuration.properties))
            .set_configurations(configurations(configuration.configurations)?)
            .build()
    };
    list.into_iter().map(convert).collect::<Result<Vec<_>, _>>().map(Some)
}

fn monitoring(configuration: MonitoringConfiguration) -> Result<sdk::MonitoringConfiguration, BuildError> {
    let cloud_watch = configuration.cloud_watch_monitoring_configuration.map(|logs| {
        sdk::CloudWatchMonitoringConfiguration::builder()
            .log_group_name(logs.log_group_name)
            .set_log_stream_name_prefix(logs.log_stream_name_prefix)
            .build()
    });
    let s3 = configuration.s3_monitoring_configuration.map(|logs| {
        sdk::S3MonitoringConfiguration::builder()
            .log_uri(logs.log_uri)
            .set_encryption_key_arn(logs.encryption_key_arn)
            .build()
    });
    let rotation = configuration.container_log_rotation_configuration.map(|rotation| {
        sdk::ContainerLogRotationConfiguration::builder()
            .rotation_size(rotation.rotation_size)
            .max_files_to_keep(rotation.max_files_to_keep)
            .build()
    });
    let managed = configuration.managed_logs.map(|logs| {
        let retain = logs.allow_aws_to_retain_logs.as_deref().map(sdk::AllowAwsToRetainLogs::from);
        sdk::ManagedLogs::builder()
            .set_allow_aws_to_retain_logs(retain)
            .set_encryption_key_arn(logs.encryption_key_arn)
            .build()
    });
    Ok(sdk::MonitoringConfiguration::builder()
        .set_persistent_app_ui(configuration.persistent_app_ui.as_deref().map(sdk::PersistentAppUi::from))
        .set_cloud_watch_monitoring_configuration(cloud_watch.transpose()?)
        .set_s3_monitoring_configuration(s3.transpose()?)
        .set_container_log_rotation_configuration(rotation.transpose()?)
        .set_managed_logs(managed)
        .build())
}

/// `None` when the service leaves out the id, without which a run is nothing.
pub(super) fn job_run(run: sdk::JobRun) -> Option<JobRun> {
    Some(JobRun {
        id: run.id?,
        arn: run.arn,
        name: run.name,
        state: run.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        state_details: run.state_details.filter(|details| !details.is_empty()),
        failure_reason: run.failure_reason.map(|reason| reason.as_str().to_owned()),
        created_at: run.created_at.and_then(timestamp),
        finished_at: run.finished_at.and_then(timestamp),
        attempts: run.retry_policy_execution.map(|execution| execution.current_attempt_count),
        client_token: run.client_token,
        tags: tags_back(run.tags),
    })
}

/// `None` when the service leaves out the id, without which a virtual cluster is nothing.
pub(super) fn virtual_cluster(cluster: sdk::VirtualCluster) -> Option<VirtualCluster> {
    let (eks_cluster, info) = match cluster.container_provider {
        Some(provider) => (Some(provider.id), provider.info),
        None => (None, None),
    };
    let namespace = match info {
        Some(sdk::ContainerInfo::EksInfo(eks)) => eks.namespace,
        _ => None,
    };
    let status = cluster.scheduler_status;
    Some(VirtualCluster {
        id: cluster.id?,
        arn: cluster.arn,
        name: cluster.name,
        state: cluster.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        eks_cluster,
        namespace,
        created_at: cluster.created_at.and_then(timestamp),
        scheduler_configuration: cluster.scheduler_configuration.map(|scheduler| SchedulerConfiguration {
            max_concurrent_job_runs: scheduler.max_concurrent_job_runs,
            max_in_queue_job_runs: scheduler.max_in_queue_job_runs,
        }),
        current_in_queue_job_runs: status.as_ref().map(|status| status.current_in_queue_job_runs),
        current_concurrent_job_runs: status.as_ref().map(|status| status.current_concurrent_job_runs),
        tags: tags_back(cluster.tags),
    })
}

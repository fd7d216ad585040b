//! Checks of requests against the constraints of the service model, member by member.
//!
//! Must not look at state. Invariant: every violated constraint of a request is named in one
//! ValidationException.

use std::collections::BTreeMap;

use crate::constraint::{
    ANY, CLUSTER, ID, KMS_KEY, NAME, NAMESPACE, NODE_LABEL, NOT_BLANK, Problems, RELEASE_LABEL, ROLE,
    ROTATION_SIZE, RSI_ARN,
};
use crate::error::ApiError;
use crate::wire::{
    Configuration, ConfigurationOverrides, CreateVirtualCluster, JobDriver, MonitoringConfiguration,
    SchedulerConfiguration, StartJobRun, Tags,
};

/// Bounds of both scheduler limits, as the API had them in November 2026.
const SCHEDULER_LIMITS: (i64, i64) = (1, 1000);

/// The most tags that a resource can have.
pub(crate) const MAX_TAGS: usize = 50;

fn reserved_tags<'a>(mut keys: impl Iterator<Item = &'a String>) -> Result<(), ApiError> {
    match keys.find(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        Some(key) => {
            Err(ApiError::validation(format!("Tag key {key} is reserved: keys must not start with aws:")))
        }
        None => Ok(()),
    }
}

/// Checks an id from the URI.
pub(crate) fn id(field: &str, value: &str) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.text(field, Some(&value.to_owned()), (1, 64), ID);
    problems.done()
}

/// Checks the token of an operation that has no other members to check.
pub(crate) fn update(
    token: Option<&String>,
    scheduler: Option<&SchedulerConfiguration>,
) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.required("clientToken", token);
    problems.text("clientToken", token, (1, 64), NOT_BLANK);
    problems.scheduler(scheduler);
    problems.done()
}

/// Checks the tags to put on a resource.
pub(crate) fn tag_resource(arn: &str, tags: Option<&Tags>) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.text("resourceArn", Some(&arn.to_owned()), (60, 500), RSI_ARN);
    problems.required("tags", tags);
    problems.tags(tags);
    problems.done()?;
    reserved_tags(tags.iter().flat_map(|tags| tags.keys()))
}

/// Checks the tag keys to take from a resource; `None` when the operation has none.
pub(crate) fn untag_resource(arn: &str, keys: Option<&[String]>) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.text("resourceArn", Some(&arn.to_owned()), (60, 500), RSI_ARN);
    if let Some(keys) = keys {
        problems.required("tagKeys", keys.first());
        problems.at_most("tagKeys", keys.len(), MAX_TAGS);
        for key in keys {
            problems.text("tagKeys", Some(key), (1, 128), NOT_BLANK);
        }
    }
    problems.done()
}

/// Checks a name filter of a list.
pub(crate) fn name_filter(name: Option<&String>) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.text("name", name, (1, 64), NAME);
    problems.done()
}

/// Checks a states filter of a list.
pub(crate) fn states_filter(states: &[String], allowed: &[&str]) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.at_most("states", states.len(), 10);
    for state in states {
        problems.one_of("states", Some(state), allowed);
    }
    problems.done()
}

/// Checks CreateVirtualCluster.
pub(crate) fn create_virtual_cluster(request: &CreateVirtualCluster) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.required("name", request.name.as_ref());
    problems.text("name", request.name.as_ref(), (1, 64), NAME);
    problems.required("clientToken", request.client_token.as_ref());
    problems.text("clientToken", request.client_token.as_ref(), (1, 64), NOT_BLANK);
    problems.text("securityConfigurationId", request.security_configuration_id.as_ref(), (1, 64), ID);
    problems.required("containerProvider", request.container_provider.as_ref());
    if let Some(provider) = &request.container_provider {
        problems.required("containerProvider.id", provider.id.as_ref());
        problems.text("containerProvider.id", provider.id.as_ref(), (1, 100), CLUSTER);
        problems.required("containerProvider.type", provider.kind.as_ref());
        problems.one_of("containerProvider.type", provider.kind.as_ref(), &["EKS"]);
        let eks = provider.info.as_ref().and_then(|info| info.eks_info.as_ref());
        let namespace = eks.and_then(|eks| eks.namespace.as_ref());
        problems.required("containerProvider.info.eksInfo.namespace", namespace);
        problems.text("containerProvider.info.eksInfo.namespace", namespace, (1, 63), NAMESPACE);
        let label = eks.and_then(|eks| eks.node_label.as_ref());
        problems.text("containerProvider.info.eksInfo.nodeLabel", label, (1, 64), NODE_LABEL);
    }
    problems.scheduler(request.scheduler_configuration.as_ref());
    problems.tags(request.tags.as_ref());
    problems.done()?;
    reserved_tags(request.tags.iter().flat_map(|tags| tags.keys()))
}

/// Checks StartJobRun.
pub(crate) fn start_job_run(request: &StartJobRun) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    problems.text("name", request.name.as_ref(), (1, 64), NAME);
    problems.required("clientToken", request.client_token.as_ref());
    problems.text("clientToken", request.client_token.as_ref(), (1, 64), NOT_BLANK);
    problems.required("executionRoleArn", request.execution_role_arn.as_ref());
    problems.text("executionRoleArn", request.execution_role_arn.as_ref(), (20, 2048), ROLE);
    problems.required("releaseLabel", request.release_label.as_ref());
    problems.text("releaseLabel", request.release_label.as_ref(), (1, 64), RELEASE_LABEL);
    problems.required("jobDriver", request.job_driver.as_ref());
    if let Some(driver) = &request.job_driver {
        problems.driver(driver);
    }
    if let Some(overrides) = &request.configuration_overrides {
        problems.overrides(overrides);
    }
    if let Some(retry) = &request.retry_policy_configuration {
        problems.required("retryPolicyConfiguration.maxAttempts", retry.max_attempts.as_ref());
    }
    problems.tags(request.tags.as_ref());
    problems.done()?;
    reserved_tags(request.tags.iter().flat_map(|tags| tags.keys()))?;
    exactly_one_driver(request.job_driver.as_ref())?;
    let attempts = request.retry_policy_configuration.as_ref().and_then(|retry| retry.max_attempts);
    if attempts.is_some_and(|attempts| !(1..=i64::from(i32::MAX)).contains(&attempts)) {
        return Err(ApiError::validation(
            "Retry policy configuration's parameter value of maxAttempts is invalid",
        ));
    }
    Ok(())
}

fn exactly_one_driver(driver: Option<&JobDriver>) -> Result<(), ApiError> {
    let Some(driver) = driver else { return Ok(()) };
    match (&driver.spark_submit_job_driver, &driver.spark_sql_job_driver) {
        (Some(_), None) | (None, Some(_)) => Ok(()),
        (Some(_), Some(_)) | (None, None) => {
            Err(ApiError::validation("Exactly one job driver must be specified in jobDriver."))
        }
    }
}

impl Problems {
    fn tags(&mut self, tags: Option<&Tags>) {
        let Some(tags) = tags else { return };
        self.at_most("tags", tags.len(), MAX_TAGS);
        for (key, value) in tags {
            self.text("tags", Some(key), (1, 128), NOT_BLANK);
            self.text("tags", Some(value), (0, 256), ANY);
        }
    }

    fn scheduler(&mut self, scheduler: Option<&SchedulerConfiguration>) {
        let Some(scheduler) = scheduler else { return };
        let field = "schedulerConfiguration.maxInQueueJobRuns";
        self.range(field, scheduler.max_in_queue_job_runs, SCHEDULER_LIMITS);
        let field = "schedulerConfiguration.maxConcurrentJobRuns";
        self.range(field, scheduler.max_concurrent_job_runs, SCHEDULER_LIMITS);
    }

    fn driver(&mut self, driver: &JobDriver) {
        if let Some(submit) = &driver.spark_submit_job_driver {
            let field = "jobDriver.sparkSubmitJobDriver.entryPoint";
            self.required(field, submit.entry_point.as_ref());
            self.secret(field, submit.entry_point.as_ref(), (1, 256), NOT_BLANK);
            for argument in submit.entry_point_arguments.iter().flatten() {
                let field = "jobDriver.sparkSubmitJobDriver.entryPointArguments";
                self.secret(field, Some(argument), (1, 10280), NOT_BLANK);
            }
            let field = "jobDriver.sparkSubmitJobDriver.sparkSubmitParameters";
            self.secret(field, submit.spark_submit_parameters.as_ref(), (1, 102_400), NOT_BLANK);
        }
        if let Some(sql) = &driver.spark_sql_job_driver {
            let field = "jobDriver.sparkSqlJobDriver.entryPoint";
            self.secret(field, sql.entry_point.as_ref(), (1, 256), NOT_BLANK);
            let field = "jobDriver.sparkSqlJobDriver.sparkSqlParameters";
            self.secret(field, sql.spark_sql_parameters.as_ref(), (1, 102_400), NOT_BLANK);
        }
    }

    fn overrides(&mut self, overrides: &ConfigurationOverrides) {
        let field = "configurationOverrides.applicationConfiguration";
        self.configurations(field, overrides.application_configuration.as_deref());
        if let Some(monitoring) = &overrides.monitoring_configuration {
            self.monitoring(monitoring);
        }
    }

    fn configurations(&mut self, field: &str, configurations: Option<&[Configuration]>) {
        let configurations = configurations.unwrap_or_default();
        self.at_most(field, configurations.len(), 100);
        for (index, configuration) in (1..).zip(configurations) {
            let field = format!("{field}.{index}.member");
            let name = format!("{field}.classification");
            self.required(&name, configuration.classification.as_ref());
            self.text(&name, configuration.classification.as_ref(), (1, 1024), NOT_BLANK);
            let name = format!("{field}.properties");
            self.at_most(&name, configuration.properties.as_ref().map_or(0, BTreeMap::len), 100);
            for (key, value) in configuration.properties.iter().flatten() {
                self.secret(&name, Some(key), (1, 1024), NOT_BLANK);
                self.secret(&name, Some(value), (1, 1024), NOT_BLANK);
            }
            self.configurations(&format!("{field}.configurations"), configuration.configurations.as_deref());
        }
    }

    fn monitoring(&mut self, monitoring: &MonitoringConfiguration) {
        const ROOT: &str = "configurationOverrides.monitoringConfiguration";
        let switch = ["ENABLED", "DISABLED"];
        self.one_of(&format!("{ROOT}.persistentAppUI"), monitoring.persistent_app_ui.as_ref(), &switch);
        if let Some(logs) = &monitoring.managed_logs {
            let field = format!("{ROOT}.managedLogs.allowAWSToRetainLogs");
            self.one_of(&field, logs.allow_aws_to_retain_logs.as_ref(), &switch);
            let field = format!("{ROOT}.managedLogs.encryptionKeyArn");
            self.text(&field, logs.encryption_key_arn.as_ref(), (3, 2048), KMS_KEY);
        }
        if let Some(logs) = &monitoring.cloud_watch_monitoring_configuration {
            let field = format!("{ROOT}.cloudWatchMonitoringConfiguration.logGroupName");
            self.required(&field, logs.log_group_name.as_ref());
            self.text(&field, logs.log_group_name.as_ref(), (1, 512), NAME);
            let field = format!("{ROOT}.cloudWatchMonitoringConfiguration.logStreamNamePrefix");
            self.text(&field, logs.log_stream_name_prefix.as_ref(), (1, 256), NOT_BLANK);
        }
        if let Some(logs) = &monitoring.s3_monitoring_configuration {
            let field = format!("{ROOT}.s3MonitoringConfiguration.logUri");
            self.required(&field, logs.log_uri.as_ref());
            self.text(&field, logs.log_uri.as_ref(), (1, 10280), ANY);
            let field = format!("{ROOT}.s3MonitoringConfiguration.encryptionKeyArn");
            self.text(&field, logs.encryption_key_arn.as_ref(), (3, 2048), KMS_KEY);
        }
        if let Some(logs) = &monitoring.container_log_rotation_configuration {
            let field = format!("{ROOT}.containerLogRotationConfiguration.rotationSize");
            self.required(&field, logs.rotation_size.as_ref());
            self.text(&field, logs.rotation_size.as_ref(), (3, 12), ROTATION_SIZE);
            let field = format!("{ROOT}.containerLogRotationConfiguration.maxFilesToKeep");
            self.required(&field, logs.max_files_to_keep.as_ref());
            self.range(&field, logs.max_files_to_keep, (1, 50));
        }
    }
}

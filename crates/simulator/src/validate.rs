//! Checks of requests against the constraints of the service model, with AWS's wording.
//!
//! Must not look at state. Invariant: every violated constraint of a request is named in one
//! ValidationException, and sensitive values are never repeated in it.

use crate::error::ApiError;
use crate::wire::{
    Configuration, ConfigurationOverrides, CreateVirtualCluster, JobDriver, MonitoringConfiguration,
    SchedulerConfiguration, StartJobRun, Tags,
};

const NAME: (&str, fn(&str) -> bool) =
    (r"[\.\-_/#A-Za-z0-9]+", |s| s.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/#".contains(c)));
const RELEASE_LABEL: (&str, fn(&str) -> bool) =
    (r"[\.\-_/A-Za-z0-9]+", |s| s.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/".contains(c)));
const ID: (&str, fn(&str) -> bool) =
    ("[0-9a-z]+", |s| s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
const NOT_BLANK: (&str, fn(&str) -> bool) = (r".*\S.*", |s| !s.trim().is_empty());
const ANY: (&str, fn(&str) -> bool) = (".*", |_| true);
const NAMESPACE: (&str, fn(&str) -> bool) = ("[a-z0-9]([-a-z0-9]*[a-z0-9])?", is_label);
const NODE_LABEL: (&str, fn(&str) -> bool) = ("^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$", is_label);
const CLUSTER: (&str, fn(&str) -> bool) = (r"^[0-9A-Za-z][A-Za-z0-9\-_]*", |s| {
    s.starts_with(|c: char| c.is_ascii_alphanumeric())
        && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
});
const ROLE: (&str, fn(&str) -> bool) = (
    r"^arn:(aws[a-zA-Z0-9-]*):iam::(\d{12})?:(role((\u002F)|(\u002F[\u0021-\u007F]+\u002F))[\w+=,.@-]+)$",
    is_role_arn,
);
const RSI_ARN: (&str, fn(&str) -> bool) =
    (r"^arn:(aws[a-zA-Z0-9-]*):emr-containers:.+:(\d{12}):/virtualclusters/.+$", is_resource_arn);
const ROTATION_SIZE: (&str, fn(&str) -> bool) = (r"^\d+(\.\d+)?[KMG][Bb]?$", is_rotation_size);
const KMS_KEY: (&str, fn(&str) -> bool) =
    (r"^(arn:(aws[a-zA-Z0-9-]*):kms:.+:(\d{12})?:key\/[(0-9a-zA-Z)-?]+|\$\{[a-zA-Z]\w*\})$", |s| {
        (s.starts_with("arn:aws") && s.contains(":kms:") && s.contains(":key/"))
            || (s.starts_with("${") && s.ends_with('}'))
    });

/// Bounds of both scheduler limits, as the API had them in November 2026.
const SCHEDULER_LIMITS: (i64, i64) = (1, 1000);

/// The largest page token and tag count.
pub(crate) const MAX_TAGS: usize = 50;

type Pattern = (&'static str, fn(&str) -> bool);

fn is_label(s: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    s.starts_with(edge) && s.ends_with(edge) && s.chars().all(|c| edge(c) || c == '-')
}

fn is_partition(s: &str) -> bool {
    s.starts_with("aws") && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn is_account(s: &str) -> bool {
    s.len() == 12 && s.chars().all(|c| c.is_ascii_digit())
}

fn is_role_arn(s: &str) -> bool {
    let parts: Vec<&str> = s.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let Some((path, name)) = resource.strip_prefix("role").and_then(|rest| rest.rsplit_once('/')) else {
        return false;
    };
    is_partition(partition)
        && (account.is_empty() || is_account(account))
        && (path.is_empty() || path.starts_with('/'))
        && path.chars().all(|c| ('\u{21}'..='\u{7f}').contains(&c))
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
}

fn is_resource_arn(s: &str) -> bool {
    let parts: Vec<&str> = s.splitn(6, ':').collect();
    let ["arn", partition, "emr-containers", region, account, resource] = parts.as_slice() else {
        return false;
    };
    is_partition(partition)
        && !region.is_empty()
        && is_account(account)
        && resource.strip_prefix("/virtualclusters/").is_some_and(|rest| !rest.is_empty())
}

fn is_rotation_size(s: &str) -> bool {
    let number = s.strip_suffix(['B', 'b']).unwrap_or(s);
    let Some(number) = number.strip_suffix(['K', 'M', 'G']) else { return false };
    let digits = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_digit());
    match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    }
}

/// What is wrong with a request.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, value: &str, field: &str, constraint: &str) {
        self.0.push(format!("Value {value}at '{field}' failed to satisfy constraint: {constraint}"));
    }

    fn required<T>(&mut self, field: &str, value: Option<&T>) {
        if value.is_none() {
            self.add("null ", field, "Member must not be null");
        }
    }

    fn text(&mut self, field: &str, value: Option<&String>, (min, max): (usize, usize), pattern: Pattern) {
        self.checked(field, value, (min, max), pattern, false);
    }

    fn secret(&mut self, field: &str, value: Option<&String>, (min, max): (usize, usize), pattern: Pattern) {
        self.checked(field, value, (min, max), pattern, true);
    }

    fn checked(
        &mut self,
        field: &str,
        value: Option<&String>,
        (min, max): (usize, usize),
        pattern: Pattern,
        sensitive: bool,
    ) {
        let Some(value) = value else { return };
        let shown = if sensitive { String::new() } else { format!("'{value}' ") };
        let length = value.chars().count();
        if length < min {
            self.add(&shown, field, &format!("Member must have length greater than or equal to {min}"));
        } else if length > max {
            self.add(&shown, field, &format!("Member must have length less than or equal to {max}"));
        }
        let (expression, matches) = pattern;
        if length > 0 && !matches(value) {
            self.add(&shown, field, &format!("Member must satisfy regular expression pattern: {expression}"));
        }
    }

    fn one_of(&mut self, field: &str, value: Option<&String>, allowed: &[&str]) {
        if let Some(value) = value
            && !allowed.contains(&value.as_str())
        {
            let set = allowed.join(", ");
            self.add(&format!("'{value}' "), field, &format!("Member must satisfy enum value set: [{set}]"));
        }
    }

    fn range(&mut self, field: &str, value: Option<i64>, (min, max): (i64, i64)) {
        let Some(value) = value else { return };
        let shown = format!("'{value}' ");
        if value < min {
            self.add(&shown, field, &format!("Member must have value greater than or equal to {min}"));
        } else if value > max {
            self.add(&shown, field, &format!("Member must have value less than or equal to {max}"));
        }
    }

    fn at_most(&mut self, field: &str, length: usize, max: usize) {
        if length > max {
            self.add("", field, &format!("Member must have length less than or equal to {max}"));
        }
    }

    fn tags(&mut self, tags: Option<&Tags>) {
        let Some(tags) = tags else { return };
        self.at_most("tags", tags.len(), MAX_TAGS);
        for (key, value) in tags {
            self.text("tags", Some(key), (1, 128), NOT_BLANK);
            self.text("tags", Some(value), (0, 256), ANY);
        }
    }

    fn done(self) -> Result<(), ApiError> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(ApiError::validation(format!("1 validation error detected: {}", self.0.join("")))),
            count => Err(ApiError::validation(format!(
                "{count} validation errors detected: {}",
                self.0.join("; ")
            ))),
        }
    }
}

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
            self.at_most(&name, configuration.properties.as_ref().map_or(0, |p| p.len()), 100);
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

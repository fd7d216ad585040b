//! Builds the StartJobRun request from a JobRun. Pure.
//!
//! What the API server's schema would have refused is checked again, because objects may be older than the schema or
//! have come through upstream's. Invariant: every refusal names the field and what would be right.

use emrcontainers_api::JobRun;
use emrcontainers_api::job_run::{JobDriver, JobRunSpec};
use emrcontainers_api::overrides::ConfigurationOverrides;
use kube::ResourceExt;

use super::overrides;
use super::target::{ClusterTarget, Target};
use crate::emr::model::StartJobRun;
use crate::tags;

/// The longest name that the service takes.
const MAX_NAME_CHARS: usize = 64;

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The spec can't be sent as it is: the field and the remedy.
    Invalid(String),
    /// A reference isn't ready.
    Waiting,
}

/// The token: the object's UID, and which try it is where the service refused earlier ones for good.
///
/// The number of refusals is in the status, so it grows only after an answer that says that nothing was started. A
/// crash anywhere leaves the token as it was.
pub fn token(run: &JobRun) -> String {
    let refusals = run.status.as_ref().and_then(|status| status.refusals).unwrap_or_default();
    format!("{}-{}", run.uid().unwrap_or_default(), refusals.saturating_add(1))
}

/// The request for a run, or why there is none.
pub fn build(run: &JobRun, target: &Target) -> Result<StartJobRun, Unfit> {
    let spec = &run.spec;
    let overrides = read_overrides(run)?;
    let driver = read_driver(run)?;
    let execution_role_arn = read_role(&run.spec)?;
    let release_label = spec.release_label.clone().ok_or_else(|| {
        invalid("spec.releaseLabel: is missing; set a release of EMR such as emr-7.10.0-latest")
    })?;
    let virtual_cluster_id = match &target.virtual_cluster {
        ClusterTarget::Given(id) | ClusterTarget::Resolved(id) => id.clone(),
        ClusterTarget::Waiting { .. } => return Err(Unfit::Waiting),
        ClusterTarget::Invalid(why) => return Err(Unfit::Invalid(why.clone())),
    };
    Ok(StartJobRun {
        client_token: token(run),
        virtual_cluster_id,
        name: Some(spec.name.clone().unwrap_or_else(|| default_name(&run.name_any()))),
        execution_role_arn: Some(execution_role_arn),
        release_label: Some(release_label),
        job_driver: Some(driver),
        configuration_overrides: overrides,
        max_attempts: spec.retry_policy_configuration.as_ref().map(|policy| policy.max_attempts),
        tags: tags::merge(&target.default_tags, spec.tags.as_ref()),
    })
}

/// The object's name, cut to what the service takes.
fn default_name(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

/// The run's settings, from whichever form holds them.
pub fn read_overrides(run: &JobRun) -> Result<Option<ConfigurationOverrides>, Unfit> {
    let invalid = |error: overrides::OverridesError| Unfit::Invalid(error.to_string());
    match (&run.spec.configuration_overrides, &run.spec.overrides) {
        (Some(_), Some(_)) => Err(Unfit::Invalid(
            "spec.overrides: configurationOverrides is set too; keep one of them".to_owned(),
        )),
        (Some(text), None) => overrides::from_text(text).map(Some).map_err(invalid),
        (None, Some(typed)) => overrides::from_typed(typed).map(Some).map_err(invalid),
        (None, None) => Ok(None),
    }
}

fn read_driver(run: &JobRun) -> Result<JobDriver, Unfit> {
    let invalid = |text: &str| Err(Unfit::Invalid(format!("spec.jobDriver: {text}")));
    let Some(driver) = run.spec.job_driver.clone() else {
        return invalid("is missing; set sparkSubmitJobDriver or sparkSQLJobDriver");
    };
    match (&driver.spark_submit_job_driver, &driver.spark_sql_job_driver) {
        (Some(_), Some(_)) => invalid("has two drivers; keep sparkSubmitJobDriver or sparkSQLJobDriver"),
        (None, None) => invalid("has no driver; set sparkSubmitJobDriver or sparkSQLJobDriver"),
        (Some(submit), None) if submit.entry_point.is_none() => {
            invalid("sparkSubmitJobDriver.entryPoint is missing; set the jar or Python file to run")
        }
        _ => Ok(driver),
    }
}

fn read_role(spec: &JobRunSpec) -> Result<String, Unfit> {
    let arn = match (&spec.execution_role_arn, &spec.execution_role_ref) {
        (Some(arn), None) => arn.clone(),
        (None, None) => {
            return Err(invalid(
                "spec.executionRoleARN: is missing; set the ARN of the IAM role that the job runs as",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(invalid(
                "spec.executionRoleRef: both resource reference wrapper and ID cannot be used together: \
                 ExecutionRoleARN,ExecutionRoleRef; keep one of them",
            ));
        }
        (None, Some(_)) => {
            return Err(invalid(
                "spec.executionRoleRef: roles are not resolved yet; set spec.executionRoleARN instead",
            ));
        }
    };
    if is_role_arn(&arn) {
        return Ok(arn);
    }
    Err(Unfit::Invalid(format!(
        "spec.executionRoleARN: {arn:?} is no ARN of an IAM role; it has to look like \
         arn:aws:iam::123456789012:role/NAME"
    )))
}

fn invalid(why: &str) -> Unfit {
    Unfit::Invalid(why.to_owned())
}

/// Whether a text has the form of an IAM role's ARN.
fn is_role_arn(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (arn, partition, service, region, account, resource) =
        (next(), next(), next(), next(), next(), next());
    arn == "arn"
        && partition.starts_with("aws")
        && service == "iam"
        && region.is_empty()
        && (account.is_empty() || (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())))
        && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty() && !name.ends_with('/'))
}

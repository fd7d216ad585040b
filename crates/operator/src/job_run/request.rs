//! Builds the StartJobRun request from a JobRun. Pure.
//!
//! What the API server's schema would have refused is checked again, because objects may be older than the schema or
//! have come through upstream's. Invariant: every refusal names the field and what would be right.

use emrcontainers_api::job_run::JobDriver;
use emrcontainers_api::overrides::ConfigurationOverrides;
use emrcontainers_api::{JobRun, annotations};
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::overrides;
use super::plan;
use super::target::{ClusterTarget, RoleTarget, Target};
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

/// The longest UID that goes into a token: with the rest it makes the 64 characters that the service takes.
const MAX_ORIGIN_CHARS: usize = 36;

/// The token: what is the object's own, and which try it is where the service refused earlier ones for good.
///
/// The number of refusals is in the status, so it grows only after an answer that says that nothing was started. A
/// crash anywhere leaves the token as it was.
pub fn token(run: &JobRun) -> String {
    let refusals = run.status.as_ref().and_then(|status| status.refusals).unwrap_or_default();
    format!("{}{}", tokens(run), refusals.saturating_add(1))
}

/// What all tokens of the object begin with, and none of another: its first UID, and a digest of the UID, the namespace
/// and the name, so that a copy of the object under another name, or in another namespace, has tokens of its own.
pub fn tokens(run: &JobRun) -> String {
    let origin = origin(run);
    let identity = format!("{}/{}/{origin}", run.namespace().unwrap_or_default(), run.name_any());
    let digest = Sha256::digest(identity);
    let digest = digest.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
    format!("{origin}-{digest:016x}-")
}

/// Whether our finalizer is on, and we put it on: upstream's has the same name, and no origin goes with it.
pub fn is_managed(run: &JobRun) -> bool {
    plan::has_finalizer(run) && run.annotations().contains_key(annotations::ORIGIN)
}

/// Whether the object was there before under another UID.
pub fn is_restored(run: &JobRun) -> bool {
    origin(run) != run.uid().unwrap_or_default()
}

/// The UID that the object had when our finalizer was put on: a restore brings both back and gives another UID. An object
/// without the finalizer was never submitted, wherever its annotations come from.
pub fn origin(run: &JobRun) -> String {
    let annotated = run.annotations().get(annotations::ORIGIN).filter(|_| plan::has_finalizer(run));
    let is_uid = |text: &str| {
        (1..=MAX_ORIGIN_CHARS).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    annotated.filter(|text| is_uid(text)).cloned().or_else(|| run.uid()).unwrap_or_default()
}

/// The request for a run, or why there is none.
pub fn build(run: &JobRun, target: &Target) -> Result<StartJobRun, Unfit> {
    let spec = &run.spec;
    let overrides = read_overrides(run)?;
    let driver = read_driver(run)?;
    let execution_role_arn = read_role(&target.execution_role)?;
    let release_label = spec.release_label.clone().ok_or_else(|| {
        invalid("spec.releaseLabel: is missing; set a release of EMR such as emr-7.10.0-latest")
    })?;
    if let Some(why) = tags::problem(&target.default_tags, spec.tags.as_ref()) {
        return Err(Unfit::Invalid(why));
    }
    let virtual_cluster_id = match &target.virtual_cluster {
        ClusterTarget::Given(id) | ClusterTarget::Resolved(id) => id.clone(),
        ClusterTarget::Waiting { .. } => return Err(Unfit::Waiting),
        ClusterTarget::Invalid(why) => return Err(Unfit::Invalid(why.clone())),
    };
    // After all that is wrong for good: nobody waits for a role to be told of it.
    let execution_role_arn = execution_role_arn.ok_or(Unfit::Waiting)?;
    Ok(StartJobRun {
        client_token: token(run),
        virtual_cluster_id,
        name: Some(name(run)),
        execution_role_arn: Some(execution_role_arn),
        release_label: Some(release_label),
        job_driver: Some(driver),
        configuration_overrides: overrides,
        max_attempts: spec.retry_policy_configuration.as_ref().map(|policy| policy.max_attempts),
        tags: tags::merge(&target.default_tags, spec.tags.as_ref()),
    })
}

/// The run's name: what the spec says, else the object's, cut to what the service takes.
pub fn name(run: &JobRun) -> String {
    run.spec.name.clone().unwrap_or_else(|| cut_name(run))
}

fn cut_name(run: &JobRun) -> String {
    run.name_any().chars().take(MAX_NAME_CHARS).collect()
}

/// The names that a run of the object may have: a spec may be given one after the run was started.
pub fn names(run: &JobRun) -> Vec<String> {
    let mut names = vec![name(run), cut_name(run)];
    names.dedup();
    names.retain(|name| is_name(name));
    names
}

/// Whether the service takes the name; it refuses others as a filter, too.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_/#".contains(&b))
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

/// The ARN of the role; `None` while the object that is referred to isn't ready.
fn read_role(role: &RoleTarget) -> Result<Option<String>, Unfit> {
    let (field, arn) = match role {
        RoleTarget::Given(arn) => ("spec.executionRoleARN", arn),
        RoleTarget::Resolved(arn) => ("spec.executionRoleRef", arn),
        RoleTarget::Referred { .. } | RoleTarget::Waiting { .. } => return Ok(None),
        RoleTarget::Invalid(why) => return Err(invalid(why)),
    };
    if is_role_arn(arn) {
        return Ok(Some(arn.clone()));
    }
    Err(Unfit::Invalid(format!(
        "{field}: {arn:?} is no ARN of an IAM role; it has to look like arn:aws:iam::123456789012:role/NAME"
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

#[cfg(test)]
mod tests {
    use emrcontainers_api::JOB_RUN_FINALIZER;
    use emrcontainers_api::job_run::{JobRunSpec, JobRunStatus};

    use super::*;

    const UID: &str = "11111111-2222-4333-8444-555555555555";

    /// An object that was submitted: with the finalizer and what goes on with it.
    fn submitted() -> JobRun {
        let mut run = JobRun::new("r", JobRunSpec::default());
        run.metadata.uid = Some(UID.into());
        run.metadata.namespace = Some("ns".into());
        run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
        run.metadata.annotations = Some([(annotations::ORIGIN.to_owned(), UID.to_owned())].into());
        run
    }

    fn restored() -> JobRun {
        let mut run = submitted();
        run.metadata.uid = Some("99999999-2222-4333-8444-555555555555".into());
        run
    }

    #[test]
    fn the_token_is_the_first_uid_a_digest_and_the_try_and_grows_only_with_refusals() {
        let mut run = submitted();
        assert_eq!(token(&run), format!("{UID}-6f305ca21458a73f-1"));
        run.metadata.annotations.get_or_insert_default().insert(annotations::RETRY.into(), "x".into());
        assert_eq!(token(&run), format!("{}1", tokens(&run)));
        run.status = Some(JobRunStatus { refusals: Some(i32::MAX - 1), ..JobRunStatus::default() });
        assert_eq!(token(&run), format!("{}{}", tokens(&run), i32::MAX));
        assert_eq!(token(&run).len(), 64, "the service takes no more");
    }

    #[test]
    fn a_restored_object_keeps_its_tokens() {
        assert!(is_restored(&restored()) && !is_restored(&submitted()));
        assert_eq!(tokens(&restored()), tokens(&submitted()));
    }

    #[test]
    fn a_copy_or_an_object_that_was_never_submitted_has_tokens_of_its_own() {
        let mut renamed = restored();
        renamed.metadata.name = Some("copy".into());
        let mut moved = restored();
        moved.metadata.namespace = Some("other".into());
        let mut applied_anew = restored();
        applied_anew.metadata.finalizers = None;
        let mut garbled = restored();
        garbled.metadata.annotations = Some([(annotations::ORIGIN.to_owned(), "x".repeat(37))].into());
        for run in [renamed, moved, applied_anew, garbled] {
            assert_ne!(tokens(&run), tokens(&submitted()), "{:?}", run.metadata);
        }
    }

    #[test]
    fn only_names_that_the_service_takes_are_asked_for() {
        assert!(is_name("team-a/etl_1.2#x"));
        assert!(!is_name("") && !is_name("bad name") && !is_name(&"x".repeat(65)));
    }
}

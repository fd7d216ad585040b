//! Which run an object asks to take over, and how its spec compares with it. Pure.
//!
//! Invariant: a member of the spec that is set is never touched; one that is left out becomes what the run was started with.

use emrcontainers_api::job_run::{JobDriver, JobRunSpec};
use emrcontainers_api::overrides::{Configuration, ConfigurationOverrides, MonitoringConfiguration};
use serde_json::{Value, json};

use super::overrides;
use super::request::Unfit;
use super::target::{ClusterTarget, Target};
use crate::adoption::{Fields, Named, missing, own_tags};
use crate::emr::details::JobRunDetails;
use crate::emr::model;

/// The service's default for a member that it adds itself.
const PERSISTENT_APP_UI: &str = "ENABLED";

/// A run that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// The virtual cluster that it is in.
    pub virtual_cluster_id: String,
    /// What it is known by.
    pub by: By,
    /// Its ARN, if it was given.
    pub arn: Option<String>,
}

/// What a run is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Its id.
    Id(String),
    /// The token that it was started with.
    Token(String),
}

impl Existing {
    /// What it is, for a message.
    pub fn words(&self) -> String {
        let cluster = &self.virtual_cluster_id;
        match &self.by {
            By::Id(id) => format!("job run {id} in virtual cluster {cluster}"),
            By::Token(token) => format!("a job run with client token {token} in virtual cluster {cluster}"),
        }
    }
}

/// The run that the fields name.
///
/// # Errors
/// When they name none, or its virtual cluster isn't known yet.
pub fn existing(fields: &Fields, target: &Target) -> Result<Existing, Unfit> {
    if let Some(arn) = fields.get("arn") {
        let named = Named::read(arn).and_then(|named| Some((named.virtual_cluster_id, named.job_run_id?)));
        let (cluster, id) = named.ok_or_else(|| {
            Unfit::Invalid(format!(
                "Error populating adoption fields: {arn} is no ARN of a job run; it has to look like \
                 arn:aws:emr-containers:REGION:ACCOUNT:/virtualclusters/ID/jobruns/ID"
            ))
        })?;
        return Ok(Existing {
            virtual_cluster_id: cluster.to_owned(),
            by: By::Id(id.to_owned()),
            arn: Some(arn.to_owned()),
        });
    }
    let id = fields.get("id").map(|id| By::Id(id.to_owned()));
    let token = || fields.get("clientToken").map(|token| By::Token(token.to_owned()));
    let by = id.or_else(token).ok_or_else(|| {
        Unfit::Invalid(missing(
            "id",
            "give id and virtualClusterID, clientToken and virtualClusterID, or arn",
        ))
    })?;
    let virtual_cluster_id = match (fields.get("virtualClusterID"), &target.virtual_cluster) {
        (Some(id), _) => id.to_owned(),
        (
            None,
            ClusterTarget::Given(id)
            | ClusterTarget::Resolved(id)
            | ClusterTarget::Waiting { id: Some(id), .. },
        ) => id.clone(),
        (None, ClusterTarget::Waiting { id: None, .. }) => return Err(Unfit::Waiting),
        (None, ClusterTarget::Invalid(_)) => {
            return Err(Unfit::Invalid(missing(
                "virtualClusterID",
                "give it there or in the spec, or give arn",
            )));
        }
    };
    Ok(Existing { virtual_cluster_id, by, arn: None })
}

/// How a spec and a run compare.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// What the spec leaves out, as the run has it.
    pub left_out: JobRunSpec,
    /// The members that say something else.
    pub differs: Vec<&'static str>,
}

/// Compares a spec with a run.
pub fn compare(
    spec: &JobRunSpec,
    target: &Target,
    virtual_cluster_id: &str,
    run: &model::JobRun,
    details: &JobRunDetails,
) -> Comparison {
    let mut seen = Comparison::default();
    let Comparison { left_out, differs } = &mut seen;
    let mut text =
        |path, wanted: &Option<String>, actual: &Option<String>, into: &mut Option<String>| match wanted {
            None => into.clone_from(actual),
            Some(_) if wanted == actual => {}
            Some(_) => differs.push(path),
        };
    text("spec.name", &spec.name, &run.name, &mut left_out.name);
    text("spec.releaseLabel", &spec.release_label, &details.release_label, &mut left_out.release_label);
    if spec.execution_role_ref.is_none() {
        let (wanted, actual) = (&spec.execution_role_arn, &details.execution_role_arn);
        text("spec.executionRoleARN", wanted, actual, &mut left_out.execution_role_arn);
    }
    match (&spec.virtual_cluster_ref, target.virtual_cluster.id()) {
        (None, _) => {
            let actual = Some(virtual_cluster_id.to_owned());
            let into = &mut left_out.virtual_cluster_id;
            text("spec.virtualClusterID", &spec.virtual_cluster_id, &actual, into);
        }
        (Some(_), Some(id)) if id != virtual_cluster_id => differs.push("spec.virtualClusterRef"),
        (Some(_), _) => {}
    }
    match &spec.job_driver {
        None => left_out.job_driver.clone_from(&details.job_driver),
        Some(driver) if details.job_driver.as_ref().map(plain) == Some(plain(driver)) => {}
        Some(_) => differs.push("spec.jobDriver"),
    }
    match &spec.retry_policy_configuration {
        // Upstream doesn't know it, and nothing follows from it any more.
        None => {}
        Some(policy) if Some(policy.max_attempts) == details.max_attempts => {}
        // Without a retry there is no policy.
        Some(policy) if policy.max_attempts <= 1 && details.max_attempts.is_none() => {}
        Some(_) => differs.push("spec.retryPolicyConfiguration"),
    }
    if spec.tags.is_none() {
        left_out.tags = own_tags(&run.tags, &target.default_tags);
    }
    compare_overrides(spec, details.configuration_overrides.as_ref(), &mut seen);
    seen
}

/// Without members that say nothing.
fn plain(driver: &JobDriver) -> JobDriver {
    let mut driver = driver.clone();
    if let Some(submit) = &mut driver.spark_submit_job_driver {
        submit.entry_point_arguments = submit.entry_point_arguments.take().filter(|list| !list.is_empty());
        submit.spark_submit_parameters =
            submit.spark_submit_parameters.take().filter(|text| !text.trim().is_empty());
    }
    driver
}

fn compare_overrides(spec: &JobRunSpec, actual: Option<&ConfigurationOverrides>, seen: &mut Comparison) {
    let actual = actual.cloned().unwrap_or_default();
    let (member, wanted) = match (&spec.configuration_overrides, &spec.overrides) {
        (None, None) => {
            let is_plain = normal(actual.clone()) == normal(ConfigurationOverrides::default());
            seen.left_out.configuration_overrides = (!is_plain).then(|| text_of(&actual));
            return;
        }
        (Some(text), _) => ("spec.configurationOverrides", overrides::from_text(text)),
        (None, Some(typed)) => ("spec.overrides", overrides::from_typed(typed)),
    };
    if wanted.is_ok_and(|wanted| normal(wanted) == normal(actual)) {
        return;
    }
    seen.differs.push(member);
}

/// With the service's default where a member is left out.
fn normal(mut overrides: ConfigurationOverrides) -> ConfigurationOverrides {
    let monitoring = overrides.monitoring_configuration.get_or_insert_with(MonitoringConfiguration::default);
    monitoring.persistent_app_ui.get_or_insert_with(|| PERSISTENT_APP_UI.to_owned());
    overrides
}

/// The text that upstream and we read back as these overrides.
fn text_of(overrides: &ConfigurationOverrides) -> String {
    let mut text = serde_json::Map::new();
    if !overrides.application_configuration.is_empty() {
        text.insert("applicationConfiguration".to_owned(), values(&overrides.application_configuration));
    }
    if let Some(monitoring) = &overrides.monitoring_configuration {
        text.insert("monitoringConfiguration".to_owned(), json!(monitoring));
    }
    Value::Object(text).to_string()
}

fn values(list: &[Configuration]) -> Value {
    let value = |configuration: &Configuration| {
        let mut value = json!({ "classification": configuration.classification });
        if let Some(members) = value.as_object_mut() {
            if !configuration.properties.is_empty() {
                members.insert("properties".to_owned(), json!(configuration.properties));
            }
            if !configuration.configurations.is_empty() {
                members.insert("configurations".to_owned(), values(&configuration.configurations));
            }
        }
        value
    };
    list.iter().map(value).collect()
}

/// Reason of `ACK.Advisory` on a run that isn't what the spec says.
pub const SPEC_DIFFERS: &str = "SpecDiffers";

/// The words by which that is known in a message.
pub const STARTED_WITH_ELSE: &str = "the job run was started with something else than ";

/// What to tell of a spec that differs.
pub fn advice(differs: &[&str]) -> Option<String> {
    (!differs.is_empty()).then(|| {
        format!("{STARTED_WITH_ELSE}{}: what it was started with can't be changed", differs.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use emrcontainers_api::JobRun;

    use super::super::target::RoleTarget;
    use super::*;
    use crate::adoption::asked;

    fn fields(text: &str) -> Fields {
        let run: JobRun = serde_json::from_value(json!({"metadata": {"name": "r", "annotations": {
            "services.k8s.aws/adoption-policy": "adopt", "services.k8s.aws/adoption-fields": text,
        }}, "spec": {}}))
        .unwrap();
        asked(&run, false).unwrap().unwrap().fields
    }

    fn target(virtual_cluster: ClusterTarget) -> Target {
        let execution_role = RoleTarget::Given("arn:aws:iam::123456789012:role/job".into());
        Target { virtual_cluster, execution_role, default_tags: vec![("by".into(), "us".into())] }
    }

    fn nothing() -> Target {
        target(ClusterTarget::Invalid("none".into()))
    }

    #[test]
    fn a_run_is_named_by_id_token_or_arn_and_its_cluster_may_be_in_the_spec() {
        let by_id = existing(&fields(r#"{"id": "jr1", "virtualClusterID": "vc1"}"#), &nothing()).unwrap();
        assert_eq!(by_id.words(), "job run jr1 in virtual cluster vc1");
        assert_eq!((by_id.by, by_id.virtual_cluster_id.as_str()), (By::Id("jr1".into()), "vc1"));
        let given = target(ClusterTarget::Given("vc2".into()));
        let by_token = existing(&fields(r#"{"clientToken": "t"}"#), &given).unwrap();
        assert_eq!(by_token.words(), "a job run with client token t in virtual cluster vc2");
        assert_eq!((by_token.by, by_token.virtual_cluster_id.as_str()), (By::Token("t".into()), "vc2"));
        let arn = "arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/vc3/jobruns/jr3";
        let by_arn = existing(&fields(&format!(r#"{{"arn": "{arn}"}}"#)), &nothing()).unwrap();
        assert_eq!((by_arn.by, by_arn.virtual_cluster_id.as_str()), (By::Id("jr3".into()), "vc3"));
        for (text, words) in [
            (r#"{"virtualClusterID": "vc1"}"#, "required field missing: id;"),
            (r#"{"id": "jr1"}"#, "required field missing: virtualClusterID;"),
            (r#"{"id": ""}"#, "required field missing: id;"),
            (r#"{"arn": "arn:aws:s3:::b"}"#, "arn:aws:s3:::b is no ARN of a job run"),
        ] {
            let Err(Unfit::Invalid(why)) = existing(&fields(text), &nothing()) else { panic!("{text}") };
            assert!(why.starts_with("Error populating adoption fields: ") && why.contains(words), "{why}");
        }
    }

    fn run() -> (model::JobRun, JobRunDetails) {
        let tags = [("by", "them"), ("aws:x", "1"), ("team", "a")];
        let run = model::JobRun {
            name: Some("etl".into()),
            tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..model::JobRun::default()
        };
        let driver = json!({"sparkSubmitJobDriver": {"entryPoint": "s3://b/j.py"}});
        let details = JobRunDetails {
            execution_role_arn: Some("arn:aws:iam::123456789012:role/job".into()),
            release_label: Some("emr-7.10.0-latest".into()),
            job_driver: Some(serde_json::from_value(driver).unwrap()),
            configuration_overrides: Some(
                overrides::from_text(
                    r#"{"applicationConfiguration": [{"classification": "spark-defaults", "properties": {"a": "1"},
                        "configurations": [{"classification": "inner"}]}],
                        "monitoringConfiguration": {"persistentAppUI": "ENABLED"}}"#,
                )
                .unwrap(),
            ),
            max_attempts: None,
        };
        (run, details)
    }

    #[test]
    fn what_a_spec_leaves_out_becomes_what_the_run_was_started_with() {
        let (run, details) = run();
        let Comparison { left_out, differs } =
            compare(&JobRunSpec::default(), &nothing(), "vc1", &run, &details);
        assert!(differs.is_empty());
        assert_eq!(left_out.name.as_deref(), Some("etl"));
        assert_eq!(left_out.virtual_cluster_id.as_deref(), Some("vc1"));
        assert_eq!(left_out.tags, Some(BTreeMap::from([("team".to_owned(), "a".to_owned())])));
        let text = left_out.configuration_overrides.clone().unwrap();
        assert_eq!(overrides::from_text(&text).unwrap(), details.configuration_overrides.clone().unwrap());
        // The filled spec is the run: nothing is left to fill or to tell.
        let again = compare(&left_out, &nothing(), "vc1", &run, &details);
        assert_eq!(again.differs, Vec::<&str>::new());
        assert_eq!(again.left_out, JobRunSpec::default());
    }

    #[test]
    fn what_a_spec_says_stays_and_is_told_where_it_differs() {
        let (run, details) = run();
        let spec: JobRunSpec = serde_json::from_value(json!({
            "name": "other", "releaseLabel": "emr-7.10.0-latest", "virtualClusterRef": {"from": {"name": "vc"}},
            "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://b/j.py", "entryPointArguments": []}},
            "overrides": {"monitoringConfiguration": {"persistentAppUI": "DISABLED"}},
            "executionRoleRef": {"from": {"name": "role"}}, "tags": {},
        }))
        .unwrap();
        let target = target(ClusterTarget::Resolved("vc2".into()));
        let Comparison { left_out, differs } = compare(&spec, &target, "vc1", &run, &details);
        assert_eq!(left_out, JobRunSpec::default());
        assert_eq!(differs, ["spec.name", "spec.virtualClusterRef", "spec.overrides"]);
        assert!(advice(&differs).unwrap().contains("spec.name, spec.virtualClusterRef, spec.overrides"));
    }

    #[test]
    fn one_member_that_differs_is_told_and_the_same_said_in_another_way_is_not() {
        let (run, details) = run();
        let there = target(ClusterTarget::Resolved("vc1".into()));
        let differs = |spec: Value, max_attempts| {
            let spec: JobRunSpec = serde_json::from_value(spec).unwrap();
            let details = JobRunDetails { max_attempts, ..details.clone() };
            compare(&spec, &there, "vc1", &run, &details).differs
        };
        assert!(differs(json!({"virtualClusterRef": {"from": {"name": "vc"}}}), None).is_empty());
        let driver = |point: &str| json!({"jobDriver": {"sparkSubmitJobDriver": {"entryPoint": point}}});
        assert!(differs(driver("s3://b/j.py"), None).is_empty());
        assert_eq!(differs(driver("s3://b/k.py"), None), ["spec.jobDriver"]);
        for (member, nothing, something) in [
            ("entryPointArguments", json!([]), json!(["1"])),
            ("sparkSubmitParameters", json!(" "), json!("--conf a=b")),
        ] {
            let with = |value: Value| {
                let mut spec = driver("s3://b/j.py");
                spec["jobDriver"]["sparkSubmitJobDriver"][member] = value;
                differs(spec, None)
            };
            assert!(with(nothing).is_empty(), "{member}");
            assert_eq!(with(something), ["spec.jobDriver"], "{member}");
        }
        let attempts = |most: i32| json!({"retryPolicyConfiguration": {"maxAttempts": most}});
        let told = ["spec.retryPolicyConfiguration"];
        for (wanted, actual, expected) in [
            (3, Some(3), &[][..]),
            (3, Some(2), &told),
            (3, None, &told),
            (1, None, &[]),
            (1, Some(2), &told),
        ] {
            assert_eq!(differs(attempts(wanted), actual), expected, "{wanted}, {actual:?}");
        }
    }
}

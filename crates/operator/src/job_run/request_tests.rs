//! The request that a spec makes, and why others make none.

use emrcontainers_api::job_run::{
    JobDriver, JobRunSpec, RetryPolicyConfiguration, SparkSqlJobDriver, SparkSubmitJobDriver,
};
use emrcontainers_api::overrides::Overrides;
use emrcontainers_api::reference::ResourceReference;
use emrcontainers_api::{JOB_RUN_FINALIZER, JobRun, annotations};

use super::model_tests::a_run;
use super::request::{Unfit, build, is_restored, name, names, token};
use super::target::{ClusterTarget, RoleTarget, Target, execution_role};

type Change = fn(&mut JobRunSpec);

fn target(run: &JobRun) -> Target {
    let default_tags = vec![("a".to_owned(), "default".to_owned()), ("b".to_owned(), "default".to_owned())];
    let virtual_cluster = ClusterTarget::Resolved("vc7".into());
    Target { virtual_cluster, execution_role: execution_role(run, true), default_tags }
}

fn refusal(change: Change) -> Unfit {
    let mut run = a_run();
    change(&mut run.spec);
    build(&run, &target(&run)).unwrap_err()
}

#[test]
fn a_request_says_all_that_the_spec_says() {
    let mut run = a_run();
    run.spec.name = Some("nightly".into());
    run.spec.configuration_overrides = Some("applicationConfiguration: [{classification: a}]".into());
    run.spec.retry_policy_configuration = Some(RetryPolicyConfiguration { max_attempts: 3 });
    run.spec.tags = Some([("a".to_owned(), "own".to_owned())].into());
    let request = build(&run, &target(&run)).unwrap();
    assert_eq!(request.client_token, token(&run));
    assert_eq!(request.virtual_cluster_id, "vc7");
    assert_eq!(request.name.as_deref(), Some("nightly"));
    assert_eq!(request.execution_role_arn, run.spec.execution_role_arn);
    assert_eq!(request.release_label, run.spec.release_label);
    assert_eq!(request.job_driver, run.spec.job_driver);
    assert_eq!(request.configuration_overrides.unwrap().application_configuration[0].classification, "a");
    assert_eq!(request.max_attempts, Some(3));
    let tags: Vec<_> = request.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(tags, [("a", "own"), ("b", "default")]);
    assert_eq!(build(&a_run(), &target(&a_run())).unwrap().configuration_overrides, None);
}

#[test]
fn the_object_lends_its_name_as_far_as_the_service_takes_it() {
    let mut run = a_run();
    run.metadata.name = Some("x".repeat(253));
    assert_eq!(name(&run), "x".repeat(64));
    assert_eq!(names(&run), ["x".repeat(64)]);
    run.metadata.name = Some("run".into());
    run.spec.name = Some("nightly".into());
    assert_eq!(names(&run), ["nightly", "run"], "it may have been started before the spec had a name");
    run.spec.name = Some("run".into());
    assert_eq!(names(&run), ["run"]);
    run.spec.name = Some("no name".into());
    assert_eq!(names(&run), ["run"], "the service has none of that name");
}

#[test]
fn what_cannot_be_sent_names_the_field_and_the_remedy() {
    let cases: [(Change, &str); 10] = [
        (|spec| spec.job_driver = None, "spec.jobDriver: is missing"),
        (|spec| spec.job_driver = Some(JobDriver::default()), "spec.jobDriver: has no driver"),
        (
            |spec| {
                let driver = spec.job_driver.get_or_insert_default();
                driver.spark_sql_job_driver = Some(SparkSqlJobDriver::default());
            },
            "spec.jobDriver: has two drivers",
        ),
        (
            |spec| {
                let submit = Some(SparkSubmitJobDriver::default());
                spec.job_driver.get_or_insert_default().spark_submit_job_driver = submit;
            },
            "spec.jobDriver: sparkSubmitJobDriver.entryPoint is missing",
        ),
        (|spec| spec.release_label = None, "spec.releaseLabel: is missing"),
        (|spec| spec.execution_role_arn = None, "spec.executionRoleARN: is missing"),
        (
            |spec| spec.execution_role_ref = Some(ResourceReference::default()),
            "spec.executionRoleRef: both resource reference wrapper and ID",
        ),
        (
            |spec| {
                spec.execution_role_arn = None;
                spec.execution_role_ref = Some(ResourceReference::default());
            },
            "spec.executionRoleRef: provided resource reference is nil or empty",
        ),
        (
            |spec| spec.tags = Some([("aws:x".to_owned(), String::new())].into()),
            "spec.tags: the key \"aws:x\"",
        ),
        (
            |spec| {
                spec.configuration_overrides = Some("{}".into());
                spec.overrides = Some(Overrides::default());
            },
            "spec.overrides: configurationOverrides is set too",
        ),
    ];
    for (change, expected) in cases {
        let Unfit::Invalid(why) = refusal(change) else { panic!("{expected}: waits") };
        assert!(why.starts_with(expected), "{expected}: {why}");
    }
}

#[test]
fn a_role_that_is_referred_to_is_waited_for_after_all_that_is_wrong() {
    let run = a_run();
    let referred = RoleTarget::Referred { namespace: "ns".into(), name: "r".into() };
    let waiting = Target { execution_role: referred, ..target(&run) };
    assert_eq!(build(&run, &waiting), Err(Unfit::Waiting));
    let wrong = Target { virtual_cluster: ClusterTarget::Invalid("none".into()), ..waiting };
    assert_eq!(build(&run, &wrong), Err(Unfit::Invalid("none".into())));
    let resolved = |arn: &str| Target { execution_role: RoleTarget::Resolved(arn.into()), ..target(&run) };
    let arn = "arn:aws:iam::123456789012:role/other";
    assert_eq!(build(&run, &resolved(arn)).unwrap().execution_role_arn.as_deref(), Some(arn));
    assert!(
        matches!(build(&run, &resolved("x")), Err(Unfit::Invalid(why)) if why.starts_with("spec.executionRoleRef"))
    );
}

#[test]
fn only_what_has_the_form_of_a_roles_arn_is_sent() {
    let sent = |arn: &str| {
        let mut run = a_run();
        run.spec.execution_role_arn = Some(arn.into());
        build(&run, &target(&run)).is_ok()
    };
    for arn in [
        "arn:aws:iam::123456789012:role/job",
        "arn:aws-cn:iam::123456789012:role/team/job",
        "arn:aws:iam:::role/job",
    ] {
        assert!(sent(arn), "{arn}");
    }
    for arn in [
        "job",
        "urn:aws:iam::123456789012:role/job",
        "arn:gcp:iam::123456789012:role/job",
        "arn:aws:sts::123456789012:role/job",
        "arn:aws:iam:eu-west-1:123456789012:role/job",
        "arn:aws:iam::12345678901:role/job",
        "arn:aws:iam::12345678901x:role/job",
        "arn:aws:iam::123456789012:user/job",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role/team/",
    ] {
        assert!(!sent(arn), "{arn}");
    }
}

#[test]
fn only_a_uid_is_taken_for_the_first_one() {
    let origin = |value: &str| {
        let mut run = a_run();
        run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
        run.metadata.annotations = Some([(annotations::ORIGIN.to_owned(), value.to_owned())].into());
        is_restored(&run)
    };
    assert!(origin("0a-9") && origin(&"x".repeat(36)));
    for no_uid in ["", "A", "a b", "a/b", &"x".repeat(37)] {
        assert!(!origin(no_uid), "{no_uid:?}");
    }
}

//! Each situation of a run and the status that follows.

use emrcontainers_api::condition::{Condition, ConditionStatus};
use emrcontainers_api::job_run::{
    CANCEL_PENDING, CANCELLED, COMPLETED, FAILED, JobRunStatus, PENDING, RUNNING,
};
use emrcontainers_api::overrides::{
    CloudWatchMonitoringConfiguration, ConfigurationOverrides, MonitoringConfiguration,
    S3MonitoringConfiguration,
};
use emrcontainers_api::{JobRun, annotations};
use jiff::Timestamp;

use super::model_tests::{a_run, seen};
use super::status::{Manner, Situation, Submission, Tags, advice, next};
use crate::emr::poll::Observed;
use crate::scope::decide::Told;
use crate::settings::JobReadyPolicy;

/// Nothing is told of who acts.
static TOLD: Told = Told { selected: None, drift: None };

fn manner(ready: JobReadyPolicy, by_reference: bool) -> Manner<'static> {
    Manner {
        ready,
        by_reference,
        cross_namespace: true,
        tags: Tags::Sent,
        told: &TOLD,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn after(mut run: JobRun, situation: &Situation<'_>) -> JobRun {
    run.status = Some(next(&run, situation, manner(JobReadyPolicy::Outcome, false)));
    run
}

fn status(run: JobRun) -> JobRunStatus {
    run.status.unwrap()
}

fn overrides(s3: Option<&str>, cloud_watch: Option<(&str, Option<&str>)>) -> ConfigurationOverrides {
    ConfigurationOverrides {
        monitoring_configuration: Some(MonitoringConfiguration {
            s3_monitoring_configuration: s3.map(|uri| S3MonitoringConfiguration {
                log_uri: uri.into(),
                ..S3MonitoringConfiguration::default()
            }),
            cloud_watch_monitoring_configuration: cloud_watch.map(|(group, prefix)| {
                CloudWatchMonitoringConfiguration {
                    log_group_name: group.into(),
                    log_stream_name_prefix: prefix.map(str::to_owned),
                }
            }),
            ..MonitoringConfiguration::default()
        }),
        ..ConfigurationOverrides::default()
    }
}

fn submission(overrides: Option<ConfigurationOverrides>) -> Submission {
    Submission {
        id: "job0".into(),
        virtual_cluster_id: "vc1".into(),
        place: emrcontainers_api::status::AckResourceMetadata::default(),
        overrides,
        found: None,
        generation: Some(1),
        advice: None,
    }
}

fn submitted() -> JobRun {
    after(a_run(), &Situation::Submitted(&submission(None), None))
}

fn ended(state: &str) -> JobRun {
    after(submitted(), &Situation::Observed(&seen(state)))
}

/// `Type=Status reason`, for each condition.
fn short(conditions: &[Condition]) -> Vec<String> {
    let line = |c: &Condition| format!("{}={:?} {}", c.type_, c.status, c.reason.as_deref().unwrap_or("-"));
    conditions.iter().map(line).collect()
}

#[test]
fn each_situation_has_its_conditions() {
    const SYNCED: &str = "ACK.ResourceSynced=True -";
    let unknown = Situation::Reference { status: ConditionStatus::Unknown, why: "no cluster" };
    let waiting = Situation::Waiting { reason: "Queued", message: "waits" };
    for (what, run, situation, expected) in [
        (
            "a reference that isn't ready",
            a_run(),
            unknown,
            &[
                "ACK.ReferencesResolved=Unknown no cluster",
                "Ready=False ReferenceNotReady",
                "Reconciling=True ReferenceNotReady",
            ][..],
        ),
        (
            "waiting",
            a_run(),
            waiting,
            &["ACK.ResourceSynced=False Queued", "Ready=False Queued", "Reconciling=True Queued"],
        ),
        (
            "trouble",
            a_run(),
            Situation::Trouble("oops"),
            &[
                "ACK.Recoverable=True -",
                "ACK.ResourceSynced=Unknown oops",
                "Ready=False ACK.Recoverable",
                "Reconciling=True ACK.Recoverable",
            ],
        ),
        (
            "refused",
            a_run(),
            Situation::Refused("no"),
            &[
                "ACK.Terminal=True -",
                "ACK.ResourceSynced=False resource is in terminal condition",
                "Ready=False ACK.Terminal",
                "Stalled=True Refused",
            ],
        ),
        (
            "a role that nobody has",
            a_run(),
            Situation::NoRole("none for the team"),
            &[
                "ACK.ResourceSynced=False none for the team",
                "Ready=False RoleNotAvailable",
                "Reconciling=True RoleNotAvailable",
            ],
        ),
        (
            "an annotation that can't be followed",
            a_run(),
            Situation::Misasked("no such policy"),
            &[
                "ACK.Terminal=True -",
                "ACK.ResourceSynced=False resource is in terminal condition",
                "Ready=False ACK.Terminal",
                "Stalled=True InvalidAnnotation",
            ],
        ),
        (
            "submitted",
            submitted(),
            Situation::Acknowledged,
            &[SYNCED, "Ready=False PENDING", "Reconciling=True PENDING"],
        ),
        ("completed", ended(COMPLETED), Situation::Acknowledged, &[SYNCED, "Ready=True COMPLETED"]),
        (
            "failed",
            ended(FAILED),
            Situation::Acknowledged,
            &["ACK.Terminal=True JobRunFailed", SYNCED, "Ready=False FAILED", "Stalled=True FAILED"],
        ),
        (
            "cancelled",
            ended(CANCELLED),
            Situation::Acknowledged,
            &["ACK.Terminal=True JobRunFailed", SYNCED, "Ready=False CANCELLED", "Stalled=True CANCELLED"],
        ),
        ("new and acknowledged", a_run(), Situation::Acknowledged, &[]),
    ] {
        assert_eq!(short(&status(after(run, &situation)).conditions), expected, "{what}");
    }
}

#[test]
fn ready_follows_the_submission_where_upstreams_policy_is_asked_for() {
    let failed = ended(FAILED);
    let said = next(&failed, &Situation::Acknowledged, manner(JobReadyPolicy::Synced, true));
    assert_eq!(
        short(&said.conditions),
        ["ACK.ReferencesResolved=True -", "ACK.ResourceSynced=True -", "Ready=True -"]
    );
}

#[test]
fn an_edit_of_a_live_run_is_answered_when_its_tags_are_sent() {
    let mut edited = submitted();
    edited.metadata.generation = Some(2);
    let with = |tags: Tags<'static>, ready| Manner { tags, ..manner(ready, true) };
    let failed = Tags::Failed("why");
    for (what, state, tags, answered) in [
        ("sent", RUNNING, Tags::Sent, 2),
        ("due", RUNNING, Tags::Due, 1),
        ("failed", RUNNING, failed, 1),
        ("ended before it was sent", COMPLETED, Tags::Due, 2),
        ("ended after it failed", COMPLETED, failed, 2),
    ] {
        let said = next(&edited, &Situation::Observed(&seen(state)), with(tags, JobReadyPolicy::Outcome));
        assert_eq!(said.observed_generation, Some(answered), "{what}");
        let is_told = short(&said.conditions).contains(&"ACK.ResourceSynced=False why".to_owned());
        assert_eq!(is_told, tags == failed && state == RUNNING, "{what}: {:?}", short(&said.conditions));
    }
    let said = next(&edited, &Situation::Acknowledged, with(failed, JobReadyPolicy::Synced));
    assert!(short(&said.conditions).contains(&"Ready=False ACK.Recoverable".to_owned()), "{said:?}");
    // The status answers what the run was started with.
    let unsaved = JobRun { metadata: edited.metadata.clone(), ..a_run() };
    let said = next(
        &unsaved,
        &Situation::Submitted(&submission(None), None),
        with(Tags::Sent, JobReadyPolicy::Outcome),
    );
    assert_eq!(said.observed_generation, Some(1));
}

#[test]
fn a_run_that_is_refused_for_its_reference_has_not_resolved_it() {
    for why in ["spec.virtualClusterRef: none", "spec.executionRoleRef: none"] {
        let refused = status(after(a_run(), &Situation::Refused(why)));
        assert_eq!(short(&refused.conditions)[1], "ACK.ReferencesResolved=False none", "upstream's words");
    }
    let resolved = next(&a_run(), &Situation::Refused("no"), manner(JobReadyPolicy::Outcome, true));
    assert_eq!(short(&resolved.conditions)[1], "ACK.ReferencesResolved=True -");
}

#[test]
fn a_refusal_counts_and_is_taken_back_only_where_no_run_was_started() {
    let refused = after(after(a_run(), &Situation::Refused("no")), &Situation::Refused("no"));
    let told = status(refused.clone());
    assert_eq!((told.refusals, told.state.as_deref()), (Some(2), Some(FAILED)));
    assert_eq!(told.state_details.as_deref(), Some("no"));
    let again = status(after(refused, &Situation::Waiting { reason: "Retrying", message: "again" }));
    assert_eq!((again.refusals, again.state, again.failure_reason), (Some(2), None, None));
    let troubled = status(after(ended(FAILED), &Situation::Trouble("oops")));
    assert_eq!(troubled.state.as_deref(), Some(FAILED), "a run that was started and failed has failed");
}

#[test]
fn what_is_out_of_date_changes_nothing() {
    let asked = || after(submitted(), &Situation::CancelAsked);
    for (what, run, situation, expected) in [
        ("seen running after the end", ended(COMPLETED), Situation::Observed(&seen(RUNNING)), COMPLETED),
        ("cancelled after the end", ended(COMPLETED), Situation::CancelAsked, COMPLETED),
        ("lost after the end", ended(COMPLETED), Situation::Lost, COMPLETED),
        ("seen running after the cancel", asked(), Situation::Observed(&seen(RUNNING)), CANCEL_PENDING),
        ("seen cancelled after the cancel", asked(), Situation::Observed(&seen(CANCELLED)), CANCELLED),
        ("seen running", submitted(), Situation::Observed(&seen(RUNNING)), RUNNING),
        ("lost", submitted(), Situation::Lost, FAILED),
    ] {
        assert_eq!(status(after(run, &situation)).state.as_deref(), Some(expected), "{what}");
    }
    assert_eq!(status(submitted()).state.as_deref(), Some(PENDING));
}

#[test]
fn the_logs_are_where_they_were_configured_and_a_failure_names_them() {
    let failed = Observed {
        failure_reason: Some("USER_ERROR".into()),
        state_details: Some("exit 1".into()),
        ..seen(FAILED)
    };
    let told = |overrides: Option<ConfigurationOverrides>, seen: &Observed| {
        let told = status(after(a_run(), &Situation::Submitted(&submission(overrides), Some(seen))));
        let ready = told.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        (told.logs.clone(), ready.message.clone().unwrap())
    };
    let (logs, message) = told(Some(overrides(Some("s3://b/l/"), None)), &failed);
    assert_eq!(logs.unwrap().s3_uri.as_deref(), Some("s3://b/l/vc1/jobs/job0/"));
    assert_eq!(message, "USER_ERROR: exit 1. Logs: s3://b/l/vc1/jobs/job0/");
    let stopped = Observed { state_details: Some("It stopped.".into()), ..failed.clone() };
    let (_, message) = told(Some(overrides(None, Some(("/g", Some("p"))))), &stopped);
    let streams = "USER_ERROR: It stopped. Logs: CloudWatch log group /g, streams p/vc1/jobs/job0";
    assert_eq!(message, streams);
    let (logs, _) = told(Some(overrides(None, Some(("/g", None)))), &failed);
    assert_eq!(logs.unwrap().cloud_watch_log_stream_prefix.as_deref(), Some("vc1/jobs/job0"));
    assert_eq!(told(Some(overrides(None, None)), &failed), (None, "USER_ERROR: exit 1".to_owned()));
    let (_, message) = told(Some(overrides(Some("s3://b/l"), None)), &seen(COMPLETED));
    assert_eq!(message, "the run completed successfully");
}

#[test]
fn all_that_is_to_be_known_of_a_run_is_in_one_condition() {
    let mut run = a_run();
    run.metadata.namespace = Some("here".into());
    run.metadata.annotations = Some([(annotations::PRIORITY.to_owned(), "high".to_owned())].into());
    let from = serde_json::json!({"from": {"name": "vc", "namespace": "there"}});
    run.spec.virtual_cluster_ref = Some(serde_json::from_value(from).unwrap());
    let drifted = Told { drift: Some("it is elsewhere".into()), selected: None };
    let (reason, words) = advice(&run, true, &drifted, None).unwrap();
    assert_eq!(reason, "RegionDrift");
    for part in [
        "it is elsewhere; Cross-namespace",
        "references \"vc\" in namespace \"there\"",
        "is not a whole number",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_eq!(advice(&run, true, &TOLD, None).unwrap().0, "CrossNamespaceOptInRequired");
    assert_eq!(advice(&run, false, &TOLD, None).unwrap().0, "InvalidPriority");
    assert_eq!(advice(&a_run(), true, &TOLD, None), None);
}

#[test]
fn what_an_adopted_run_was_started_with_is_told_beside_all_else_and_not_forgotten() {
    let words = crate::job_run::adoption::advice(&["spec.name"]).unwrap();
    let told = |run: &JobRun| {
        let advice =
            run.status.as_ref().unwrap().conditions.iter().find(|c| c.type_ == "ACK.Advisory").unwrap();
        (advice.reason.clone().unwrap(), advice.message.clone().unwrap())
    };
    let mut run = a_run();
    run.metadata.annotations = Some([(annotations::PRIORITY.to_owned(), "high".to_owned())].into());
    let adopted = Submission { advice: Some(words.clone()), ..submission(None) };
    let mut run = after(run, &Situation::Submitted(&adopted, None));
    let (reason, message) = told(&run);
    assert_eq!(reason, "InvalidPriority");
    assert!(
        message.contains("is not a whole number") && message.ends_with(&format!("; {words}")),
        "{message}"
    );
    run = after(run, &Situation::Observed(&seen(RUNNING)));
    assert_eq!(told(&run), (reason, message), "by a later pass too");
    run.metadata.annotations = None;
    run = after(run, &Situation::Observed(&seen(RUNNING)));
    assert_eq!(told(&run), ("SpecDiffers".to_owned(), words.clone()));
    run = after(run, &Situation::Observed(&seen(COMPLETED)));
    assert_eq!(told(&run), ("SpecDiffers".to_owned(), words));
}

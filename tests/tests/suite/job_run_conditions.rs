//! The conditions of a JobRun in every situation: types, order, reasons and messages, as users and tools know them.

use anyhow::{Context, Result, ensure};
use emr_simulator::{FaultKind, Refusal, Rule};
use kube::api::DynamicObject;
use serde_json::Value;
use tests::cluster::{PATIENCE, TestEnv};
use tests::history::History;
use tests::manifest::job_run;
use tests::objects::{condition, status};
use tests::simulator::{calls, endless, fail, failing, quick};
use tests::verdict::{Health, Kstatus, argo_cd, argo_workflows, kstatus};
use tests::wait;

const RESOLVED: &str = "ACK.ReferencesResolved=True () ";
const SYNCED: &str = "ACK.ResourceSynced=True () Resource synced successfully";

/// Every condition in order as `type=status (reason) message`.
fn conditions(run: &DynamicObject) -> Vec<String> {
    let list = run.data.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, field: &str| {
        condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    list.into_iter()
        .flatten()
        .map(|c| {
            let (type_, status) = (text(c, "type"), text(c, "status"));
            format!("{type_}={status} ({}) {}", text(c, "reason"), text(c, "message"))
        })
        .collect()
}

fn ensure_conditions(run: &DynamicObject, expected: &[&str]) -> Result<()> {
    let found = conditions(run);
    ensure!(
        found == expected,
        "conditions are\n{}\nand should be\n{}",
        found.join("\n"),
        expected.join("\n")
    );
    Ok(())
}

fn ensure_verdict(run: &DynamicObject, expected: (Kstatus, Health)) -> Result<()> {
    let found = (kstatus(run), argo_cd(run));
    ensure!(found == expected, "{found:?} instead of {expected:?}: {run:?}");
    let ended = argo_workflows(run, "status.state == COMPLETED");
    ensure!(ended == (expected.0 == Kstatus::Current), "Argo Workflows' success");
    let failed = argo_workflows(run, "status.state in (FAILED, CANCELLED)");
    ensure!(failed == (expected.0 == Kstatus::Failed), "Argo Workflows' failure");
    Ok(())
}

#[tokio::test]
async fn every_state_of_a_run_has_its_conditions() -> Result<()> {
    let env = TestEnv::new("conditions").await?;
    let at = |name: &str| Rule { name: Some(name.to_owned()), ..Rule::default() };
    env.simulator().add_outcome(Rule { pending_seconds: Some(3600.0), ..at("pending") })?;
    env.simulator().add_outcome(Rule { submitted_seconds: Some(3600.0), ..at("submitted") })?;
    env.simulator().add_outcome(endless("running"))?;
    env.simulator().add_outcome(endless("cancelled"))?;
    env.simulator().add_outcome(failing("failed", "ModuleNotFoundError: No module named 'foo'"))?;
    env.ready_cluster("vc").await?;
    let names = ["pending", "submitted", "running", "cancelled", "failed", "completed"];
    let yaml: Vec<String> = names.iter().map(|name| job_run(name, "vc", "")).collect();
    env.apply(&yaml.join("---")).await?;
    let live = [
        ("pending", "PENDING", "the run is accepted and is about to be handed to the cluster"),
        ("submitted", "SUBMITTED", "the run is handed to the cluster and waits for room"),
        ("running", "RUNNING", "the Spark driver is running"),
    ];
    for (name, state, message) in live {
        let run = env.job_run_in(name, state).await?;
        let (ready, busy) =
            (format!("Ready=False ({state}) {message}"), format!("Reconciling=True ({state}) {message}"));
        ensure_conditions(&run, &[RESOLVED, SYNCED, &ready, &busy])?;
        ensure_verdict(&run, (Kstatus::InProgress, Health::Progressing))?;
    }
    let run = env.job_run_in("completed", "COMPLETED").await?;
    let details = status(&run, "stateDetails").context("AWS says more of a completed run")?;
    ensure_conditions(&run, &[RESOLVED, SYNCED, &format!("Ready=True (COMPLETED) {details}")])?;
    ensure_verdict(&run, (Kstatus::Current, Health::Healthy))?;
    let message = "USER_ERROR: ModuleNotFoundError: No module named 'foo'";
    ensure_ended_badly(&env.job_run_in("failed", "FAILED").await?, "FAILED", message)?;
    env.job_run_in("cancelled", "RUNNING").await?;
    env.simulator().force_job_run(&env.the_job("cancelled")?.id, "CANCELLED", None, None)?;
    ensure_ended_badly(
        &env.job_run_in("cancelled", "CANCELLED").await?,
        "CANCELLED",
        "JobRun CANCELLED successfully.",
    )
}

fn ensure_ended_badly(run: &DynamicObject, state: &str, message: &str) -> Result<()> {
    let expected = [
        &format!("ACK.Terminal=True (JobRunFailed) {message}"),
        RESOLVED,
        SYNCED,
        &format!("Ready=False ({state}) {message}"),
        &format!("Stalled=True ({state}) {message}"),
    ];
    ensure_conditions(run, &expected)?;
    ensure_verdict(run, (Kstatus::Failed, Health::Degraded))
}

#[tokio::test]
async fn a_run_that_waits_says_for_what() -> Result<()> {
    let env = TestEnv::new("conditions-wait").await?;
    env.apply(&job_run("waiting", "absent", "")).await?;
    let run = env.condition(env.job_runs(), "waiting", "ACK.ReferencesResolved", "Unknown").await?;
    let why = format!(
        "virtualclusters.emrcontainers.services.k8s.aws \"absent\" not found in namespace \"{}\": create it, or \
         correct spec.virtualClusterRef",
        env.namespace()
    );
    let expected = [
        &format!("ACK.ReferencesResolved=Unknown ({why}) Reference resolution failed"),
        &format!("Ready=False (ReferenceNotReady) {why}"),
        &format!("Reconciling=True (ReferenceNotReady) {why}"),
    ];
    ensure_conditions(&run, &expected.map(String::as_str))?;
    ensure_verdict(&run, (Kstatus::InProgress, Health::Progressing))?;
    env.ready_cluster("absent").await?;
    env.job_run_in("waiting", "COMPLETED").await.map(drop)
}

#[tokio::test]
async fn a_run_that_aws_refuses_is_failed_and_says_why() -> Result<()> {
    let env = TestEnv::new("conditions-refuse").await?;
    let message = "Release label emr-0.0.0 is not supported";
    let refusal =
        Refusal { code: "ValidationException".to_owned(), message: message.to_owned(), status: 400 };
    env.simulator().add_outcome(Rule { start_refused: Some(refusal), ..Rule::default() })?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("refused", "vc", "")).await?;
    let run = env.job_run_in("refused", "FAILED").await?;
    let why = format!("ValidationException: {message}");
    let remedy = "to try again, correct the spec (delete the object first where a field can't be changed), or set the \
                  annotation emrcontainers.services.k8s.aws/retry to a new value if the cause was elsewhere";
    let expected = [
        &format!("ACK.Terminal=True () {why}"),
        RESOLVED,
        "ACK.ResourceSynced=False (resource is in terminal condition) Resource not synced",
        &format!("Ready=False (ACK.Terminal) {why}"),
        &format!("Stalled=True (Refused) {why}; {remedy}"),
    ];
    ensure_conditions(&run, &expected)?;
    ensure_verdict(&run, (Kstatus::Failed, Health::Degraded))?;
    ensure!(status(&run, "failureReason") == Some("VALIDATION_ERROR"));
    ensure!(status(&run, "stateDetails") == Some(why.as_str()) && status(&run, "id").is_none());
    ensure!(calls(env.simulator(), "StartJobRun") == 1, "a refusal isn't repeated");
    ensure!(env.event("refused", "Refused").await?.note == format!("{why}; {remedy}"));
    // The cause is mended outside of the object.
    env.simulator().clear_outcomes();
    env.annotate(env.job_runs(), "refused", "emrcontainers.services.k8s.aws/retry", "1").await?;
    let run = env.job_run_in("refused", "COMPLETED").await?;
    ensure_verdict(&run, (Kstatus::Current, Health::Healthy))?;
    ensure!(env.the_job("refused").is_ok() && calls(env.simulator(), "StartJobRun") == 2);
    Ok(())
}

#[tokio::test]
async fn denials_and_failures_of_aws_are_told_counted_and_overcome() -> Result<()> {
    let env = TestEnv::new("conditions-aws").await?;
    env.ready_cluster("vc").await?;
    let cases = [
        (
            FaultKind::AccessDenied,
            3,
            "AccessDenied",
            "AccessDeniedException: User is not authorized to perform this action",
        ),
        // Each pass repeats such a call once by itself.
        (FaultKind::Status500, 6, "Retrying", "InternalServerException: Internal server error"),
    ];
    for (kind, failures, reason, why) in cases {
        fail(env.simulator(), "StartJobRun", kind, failures)?;
        let name = reason.to_lowercase();
        env.apply(&job_run(&name, "vc", "")).await?;
        let run = env.condition(env.job_runs(), &name, "ACK.Recoverable", "True").await?;
        let expected = [
            &format!("ACK.Recoverable=True () {why}"),
            RESOLVED,
            &format!(
                "ACK.ResourceSynced=Unknown ({why}) Unable to determine if desired resource state matches latest \
                 observed state"
            ),
            &format!("Ready=False (ACK.Recoverable) {why}"),
            &format!("Reconciling=True (ACK.Recoverable) {why}"),
        ];
        ensure_conditions(&run, &expected)?;
        ensure_verdict(&run, (Kstatus::InProgress, Health::Progressing))?;
        env.job_run_in(&name, "COMPLETED").await?;
        wait::eventually(PATIENCE, "three failures should be one event", async || {
            let events = env.events(&name).await?;
            let told: Vec<_> = events.iter().filter(|event| event.reason == reason).collect();
            ensure!(told.len() == 1 && told.iter().all(|e| e.count == 3 && e.note == why), "{events:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn with_the_policy_synced_conditions_are_upstreams() -> Result<()> {
    let policy = ["--job-ready-policy=synced"];
    let env = TestEnv::with("conditions-synced", quick(), |operator| operator.arguments(&policy)).await?;
    env.simulator().add_outcome(failing("*", "it broke"))?;
    env.ready_cluster("vc").await?;
    let history = History::record(env.job_runs(), "old").await?;
    env.apply(&job_run("old", "vc", "")).await?;
    env.job_run_in("old", "FAILED").await?;
    let ready = "Ready=True () Resource synced successfully";
    for run in history.versions().await?.iter().filter(|run| run.data.get("status").is_some()) {
        ensure_conditions(run, &[RESOLVED, SYNCED, ready])?;
    }
    Ok(())
}

#[tokio::test]
async fn the_time_of_a_condition_moves_only_with_its_status() -> Result<()> {
    let env = TestEnv::new("conditions-time").await?;
    env.simulator().add_outcome(Rule { running_seconds: Some(2.5), ..Rule::default() })?;
    env.ready_cluster("vc").await?;
    let history = History::record(env.job_runs(), "timed").await?;
    env.apply(&job_run("timed", "vc", "")).await?;
    env.job_run_in("timed", "COMPLETED").await?;
    let mut seen = Vec::new();
    for version in history.versions().await? {
        if let Some(ready) = condition(&version, "Ready") {
            let list = version.data.pointer("/status/conditions").and_then(Value::as_array).cloned();
            let found = list.into_iter().flatten().find(|condition| condition["type"] == "Ready");
            let time = found.map(|condition| condition["lastTransitionTime"].to_string());
            seen.push((ready.status.to_owned(), time));
        }
    }
    seen.dedup();
    let statuses: Vec<_> = seen.iter().map(|(status, _)| status.as_str()).collect();
    ensure!(statuses == ["False", "True"], "the times are {seen:?}");
    ensure!(seen.first().map(|s| &s.1) != seen.last().map(|s| &s.1), "the times are {seen:?}");
    Ok(())
}

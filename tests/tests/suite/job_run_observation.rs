//! What it costs to follow runs: lists only, nothing for finished ones, no write without a change.

use anyhow::{Context, Result, ensure};
use emr_simulator::Rule;
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use tests::cluster::TestEnv;
use tests::history::History;
use tests::manifest::job_run;
use tests::objects::status;
use tests::simulator::{all_calls, calls, endless, failing, until};

async fn versions(env: &TestEnv) -> Result<Vec<Option<String>>> {
    let runs = env.job_runs().list(&ListParams::default()).await?;
    Ok(runs.items.into_iter().map(|run| run.metadata.resource_version).collect())
}

async fn apply_and_complete(env: &TestEnv, names: &[&str]) -> Result<()> {
    let yaml: Vec<String> = names.iter().map(|name| job_run(name, "vc", "")).collect();
    env.apply(&yaml.join("---")).await?;
    for name in names {
        env.job_run_in(name, "COMPLETED").await?;
    }
    Ok(())
}

/// The whole life of a run elsewhere: a time in which nothing must happen here.
async fn a_whole_life_elsewhere() -> Result<()> {
    let other = TestEnv::new("elsewhere").await?;
    other.ready_cluster("vc").await?;
    apply_and_complete(&other, &["other"]).await
}

#[tokio::test]
async fn finished_runs_cost_nothing() -> Result<()> {
    let env = TestEnv::new("quiet").await?;
    env.simulator().add_outcome(failing("failed", "it broke"))?;
    env.ready_cluster("vc").await?;
    apply_and_complete(&env, &["one", "two", "three", "four", "five"]).await?;
    env.apply(&job_run("failed", "vc", "")).await?;
    env.job_run_in("failed", "FAILED").await?;
    ensure!(calls(env.simulator(), "DescribeJobRun") == 1, "one for the reason of the failure");
    let (before, written) = (all_calls(env.simulator()), versions(&env).await?);
    // Something that wakes a live run: it means nothing to these.
    env.annotate(env.job_runs(), "one", "unrelated.example.com/note", "x").await?;
    env.annotate(env.job_runs(), "two", "services.k8s.aws/deletion-policy", "retain").await?;
    let annotated = versions(&env).await?;
    let moved = annotated.iter().zip(&written).filter(|(now, before)| now != before).count();
    ensure!(moved == 2, "annotating two moves two");
    a_whole_life_elsewhere().await?;
    ensure!(all_calls(env.simulator()) == before, "AWS was called with nothing live");
    ensure!(versions(&env).await? == annotated, "a finished run was written");
    Ok(())
}

#[tokio::test]
async fn a_normal_life_takes_one_start_and_lists() -> Result<()> {
    let env = TestEnv::new("lists").await?;
    env.ready_cluster("vc").await?;
    apply_and_complete(&env, &["a", "b", "c", "d", "e", "f"]).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 6);
    ensure!(calls(env.simulator(), "DescribeJobRun") == 0 && calls(env.simulator(), "CancelJobRun") == 0);
    let lists = calls(env.simulator(), "ListJobRuns");
    ensure!((1..=15).contains(&lists), "six runs at once took {lists} lists");
    Ok(())
}

#[tokio::test]
async fn after_a_restart_live_runs_go_on_by_lists() -> Result<()> {
    let mut env = TestEnv::new("resume").await?;
    env.simulator().add_outcome(endless("live-*"))?;
    env.ready_cluster("vc").await?;
    apply_and_complete(&env, &["done-1", "done-2", "done-3"]).await?;
    for name in ["live-1", "live-2"] {
        env.apply(&job_run(name, "vc", "")).await?;
        env.job_run_in(name, "RUNNING").await?;
    }
    env.operator().kill9().await?;
    let (written, last) = (versions(&env).await?, env.simulator().requests_since(0).last().map(|r| r.n));
    env.restart_operator().await?;
    until(env.simulator(), "the live runs should be looked at", |aws| {
        aws.requests_since(last.unwrap_or_default()).iter().any(|request| request.operation == "ListJobRuns")
    })
    .await?;
    a_whole_life_elsewhere().await?;
    ensure!(versions(&env).await? == written, "a restart writes nothing where nothing changed");
    for name in ["live-1", "live-2"] {
        env.simulator().force_job_run(&env.the_job(name)?.id, "COMPLETED", None, None)?;
        env.job_run_in(name, "COMPLETED").await?;
    }
    let after = env.simulator().requests_since(last.unwrap_or_default());
    for operation in ["StartJobRun", "DescribeJobRun", "CancelJobRun"] {
        ensure!(!after.iter().any(|request| request.operation == operation), "{operation} after a restart");
    }
    Ok(())
}

#[tokio::test]
async fn a_pass_that_changes_nothing_writes_nothing() -> Result<()> {
    let env = TestEnv::new("no-write").await?;
    env.simulator().add_outcome(endless("stream"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("stream", "vc", "")).await?;
    env.job_run_in("stream", "RUNNING").await?;
    // The first look of the service's own may still add the details of the state.
    apply_and_complete(&env, &["first"]).await?;
    let history = History::record(env.job_runs(), "stream").await?;
    env.annotate(env.job_runs(), "stream", "emrcontainers.services.k8s.aws/retry", "wake").await?;
    apply_and_complete(&env, &["second"]).await?;
    let seen = history.versions().await?;
    ensure!(seen.len() == 2, "the annotation makes one version, and there are {}: {seen:?}", seen.len());
    Ok(())
}

#[tokio::test]
async fn the_first_status_has_the_id_and_the_spec_is_never_written() -> Result<()> {
    let env = TestEnv::new("first-status").await?;
    env.ready_cluster("vc").await?;
    let history = History::record(env.job_runs(), "watched").await?;
    let applied = env.apply(&job_run("watched", "vc", "")).await?;
    env.job_run_in("watched", "COMPLETED").await?;
    let versions = history.versions().await?;
    let first = versions.iter().find(|run| run.data.get("status").is_some()).context("a status")?;
    ensure!(status(first, "id").is_some() && status(first, "state") == Some("PENDING"), "{first:?}");
    let spec = applied.first().and_then(|run| run.data.get("spec"));
    ensure!(versions.iter().all(|run| run.data.get("spec") == spec), "the spec was written");
    ensure!(versions.len() <= 7, "a life took {} writes", versions.len());
    for run in &versions {
        ensure_only_ours(run)?;
    }
    Ok(())
}

/// What the operator owns: its finalizer with the origin, and the status.
fn ensure_only_ours(run: &DynamicObject) -> Result<()> {
    for entry in run.metadata.managed_fields.iter().flatten() {
        if entry.manager.as_deref() != Some("emrcontainers-operator") {
            continue;
        }
        let fields = entry.fields_v1.as_ref().map(|fields| fields.0.clone()).unwrap_or_default();
        let keys = |value: &Value| {
            value.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect::<Vec<_>>()
        };
        if entry.subresource.as_deref() == Some("status") {
            ensure!(keys(&fields) == ["f:status"], "{fields}");
        } else {
            ensure!(keys(&fields) == ["f:metadata"], "{fields}");
            let metadata = fields.get("f:metadata").cloned().unwrap_or_default();
            ensure!(
                keys(&metadata).iter().all(|key| key == "f:finalizers" || key == "f:annotations"),
                "{fields}"
            );
            let annotations = metadata.get("f:annotations").map(keys).unwrap_or_default();
            let ours = [
                ".",
                "f:emrcontainers.services.k8s.aws/destination",
                "f:emrcontainers.services.k8s.aws/origin",
            ];
            ensure!(annotations.iter().all(|key| ours.contains(&key.as_str())), "{fields}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn events_tell_each_state_once() -> Result<()> {
    let env = TestEnv::new("events").await?;
    let slow = |name: &str| Rule {
        name: Some(name.to_owned()),
        pending_seconds: Some(2.5),
        submitted_seconds: Some(2.5),
        running_seconds: Some(2.5),
        ..Rule::default()
    };
    env.simulator().add_outcome(slow("slow"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("slow", "vc", "")).await?;
    env.job_run_in("slow", "COMPLETED").await?;
    env.event("slow", "Completed").await?;
    let events = env.events("slow").await?;
    let reasons: Vec<_> = events.iter().map(|event| event.reason.as_str()).collect();
    ensure!(reasons == ["Submitted", "SubmittedToCluster", "Running", "Completed"], "{events:?}");
    ensure!(events.iter().all(|event| event.count == 1 && event.type_ == "Normal"), "{events:?}");
    let id = env.the_job("slow")?.id;
    ensure!(events.first().is_some_and(|event| event.note.contains(&id)), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn events_tell_waiting_failure_and_cancel() -> Result<()> {
    let env = TestEnv::new("events-more").await?;
    env.simulator().add_outcome(failing("failed", "ImportError"))?;
    env.simulator().add_outcome(endless("cancelled"))?;
    env.apply(&job_run("failed", "vc", "")).await?;
    let waiting = env.event("failed", "WaitingForReference").await?;
    ensure!(waiting.note.contains("\"vc\" not found"), "{waiting:?}");
    env.ready_cluster("vc").await?;
    env.job_run_in("failed", "FAILED").await?;
    let failed = env.event("failed", "Failed").await?;
    ensure!(failed.type_ == "Warning" && failed.note.contains("ImportError"), "{failed:?}");
    env.apply(&job_run("cancelled", "vc", "")).await?;
    env.job_run_in("cancelled", "RUNNING").await?;
    env.delete(env.job_runs(), "cancelled").await?;
    env.event("cancelled", "CancelRequested").await?;
    env.event("cancelled", "Cancelled").await?;
    Ok(())
}

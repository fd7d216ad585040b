//! Backup and restore: objects that come back with another UID and without their status know their jobs again.

use anyhow::{Context, Result, ensure};
use emr_simulator::{FaultKind, Refusal, Rule};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::manifest::job_run;
use tests::objects::{condition, status};
use tests::simulator::{calls, endless, fail, failing, until};

const RETRY: &str = "emrcontainers.services.k8s.aws/retry";

/// The first start of a run of that name is refused.
fn refused_once(name: &str) -> Rule {
    let refusal =
        Refusal { code: "ValidationException".to_owned(), message: "not today".to_owned(), status: 400 };
    Rule { name: Some(name.to_owned()), count: Some(1), start_refused: Some(refusal), ..Rule::default() }
}

/// The objects as `kubectl get -o json` shows them, without what Velero takes away.
async fn back_up(env: &TestEnv, names: &[&str]) -> Result<Vec<DynamicObject>> {
    let mut kept = Vec::new();
    for name in names {
        let text = env.kubectl(&["get", "jobrun", name, "--output=json"]).await?;
        let mut object: Value = serde_json::from_str(&text)?;
        object.as_object_mut().context("an object")?.remove("status").context("it has a status")?;
        let metadata =
            object.get_mut("metadata").and_then(Value::as_object_mut).context("it has metadata")?;
        for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
            metadata.remove(field);
        }
        ensure!(metadata.contains_key("finalizers"), "{metadata:?}");
        kept.push(serde_json::from_value(object)?);
    }
    Ok(kept)
}

/// Loses the objects while no operator works, as a cluster is lost.
async fn lose(env: &TestEnv, objects: &[DynamicObject]) -> Result<()> {
    env.operator().terminate().await?;
    for object in objects {
        let name = object.name_any();
        env.patch(env.job_runs(), &name, json!({"metadata": {"finalizers": null}})).await?;
        env.job_runs().delete(&name, &DeleteParams::default()).await?;
    }
    Ok(())
}

async fn restore(env: &TestEnv, objects: &[DynamicObject]) -> Result<()> {
    for object in objects {
        env.job_runs().create(&PostParams::default(), object).await?;
    }
    Ok(())
}

#[tokio::test]
async fn restored_objects_take_over_their_jobs_and_start_none() -> Result<()> {
    let mut env = TestEnv::new("restore").await?;
    env.simulator().add_outcome(endless("live"))?;
    env.simulator().add_outcome(failing("failed", "ImportError"))?;
    env.ready_cluster("vc").await?;
    let ended = [("done", "COMPLETED"), ("failed", "FAILED")];
    for name in ["live", "done", "failed"] {
        env.apply(&job_run(name, "vc", "")).await?;
    }
    let live = env.job_run_in("live", "RUNNING").await?;
    let mut before = vec![live];
    for (name, state) in ended {
        before.push(env.job_run_in(name, state).await?);
    }
    let backup = back_up(&env, &["live", "done", "failed"]).await?;
    lose(&env, &backup).await?;
    restore(&env, &backup).await?;
    env.restart_operator().await?;
    for old in &before {
        let name = old.name_any();
        let state = status(old, "state").context("it had a state")?;
        let run = env.job_run_in(&name, state).await?;
        ensure!(run.metadata.uid != old.metadata.uid, "{name} should be another object");
        for field in ["id", "virtualClusterID", "stateDetails", "failureReason", "createdAt", "finishedAt"] {
            ensure!(status(&run, field) == status(old, field), "{field} of {name}: {:?}", run.data);
        }
        let ready = |run| condition(run, "Ready").map(|ready| (ready.status, ready.reason, ready.message));
        ensure!(ready(&run).map(|r| r.0.to_owned()) == ready(old).map(|r| r.0.to_owned()), "{:?}", run.data);
        let event = env.event(&name, "TakenOver").await?;
        ensure!(event.note.contains(&env.the_job(&name)?.id), "{event:?}");
    }
    ensure!(calls(env.simulator(), "StartJobRun") == 3, "no job is started again");
    // What lives is watched on, and goes with its object.
    env.delete(env.job_runs(), "live").await?;
    ensure!(env.the_job("live")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn restored_objects_of_one_name_are_looked_for_in_a_list_for_all() -> Result<()> {
    let mut env = TestEnv::new("restore-same").await?;
    env.ready_cluster("vc").await?;
    let names: Vec<String> = (0..60).map(|number| format!("nightly-{number}")).collect();
    for name in &names {
        env.apply(&job_run(name, "vc", "name: nightly")).await?;
    }
    let mut ids = Vec::new();
    for name in &names {
        let run = env.job_run_in(name, "COMPLETED").await?;
        ids.push(status(&run, "id").context("it has an id")?.to_owned());
    }
    let backup = back_up(&env, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    lose(&env, &backup).await?;
    restore(&env, &backup).await?;
    let before = calls(env.simulator(), "ListJobRuns");
    env.restart_operator().await?;
    for (name, id) in names.iter().zip(&ids) {
        let run = env.job_run_in(name, "COMPLETED").await?;
        ensure!(status(&run, "id") == Some(id), "{name}: {:?}", run.data);
    }
    let listed = calls(env.simulator(), "ListJobRuns") - before;
    ensure!(listed <= 10 && calls(env.simulator(), "StartJobRun") == 60, "{listed} pages were read");
    Ok(())
}

#[tokio::test]
async fn a_restored_object_that_is_deleted_before_a_pass_cancels_its_job() -> Result<()> {
    let mut env = TestEnv::new("restore-delete").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("live", "vc", "")).await?;
    env.job_run_in("live", "RUNNING").await?;
    let backup = back_up(&env, &["live"]).await?;
    lose(&env, &backup).await?;
    restore(&env, &backup).await?;
    env.job_runs().delete("live", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    tests::wait::deleted(env.job_runs(), "live", tests::cluster::PATIENCE).await?;
    ensure!(env.the_job("live")?.state == "CANCELLED" && calls(env.simulator(), "StartJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn a_restored_object_is_not_started_while_lists_may_lack_its_job() -> Result<()> {
    let mut env = TestEnv::new("restore-lag").await?;
    // The second try has another token, whose number is lost with the status: only the lists can tell.
    env.simulator().add_outcome(refused_once("late"))?;
    env.simulator().add_outcome(Rule { list_delay_seconds: Some(8.0), ..endless("late") })?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("late", "vc", "")).await?;
    env.job_run_in("late", "FAILED").await?;
    env.annotate(env.job_runs(), "late", RETRY, "1").await?;
    env.until(env.job_runs(), "late", "should be submitted", |run| status(run, "id").is_some()).await?;
    let backup = back_up(&env, &["late"]).await?;
    lose(&env, &backup).await?;
    restore(&env, &backup).await?;
    env.restart_operator().await?;
    let run = env.job_run_in("late", "RUNNING").await?;
    ensure!(status(&run, "id") == Some(env.the_job("late")?.id.as_str()));
    env.event("late", "TakenOver").await.map(drop)
}

#[tokio::test]
async fn an_object_that_is_applied_again_or_copied_is_a_run_of_its_own() -> Result<()> {
    let mut env = TestEnv::new("restore-anew").await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("again", "vc", "name: etl")).await?;
    env.job_run_in("again", "COMPLETED").await?;
    let backup = back_up(&env, &["again"]).await?;
    lose(&env, &backup).await?;
    // As `kubectl create` makes it of the exported object without its finalizer.
    let mut anew = backup[0].clone();
    anew.metadata.finalizers = None;
    // As one makes it of the exported object for another run.
    let mut copy = backup[0].clone();
    copy.metadata.name = Some("copy".to_owned());
    restore(&env, &[anew, copy]).await?;
    env.restart_operator().await?;
    for name in ["again", "copy"] {
        env.job_run_in(name, "COMPLETED").await?;
        let events = env.events(name).await?;
        ensure!(events.iter().all(|event| event.reason != "TakenOver"), "{events:?}");
    }
    ensure!(env.jobs("etl").len() == 3 && calls(env.simulator(), "StartJobRun") == 3);
    Ok(())
}

#[tokio::test]
async fn a_run_that_a_crash_hid_is_found_and_not_asked_for_again() -> Result<()> {
    let mut env = TestEnv::new("restore-crash").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    fail(env.simulator(), "StartJobRun", FaultKind::HoldReply, 1)?;
    env.apply(&job_run("hidden", "vc", "")).await?;
    until(env.simulator(), "a reply should be held", |aws| aws.snapshot().held_replies == 1).await?;
    env.operator().kill9().await?;
    env.simulator().release();
    env.restart_operator().await?;
    let run = env.job_run_in("hidden", "RUNNING").await?;
    ensure!(status(&run, "id") == Some(env.the_job("hidden")?.id.as_str()));
    env.event("hidden", "TakenOver").await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1, "a token that is forgotten would start another");
    Ok(())
}

#[tokio::test]
async fn a_run_that_this_process_knows_from_its_beginning_is_not_looked_for() -> Result<()> {
    let env = TestEnv::new("restore-known").await?;
    env.simulator().add_outcome(refused_once("refused"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("refused", "vc", "")).await?;
    env.job_run_in("refused", "FAILED").await?;
    env.annotate(env.job_runs(), "refused", RETRY, "1").await?;
    env.job_run_in("refused", "COMPLETED").await?;
    let all = env.simulator().requests_since(0);
    let last_start = all.iter().rposition(|request| request.operation == "StartJobRun").context("a start")?;
    ensure!(all.iter().filter(|request| request.operation == "StartJobRun").count() == 2);
    ensure!(all[..last_start].iter().all(|request| request.operation != "ListJobRuns"), "{all:?}");
    Ok(())
}

//! A run that was started, and whose object was changed before its id was saved: it is looked for where it was started.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind, Rule};
use kube::ResourceExt;
use serde_json::json;
use tests::clock::Clock;
use tests::cluster::TestEnv;
use tests::control_plane::shared;
use tests::elsewhere::{job, start_job};
use tests::manifest::{annotated, job_run, virtual_cluster};
use tests::objects::status;
use tests::simulator::{calls, endless, fail, fault, quick, until};

const ORIGIN: &str = "emrcontainers.services.k8s.aws/origin";
const DESTINATION: &str = "emrcontainers.services.k8s.aws/destination";
const RETRY: &str = "emrcontainers.services.k8s.aws/retry";

/// The start is done and its answer is lost, and no other one gets through.
async fn start_without_an_answer(env: &TestEnv, name: &str) -> Result<()> {
    env.simulator().add_outcome(Rule { list_delay_seconds: Some(6.0), ..endless(name) })?;
    fail(env.simulator(), "StartJobRun", FaultKind::ReplyLost, 1)?;
    fail(env.simulator(), "StartJobRun", FaultKind::Status500, 1000)?;
    env.apply(&job_run(name, "vc", "")).await?;
    until(env.simulator(), "the run should be started", |aws| !aws.snapshot().job_runs.is_empty()).await
}

#[tokio::test]
async fn a_token_is_not_trusted_for_longer_than_minutes_however_often_it_is_repeated() -> Result<()> {
    let clock = Clock::create(shared().await?.scratch()).await?;
    let env = TestEnv::with("trust", quick(), |operator| operator.clock(&clock)).await?;
    env.ready_cluster("vc").await?;
    start_without_an_answer(&env, "kept").await?;
    let starts = || calls(env.simulator(), "StartJobRun");
    // The first waits between tries are shorter than that, so no try is five minutes after the one before.
    for minutes in 1..=4 {
        let before = starts();
        clock.pass(Duration::from_mins(minutes))?;
        until(env.simulator(), "the start should be tried again", |_| starts() > before).await?;
    }
    ensure!(calls(env.simulator(), "ListJobRuns") == 0, "the token was enough so far");
    clock.pass(Duration::from_mins(6))?;
    env.job_run_in("kept", "RUNNING").await?;
    env.the_job("kept")?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_was_refused_after_a_start_without_an_answer_is_tried_again_however_late() -> Result<()> {
    let clock = Clock::create(shared().await?.scratch()).await?;
    let env = TestEnv::with("late-retry", quick(), |operator| operator.clock(&clock)).await?;
    env.ready_cluster("vc").await?;
    env.simulator().add_fault(Fault { delay_ms: 100, ..fault("StartJobRun", FaultKind::Hang, 2) })?;
    let refused =
        Fault { message: Some("not now".to_owned()), ..fault("StartJobRun", FaultKind::Error, 1000) };
    let refused = env.simulator().add_fault(refused)?;
    env.apply(&job_run("late", "vc", "")).await?;
    // What lists may lack is waited for first.
    until(env.simulator(), "the start should be refused", |aws| {
        aws.counters().get("StartJobRun").is_some_and(|counter| !counter.errors.is_empty())
    })
    .await?;
    clock.pass(Duration::from_mins(1))?;
    env.job_run_in("late", "FAILED").await?;
    env.simulator().remove_fault(refused);
    clock.pass(Duration::from_mins(7))?;
    env.annotate(env.job_runs(), "late", RETRY, "1").await?;
    env.job_run_in("late", "COMPLETED").await?;
    env.the_job("late")?;
    Ok(())
}

#[tokio::test]
async fn a_start_without_an_answer_is_found_where_it_was_though_another_cluster_is_named_by_now() -> Result<()>
{
    let env = TestEnv::new("moved").await?;
    let there = env.ready_cluster("vc").await?;
    env.apply(&virtual_cluster("other", "another-namespace")).await?;
    env.condition(env.virtual_clusters(), "other", "Ready", "True").await?;
    start_without_an_answer(&env, "moved").await?;
    let spec = json!({"spec": {"virtualClusterRef": {"from": {"name": "other"}}}});
    env.patch(env.job_runs(), "moved", spec).await?;
    let run = env.job_run_in("moved", "RUNNING").await?;
    ensure!(status(&run, "virtualClusterID") == Some(there.as_str()), "{:?}", run.data);
    ensure!(status(&run, "id") == Some(env.the_job("moved")?.id.as_str()));
    env.delete(env.job_runs(), "moved").await?;
    ensure!(env.the_job("moved")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn a_start_without_an_answer_is_cancelled_with_its_object_though_its_cluster_is_unknown_by_now()
-> Result<()> {
    let mut env = TestEnv::new("unknown").await?;
    env.ready_cluster("vc").await?;
    start_without_an_answer(&env, "lost").await?;
    // Nothing is remembered but what the object says.
    env.operator().kill9().await?;
    env.patch(env.job_runs(), "lost", json!({"spec": {"virtualClusterRef": {"from": {"name": "nowhere"}}}}))
        .await?;
    env.restart_operator().await?;
    env.delete(env.job_runs(), "lost").await?;
    ensure!(env.the_job("lost")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn a_spec_that_is_spoilt_after_a_start_without_an_answer_loses_no_run() -> Result<()> {
    let env = TestEnv::new("spoilt").await?;
    env.ready_cluster("vc").await?;
    start_without_an_answer(&env, "spoilt").await?;
    // A name may be given once, also after the start.
    let spoilt = json!({"spec": {"name": "given-later", "tags": {"aws:reserved": "x"}}});
    env.patch(env.job_runs(), "spoilt", spoilt).await?;
    let run = env.job_run_in("spoilt", "RUNNING").await?;
    ensure!(status(&run, "id") == Some(env.the_job("spoilt")?.id.as_str()));
    Ok(())
}

#[tokio::test]
async fn a_run_that_may_exist_is_not_refused_while_lists_lag() -> Result<()> {
    let env = TestEnv::new("refused-lag").await?;
    env.simulator().add_outcome(Rule { list_delay_seconds: Some(6.0), ..endless("run") })?;
    env.ready_cluster("vc").await?;
    fail(env.simulator(), "StartJobRun", FaultKind::ReplyLost, 1)?;
    env.simulator().add_fault(Fault {
        code: Some("ValidationException".to_owned()),
        message: Some("the release label is not supported".to_owned()),
        status: Some(400),
        ..Fault::new("StartJobRun", FaultKind::Error)
    })?;
    env.apply(&job_run("run", "vc", "")).await?;
    let run = env.job_run_in("run", "RUNNING").await?;
    ensure!(status(&run, "id") == Some(env.the_job("run")?.id.as_str()));
    Ok(())
}

#[tokio::test]
async fn a_live_run_whose_object_is_replaced_gets_its_finalizer_back_and_is_cancelled_with_it() -> Result<()>
{
    let env = TestEnv::new("replaced").await?;
    let cluster = env.ready_cluster("vc").await?;
    env.simulator().add_outcome(endless("replaced"))?;
    env.apply(&job_run("replaced", "vc", "")).await?;
    let run = env.job_run_in("replaced", "RUNNING").await?;
    let destination = run.annotations().get(DESTINATION).context("it says where it was submitted")?.clone();
    ensure!(destination.ends_with(&format!("/{cluster}")), "{destination}");
    ensure!(run.annotations().get(ORIGIN) == run.metadata.uid.as_ref(), "{:?}", run.annotations());
    let bare = json!({"metadata": {"finalizers": null, "annotations": null}});
    env.patch(env.job_runs(), "replaced", bare).await?;
    let what = "what was taken off should be put back";
    env.until(env.job_runs(), "replaced", what, |run| {
        !run.finalizers().is_empty() && run.annotations().get(DESTINATION) == Some(&destination)
    })
    .await?;
    env.delete(env.job_runs(), "replaced").await?;
    ensure!(env.the_job("replaced")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn a_run_that_lists_lack_yet_is_adopted_by_its_token_and_not_made() -> Result<()> {
    let env = TestEnv::new("adopt-lag").await?;
    env.simulator().add_outcome(Rule { list_delay_seconds: Some(6.0), ..endless("r") })?;
    let cluster = env.ready_cluster("vc").await?;
    let id = start_job(env.simulator(), &cluster, &job("r", "theirs", &json!({}))).await?;
    let fields = json!({"clientToken": "theirs"}).to_string();
    let asked = json!({
        "services.k8s.aws/adoption-policy": "adopt-or-create",
        "services.k8s.aws/adoption-fields": fields,
    });
    env.apply(&annotated(&job_run("r", "vc", "name: r"), &asked)).await?;
    let run = env.job_run_in("r", "RUNNING").await?;
    ensure!(status(&run, "id") == Some(id.as_str()) && calls(env.simulator(), "StartJobRun") == 1);
    Ok(())
}

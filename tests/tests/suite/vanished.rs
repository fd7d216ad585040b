//! Objects that the API server deletes although our finalizer is on: one that was put on after a deletion had begun.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind, Handle, JobRunSnapshot};
use k8s_openapi::api::core::v1::Namespace as Kind;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use tests::clock::Clock;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::manifest::{annotated, job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects;
use tests::simulator::{calls, endless, fail, quick};
use tests::wait;

/// In the simulator, until it is in that state.
async fn job_in(env: &TestEnv, id: &str, state: &str) -> Result<()> {
    let is = |job: &JobRunSnapshot| job.id == id && job.state == state;
    let what = format!("job {id} should be {state}");
    env.in_aws(&what, |aws| aws.snapshot().job_runs.iter().any(is).then_some(())).await
}

async fn vanish(env: &TestEnv, plural: &str, name: &str) -> Result<()> {
    env.plane().delete_from_etcd(plural, env.namespace(), name).await
}

#[tokio::test]
async fn the_job_of_a_run_that_went_without_us_is_cancelled_and_another_of_its_name_has_its_own() -> Result<()>
{
    let env = TestEnv::new("vanished").await?;
    env.ready_cluster("vc").await?;
    env.simulator().add_outcome(endless("run"))?;
    env.apply(&job_run("run", "vc", "")).await?;
    let run = env.job_run_in("run", "RUNNING").await?;
    ensure!(!run.finalizers().is_empty() && run.metadata.deletion_timestamp.is_none());
    let first = env.the_job("run")?.id;
    vanish(&env, "jobruns", "run").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    job_in(&env, &first, "CANCELLED").await?;
    env.job_run_in("run", "RUNNING").await?;
    let live = env.jobs("run").into_iter().filter(|job| job.state == "RUNNING").count();
    ensure!(live == 1 && calls(env.simulator(), "CancelJobRun") == 1, "{:?}", env.jobs("run"));
    Ok(())
}

#[tokio::test]
async fn what_was_seen_off_is_no_work_that_does_not_move() -> Result<()> {
    let clock = Clock::create(shared().await?.scratch()).await?;
    let env = TestEnv::with("vanish-alive", quick(), |operator| operator.clock(&clock)).await?;
    env.ready_cluster("vc").await?;
    env.simulator().add_outcome(endless("run"))?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "RUNNING").await?;
    let id = env.the_job("run")?.id;
    vanish(&env, "jobruns", "run").await?;
    job_in(&env, &id, "CANCELLED").await?;
    // Each is shorter than the time after which a process that doesn't move is called stuck; together they are longer, also
    // if the job's end is seen after some of them.
    for minutes in (4..=40).step_by(4) {
        clock.pass(Duration::from_mins(minutes))?;
        let alive = wait::eventually(PATIENCE, "the process should be alive", async || {
            let (status, page) = env.operator().health("/healthz").await?;
            ensure!(status == 200, "{page}");
            Ok(Some(()))
        });
        alive.await.with_context(|| format!("after {minutes} minutes"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_run_that_goes_without_us_while_it_is_being_started_is_cancelled_too() -> Result<()> {
    let env = TestEnv::new("vanish-start").await?;
    env.ready_cluster("vc").await?;
    env.simulator().add_outcome(endless("run"))?;
    fail(env.simulator(), "StartJobRun", FaultKind::HoldReply, 1)?;
    env.apply(&job_run("run", "vc", "")).await?;
    let held = |aws: &Handle| (aws.snapshot().held_replies == 1).then_some(());
    env.in_aws("the answer of the start should be held", held).await?;
    vanish(&env, "jobruns", "run").await?;
    env.simulator().release();
    let id = env.the_job("run")?.id;
    job_in(&env, &id, "CANCELLED").await
}

#[tokio::test]
async fn a_cluster_that_went_without_us_is_deleted() -> Result<()> {
    let env = TestEnv::new("vanish-vc").await?;
    let id = env.ready_cluster("vc").await?;
    vanish(&env, "virtualclusters", "vc").await?;
    env.in_aws("the cluster should be TERMINATED", |aws| {
        aws.snapshot().virtual_clusters.iter().any(|vc| vc.id == id && vc.state == "TERMINATED").then_some(())
    })
    .await?;
    // Its namespace is free again.
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await.map(drop)
}

#[tokio::test]
async fn what_is_to_be_retained_is_and_what_only_leaves_the_selector_goes_on() -> Result<()> {
    let env =
        TestEnv::with("vanish-not", quick(), |operator| operator.arguments(&["--watch-selectors", "team=a"]))
            .await?;
    for name in ["retained", "leaves", "seen"] {
        env.simulator().add_outcome(endless(name))?;
    }
    let ours = |yaml: String| yaml.replacen("metadata: {", "metadata: {labels: {team: a}, ", 1);
    env.apply(&ours(virtual_cluster("vc", env.namespace()))).await?;
    let retain = json!({"services.k8s.aws/deletion-policy": "retain"});
    env.apply(&ours(annotated(&job_run("retained", "vc", ""), &retain))).await?;
    for name in ["leaves", "seen"] {
        env.apply(&ours(job_run(name, "vc", ""))).await?;
    }
    for name in ["retained", "leaves", "seen"] {
        env.job_run_in(name, "RUNNING").await?;
    }
    vanish(&env, "jobruns", "retained").await?;
    env.patch(env.job_runs(), "leaves", json!({"metadata": {"labels": {"team": "b"}}})).await?;
    // What is done about this one comes after what is done about those.
    vanish(&env, "jobruns", "seen").await?;
    let id = env.the_job("seen")?.id;
    job_in(&env, &id, "CANCELLED").await?;
    for name in ["retained", "leaves"] {
        ensure!(env.the_job(name)?.state == "RUNNING", "{name}");
    }
    ensure!(calls(env.simulator(), "CancelJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn the_job_of_a_run_that_went_with_its_namespace_is_cancelled() -> Result<()> {
    let client = shared().await?.client()?;
    let [stays, goes] =
        [Namespace::create(&client, "vanish-stays").await?, Namespace::create(&client, "vanish-goes").await?];
    let watched = format!("{},{}", stays.name(), goes.name());
    let env =
        TestEnv::with("vanish-ns", quick(), |operator| operator.arguments(&["--watch-namespace", &watched]))
            .await?;
    let env = env.within(stays);
    env.plane().start_controller_manager().await?;
    let cluster = format!("virtualClusterID: {}", env.ready_cluster("vc").await?);
    env.simulator().add_outcome(endless("run"))?;
    let run = job_run("run", "vc", "").replace("virtualClusterRef: {from: {name: vc}}", &cluster);
    objects::apply(env.client(), goes.name(), &run).await?;
    let job = |aws: &Handle| aws.snapshot().job_runs.into_iter().find(|job| job.state == "RUNNING");
    let id = env.in_aws("the job should be RUNNING", job).await?.id;
    let down = env.simulator().add_fault(Fault::new("CancelJobRun", FaultKind::Status503))?;
    env.plane().delete_from_etcd("jobruns", goes.name(), "run").await?;
    let namespaces: Api<Kind> = Api::all(env.client().clone());
    namespaces.delete(goes.name(), &DeleteParams::default()).await?;
    wait::deleted(namespaces, goes.name(), PATIENCE * 2).await?;
    // A try that had begun before, and its repetition, prove nothing.
    let before = calls(env.simulator(), "CancelJobRun");
    let tried = |aws: &Handle| (calls(aws, "CancelJobRun") > before + 2).then_some(());
    env.in_aws("it should be tried on", tried).await?;
    ensure!(env.simulator().remove_fault(down));
    job_in(&env, &id, "CANCELLED").await
}

//! Who is acted upon, where several operators share a cluster.

use std::time::Duration;

use anyhow::{Result, ensure};
use emr_simulator::FaultKind;
use kube::api::DeleteParams;
use serde_json::json;
use tests::cluster::{PATIENCE, TestEnv};
use tests::manifest::{job_run, virtual_cluster};
use tests::objects;
use tests::operator::Operator;
use tests::simulator::{calls, endless, fault, quick, requests};

#[tokio::test]
async fn operators_with_selectors_share_the_runs_and_each_sees_the_clusters_of_all() -> Result<()> {
    let env = TestEnv::with("scope", quick(), |operator| {
        operator.arguments(&["--watch-selectors=shard=a", "--resource-tags=by=a"])
    })
    .await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.apply(&job_run("other", "vc", "")).await?;
    let label = |shard: &str| json!({"metadata": {"labels": {"shard": shard}}});
    env.apply(&job_run("mine", "vc", "")).await?;
    env.patch(env.job_runs(), "mine", label("a")).await?;
    // The run waits for a cluster that is seen and isn't this operator's to make.
    let says = |words: &'static str| {
        move |run: &kube::api::DynamicObject| {
            objects::condition(run, "Ready").is_some_and(|ready| ready.message.contains(words))
        }
    };
    env.until(env.job_runs(), "mine", "should wait for its cluster", says("vc")).await?;
    let cluster = env.virtual_clusters().get("vc").await?;
    ensure!(cluster.metadata.finalizers.is_none() && cluster.data.get("status").is_none(), "{cluster:?}");
    env.patch(env.virtual_clusters(), "vc", label("a")).await?;
    env.job_run_in("mine", "COMPLETED").await?;
    ensure!(env.jobs("other").is_empty(), "it is another operator's");

    let _others = Operator::builder(env.plane().kubeconfig(), env.simulator().url())
        .watch_namespace(env.namespace())
        .arguments(&["--resource-tags=by=b"])
        .environment("ACK_WATCH_SELECTORS", "shard!=a")
        .start(env.plane().scratch())
        .await?;
    env.job_run_in("other", "COMPLETED").await?;
    for (name, by) in [("mine", "a"), ("other", "b")] {
        let job = env.the_job(name)?;
        ensure!(job.tags.get("by").is_some_and(|tag| tag == by), "{job:?}");
    }
    Ok(())
}

#[tokio::test]
async fn with_job_runs_alone_clusters_are_read_for_references_and_never_written() -> Result<()> {
    let mut env = TestEnv::new("scope-runs").await?;
    env.ready_cluster("vc").await?;
    ensure!(env.operator().terminate().await? == 0);
    let runs_only = env.builder().arguments(&["--reconcile-resources=JobRun"]);
    let operator = runs_only.start(env.plane().scratch()).await?;
    let version = env.virtual_clusters().get("vc").await?.metadata.resource_version;
    env.apply(&virtual_cluster("other", &format!("{}-other", env.namespace()))).await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    let other = env.virtual_clusters().get("other").await?;
    ensure!(other.metadata.finalizers.is_none() && other.data.get("status").is_none(), "{other:?}");
    ensure!(env.virtual_clusters().get("vc").await?.metadata.resource_version == version, "it was written");
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1);
    ensure!(calls(env.simulator(), "DescribeVirtualCluster") <= 1, "it isn't its own to look after");
    ensure!(operator.terminate().await? == 0);
    // Who works on both finds everything as it should be.
    env.restart_operator().await?;
    env.condition(env.virtual_clusters(), "other", "Ready", "True").await?;
    Ok(())
}

#[tokio::test]
async fn with_virtual_clusters_alone_no_run_is_touched_and_a_deletion_still_waits_for_the_runs() -> Result<()>
{
    let env = TestEnv::new("scope-clusters").await?;
    env.ready_cluster("vc").await?;
    env.simulator().add_outcome(endless("long"))?;
    env.apply(&job_run("long", "vc", "")).await?;
    env.job_run_in("long", "RUNNING").await?;
    ensure!(env.operator().terminate().await? == 0);
    let of = |kind: &str| env.builder().arguments(&[&format!("--reconcile-resources={kind}")]);
    let _clusters = of("VirtualCluster").start(env.plane().scratch()).await?;
    env.apply(&job_run("new", "vc", "")).await?;
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    env.message(env.virtual_clusters(), "vc", "Ready", "long").await?;
    let new = env.job_runs().get("new").await?;
    ensure!(new.metadata.finalizers.is_none() && new.data.get("status").is_none(), "{new:?}");
    env.job_runs().delete("new", &DeleteParams::default()).await?;
    env.job_runs().delete("long", &DeleteParams::default()).await?;
    // The other kind has an operator of its own.
    let _runs = of("JobRun").start(env.plane().scratch()).await?;
    tests::wait::deleted(env.job_runs(), "long", PATIENCE).await?;
    tests::wait::deleted(env.virtual_clusters(), "vc", PATIENCE).await?;
    ensure!(
        calls(env.simulator(), "CancelJobRun") == 1 && calls(env.simulator(), "DeleteVirtualCluster") == 1
    );
    Ok(())
}

#[tokio::test]
async fn what_others_change_in_aws_is_put_right_within_the_period_and_finished_runs_are_never_read()
-> Result<()> {
    let env = TestEnv::with("scope-resync", quick(), |operator| {
        operator.arguments(&[
            "--reconcile-default-resync-seconds=36000",
            "--reconcile-resource-resync-seconds",
            "VirtualCluster=1",
            "--reconcile-resource-resync-seconds=JobRun=1",
        ])
    })
    .await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    ensure!(env.operator().log().contains("has no effect for JobRun"), "{}", env.operator().log());
    let of_runs = |aws: &emr_simulator::Handle| calls(aws, "DescribeJobRun") + calls(aws, "ListJobRuns");
    // The look that found its end may still be under way.
    let quiet = env.in_aws("nothing should be live", |aws| {
        (aws.snapshot().job_runs.iter().all(|job| job.state == "COMPLETED")).then(|| of_runs(aws))
    });
    let before = quiet.await?;
    let reads = calls(env.simulator(), "DescribeVirtualCluster");
    env.in_aws("it should be read every second", |aws| {
        (calls(aws, "DescribeVirtualCluster") >= reads + 4).then_some(())
    })
    .await?;
    ensure!(of_runs(env.simulator()) <= before + 1, "a finished run is never read");
    Ok(())
}

#[tokio::test]
async fn a_request_to_aws_is_given_up_after_the_time_that_the_flag_says() -> Result<()> {
    let env =
        TestEnv::with("scope-timeout", quick(), |operator| operator.arguments(&["--http-client-timeout=1s"]))
            .await?;
    env.simulator().add_fault(fault("CreateVirtualCluster", FaultKind::Hang, 2))?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let asked = requests(env.simulator(), "CreateVirtualCluster");
    let between: Vec<_> =
        asked.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).unsigned_abs()).collect();
    ensure!(between.len() == 2, "two were given up: {between:?}");
    // A second until it is given up, and the backoff of the first failure, of about a second too.
    let is_in_time = |pause: &Duration| (Duration::from_secs(1)..Duration::from_secs(8)).contains(pause);
    ensure!(between.iter().all(is_in_time), "{between:?}");
    Ok(())
}

#[tokio::test]
async fn a_kind_has_as_many_passes_at_the_same_time_as_the_flag_says() -> Result<()> {
    let env = TestEnv::with("scope-passes", quick(), |operator| {
        operator.arguments(&["--reconcile-resource-max-concurrent-syncs=VirtualCluster=1"])
    })
    .await?;
    env.simulator().add_fault(fault("CreateVirtualCluster", FaultKind::Hang, 1))?;
    for name in ["a", "b", "c"] {
        env.apply(&virtual_cluster(name, &format!("{}-{name}", env.namespace()))).await?;
    }
    let of = |metrics: &tests::operator::Metrics, name: &str| {
        metrics.sum(name, &[("controller", "virtualcluster")])
    };
    tests::wait::eventually(PATIENCE, "one pass should run and two clusters wait", async || {
        let metrics = env.operator().metrics().await?;
        let active = of(&metrics, "controller_runtime_active_workers");
        ensure!(active < 1.5, "{active} passes at the same time");
        Ok((active > 0.5 && of(&metrics, "workqueue_depth") > 1.5).then_some(()))
    })
    .await?;
    for name in ["a", "b", "c"] {
        env.condition(env.virtual_clusters(), name, "Ready", "True").await?;
    }
    let metrics = env.operator().metrics().await?;
    let runs = metrics.sum("controller_runtime_max_concurrent_reconciles", &[("controller", "jobrun")]);
    ensure!((runs - 20.0).abs() < 0.1, "the other kind keeps the default: {runs}");
    Ok(())
}

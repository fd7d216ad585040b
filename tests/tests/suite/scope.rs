//! Who is acted upon, where several operators share a cluster.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::cluster::TestEnv;
use tests::manifest::{job_run, virtual_cluster};
use tests::objects;
use tests::operator::Operator;
use tests::simulator::quick;

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

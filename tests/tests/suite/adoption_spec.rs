//! What of the spec is written at adoption: the tags at least, or nothing is adopted.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestEnv};
use tests::elsewhere::{create_cluster, job, start_job};
use tests::manifest::{policy, virtual_cluster};
use tests::objects::{condition, status};
use tests::simulator::endless;
use tests::wait;

use crate::adoption::{ADOPTED, adopting, is_marked};

#[tokio::test]
async fn tags_stay_where_the_spec_of_an_adopted_cluster_has_a_provider_that_is_empty() -> Result<()> {
    let env = TestEnv::new("adopt-empty").await?;
    let id = create_cluster(env.simulator(), "shared", env.namespace(), &json!({"team": "a"})).await?;
    let mut cluster: Value = serde_json::from_str(&adopting("VirtualCluster", "vc", &json!({"id": id})))?;
    cluster["spec"] = json!({"name": "shared", "containerProvider": {}});
    env.apply(&cluster.to_string()).await?;
    let cluster = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    is_marked(&cluster, "VirtualCluster")?;
    ensure!(
        cluster.data["spec"] == json!({"name": "shared", "containerProvider": {}, "tags": {"team": "a"}}),
        "{:?}",
        cluster.data
    );
    // Any edit is a reason to look, and to send what differs.
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"more": "b"}}})).await?;
    let tags = env
        .in_aws("the edit should be sent", |aws| {
            let tags = aws.snapshot().virtual_clusters.pop()?.tags;
            tags.contains_key("more").then_some(tags)
        })
        .await?;
    ensure!(tags.get("team").is_some_and(|team| team == "a"), "{tags:?}");
    Ok(())
}

/// A policy under which specs in a namespace stay as they are.
fn frozen_specs(namespace: &str) -> String {
    let is_as_it_was =
        "has(object.spec) == has(oldObject.spec) && (!has(object.spec) || object.spec == oldObject.spec)";
    policy(namespace, "jobruns, virtualclusters", is_as_it_was, "specs are frozen")
}

#[tokio::test]
async fn where_the_tags_can_not_be_written_nothing_is_adopted_and_that_is_told() -> Result<()> {
    let env = TestEnv::new("adopt-frozen").await?;
    env.simulator().add_outcome(endless("*"))?;
    let id = create_cluster(env.simulator(), "shared", env.namespace(), &json!({"team": "a"})).await?;
    let run = start_job(env.simulator(), &id, &job("r", "r", &json!({"team": "a"}))).await?;
    env.apply(&frozen_specs(env.namespace())).await?;
    // A policy takes effect some time after it was applied.
    env.apply(&virtual_cluster("probe", "elsewhere")).await?;
    wait::eventually(PATIENCE, "specs should be frozen", async || {
        let tags = json!({"spec": {"tags": {"at": format!("{:?}", std::time::Instant::now())}}});
        Ok(env.patch(env.virtual_clusters(), "probe", tags).await.is_err().then_some(()))
    })
    .await?;
    env.apply(&adopting("VirtualCluster", "vc", &json!({"id": id}))).await?;
    env.apply(&adopting("JobRun", "r", &json!({"id": run, "virtualClusterID": id}))).await?;
    for (api, name) in [(env.virtual_clusters(), "vc"), (env.job_runs(), "r")] {
        let told = env.message(api, name, "ACK.Recoverable", "specs are frozen").await?;
        let trouble = condition(&told, "ACK.Recoverable").context("it should be told")?;
        ensure!(trouble.message.contains("can't be marked as adopted"), "{trouble:?}");
        ensure!(told.finalizers().is_empty() && !told.annotations().contains_key(ADOPTED), "{told:?}");
        ensure!(status(&told, "id").is_none(), "{told:?}");
    }
    env.kubectl(&["delete", "validatingadmissionpolicybinding", env.namespace()]).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let adopted = env.job_run_in("r", "RUNNING").await?;
    ensure!(adopted.data["spec"]["tags"] == json!({"team": "a"}), "{:?}", adopted.data);
    ensure!(env.simulator().snapshot().virtual_clusters[0].tags.get("team").is_some_and(|team| team == "a"));
    env.kubectl(&["delete", "validatingadmissionpolicy", env.namespace()]).await?;
    Ok(())
}

//! From upstream's controller to this one: what upstream has given up on, and what it was about to delete.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestEnv};
use tests::manifest::job_run;
use tests::objects::{condition, status};
use tests::simulator::calls;
use tests::wait;

use super::hand_over::{
    cluster_of_upstreams, finalised, status_of_cluster, status_of_run, submitted, upstreams, write_status,
};

/// A status with the conditions that upstream gives to what it looks at no more.
fn given_up(mut status: Value, message: &str, synced: &Value) -> Value {
    let conditions = json!([
        synced,
        {"type": "ACK.Terminal", "status": "True", "message": message},
        {"type": "Ready", "status": "False", "message": message, "reason": "ACK.Terminal",
            "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]);
    if let Some(members) = status.as_object_mut() {
        members.insert("conditions".to_owned(), conditions);
    }
    status
}

/// A run that seemed to differ from its spec, so that it would have had to be updated (D10 to D12).
fn frozen(cluster: &str, id: &str) -> Value {
    let synced = json!({"type": "ACK.ResourceSynced", "status": "True"});
    given_up(status_of_run(cluster, id, "SUBMITTED"), "not implemented", &synced)
}

/// A virtual cluster of which a read or the deletion has failed (D9).
fn failed(id: &str, message: &str) -> Value {
    let synced = json!({"type": "ACK.ResourceSynced", "status": "False", "message": "Resource not synced",
        "reason": "resource is in terminal condition", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    given_up(status_of_cluster(id), message, &synced)
}

/// The state of a virtual cluster at AWS.
fn state(env: &TestEnv, id: &str) -> Result<String> {
    let clusters = env.simulator().snapshot().virtual_clusters;
    Ok(clusters.into_iter().find(|vc| vc.id == id).context("a virtual cluster")?.state)
}

#[tokio::test]
async fn runs_that_upstream_froze_move_again() -> Result<()> {
    let (mut env, cluster) = upstreams("frozen").await?;
    for name in ["live", "ended", "going"] {
        finalised(&env, name).await?;
        let id = submitted(&env, &cluster, name, name).await?;
        write_status(&env, "JobRun", name, &frozen(&cluster, &id)).await?;
    }
    env.simulator().force_job_run(&env.the_job("ended")?.id, "COMPLETED", None, None)?;
    env.job_runs().delete("going", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    for (name, state) in [("live", "RUNNING"), ("ended", "COMPLETED")] {
        let run = env.job_run_in(name, state).await?;
        ensure!(status(&run, "id") == Some(env.the_job(name)?.id.as_str()));
        ensure!(condition(&run, "ACK.Terminal").is_none(), "{name}: {}", run.data);
        let ready = condition(&run, "Ready").context("Ready")?;
        ensure!(!ready.message.contains("not implemented"), "{name}: {ready:?}");
        ensure!((ready.status == "True") == (state == "COMPLETED"), "{name}: {ready:?}");
    }
    wait::deleted(env.job_runs(), "going", PATIENCE).await?;
    ensure!(env.the_job("going")?.state == "CANCELLED");
    ensure!(calls(env.simulator(), "StartJobRun") == 3, "all of them upstream's");
    Ok(())
}

#[tokio::test]
async fn a_virtual_cluster_that_upstream_gave_up_on_is_worked_on_again() -> Result<()> {
    let (mut env, cluster) = upstreams("given-up").await?;
    let message = "InternalServerException: Internal server error";
    write_status(&env, "VirtualCluster", "vc", &failed(&cluster, message)).await?;
    let tags = json!({"spec": {"tags": {"team": "etl"}}});
    env.patch(env.virtual_clusters(), "vc", tags).await?;
    // It refers to a cluster with ACK.Terminal, which upstream refuses.
    env.apply(&job_run("run", "vc", "")).await?;
    env.restart_operator().await?;
    let vc = env.virtual_cluster_in("vc", "RUNNING").await?;
    ensure!(
        status(&vc, "id") == Some(cluster.as_str()) && condition(&vc, "ACK.Terminal").is_none(),
        "{}",
        vc.data
    );
    ensure!(condition(&vc, "Ready").is_some_and(|ready| ready.status == "True"), "{}", vc.data);
    env.job_run_in("run", "RUNNING").await?;
    env.in_aws("the cluster should have its tag", |aws| {
        let vc = aws.snapshot().virtual_clusters.into_iter().find(|vc| vc.id == cluster)?;
        (vc.tags.get("team").map(String::as_str) == Some("etl")).then_some(())
    })
    .await?;
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1, "upstream's");
    Ok(())
}

#[tokio::test]
async fn virtual_clusters_that_upstream_was_to_delete_are_deleted_and_let_go() -> Result<()> {
    let (mut env, asked) = upstreams("to-delete").await?;
    let space = |name: &str| format!("{}-{name}", env.namespace());
    let refused = cluster_of_upstreams(&env, "refused", &space("refused")).await?;
    let ended = cluster_of_upstreams(&env, "ended", &space("ended")).await?;
    let message = "InternalServerException: Internal server error";
    write_status(&env, "VirtualCluster", "refused", &failed(&refused, message)).await?;
    let message = "ValidationException: Virtual cluster is already terminated";
    write_status(&env, "VirtualCluster", "ended", &failed(&ended, message)).await?;
    env.simulator().force_virtual_cluster(&ended, "TERMINATED")?;
    for name in ["vc", "refused", "ended"] {
        env.virtual_clusters().delete(name, &DeleteParams::default()).await?;
        ensure!(!env.virtual_clusters().get(name).await?.finalizers().is_empty());
    }
    env.restart_operator().await?;
    for name in ["vc", "refused", "ended"] {
        wait::deleted(env.virtual_clusters(), name, PATIENCE).await?;
    }
    for id in [&asked, &refused, &ended] {
        ensure!(state(&env, id)? == "TERMINATED", "{id}: {}", state(&env, id)?);
    }
    Ok(())
}

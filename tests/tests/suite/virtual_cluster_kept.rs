//! No virtual cluster is forgotten: by an edit, by a finalizer that comes late or is lost, or by an edit that wasn't sent.

use anyhow::{Result, ensure};
use emr_simulator::FaultKind;
use kube::ResourceExt;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::manifest::virtual_cluster;
use tests::objects::status;
use tests::simulator::{calls, fault, requests};

use crate::virtual_cluster::{crash_between_creation_and_status, the_cluster};

fn has_finalizer(cluster: &DynamicObject) -> bool {
    !cluster.finalizers().is_empty()
}

/// More tags than AWS takes, or none.
fn tags(count: usize) -> Value {
    let tags: serde_json::Map<_, _> = (0..count).map(|index| (format!("k{index}"), json!("v"))).collect();
    json!({"spec": {"tags": tags}})
}

#[tokio::test]
async fn an_edit_that_aws_would_refuse_does_not_make_the_operator_forget_a_cluster_that_it_created()
-> Result<()> {
    for name in ["vc-edit-mend", "vc-edit-delete"] {
        let mut env = crash_between_creation_and_status(name).await?;
        let made = the_cluster(&env)?.id;
        env.patch(env.virtual_clusters(), "vc", tags(51)).await?;
        env.restart_operator().await?;
        env.message(env.virtual_clusters(), "vc", "ACK.Terminal", "AWS takes 50").await?;
        if name == "vc-edit-mend" {
            env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": null}})).await?;
            let ready = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
            ensure!(status(&ready, "id") == Some(&made), "{:?} should be {made}", status(&ready, "id"));
        }
        env.delete(env.virtual_clusters(), "vc").await?;
        let cluster = the_cluster(&env)?;
        ensure!(cluster.state == "TERMINATED", "{name}: {cluster:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_was_refused_before_it_had_a_finalizer_gets_one_before_it_is_created() -> Result<()> {
    let mut env = TestEnv::new("vc-late-finalizer").await?;
    env.operator().terminate().await?;
    let many: Vec<_> = (0..51).map(|index| format!("k{index}=v")).collect();
    let many = format!("--resource-tags={}", many.join(","));
    let first = env.builder().arguments(&[&many]).start(env.plane().scratch()).await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    let refused = env.message(env.virtual_clusters(), "vc", "ACK.Terminal", "AWS takes 50").await?;
    ensure!(refused.finalizers().is_empty(), "{:?}", refused.metadata);
    first.terminate().await?;
    // With fewer tags of the operator's own, and without an edit.
    env.restart_operator().await?;
    env.until(env.virtual_clusters(), "vc", "should have a finalizer", has_finalizer).await?;
    env.annotate(env.virtual_clusters(), "vc", "emrcontainers.services.k8s.aws/retry", "1").await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    ensure!(the_cluster(&env)?.state == "TERMINATED", "{:?}", the_cluster(&env)?);
    Ok(())
}

#[tokio::test]
async fn a_cluster_whose_finalizer_is_lost_gets_it_back_and_is_deleted_with_its_object() -> Result<()> {
    let env = TestEnv::new("vc-replaced").await?;
    let id = env.ready_cluster("vc").await?;
    // As `kubectl replace` and Argo CD's `Replace=true` do it: the manifest, and nothing that others have added.
    let mut replaced = env.virtual_clusters().get("vc").await?;
    replaced.metadata.finalizers = None;
    replaced.metadata.managed_fields = None;
    env.virtual_clusters().replace("vc", &PostParams::default(), &replaced).await?;
    env.until(env.virtual_clusters(), "vc", "should have its finalizer again", has_finalizer).await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    let cluster = the_cluster(&env)?;
    ensure!(cluster.id == id && cluster.state == "TERMINATED", "{cluster:?}");
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1, "{:?}", env.simulator().counters());
    Ok(())
}

#[tokio::test]
async fn limits_that_an_edit_takes_away_go_also_where_they_could_not_be_sent_at_once() -> Result<()> {
    const READ_ONLY: &str = "services.k8s.aws/read-only";
    let env = TestEnv::new("vc-unsent").await?;
    let limits = json!({"maxConcurrentJobRuns": 5, "maxInQueueJobRuns": 7});
    env.ready_cluster("vc").await?;
    let clusters = || env.virtual_clusters();
    let edit = async |limits: &Value| {
        env.patch(clusters(), "vc", json!({"spec": {"schedulerConfiguration": limits}})).await
    };
    let sent = async |count: usize, expected: Value| {
        let update = env.in_aws("the limits should be sent", |aws| {
            requests(aws, "UpdateVirtualCluster").get(count).cloned()
        });
        let body = update.await?.body.get("schedulerConfiguration").cloned().unwrap_or_else(|| json!({}));
        ensure!(body == expected, "{body} should be {expected}");
        anyhow::Ok(())
    };
    edit(&limits).await?;
    sent(0, limits.clone()).await?;
    // The look that the edit brings fails once.
    env.simulator().add_fault(fault("DescribeVirtualCluster", FaultKind::AccessDenied, 1))?;
    edit(&Value::Null).await?;
    sent(1, json!({})).await?;

    edit(&limits).await?;
    sent(2, limits.clone()).await?;
    env.condition(clusters(), "vc", "Ready", "True").await?;
    env.annotate(clusters(), "vc", READ_ONLY, "true").await?;
    edit(&Value::Null).await?;
    env.message(clusters(), "vc", "ACK.Advisory", "spec.schedulerConfiguration: the object is read-only")
        .await?;
    env.annotate(clusters(), "vc", READ_ONLY, "false").await?;
    sent(3, json!({})).await?;
    Ok(())
}

//! From this controller back to upstream's: what it would find in our objects, in every state.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind, Options};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::json;
use tests::cluster::TestEnv;
use tests::elsewhere::{job, start_job};
use tests::manifest::job_run;
use tests::objects::{condition, status};
use tests::simulator::{endless, failing, fault, quick};

use super::hand_over::{FINALIZER, metadata};

/// What upstream needs to cancel or delete what an object has in AWS: its finalizer, the id, and where it is.
fn ensure_upstream_knows(object: &DynamicObject, kind: &str, id: &str, path: &str) -> Result<()> {
    ensure!(object.finalizers() == [format!("{FINALIZER}{kind}")], "{:?}", object.metadata);
    ensure!(status(object, "id") == Some(id));
    ensure!(object.data.pointer("/status/ackResourceMetadata") == Some(&metadata(path)), "{:?}", object.data);
    Ok(())
}

/// What it needs to go on with it: that, and that it is in sync.
fn ensure_upstream_can_go_on(object: &DynamicObject, kind: &str, id: &str, path: &str) -> Result<()> {
    ensure_upstream_knows(object, kind, id, path)?;
    let synced = condition(object, "ACK.ResourceSynced").context("who refers to it looks at it")?;
    ensure!(synced.status == "True");
    Ok(())
}

#[tokio::test]
async fn upstream_finds_in_our_objects_what_it_writes_itself() -> Result<()> {
    let env = TestEnv::new("hand-back").await?;
    env.simulator().add_outcome(endless("*"))?;
    let cluster = env.ready_cluster("vc").await?;
    let vc = env.virtual_clusters().get("vc").await?;
    ensure_upstream_can_go_on(&vc, "VirtualCluster", &cluster, &cluster)?;
    let applied = env.apply(&job_run("r", "vc", "")).await?.remove(0);
    let run = env.job_run_in("r", "RUNNING").await?;
    let id = env.the_job("r")?.id;
    ensure_upstream_can_go_on(&run, "JobRun", &id, &format!("{cluster}/jobruns/{id}"))?;
    ensure!(run.data["spec"] == applied.data["spec"], "a reference stays one");
    // Upstream would call a difference between an adopted object and AWS an update, which it can't make.
    let other = start_job(env.simulator(), &cluster, &job("other", "t", &json!({}))).await?;
    let annotations = json!({
        "services.k8s.aws/adoption-policy": "adopt",
        "services.k8s.aws/adoption-fields": json!({"id": other, "virtualClusterID": cluster}).to_string(),
    });
    let adopting = json!({
        "apiVersion": "emrcontainers.services.k8s.aws/v1alpha1", "kind": "JobRun",
        "metadata": {"name": "other", "annotations": annotations},
    });
    env.apply(&adopting.to_string()).await?;
    let run = env.job_run_in("other", "RUNNING").await?;
    ensure_upstream_can_go_on(&run, "JobRun", &other, &format!("{cluster}/jobruns/{other}"))?;
    let spec = &run.data["spec"];
    for member in ["name", "virtualClusterID", "executionRoleARN", "releaseLabel", "jobDriver"] {
        ensure!(!spec[member].is_null(), "{member}: {spec}");
    }
    Ok(())
}

#[tokio::test]
async fn upstream_finds_what_it_needs_in_objects_that_have_ended_or_are_being_deleted() -> Result<()> {
    // Longer than the test lasts.
    let options = Options { cancel_for: Duration::from_hours(1), ..quick() };
    let env = TestEnv::with("hand-back-end", options, |operator| operator).await?;
    for name in ["going", "denied", "holds"] {
        env.simulator().add_outcome(endless(name))?;
    }
    env.simulator().add_outcome(failing("failed", "the program ended with an error"))?;
    let cluster = env.ready_cluster("vc").await?;
    let deletes = DeleteParams::default();
    let states = [
        ("ended", "COMPLETED"),
        ("failed", "FAILED"),
        ("going", "RUNNING"),
        ("denied", "RUNNING"),
        ("holds", "RUNNING"),
    ];
    for (name, state) in states {
        env.apply(&job_run(name, "vc", "")).await?;
        env.job_run_in(name, state).await?;
    }
    env.job_runs().delete("going", &deletes).await?;
    env.job_run_in("going", "CANCEL_PENDING").await?;
    env.simulator().add_fault(Fault {
        code: Some("AccessDeniedException".to_owned()),
        status: Some(403),
        ..fault("CancelJobRun", FaultKind::Error, 1000)
    })?;
    env.job_runs().delete("denied", &deletes).await?;
    env.message(env.job_runs(), "denied", "ACK.Recoverable", "AccessDeniedException").await?;
    env.virtual_clusters().delete("vc", &deletes).await?;
    let holds = |vc: &DynamicObject| condition(vc, "Ready").is_some_and(|ready| ready.reason == "InUse");
    env.until(env.virtual_clusters(), "vc", "should wait for its runs", holds).await?;
    ensure!(env.operator().terminate().await? == 0);

    for (name, _) in states {
        let run = env.job_runs().get(name).await?;
        let id = env.the_job(name)?.id;
        let path = format!("{cluster}/jobruns/{id}");
        if name == "denied" {
            ensure_upstream_knows(&run, "JobRun", &id, &path)?;
        } else {
            ensure_upstream_can_go_on(&run, "JobRun", &id, &path)?;
        }
        // Upstream resolves it to cancel the run; a cluster goes after its runs.
        ensure!(run.data.pointer("/spec/virtualClusterRef/from/name") == Some(&json!("vc")));
    }
    let vc = env.virtual_clusters().get("vc").await?;
    ensure_upstream_can_go_on(&vc, "VirtualCluster", &cluster, &cluster)
}

//! From upstream's controller to this one: objects with and without an id, in the states that upstream leaves.

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestEnv};
use tests::elsewhere::{create_cluster, job, start_job, upstream_tags};
use tests::manifest::{job_run, virtual_cluster};
use tests::objects::{condition, parse, status};
use tests::simulator::{calls, endless, fault};
use tests::wait;

pub(super) const FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/";

/// Upstream's cluster, and the operator asleep: what follows is what upstream leaves.
pub(super) async fn upstreams(name: &str) -> Result<(TestEnv, String)> {
    let env = TestEnv::new(name).await?;
    env.simulator().add_outcome(endless("*"))?;
    env.operator().terminate().await?;
    let id = cluster_of_upstreams(&env, "vc", env.namespace()).await?;
    Ok((env, id))
}

/// A cluster that upstream has created on a namespace; returns its id.
pub(super) async fn cluster_of_upstreams(env: &TestEnv, name: &str, space: &str) -> Result<String> {
    let id = create_cluster(env.simulator(), name, space, &upstream_tags(env.namespace())).await?;
    let mut cluster = parse(&virtual_cluster(name, space))?.remove(0);
    cluster.metadata.finalizers = Some(vec![format!("{FINALIZER}VirtualCluster")]);
    env.virtual_clusters().create(&PostParams::default(), &cluster).await?;
    write_status(env, "VirtualCluster", name, &status_of_cluster(&id)).await?;
    Ok(id)
}

/// What upstream writes of a resource that is there: ltt and all.
fn conditions() -> Value {
    json!([
        {"type": "ACK.ResourceSynced", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ])
}

pub(super) fn metadata(path: &str) -> Value {
    json!({
        "arn": format!("arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/{path}"),
        "ownerAccountID": "123456789012",
        "partition": "aws",
        "region": "us-west-2",
    })
}

pub(super) fn status_of_cluster(id: &str) -> Value {
    json!({"ackResourceMetadata": metadata(id), "id": id, "conditions": conditions()})
}

pub(super) fn status_of_run(cluster: &str, id: &str, state: &str) -> Value {
    let path = format!("{cluster}/jobruns/{id}");
    json!({"ackResourceMetadata": metadata(&path), "id": id, "state": state, "conditions": conditions()})
}

pub(super) async fn write_status(env: &TestEnv, kind: &str, name: &str, status: &Value) -> Result<()> {
    let api = tests::objects::ours(env.client(), env.namespace(), kind);
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await?;
    Ok(())
}

/// A run that upstream has put its finalizer on, as it does before it submits.
pub(super) async fn finalised(env: &TestEnv, name: &str) -> Result<DynamicObject> {
    let mut run = parse(&job_run(name, "vc", &format!("name: {name}")))?.remove(0);
    run.metadata.finalizers = Some(vec![format!("{FINALIZER}JobRun")]);
    Ok(env.job_runs().create(&PostParams::default(), &run).await?)
}

/// The job that upstream starts for it, with a token that it forgets.
pub(super) async fn submitted(env: &TestEnv, cluster: &str, name: &str, token: &str) -> Result<String> {
    start_job(env.simulator(), cluster, &job(name, token, &upstream_tags(env.namespace()))).await
}

#[tokio::test]
async fn runs_with_an_id_are_taken_over_live_terminal_or_deleting() -> Result<()> {
    let (mut env, cluster) = upstreams("hand-over-id").await?;
    let mut ids = Vec::new();
    for (name, state) in [("live", "PENDING"), ("ended", "COMPLETED"), ("going", "RUNNING")] {
        finalised(&env, name).await?;
        let id = submitted(&env, &cluster, name, name).await?;
        write_status(&env, "JobRun", name, &status_of_run(&cluster, &id, state)).await?;
        ids.push(id);
    }
    env.simulator().force_job_run(&ids[1], "COMPLETED", None, None)?;
    let before = env.job_runs().get("ended").await?;
    env.job_runs().delete("going", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    let live = env.job_run_in("live", "RUNNING").await?;
    ensure!(status(&live, "id") == Some(ids[0].as_str()));
    ensure!(condition(&live, "Ready").is_some_and(|ready| ready.status == "False"), "{:?}", live.data);
    wait::deleted(env.job_runs(), "going", PATIENCE).await?;
    ensure!(env.the_job("going")?.state == "CANCELLED");
    let after = env.job_runs().get("ended").await?;
    ensure!(before.resource_version() == after.resource_version(), "what has ended costs no write");
    let vc = env.virtual_cluster_in("vc", "RUNNING").await?;
    ensure!(
        status(&vc, "id") == Some(cluster.as_str()) && calls(env.simulator(), "CreateVirtualCluster") == 1
    );
    env.delete(env.job_runs(), "ended").await?;
    env.delete(env.job_runs(), "live").await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 3, "all of them upstream's");
    Ok(())
}

#[tokio::test]
async fn a_run_whose_id_upstream_did_not_save_is_found_by_what_it_is() -> Result<()> {
    let (mut env, cluster) = upstreams("hand-over-none").await?;
    for name in ["started", "never", "going", "gone"] {
        finalised(&env, name).await?;
    }
    let id = submitted(&env, &cluster, "started", "unknown-1").await?;
    submitted(&env, &cluster, "going", "unknown-2").await?;
    // The same name in another namespace's hands, and one that was started with something else.
    let others = upstream_tags("somebody-else");
    start_job(env.simulator(), &cluster, &job("never", "unknown-3", &others)).await?;
    let mut other = job("never", "unknown-4", &upstream_tags(env.namespace()));
    other["jobDriver"]["sparkSubmitJobDriver"]["entryPoint"] = json!("s3://bucket/other.py");
    start_job(env.simulator(), &cluster, &other).await?;
    for name in ["going", "gone"] {
        env.job_runs().delete(name, &DeleteParams::default()).await?;
    }
    env.restart_operator().await?;
    let started = env.job_run_in("started", "RUNNING").await?;
    ensure!(status(&started, "id") == Some(id.as_str()), "{:?}", started.data);
    env.event("started", "TakenOver").await?;
    env.job_run_in("never", "RUNNING").await?;
    for name in ["going", "gone"] {
        wait::deleted(env.job_runs(), name, PATIENCE).await?;
    }
    ensure!(env.the_job("going")?.state == "CANCELLED", "nothing that lives is left behind");
    ensure!(env.jobs("never").len() == 3 && env.jobs("gone").is_empty());
    ensure!(calls(env.simulator(), "StartJobRun") == 5, "four of them by others");
    Ok(())
}

#[tokio::test]
async fn where_it_can_not_be_told_which_run_is_the_objects_nothing_is_done_until_somebody_tells() -> Result<()>
{
    let (mut env, cluster) = upstreams("hand-over-doubt").await?;
    // Upstream has started two for it, as it does when it can't save the id of the first.
    finalised(&env, "twice").await?;
    let mut ids = Vec::new();
    for token in ["unknown-1", "unknown-2"] {
        ids.push(submitted(&env, &cluster, "twice", token).await?);
    }
    // And two for this one, of which nobody knows anything.
    finalised(&env, "anew").await?;
    for token in ["unknown-3", "unknown-4"] {
        submitted(&env, &cluster, "anew", token).await?;
    }
    finalised(&env, "going").await?;
    let mut going = Vec::new();
    for token in ["unknown-5", "unknown-6"] {
        going.push(submitted(&env, &cluster, "going", token).await?);
    }
    env.job_runs().delete("going", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    for name in ["twice", "anew", "going"] {
        let run = env.message(env.job_runs(), name, "ACK.Recoverable", "it can't be told which of").await?;
        ensure!(status(&run, "id").is_none());
    }
    let told = env.job_runs().get("twice").await?;
    let message = condition(&told, "ACK.Recoverable").context("a message")?.message;
    ensure!(ids.iter().all(|id| message.contains(id)), "{message}");
    ensure!(calls(env.simulator(), "StartJobRun") == 6 && calls(env.simulator(), "CancelJobRun") == 0);
    let fields = json!({"id": ids[1], "virtualClusterID": cluster}).to_string();
    let annotations =
        json!({"services.k8s.aws/adoption-policy": "adopt", "services.k8s.aws/adoption-fields": fields});
    env.patch(env.job_runs(), "twice", json!({"metadata": {"annotations": annotations}})).await?;
    let adopted = env.job_run_in("twice", "RUNNING").await?;
    ensure!(status(&adopted, "id") == Some(ids[1].as_str()));
    env.annotate(env.job_runs(), "anew", "emrcontainers.services.k8s.aws/retry", "1").await?;
    env.job_run_in("anew", "RUNNING").await?;
    ensure!(env.jobs("anew").len() == 3);
    // Once nothing lives that could be its, it goes.
    for id in &going {
        env.simulator().force_job_run(id, "COMPLETED", None, None)?;
    }
    // It is looked at again by itself; this is only sooner, and may come too late.
    let asked = env.annotate(env.job_runs(), "going", "emrcontainers.services.k8s.aws/retry", "1").await;
    ensure!(asked.is_ok() || env.job_runs().get_opt("going").await?.is_none(), "{asked:?}");
    wait::deleted(env.job_runs(), "going", PATIENCE).await?;
    ensure!(calls(env.simulator(), "CancelJobRun") == 0);
    Ok(())
}

#[tokio::test]
async fn a_run_that_another_object_has_or_could_have_is_not_taken() -> Result<()> {
    let (mut env, cluster) = upstreams("hand-over-rival").await?;
    let equal = |name: &str| -> Result<DynamicObject> {
        let mut run = parse(&job_run(name, "vc", "name: same"))?.remove(0);
        run.metadata.finalizers = Some(vec![format!("{FINALIZER}JobRun")]);
        Ok(run)
    };
    for name in ["owner", "heir"] {
        env.job_runs().create(&PostParams::default(), &equal(name)?).await?;
    }
    let owned = submitted(&env, &cluster, "same", "unknown-1").await?;
    env.simulator().force_job_run(&owned, "COMPLETED", None, None)?;
    // An ended owner is not in the operator's memory any more.
    write_status(&env, "JobRun", "owner", &status_of_run(&cluster, &owned, "COMPLETED")).await?;
    env.restart_operator().await?;
    let heir = env.job_run_in("heir", "RUNNING").await?;
    ensure!(status(&heir, "id") != Some(owned.as_str()) && env.jobs("same").len() == 2);
    env.operator().terminate().await?;

    for name in ["first", "second"] {
        let mut run = equal(name)?;
        run.data["spec"]["name"] = json!("twins");
        env.job_runs().create(&PostParams::default(), &run).await?;
    }
    submitted(&env, &cluster, "twins", "unknown-2").await?;
    env.restart_operator().await?;
    for name in ["first", "second"] {
        env.message(env.job_runs(), name, "ACK.Recoverable", "it can't be told which of").await?;
    }
    ensure!(env.jobs("twins").len() == 1, "none is started while it can't be told whose that is");
    Ok(())
}

#[tokio::test]
async fn a_list_that_is_refused_lets_no_run_go() -> Result<()> {
    let (mut env, cluster) = upstreams("hand-over-refused").await?;
    finalised(&env, "going").await?;
    submitted(&env, &cluster, "going", "unknown-1").await?;
    env.job_runs().delete("going", &DeleteParams::default()).await?;
    // A refusal says nothing of the runs: that of a page's token, for one.
    let refused = env.simulator().add_fault(Fault {
        code: Some("ValidationException".to_owned()),
        status: Some(400),
        message: Some("The provided nextToken is invalid.".to_owned()),
        ..fault("ListJobRuns", FaultKind::Error, 1000)
    })?;
    env.restart_operator().await?;
    env.message(env.job_runs(), "going", "ACK.Recoverable", "nextToken").await?;
    ensure!(env.the_job("going")?.state == "RUNNING");
    env.simulator().remove_fault(refused);
    wait::deleted(env.job_runs(), "going", PATIENCE).await?;
    ensure!(env.the_job("going")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn a_virtual_cluster_whose_id_upstream_did_not_save_is_known_by_its_namespace() -> Result<()> {
    let mut env = TestEnv::new("hand-over-vc").await?;
    env.operator().terminate().await?;
    let spaces = ["-a", "-b", "-c"].map(|suffix| format!("{}{suffix}", env.namespace()));
    for (name, space) in ["lost", "going", "foreign"].into_iter().zip(&spaces) {
        let mut cluster = parse(&virtual_cluster(name, space))?.remove(0);
        cluster.metadata.finalizers = Some(vec![format!("{FINALIZER}VirtualCluster")]);
        env.virtual_clusters().create(&PostParams::default(), &cluster).await?;
        let tags = if name == "foreign" { json!({}) } else { upstream_tags(env.namespace()) };
        create_cluster(env.simulator(), name, space, &tags).await?;
    }
    env.virtual_clusters().delete("going", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    let lost = env.condition(env.virtual_clusters(), "lost", "Ready", "True").await?;
    let id = status(&lost, "id").context("an id")?.to_owned();
    wait::deleted(env.virtual_clusters(), "going", PATIENCE).await?;
    env.message(env.virtual_clusters(), "foreign", "ACK.Terminal", "has namespace").await?;
    let clusters = env.simulator().snapshot().virtual_clusters;
    let state = |name: &str| clusters.iter().find(|vc| vc.name == name).map(|vc| vc.state.clone());
    ensure!(
        clusters.iter().any(|vc| vc.name == "lost" && vc.id == id) && clusters.len() == 3,
        "{clusters:?}"
    );
    ensure!(
        state("going").as_deref() == Some("TERMINATED") && state("foreign").as_deref() == Some("RUNNING")
    );
    Ok(())
}

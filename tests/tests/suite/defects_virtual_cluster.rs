//! Upstream's defects around virtual clusters, each by its number: the scenario there, and what happens here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind, Options};
use k8s_openapi::api::core::v1::Namespace as Kind;
use kube::api::{DeleteParams, DynamicObject};
use kube::{Api, ResourceExt};
use serde_json::json;
use tests::cluster::{PATIENCE, TestEnv};
use tests::manifest::{job_run, virtual_cluster};
use tests::objects::{condition, status};
use tests::operator::Builder;
use tests::simulator::{calls, fault, quick, until};
use tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Jobs that end only when they are cancelled.
async fn with_endless_jobs(name: &str) -> Result<TestEnv> {
    let endless = Options { running_for: Duration::from_hours(1), ..quick() };
    TestEnv::with(name, endless, |operator| operator).await
}

/// Every job was cancelled, and every cluster is terminated, in that order.
fn everything_ended(env: &TestEnv, jobs: usize) -> Result<()> {
    let aws = env.simulator().snapshot();
    ensure!(aws.job_runs.len() == jobs, "{} jobs and not {jobs}", aws.job_runs.len());
    for job in &aws.job_runs {
        ensure!(job.state == "CANCELLED", "{job:?}");
    }
    for cluster in &aws.virtual_clusters {
        ensure!(cluster.state == "TERMINATED", "{cluster:?}");
        let began =
            cluster.history.iter().find(|change| change.state == "TERMINATING").context("it ended")?.at;
        let users = aws.job_runs.iter().filter(|job| job.virtual_cluster_id == cluster.id);
        for end in users.filter_map(|job| job.history.last()) {
            ensure!(end.at <= began, "the cluster went before its job: {cluster:?}");
        }
    }
    ensure!(
        calls(env.simulator(), "CancelJobRun") == u64::try_from(jobs)?,
        "{:?}",
        env.simulator().counters()
    );
    Ok(())
}

fn waits_for(cluster: &DynamicObject, run: &str) -> bool {
    condition(cluster, "Ready").is_some_and(|ready| ready.reason == "InUse" && ready.message.contains(run))
}

#[tokio::test]
async fn d6_a_cluster_that_is_deleted_first_waits_for_its_runs_and_names_them() -> Result<()> {
    let mut env = with_endless_jobs("d6-first").await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("etl", "vc", "")).await?;
    env.job_run_in("etl", "RUNNING").await?;
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    env.until(env.virtual_clusters(), "vc", "should wait for etl", |vc| waits_for(vc, "etl")).await?;
    ensure!(env.event("vc", "WaitingForJobRuns").await?.note.contains("etl"));

    // A new process knows neither at first, and must not take the cluster for unused.
    env.operator().kill9().await?;
    env.restart_operator().await?;
    // A run that is applied now finds the cluster on its way out.
    env.apply(&job_run("late", "vc", "")).await?;
    let late = env.condition(env.job_runs(), "late", "ACK.ReferencesResolved", "Unknown").await?;
    let why = condition(&late, "ACK.ReferencesResolved").context("a condition")?;
    ensure!(why.reason.contains("being deleted"), "{why:?}");
    ensure!(calls(env.simulator(), "DeleteVirtualCluster") == 0, "the cluster is in use");
    env.delete(env.job_runs(), "late").await?;

    env.delete(env.job_runs(), "etl").await?;
    wait::deleted(env.virtual_clusters(), "vc", PATIENCE).await?;
    everything_ended(&env, 1)
}

#[tokio::test]
async fn d6_after_a_restart_a_deleted_cluster_waits_for_runs_that_were_started_and_for_no_others()
-> Result<()> {
    let mut env = with_endless_jobs("d6-restart").await?;
    env.ready_cluster("vc").await?;
    env.simulator().add_fault(fault("StartJobRun", FaultKind::HoldReply, 1))?;
    env.apply(&job_run("started", "vc", "")).await?;
    env.in_aws("the reply should be held", |aws| (aws.snapshot().held_replies == 1).then_some(())).await?;
    env.simulator().add_fault(fault("StartJobRun", FaultKind::AccessDenied, 1000))?;
    env.apply(&job_run("refused", "vc", "")).await?;
    let trouble = env.message(env.job_runs(), "refused", "ACK.Recoverable", "AccessDenied").await?;
    ensure!(!trouble.finalizers().is_empty(), "as far as its object tells, it may have been started");
    env.operator().kill9().await?;
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    // The new process knows of neither whether it was started. Both wait for the cluster now, which is on its way out.
    env.restart_operator().await?;
    let waits = |vc: &DynamicObject| waits_for(vc, "started") && !waits_for(vc, "refused");
    env.until(env.virtual_clusters(), "vc", "should wait for the one run", waits).await?;
    env.delete(env.job_runs(), "started").await?;
    wait::deleted(env.virtual_clusters(), "vc", PATIENCE).await?;
    everything_ended(&env, 1)?;
    let refused = env.job_runs().get("refused").await?;
    ensure!(status(&refused, "id").is_none(), "{}", refused.data);
    env.delete(env.job_runs(), "refused").await
}

#[tokio::test]
async fn d6_a_cluster_and_its_runs_deleted_at_once_end_in_order() -> Result<()> {
    let env = with_endless_jobs("d6-at-once").await?;
    env.ready_cluster("vc").await?;
    let names = ["a", "b", "c"];
    for name in names {
        env.apply(&job_run(name, "vc", "")).await?;
    }
    for name in names {
        env.job_run_in(name, "RUNNING").await?;
    }
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    for name in names {
        env.job_runs().delete(name, &DeleteParams::default()).await?;
    }
    for name in names {
        wait::deleted(env.job_runs(), name, PATIENCE).await?;
    }
    wait::deleted(env.virtual_clusters(), "vc", PATIENCE).await?;
    everything_ended(&env, 3)
}

#[tokio::test]
async fn d6_a_deleted_namespace_cancels_every_job_and_goes() -> Result<()> {
    let env = with_endless_jobs("d6-namespace").await?;
    env.plane().start_controller_manager().await?;
    env.ready_cluster("vc").await?;
    for name in ["live", "pending"] {
        env.apply(&job_run(name, "vc", "")).await?;
    }
    // One that waits for ever, and one cluster that was never created.
    env.apply(&job_run("waiting", "none", "")).await?;
    env.apply(&virtual_cluster("second", env.namespace())).await?;
    env.condition(env.virtual_clusters(), "second", "ACK.Terminal", "True").await?;
    env.job_run_in("live", "RUNNING").await?;
    env.job_run_in("pending", "RUNNING").await?;
    let namespaces: Api<Kind> = Api::all(env.client().clone());
    namespaces.delete(env.namespace(), &DeleteParams::default()).await?;
    wait::deleted(namespaces, env.namespace(), PATIENCE * 2)
        .await
        .context(env.operator().process().log_tail(30))?;
    everything_ended(&env, 2)
}

#[tokio::test]
async fn d8_a_cluster_that_aws_does_not_know_is_let_go() -> Result<()> {
    let env = TestEnv::new("d8-vc").await?;
    env.ready_cluster("vc").await?;
    let unknown = |operation, status, code: &str, message: &str| Fault {
        code: Some(code.to_owned()),
        message: Some(message.to_owned()),
        status: Some(status),
        ..Fault::new(operation, FaultKind::Error)
    };
    let (code, message) = ("ResourceNotFoundException", "Virtual cluster doesn't exist.");
    env.simulator().add_fault(unknown("DescribeVirtualCluster", 404, code, message))?;
    let (code, message) = ("ValidationException", "Virtual cluster not found");
    env.simulator().add_fault(unknown("DeleteVirtualCluster", 400, code, message))?;
    // So soon after the creation the service may only not show it yet: it is told, and not given up.
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"a": "b"}}})).await?;
    let told = env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", "doesn't exist").await?;
    ensure!(condition(&told, "ACK.Terminal").is_none(), "{}", told.data);
    env.delete(env.virtual_clusters(), "vc").await
}

#[tokio::test]
async fn d9_a_cluster_that_has_ended_already_counts_as_deleted() -> Result<()> {
    let env = TestEnv::new("d9-ended").await?;
    let id = env.ready_cluster("vc").await?;
    env.simulator().force_virtual_cluster(&id, "TERMINATED")?;
    env.delete(env.virtual_clusters(), "vc").await?;
    let asked = env.simulator().counters();
    let errors = asked.get("DeleteVirtualCluster").map(|counter| counter.errors.clone());
    ensure!(errors == Some([("ValidationException".to_owned(), 1)].into()), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn d9_an_internal_error_is_not_the_end_of_a_deletion_or_creation() -> Result<()> {
    let env = TestEnv::new("d9-internal").await?;
    // More than an SDK repeats by itself, so that passes see it.
    let fails = |operation: &str| env.simulator().add_fault(Fault::new(operation, FaultKind::Status500));
    let told = async || {
        let cluster = env.condition(env.virtual_clusters(), "vc", "ACK.Recoverable", "True").await?;
        ensure!(condition(&cluster, "ACK.Terminal").is_none(), "{:?}", cluster.data);
        anyhow::Ok(())
    };
    let creation = fails("CreateVirtualCluster")?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    told().await?;
    env.simulator().remove_fault(creation);
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let deletion = fails("DeleteVirtualCluster")?;
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    told().await?;
    env.simulator().remove_fault(deletion);
    env.delete(env.virtual_clusters(), "vc").await?;
    let aws = env.simulator().snapshot().virtual_clusters;
    ensure!(aws.len() == 1 && aws.iter().all(|cluster| cluster.state == "TERMINATED"), "{aws:?}");
    Ok(())
}

/// Passes everything on, but renames `arn` in what comes back: a member that the reader doesn't know.
async fn without_arns(target: &str) -> Result<(String, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let target = target.trim_start_matches("http://").to_owned();
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&target).await else { return };
            tokio::spawn(async move {
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                let asked = tokio::io::copy(&mut from_client, &mut to_server);
                let answered = async {
                    let mut buffer = vec![0; 65_536];
                    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                        let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
                        // As long as before, so that the length that was announced is right.
                        if to_client.write_all(text.replace("\"arn\":", "\"nil\":").as_bytes()).await.is_err()
                        {
                            return;
                        }
                    }
                };
                tokio::select! { _ = asked => {}, () = answered => {} }
            });
        }
    });
    Ok((url, task))
}

#[tokio::test]
async fn d15_a_cluster_that_is_described_without_its_arn_is_tagged_all_the_same() -> Result<()> {
    let env = TestEnv::new("d15-arn").await?;
    env.operator().terminate().await?;
    let (url, front) = without_arns(env.simulator().url()).await?;
    let operator = env.builder().aws_url(&url).start(env.plane().scratch()).await?;
    let id = env.ready_cluster("vc").await?;
    let cluster = env.virtual_clusters().get("vc").await?;
    let arn = cluster.data.pointer("/status/ackResourceMetadata/arn").and_then(serde_json::Value::as_str);
    ensure!(arn.is_some_and(|arn| arn.ends_with(&format!(":/virtualclusters/{id}"))), "{arn:?}");
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"a": "b"}}})).await?;
    env.in_aws("the cluster should be tagged", |aws| {
        let tags = aws.snapshot().virtual_clusters.pop()?.tags;
        tags.get("a").is_some_and(|value| value == "b").then_some(())
    })
    .await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    front.abort();
    operator.ensure_running()
}

#[tokio::test]
async fn d16_what_aws_cannot_change_is_refused_by_the_api_server() -> Result<()> {
    let env = TestEnv::new("d16-edits").await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let before = env.simulator().counters();
    for spec in [
        json!({"name": "other"}),
        json!({"containerProvider": {"id": "other"}}),
        json!({"containerProvider": {"info": {"eksInfo": {"namespace": "other"}}}}),
        json!({"containerProvider": {"info": {"eksInfo": {"nodeLabel": "other"}}}}),
        json!({"sessionEnabled": true}),
        json!({"securityConfigurationID": "abc"}),
    ] {
        let refused = env.patch(env.virtual_clusters(), "vc", json!({"spec": spec.clone()})).await;
        let message = refused.err().map(|error| format!("{error:#}"));
        let message = message.with_context(|| format!("{spec} was accepted"))?;
        ensure!(message.contains("Value is immutable once set"), "{spec}: {message}");
    }
    ensure!(env.simulator().counters() == before, "an edit that is refused costs no call");
    Ok(())
}

#[tokio::test]
async fn d16_a_cluster_that_others_terminated_is_not_ready_and_comes_back_on_request() -> Result<()> {
    let env = TestEnv::new("d16-terminated").await?;
    let id = env.ready_cluster("vc").await?;
    env.simulator().force_virtual_cluster(&id, "TERMINATED")?;
    // Any reason to look shows it.
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"a": "b"}}})).await?;
    let gone = env.virtual_cluster_in("vc", "TERMINATED").await?;
    for (kind, status) in [("ACK.Terminal", "True"), ("ACK.ResourceSynced", "False"), ("Ready", "False")] {
        ensure!(condition(&gone, kind).is_some_and(|found| found.status == status), "{kind}: {}", gone.data);
    }
    ensure!(condition(&gone, "Ready").is_some_and(|ready| ready.message.contains("/retry to a new value")));
    env.apply(&job_run("run", "vc", "")).await?;
    env.condition(env.job_runs(), "run", "ACK.ReferencesResolved", "False").await?;
    env.annotate(env.virtual_clusters(), "vc", "emrcontainers.services.k8s.aws/retry", "1").await?;
    let back = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ensure!(status(&back, "id").is_some_and(|now| now != id), "a new cluster: {}", back.data);
    env.job_run_in("run", "COMPLETED").await.map(drop)
}

#[tokio::test]
async fn d16_an_omitted_namespace_is_default_and_no_drift() -> Result<()> {
    let often = |operator: Builder| operator.arguments(&["--reconcile-default-resync-seconds=1"]);
    let env = TestEnv::with("d16-default", quick(), often).await?;
    let yaml = "
apiVersion: emrcontainers.services.k8s.aws/v1alpha1
kind: VirtualCluster
metadata: {name: vc}
spec: {name: vc, containerProvider: {id: eks, type_: EKS}}
";
    env.apply(yaml).await?;
    let ready = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let aws = env.simulator().snapshot().virtual_clusters;
    ensure!(aws.iter().all(|cluster| cluster.namespace == "default"), "{aws:?}");
    let before = calls(env.simulator(), "DescribeVirtualCluster");
    until(env.simulator(), "it should be read again", |aws| {
        calls(aws, "DescribeVirtualCluster") > before + 2
    })
    .await?;
    ensure!(calls(env.simulator(), "UpdateVirtualCluster") == 0);
    ensure!(ready.finalizers().len() == 1);
    Ok(())
}

#[tokio::test]
async fn an_arrested_cluster_says_what_to_do_and_goes_once_access_is_back() -> Result<()> {
    let env = TestEnv::new("vc-arrested").await?;
    env.ready_cluster("vc").await?;
    env.simulator().set_eks_cluster("eks", None, Some(false));
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    let stuck = env.virtual_cluster_in("vc", "ARRESTED").await?;
    let ready = condition(&stuck, "Ready").context("Ready")?;
    ensure!(ready.status == "False" && ready.message.contains("EKS access entry"), "{ready:?}");
    ensure!(condition(&stuck, "Stalled").is_some_and(|stalled| stalled.status == "True"));
    // It is asked for again, later each time, and says so again.
    env.in_aws("it should be tried again", |aws| (calls(aws, "DeleteVirtualCluster") >= 3).then_some(()))
        .await?;
    env.virtual_cluster_in("vc", "ARRESTED").await?;
    let tries = tests::simulator::requests(env.simulator(), "DeleteVirtualCluster");
    if let [first, second, third, ..] = tries.as_slice() {
        let (short, long) = (second.at.duration_since(first.at), third.at.duration_since(second.at));
        ensure!(short < long, "the pauses should grow: {short:?}, {long:?}");
    }
    env.simulator().set_eks_cluster("eks", None, Some(true));
    wait::deleted(env.virtual_clusters(), "vc", PATIENCE).await
}

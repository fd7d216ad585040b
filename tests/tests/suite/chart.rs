//! The chart and manifests/install.yaml install, and what they grant is enough for all that the operator does.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::Handle;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tests::chart::{self, helm};
use tests::cluster::PATIENCE;
use tests::control_plane::{ControlPlane, repository, shared};
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::operator::Operator;
use tests::{objects, simulator, wait};

use super::references::{ready_role, run_with};

/// Values that a test needs beside the defaults; the level shows what a refused watch of the lease says.
const VALUES: [&str; 4] = ["--set", "aws.region=us-west-2", "--set", "log.level=debug"];

#[tokio::test]
async fn helm_finds_nothing_to_complain_about() -> Result<()> {
    let plane = shared().await?;
    let chart = chart::folder().display().to_string();
    for values in [&[][..], &VALUES, &["--set", "installScope=namespace,watchNamespace=a\\,b"]] {
        let said = helm(plane, &[&["lint", "--strict", &chart], values].concat()).await?;
        ensure!(said.contains("0 chart(s) failed"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn values_that_can_not_work_are_refused_by_name() -> Result<()> {
    let plane = shared().await?;
    let chart = chart::folder().display().to_string();
    for (value, name) in [
        ("aws.region=oregon", "region"),
        ("aws.quotas=some", "quotas"),
        ("aws.event_queue_url=arn:aws:sqs:us-west-2:111122223333:q", "event_queue_url"),
        ("deployment.replicas=two", "replicas"),
        ("deployment.containerPort=8081", "containerPort"),
        ("image.repository=", "repository"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("installScope=galaxy", "installScope"),
        ("watchNamespace=Not_A_Namespace", "watchNamespace"),
        ("deletionPolicy=forget", "deletionPolicy"),
        ("metrics.service.type=ExternalName", "type"),
        ("jobReadyPolicy=maybe", "jobReadyPolicy"),
        ("resourceTags={novalue}", "resourceTags"),
        ("reconcile.defaultMaxConcurrentSyncs=-1", "defaultMaxConcurrentSyncs"),
        ("reconcile.resourceResyncPeriods.VirtualCluster=0", "VirtualCluster"),
        ("reconcile.resourceMaxConcurrentSyncs.Bucket=1", "Bucket"),
        ("aws.http_client_timeout=60", "http_client_timeout"),
        ("reconcile.resources={FieldExport}", "resources"),
        ("leaderElection.enabled=perhaps", "enabled"),
        ("leaderElection.leaseDuration=15", "leaseDuration"),
        ("leaderElection.retryPeriod=soon", "retryPeriod"),
        ("serviceAccount.create=perhaps", "create"),
    ] {
        let rendered = helm(plane, &["template", "release", &chart, "--set", value]).await;
        let message = format!("{:#}", rendered.err().with_context(|| format!("{value} should be refused"))?);
        ensure!(message.contains(name), "{value} should be named: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_release_is_installed_upgraded_and_uninstalled() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "chart-life").await?;
    let (release, chart) = (namespace.name(), chart::folder().display().to_string());
    let common = [&[release, &chart, "--namespace", release][..], &VALUES].concat();
    let definitions = objects::parse(&helm(plane, &["show", "crds", &chart]).await?)?;
    ensure!(definitions.len() == 4, "helm installs the definitions where there are none");
    let said = helm(plane, &[&["install"][..], &common].concat()).await?;
    ensure!(said.contains("rollout status deployment/"), "the notes should say what to do next: {said}");
    ensure!(!said.contains("aws.region is empty"), "{said}");

    let account = [
        "--set",
        r"serviceAccount.annotations.eks\.amazonaws\.com/role-arn=arn:aws:iam::111122223333:role/emr",
    ];
    let more = [&account[..], &["--set", "deployment.replicas=2,metrics.service.create=true"]].concat();
    helm(plane, &[&["upgrade"][..], &common, &more].concat()).await?;
    let manifests = chart::manifests(plane, release, release).await?;
    for kind in ["PodDisruptionBudget", "Service", "ServiceAccount", "Deployment"] {
        let object = chart::only(&manifests, kind)?;
        let live = objects::api_for(&client, release, object).await?.get(&object.name_any()).await?;
        match kind {
            "ServiceAccount" => ensure!(live.annotations().contains_key("eks.amazonaws.com/role-arn")),
            "Deployment" => ensure!(live.data.pointer("/spec/replicas") == Some(&json!(2))),
            _ => {}
        }
    }
    the_pod_passes_the_restricted_standard(&client, chart::only(&manifests, "Deployment")?).await?;

    objects::apply(&client, release, &virtual_cluster("kept", release)).await?;
    helm(plane, &["uninstall", release, "--namespace", release]).await?;
    for object in &manifests {
        let api = objects::api_for(&client, release, object).await?;
        ensure!(api.get_opt(&object.name_any()).await?.is_none(), "{} should be gone", object.name_any());
    }
    objects::ours(&client, release, "VirtualCluster").get("kept").await.context("objects should stay")?;
    Ok(())
}

/// A pod of the Deployment is admitted where the strictest of Kubernetes' pod security standards holds.
async fn the_pod_passes_the_restricted_standard(client: &Client, deployment: &DynamicObject) -> Result<()> {
    let namespace = deployment.namespace().context("no namespace")?;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    namespaces.patch(&namespace, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(label)).await?;
    let mut pod = deployment.data.pointer("/spec/template").cloned().context("no pod template")?;
    let metadata = pod.pointer_mut("/metadata").and_then(serde_json::Value::as_object_mut);
    metadata.context("no metadata")?.insert("name".to_owned(), json!("trial"));
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&trial, &serde_json::from_value(pod)?).await.context("the pod should be admitted")?;
    Ok(())
}

#[tokio::test]
async fn with_roles_in_one_namespace_only_the_operator_does_its_whole_work() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "chart-own").await?;
    let (release, chart) = (namespace.name(), chart::folder().display().to_string());
    let scope = ["--set", "installScope=namespace"];
    helm(plane, &[&["install", release, &chart, "--namespace", release][..], &VALUES, &scope].concat())
        .await?;
    let manifests = chart::manifests(plane, release, release).await?;
    no_cluster_roles(&manifests)?;
    works_without_a_refusal(plane, &manifests, release, &[]).await
}

fn no_cluster_roles(manifests: &[DynamicObject]) -> Result<()> {
    let roles = chart::of_kind(manifests, "ClusterRole");
    let found = roles.chain(chart::of_kind(manifests, "ClusterRoleBinding")).count();
    ensure!(found == 0, "nothing may be granted in other namespaces");
    Ok(())
}

#[tokio::test]
async fn with_roles_in_two_namespaces_the_operator_works_in_both_and_sees_no_other() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let home = Namespace::create(&client, "chart-home").await?;
    let one = Namespace::create(&client, "chart-one").await?;
    let two = Namespace::create(&client, "chart-two").await?;
    let (release, chart) = (home.name(), chart::folder().display().to_string());
    let scope = format!("installScope=namespace,watchNamespace={}\\,{}", one.name(), two.name());
    let set = ["--set", &scope];
    helm(plane, &[&["install", release, &chart, "--namespace", release][..], &VALUES, &set].concat()).await?;
    let manifests = chart::manifests(plane, release, release).await?;
    no_cluster_roles(&manifests)?;
    objects::apply(&client, release, &virtual_cluster("unseen", "unseen")).await?;
    works_without_a_refusal(plane, &manifests, one.name(), &[two.name()]).await?;
    let unseen = objects::ours(&client, release, "VirtualCluster").get("unseen").await?;
    ensure!(unseen.data.get("status").is_none() && unseen.finalizers().is_empty(), "it is not watched");
    Ok(())
}

#[tokio::test]
async fn the_manifest_brings_an_empty_cluster_all_that_the_operator_needs() -> Result<()> {
    // What the cluster's roles allow would reach the other tests' objects: a control plane of its own.
    let plane = ControlPlane::start().await?;
    let client = plane.client()?;
    let install = repository().join("manifests/install.yaml");
    let manifests = objects::parse(&std::fs::read_to_string(&install)?)?;
    plane
        .run_kubectl(&["apply", "--validate=strict", "-f", &install.display().to_string()], None)
        .await
        .context("in one go, so what lies in the namespace comes after it")?;
    plane
        .run_kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"], None)
        .await?;
    for object in &manifests {
        objects::api_for(&client, "", object).await?.get(&object.name_any()).await?;
    }
    let jobs = Namespace::create(&client, "jobs").await?;
    works_without_a_refusal(&plane, &manifests, jobs.name(), &[]).await?;
    ensure!(refusals(&client).await? == 0.0, "the API server refused requests:\n{}", plane.server_log());
    Ok(())
}

/// The requests that the API server has answered with 403 since it started.
async fn refusals(client: &Client) -> Result<f64> {
    let page = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    Ok(tests::operator::Metrics::parse(&page).sum("apiserver_request_total", &[("code", "403")]))
}

/// Runs the operator as the manifests deploy it, and takes it through all that it does with the API server: a job to
/// its end, a cancellation, events, and the hand-over to a second replica.
async fn works_without_a_refusal(
    plane: &ControlPlane,
    manifests: &[DynamicObject],
    namespace: &str,
    others: &[&str],
) -> Result<()> {
    let aws = emr_simulator::start(simulator::quick()).await?;
    // EKS injects the region where the chart's values don't give it.
    let deploy = async |pod: &str| -> Result<tests::operator::Builder> {
        Ok(chart::operator(plane, manifests, aws.url(), pod).await?.environment("AWS_REGION", "us-west-2"))
    };
    let first = deploy("first").await?.start(plane.scratch()).await?;
    let client = plane.client()?;
    for namespace in [&[namespace], others].concat() {
        completes_and_cancels(&client, namespace, &aws)
            .await
            .with_context(|| format!("the operator's log ends with\n{}", first.process().log_tail(30)))?;
    }
    let second = deploy("second").await?.without_waiting().start(plane.scratch()).await?;
    wait::eventually(PATIENCE, "the second replica should wait for the lease", async || {
        Ok(second.log().contains("waiting for the lease").then_some(()))
    })
    .await?;
    ensure!(second.metrics().await?.sum("emrcontainers_leader", &[]) < 1.0, "the first still leads");
    no_refusal(&first).await?;
    ensure!(first.terminate().await? == 0);
    second.wait_ready(PATIENCE).await?;
    objects::apply(&client, namespace, &job_run("after", "vc", "")).await?;
    in_state(&client, namespace, "after", "COMPLETED").await?;
    no_refusal(&second).await?;
    ensure!(second.terminate().await? == 0);
    Ok(())
}

async fn completes_and_cancels(client: &Client, namespace: &str, aws: &Handle) -> Result<()> {
    objects::apply(client, namespace, &virtual_cluster("vc", namespace)).await?;
    objects::apply(client, namespace, &job_run("short", "vc", "")).await?;
    in_state(client, namespace, "short", "COMPLETED").await?;
    ready_role(client, namespace, "job").await?;
    let by_role = run_with("by-role", &json!({"name": "vc"}), &json!({"name": "job"}));
    objects::apply(client, namespace, &by_role).await?;
    in_state(client, namespace, "by-role", "COMPLETED").await?;
    aws.add_outcome(emr_simulator::Rule {
        name: Some("long".to_owned()),
        running_seconds: Some(600.0),
        ..emr_simulator::Rule::default()
    })?;
    objects::apply(client, namespace, &job_run("long", "vc", "")).await?;
    in_state(client, namespace, "long", "RUNNING").await?;
    let runs = objects::ours(client, namespace, "JobRun");
    runs.delete("long", &DeleteParams::default()).await?;
    wait::deleted(runs, "long", PATIENCE).await?;
    ensure!(simulator::calls(aws, "CancelJobRun") > 0);
    crate::field_export::exports_a_name(client, namespace, "vc").await?;
    eventful(client, namespace, "short").await?;
    eventful(client, namespace, "long").await?;
    Ok(())
}

pub(crate) async fn in_state(client: &Client, namespace: &str, name: &str, state: &str) -> Result<()> {
    let is = |run: Option<&DynamicObject>| (objects::status(run?, "state") == Some(state)).then_some(());
    wait::object(
        objects::ours(client, namespace, "JobRun"),
        name,
        PATIENCE,
        &format!("should be {state}"),
        is,
    )
    .await
}

/// Events are written about an object.
async fn eventful(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(client.clone(), namespace);
    wait::eventually(Duration::from_secs(10), &format!("{name} should have events"), async || {
        let events = api.list(&ListParams::default()).await?;
        let about = |event: &k8s_openapi::api::events::v1::Event| {
            event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name)
        };
        Ok(events.items.iter().any(about).then_some(()))
    })
    .await
}

/// Neither the log nor the metrics know of a request that the API server refused.
async fn no_refusal(operator: &Operator) -> Result<()> {
    let log = operator.log().to_lowercase();
    let refused: Vec<&str> =
        log.lines().filter(|line| line.contains("forbidden") || line.contains("not allowed")).collect();
    ensure!(refused.is_empty(), "the API server refused\n{}", refused.join("\n"));
    let metrics = operator.metrics().await?;
    for metric in ["emrcontainers_events_dropped_total", "emrcontainers_watch_errors_total"] {
        ensure!(metrics.sum(metric, &[]) == 0.0, "{metric} should be 0: {:?}", metrics.series());
    }
    Ok(())
}

//! Shadow mode: everything is looked at, what would be done is told, and nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tests::chart::{self, helm};
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::elsewhere::{create_cluster, job, start_job, upstream_tags};
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, parse};
use tests::operator::Operator;
use tests::simulator::{endless, quick};
use tests::wait;

use super::references::{ready_role, role};
use super::scope_namespaces::annotate;

const FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/";
/// The calls that only read.
const READS: [&str; 7] = [
    "DescribeJobRun",
    "ListJobRuns",
    "DescribeVirtualCluster",
    "ListVirtualClusters",
    "ListTagsForResource",
    "GetCallerIdentity",
    "AssumeRole",
];

/// The version of every object of our kinds, and of every lease and event, in a namespace.
async fn versions(client: &Client, namespace: &str) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    let mut note = |kind: &str, name: String, version: Option<String>| {
        versions.insert(format!("{kind}/{name}"), version.unwrap_or_default());
    };
    for kind in ["JobRun", "VirtualCluster"] {
        for object in objects::ours(client, namespace, kind).list(&ListParams::default()).await? {
            note(kind, object.name_any(), object.resource_version());
        }
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    for lease in leases.list(&ListParams::default()).await? {
        note("Lease", lease.name_any(), lease.resource_version());
    }
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(client.clone(), namespace);
    for event in events.list(&ListParams::default()).await? {
        note("Event", event.name_any(), event.resource_version());
    }
    Ok(versions)
}

struct World {
    client: Client,
    namespace: Namespace,
    aws: emr_simulator::Handle,
}

impl World {
    async fn create(&self, yaml: &str, kind: &str, finalizer: bool) -> Result<DynamicObject> {
        let mut object = parse(yaml)?.remove(0);
        if finalizer {
            object.metadata.finalizers = Some(vec![format!("{FINALIZER}{kind}")]);
        }
        let api = objects::ours(&self.client, self.namespace.name(), kind);
        Ok(api.create(&PostParams::default(), &object).await?)
    }

    async fn status(&self, kind: &str, name: &str, status: serde_json::Value) -> Result<()> {
        let api = objects::ours(&self.client, self.namespace.name(), kind);
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// What upstream leaves when it works: clusters and runs in every state.
    async fn furnish(&self) -> Result<()> {
        let namespace = self.namespace.name();
        let cluster = create_cluster(&self.aws, "vc", namespace, &upstream_tags(namespace)).await?;
        self.create(&virtual_cluster("vc", namespace), "VirtualCluster", true).await?;
        let place = |path: &str| {
            json!({"arn": format!("arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/{path}"),
                "ownerAccountID": "123456789012", "region": "us-west-2"})
        };
        let synced = json!([{"type": "ACK.ResourceSynced", "status": "True"}]);
        let status = json!({"id": cluster, "ackResourceMetadata": place(&cluster), "conditions": synced});
        self.status("VirtualCluster", "vc", status).await?;
        self.create(&virtual_cluster("new", &format!("{namespace}-new")), "VirtualCluster", false).await?;
        for (name, state) in [("live", "RUNNING"), ("ended", "COMPLETED"), ("going", "RUNNING")] {
            self.create(&job_run(name, "vc", &format!("name: {name}")), "JobRun", true).await?;
            let id = start_job(&self.aws, &cluster, &job(name, name, &upstream_tags(namespace))).await?;
            let place = place(&format!("{cluster}/jobruns/{id}"));
            let status =
                json!({"id": id, "state": state, "ackResourceMetadata": place, "conditions": synced});
            self.status("JobRun", name, status).await?;
        }
        let runs = objects::ours(&self.client, namespace, "JobRun");
        runs.delete("going", &DeleteParams::default()).await?;
        self.create(&job_run("lost", "vc", "name: lost"), "JobRun", true).await?;
        start_job(&self.aws, &cluster, &job("lost", "unknown", &upstream_tags(namespace))).await?;
        self.create(&job_run("fresh", "vc", ""), "JobRun", false).await?;
        self.create(&job_run("waiting", "nowhere", ""), "JobRun", false).await?;
        self.create(&job_run("broken", "vc", "configurationOverrides: '['"), "JobRun", false).await?;
        Ok(())
    }
}

#[tokio::test]
async fn shadow_mode_tells_what_it_would_do_and_writes_nothing() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "shadow").await?;
    let aws = emr_simulator::start(quick()).await?;
    aws.add_outcome(endless("*"))?;
    let world = World { client, namespace, aws };
    world.furnish().await?;
    let name = world.namespace.name();
    let before = versions(&world.client, name).await?;
    let calls_before = world.aws.requests_since(0).len();

    // With a lease wanted: it must not be taken.
    let operator = Operator::builder(plane.kubeconfig(), world.aws.url())
        .watch_namespace(name)
        .leader_election(name)
        .environment("READ_ONLY", "true")
        .start(plane.scratch())
        .await?;
    let expected = [
        ("jobrun", "nothing", 1.0),
        ("jobrun", "observe", 1.0),
        ("jobrun", "cancel", 1.0),
        ("jobrun", "take_over", 1.0),
        ("jobrun", "start", 1.0),
        ("jobrun", "wait", 1.0),
        ("jobrun", "refuse", 1.0),
        ("virtualcluster", "create", 1.0),
        ("virtualcluster", "observe", 1.0),
    ];
    wait::eventually(PATIENCE, "all should be judged", async || {
        let metrics = operator.metrics().await?;
        let count = |kind: &str, decision: &str| {
            metrics.sum("emrcontainers_shadow_decisions", &[("kind", kind), ("decision", decision)])
        };
        for (kind, decision, wanted) in expected {
            let count = count(kind, decision);
            #[expect(clippy::float_cmp, reason = "counts")]
            let is = count == wanted;
            ensure!(is, "{kind} {decision}: {count}");
        }
        Ok(Some(()))
    })
    .await
    .with_context(|| operator.log())?;
    let log = operator.log();
    for words in [
        "would start: it was never submitted",
        "would take over: job run",
        "would cancel: the object goes",
        "would create: it was never created",
    ] {
        ensure!(log.contains(words), "{words:?} should be told:\n{log}");
    }
    // A status that upstream writes is noticed, although it is no reason for a pass.
    world.status("JobRun", "fresh", json!({"id": "0fresh", "state": "COMPLETED"})).await?;
    wait::eventually(PATIENCE, "a status of upstream's should be noticed", async || {
        let metrics = operator.metrics().await?;
        let ended = [("kind", "jobrun"), ("decision", "nothing")];
        let count = metrics.sum("emrcontainers_shadow_decisions", &ended);
        ensure!((count - 2.0).abs() < 0.5, "{count}");
        Ok(Some(()))
    })
    .await?;
    ensure!(operator.terminate().await? == 0);
    let log = operator.log();
    ensure!(log.contains("shadow mode ends; of this kind it would"), "{log}");

    let made = world.aws.requests_since(0);
    let mut ours = made[calls_before..].iter().map(|request| request.operation.as_str());
    ensure!(ours.clone().next().is_some(), "AWS is read");
    ensure!(ours.all(|operation| READS.contains(&operation)), "{made:?}");
    let mut after = versions(&world.client, name).await?;
    let mut expected = before;
    for versions in [&mut after, &mut expected] {
        versions.remove("JobRun/fresh");
    }
    ensure!(after == expected, "{after:?} should be {expected:?}");
    Ok(())
}

#[tokio::test]
async fn shadow_mode_from_the_chart_has_no_more_rights_than_it_needs() -> Result<()> {
    let plane = shared().await?;
    let folder = chart::folder().display().to_string();
    let values = "aws.region=us-west-2,readOnly=true,installScope=namespace";
    let arguments = ["template", "shadow", &folder, "--namespace", "x", "--set", values];
    let manifests = parse(&helm(plane, &arguments).await?)?;
    ensure!(!manifests.iter().any(|object| object.name_any().ends_with("-leaderelection")));
    let role = manifests
        .iter()
        .find(|object| {
            object.types.as_ref().is_some_and(|types| types.kind == "Role")
                && !["er", "-accounts"].iter().any(|end| object.name_any().ends_with(end))
        })
        .context("a role")?;
    ensure!(
        role.data["rules"]
            == json!([{
                "apiGroups": ["emrcontainers.services.k8s.aws"],
                "resources": ["jobruns", "virtualclusters"],
                "verbs": ["get", "list", "watch"],
            }, {
                "apiGroups": ["iam.services.k8s.aws"],
                "resources": ["roles"],
                "verbs": ["get"],
            }, {
                "apiGroups": [""],
                "resources": ["namespaces"],
                "resourceNames": ["x"],
                "verbs": ["get", "watch"],
            }]),
        "{:?}",
        role.data
    );
    Ok(())
}

/// A run with these references, in a virtual cluster that is given by its id.
fn by_role(name: &str, role: &str) -> String {
    json!({
        "apiVersion": "emrcontainers.services.k8s.aws/v1alpha1", "kind": "JobRun", "metadata": {"name": name},
        "spec": {
            "virtualClusterID": "0vc", "executionRoleRef": {"from": {"name": role}},
            "releaseLabel": "emr-7.10.0-latest",
            "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://bucket/job.py"}},
        },
    })
    .to_string()
}

#[tokio::test]
async fn a_shadow_beside_the_release_that_works_has_its_roles_and_takes_nothing_of_it() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "shadow-beside").await?;
    let (name, folder) = (namespace.name(), chart::folder().display().to_string());
    let values =
        "aws.region=us-west-2,installScope=namespace,metrics.service.create=true,deployment.replicas=2";
    let install = async |release: &str, more: &str| {
        let values = format!("{values},{more}");
        helm(plane, &["install", release, &folder, "--namespace", name, "--set", &values]).await
    };
    install("works", "fullnameOverride=emr").await?;
    // As docs/migration.md has it.
    let shadow = "readOnly=true,fullnameOverride=emr-shadow,serviceAccount.create=true,serviceAccount.name=emr-shadow,\
                  metrics.service.create=false,deployment.replicas=1";
    install("emr-shadow", shadow).await?;
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: ack-role-account-map}, \
               data: {'222222222222': 'arn:aws:iam::222222222222:role/emr'}}";
    objects::apply(&client, name, map).await?;
    annotate(&client, name, "services.k8s.aws/owner-account-id", Some("222222222222")).await?;
    ready_role(&client, name, "ready").await?;
    role(&client, name, "unready").await?;
    objects::apply(&client, name, &by_role("starts", "ready")).await?;
    objects::apply(&client, name, &by_role("waits", "unready")).await?;
    objects::apply(&client, name, &by_role("misses", "nowhere")).await?;

    let aws = emr_simulator::start(quick()).await?;
    let manifests = chart::manifests(plane, "emr-shadow", name).await?;
    let operator = chart::operator(plane, &manifests, aws.url(), "pod").await?.start(plane.scratch()).await?;
    for words in [
        "would start: it was never submitted",
        &format!(
            "would wait: the referenced resource is not synced yet. resource:Role, namespace:{name}, name:unready"
        ),
        "would wait: roles.iam.services.k8s.aws \\\"nowhere\\\" not found",
    ] {
        let told = async || Ok(operator.log().contains(words).then_some(()));
        wait::eventually(PATIENCE, &format!("{words:?} should be told"), told)
            .await
            .with_context(|| operator.log())?;
    }
    ready_role(&client, name, "nowhere").await?;
    wait::eventually(PATIENCE, "what waited for a role should be judged anew", async || {
        let log = operator.log();
        let is_told = log.lines().any(|line| line.contains("would start") && line.contains("\"misses\""));
        Ok(is_told.then_some(()))
    })
    .await
    .with_context(|| operator.log())?;
    let log = operator.log();
    ensure!(!log.contains("role is not available") && !log.contains("forbidden"), "{log}");
    ensure!(operator.terminate().await? == 0);
    helm(plane, &["uninstall", "emr-shadow", "--namespace", name]).await?;
    for object in chart::manifests(plane, "works", name).await? {
        objects::api_for(&client, name, &object).await?.get(&object.name_any()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_the_switch_the_same_objects_are_worked_on() -> Result<()> {
    let mut env =
        TestEnv::with("shadow-off", quick(), |operator| operator.arguments(&["--read-only"])).await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.apply(&job_run("r", "vc", "")).await?;
    let told = async || Ok(env.operator().log().contains("would create").then_some(()));
    wait::eventually(Duration::from_secs(30), "the cluster should be judged", told).await?;
    ensure!(env.virtual_clusters().get("vc").await?.finalizers().is_empty());
    env.operator().terminate().await?;
    let working = env.builder().arguments(&["--read-only=false"]).start(env.plane().scratch()).await?;
    env.job_run_in("r", "COMPLETED").await?;
    working.terminate().await?;
    env.restart_operator().await?;
    Ok(())
}

//! Probes that tell the truth: /readyz of a leader and of a replica that waits for the lease, while what they need is
//! taken away and given back. That /healthz notices a standstill is proved beside the runner and the poller, since
//! nothing outside of a sound process can bring one about.

use anyhow::{Context, Result, ensure};
use emr_simulator::Handle;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tests::chart;
use tests::cluster::PATIENCE;
use tests::control_plane::{ControlPlane, repository};
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::operator::Operator;
use tests::{objects, simulator, wait};

/// A cluster of its own with all of manifests/install.yaml, where two replicas run under what it grants.
struct Installed {
    plane: ControlPlane,
    client: Client,
    manifests: Vec<DynamicObject>,
    _aws: Handle,
    replicas: [Operator; 2],
    namespace: Namespace,
}

impl Installed {
    async fn new() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let client = plane.client()?;
        let install = repository().join("manifests/install.yaml");
        let manifests = objects::parse(&std::fs::read_to_string(&install)?)?;
        plane.run_kubectl(&["apply", "-f", &install.display().to_string()], None).await?;
        plane.run_kubectl(&["wait", "--for=condition=Established", "crd", "--all"], None).await?;
        let aws = emr_simulator::start(simulator::quick()).await?;
        let start = async |pod: &str| {
            let operator = chart::operator(&plane, &manifests, aws.url(), pod).await?;
            operator.environment("AWS_REGION", "us-west-2").start(plane.scratch()).await
        };
        // One after the other, so that the first leads.
        let leader = start("first").await?;
        let standby = start("second").await?;
        ensure!(standby.metrics().await?.sum("emrcontainers_leader", &[]) < 0.5, "the first leads");
        let namespace = Namespace::create(&client, "probes").await?;
        let installed = Self { client, manifests, _aws: aws, replicas: [leader, standby], namespace, plane };
        installed.apply(&virtual_cluster("vc", installed.namespace.name())).await?;
        installed.completes("before").await?;
        Ok(installed)
    }

    async fn apply(&self, yaml: &str) -> Result<()> {
        objects::apply(&self.client, self.namespace.name(), yaml).await.map(drop)
    }

    /// A run goes all its way.
    async fn completes(&self, name: &str) -> Result<()> {
        self.apply(&job_run(name, "vc", "")).await?;
        let runs = objects::ours(&self.client, self.namespace.name(), "JobRun");
        let is =
            |run: Option<&DynamicObject>| (objects::status(run?, "state") == Some("COMPLETED")).then_some(());
        let [leader, _] = &self.replicas;
        let ended = wait::object(runs, name, PATIENCE, "should be COMPLETED", is).await;
        ended.with_context(|| format!("the leader's log ends with\n{}", leader.process().log_tail(30)))
    }

    /// Both replicas say so on /readyz, and are alive.
    async fn unready(&self, words: &[&str]) -> Result<()> {
        for replica in &self.replicas {
            for words in words {
                replica.wait_unready(words).await?;
            }
            let (code, text) = replica.health("/healthz").await?;
            ensure!(code == 200, "not a matter for a restart: {text}");
        }
        Ok(())
    }

    /// Both replicas become ready by themselves.
    async fn ready(&self) -> Result<()> {
        for replica in &self.replicas {
            replica.wait_ready(PATIENCE).await?;
        }
        Ok(())
    }

    fn manifest(&self, kind: &str, name: &str) -> Result<&DynamicObject> {
        let found = chart::of_kind(&self.manifests, kind).find(|object| object.name_any() == name);
        found.with_context(|| format!("no {kind} {name}"))
    }
}

#[tokio::test]
async fn readyz_names_permissions_that_are_withdrawn_and_opens_when_they_are_given_back() -> Result<()> {
    let installed = Installed::new().await?;
    let binding = chart::only(&installed.manifests, "ClusterRoleBinding")?;
    installed.plane.run_kubectl(&["delete", "clusterrolebinding", &binding.name_any()], None).await?;
    installed
        .unready(&[
            "[-]permissions are missing: grant the operator's account to",
            "get, list, watch, patch jobruns.emrcontainers.services.k8s.aws in all namespaces",
            "update virtualclusters.emrcontainers.services.k8s.aws/status in all namespaces",
        ])
        .await?;
    objects::apply_one(&installed.client, "", binding).await?;
    installed.ready().await?;
    installed.completes("after").await?;

    // One verb on one resource.
    let role = binding.data.pointer("/roleRef/name").and_then(serde_json::Value::as_str);
    let role = installed.manifest("ClusterRole", role.context("a binding names its role")?)?;
    let mut rules = role.data.get("rules").cloned().context("a role has rules")?;
    let status = rules
        .as_array_mut()
        .and_then(|rules| rules.iter_mut().find(|rule| rule["resources"][0] == json!("jobruns/status")));
    status.context("a rule for the status")?["verbs"] = json!(["get", "patch"]);
    let api = objects::api_for(&installed.client, "", role).await?;
    let patch = Patch::Merge(json!({"rules": rules}));
    api.patch(&role.name_any(), &PatchParams::default(), &patch).await?;
    let missing = "update jobruns.emrcontainers.services.k8s.aws/status in all namespaces";
    installed.unready(&[missing]).await?;
    let (_, text) = installed.replicas[0].health("/readyz").await?;
    ensure!(!text.contains("list") && !text.contains("events.k8s.io"), "no more than is missing: {text}");
    objects::apply_one(&installed.client, "", role).await?;
    installed.ready().await?;
    installed.completes("in-the-end").await
}

#[tokio::test]
async fn readyz_names_a_definition_that_is_deleted_and_runs_work_again_when_it_is_back() -> Result<()> {
    let installed = Installed::new().await?;
    let name = "jobruns.emrcontainers.services.k8s.aws";
    installed.plane.run_kubectl(&["delete", "crd", name], None).await?;
    installed.unready(&[&format!("has no {name}: install the CustomResourceDefinitions")]).await?;
    objects::install_crds(&installed.client, &repository().join("manifests/crds")).await?;
    installed.ready().await?;
    installed.completes("after").await
}

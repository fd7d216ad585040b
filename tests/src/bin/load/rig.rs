//! Everything that a load needs: a control plane, the simulated AWS, the controller, VirtualClusters that are ready.
//!
//! Invariant: nothing is left of it when it is dropped.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind, Handle, Options};
use kube::{Client, ResourceExt};
use tests::control_plane::ControlPlane;
use tests::moto;
use tests::process::Usage;
use tests::relay::{Faults, Relay};
use tests::{namespace, objects, wait};
use tokio::time::sleep;

use crate::backlog;
use crate::controllers::Controllers;
use crate::options::{Command, LEASE_NAMESPACE, Scenario};
use crate::watching::{Beside, Watching};
use crate::workload::cluster_name;

/// Whoever starts a run also waits for these, in every controller.
const PENDING: Duration = Duration::from_millis(500);
const SUBMITTED: Duration = Duration::from_secs(1);
/// Upstream looks again after 15 s; a controller that waits for a lease takes a little longer.
const CLUSTER_READY_WITHIN: Duration = Duration::from_mins(2);
/// kube-apiserver counts as quiet when it used less than a tenth of a core in so many looks of this length.
const QUIET_LOOKS: u32 = 3;
const QUIET_LOOK: Duration = Duration::from_secs(1);
const QUIET_WITHIN: Duration = Duration::from_mins(1);

/// A running rig.
pub(crate) struct Rig {
    pub(crate) watching: Watching,
    pub(crate) controllers: Controllers,
    pub(crate) simulator: Handle,
    pub(crate) client: Client,
    pub(crate) plane: ControlPlane,
    /// The namespace of each VirtualCluster.
    pub(crate) clusters: Vec<String>,
    pub(crate) kubernetes: String,
    /// Goes before the thread that it is on.
    _relay: Option<Relay>,
    _beside: Beside,
}

impl Rig {
    pub(crate) async fn start(command: &Command, scenario: &Scenario) -> Result<Self> {
        let from = Instant::now();
        let plane = ControlPlane::start().await?;
        let client = plane.client()?;
        let kubernetes = client.apiserver_version().await?.git_version;
        objects::install_crds(&client, &scenario.crds).await?;
        // On a thread of its own, so that the answers don't wait behind our requests.
        let beside = Beside::start("simulator")?;
        let simulator = beside.handle.spawn(emr_simulator::start(aws(scenario)?)).await??;
        if scenario.lose > 0.0 {
            let fault = Fault::new("StartJobRun", FaultKind::ReplyLost);
            simulator.add_fault(Fault { probability: scenario.lose, ..fault })?;
        }
        if scenario.controllers > 1 {
            namespace::ensure(&client, LEASE_NAMESPACE).await?;
        }
        let mut command = command.clone();
        let mut relay = None;
        if scenario.hints {
            let queue = moto::shared().await?.event_queue("load").await?;
            command.words.push(format!("--event-queue-url={}", queue.url()));
            let _on = beside.handle.enter();
            relay = Some(Relay::start(simulator.url(), &queue, Faults::default()));
        }
        let controllers = Controllers::start(
            &command,
            scenario.controllers,
            simulator.url(),
            &plane.kubeconfig(),
            plane.scratch(),
        )
        .await?;
        let clusters = make_clusters(&client, scenario, &controllers).await?;
        if scenario.finished > 0 {
            backlog::make(&client, &simulator, scenario, &controllers, &clusters).await?;
        }
        let watching = Watching::start(&plane).await?;
        let quiet = until_quiet(&plane).await?;
        eprintln!(
            "kube-apiserver {kubernetes}, the simulated AWS, the controller and {} virtual clusters are ready after {:.1} s{}",
            scenario.clusters,
            from.elapsed().as_secs_f64(),
            if quiet { "" } else { "; kube-apiserver is still busy with itself" }
        );
        Ok(Self {
            watching,
            controllers,
            simulator,
            client,
            plane,
            clusters,
            kubernetes,
            _relay: relay,
            _beside: beside,
        })
    }

    /// Fails, with a log, when anything has ended.
    pub(crate) async fn ensure_running(&self) -> Result<()> {
        self.plane.ensure_running()?;
        self.controllers.ensure_running().await
    }
}

/// Waits until kube-apiserver has done what follows its start and new definitions (it builds the OpenAPI documents of all
/// kinds anew, seconds of CPU time). False when it doesn't get there.
async fn until_quiet(plane: &ControlPlane) -> Result<bool> {
    let [_, api_server] = plane.pids();
    let end = Instant::now() + QUIET_WITHIN;
    let mut quiet_looks = 0;
    while Instant::now() < end && quiet_looks < QUIET_LOOKS {
        let before = Usage::of(api_server)?.cpu;
        sleep(QUIET_LOOK).await;
        let used = Usage::of(api_server)?.cpu.saturating_sub(before);
        quiet_looks = if used < QUIET_LOOK / 10 { quiet_looks + 1 } else { 0 };
    }
    Ok(quiet_looks >= QUIET_LOOKS)
}

/// The simulated AWS. Only the quotas asked for bound it: no cap on the runs of a cluster.
fn aws(scenario: &Scenario) -> Result<Options> {
    let running_for = scenario.run_time().checked_sub(PENDING + SUBMITTED);
    Ok(Options {
        pending_for: PENDING,
        submitted_for: SUBMITTED,
        running_for: running_for.context("--job-time must be at least 1.5s")?,
        quotas: scenario.quotas.read.clone(),
        latency: scenario.aws_latency,
        max_concurrent_job_runs: scenario.runs.max(1000),
        ..Options::default()
    })
}

/// Creates the VirtualClusters and waits until the controller says that they are there. Returns their namespaces.
async fn make_clusters(
    client: &Client,
    scenario: &Scenario,
    controllers: &Controllers,
) -> Result<Vec<String>> {
    let namespaces: Vec<String> = (0..scenario.namespaces).map(|index| format!("load-{index}")).collect();
    for name in &namespaces {
        namespace::ensure(client, name).await?;
    }
    let mut clusters = Vec::with_capacity(scenario.clusters);
    for (index, namespace) in (0..scenario.clusters).zip(namespaces.iter().cycle()) {
        let name = cluster_name(index);
        let yaml = format!(
            "{{apiVersion: {}/{}, kind: VirtualCluster, metadata: {{name: {name}}}, spec: {{name: {name}, \
             containerProvider: {{id: load, type_: EKS, info: {{eksInfo: {{namespace: spark-{index}}}}}}}}}}}",
            objects::GROUP,
            objects::VERSION
        );
        let applied = objects::apply(client, namespace, &yaml).await?;
        ensure!(applied.first().is_some_and(|object| object.name_any() == name), "{name} was not created");
        clusters.push(namespace.clone());
    }
    for (index, namespace) in clusters.iter().enumerate() {
        let api = objects::ours(client, namespace, "VirtualCluster");
        let name = cluster_name(index);
        let what = "the VirtualCluster should have an id and ACK.ResourceSynced";
        let ready = wait::object(api, &name, CLUSTER_READY_WITHIN, what, |cluster| {
            let synced = objects::condition(cluster?, "ACK.ResourceSynced")?.status == "True";
            (synced && objects::status(cluster?, "id").is_some()).then_some(())
        });
        if let Err(error) = ready.await {
            controllers.ensure_running().await?;
            return Err(error.context(controllers.words().await));
        }
    }
    Ok(clusters)
}

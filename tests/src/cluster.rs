//! What most suites start from: a namespace on the shared control plane, an AWS of its own, an operator that watches it.
//!
//! Must not: know our types (see [`crate::objects`]).
//! Invariant: two environments share nothing but the control plane, so suites run at the same time.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use emr_simulator::{Handle, JobRunSnapshot, Options};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::Client;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, shared};
use crate::namespace::Namespace;
use crate::objects;
use crate::operator::{Builder, Operator};
use crate::{manifest, simulator, wait};

/// Longer than anything takes on a busy machine with two cores; a test that passes doesn't wait for it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// One test's world.
pub struct TestEnv {
    plane: &'static ControlPlane,
    client: Client,
    namespace: Namespace,
    simulator: Handle,
    builder: Builder,
    operator: Operator,
}

/// An event as `kubectl describe` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEvent {
    /// Normal or Warning.
    pub type_: String,
    /// One word for machines.
    pub reason: String,
    /// One sentence for people.
    pub note: String,
    /// How often it happened.
    pub count: i32,
}

impl TestEnv {
    /// A namespace whose name starts with `name`, the simulator and the operator as users start them.
    pub async fn new(name: &str) -> Result<Self> {
        Self::with(name, simulator::quick(), |operator| operator).await
    }

    /// The same with another simulator, and with flags for the operator.
    pub async fn with(
        name: &str,
        options: Options,
        operator: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self> {
        let plane = shared().await?;
        plane.install_crds().await?;
        Self::on(plane, name, options, operator).await
    }

    /// The same on another control plane, with the definitions that it has.
    pub async fn on(
        plane: &'static ControlPlane,
        name: &str,
        options: Options,
        operator: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self> {
        let client = plane.client()?;
        let namespace = Namespace::create(&client, name).await?;
        let simulator = emr_simulator::start(options).await?;
        let builder =
            Operator::builder(plane.kubeconfig(), simulator.url()).watch_namespace(namespace.name());
        let builder = operator(builder);
        let operator = builder.clone().start(plane.scratch()).await?;
        Ok(Self { plane, client, namespace, simulator, builder, operator })
    }

    /// The same, seen from another namespace, which its operator has to be told to watch.
    #[must_use]
    pub fn within(self, namespace: Namespace) -> Self {
        Self { namespace, ..self }
    }

    /// The control plane that all tests share.
    pub fn plane(&self) -> &'static ControlPlane {
        self.plane
    }

    /// A client with all rights.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The test's namespace.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// The test's AWS: faults, outcomes, counters, requests.
    pub fn simulator(&self) -> &Handle {
        &self.simulator
    }

    /// The operator now.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// How the test's operator is started, to start another one beside it.
    pub fn builder(&self) -> Builder {
        self.builder.clone()
    }

    /// Starts the operator again with the same flags, after the one before was killed or terminated.
    pub async fn restart_operator(&mut self) -> Result<()> {
        self.operator = self.builder.clone().start(self.plane.scratch()).await?;
        Ok(())
    }

    /// Fails if AWS ever had to say that there were too many calls.
    pub fn ensure_never_throttled(&self) -> Result<()> {
        let counters = self.simulator.counters();
        let throttled: Vec<_> = counters.iter().filter(|(_, counter)| counter.throttled > 0).collect();
        ensure!(throttled.is_empty(), "AWS has throttled: {throttled:?}");
        Ok(())
    }

    /// JobRuns of the test's namespace.
    pub fn job_runs(&self) -> Api<DynamicObject> {
        objects::ours(&self.client, self.namespace(), "JobRun")
    }

    /// VirtualClusters of the test's namespace.
    pub fn virtual_clusters(&self) -> Api<DynamicObject> {
        objects::ours(&self.client, self.namespace(), "VirtualCluster")
    }

    /// Applies YAML to the test's namespace as kubectl does.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        objects::apply(&self.client, self.namespace(), yaml).await
    }

    /// Runs kubectl in the test's namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let namespaced = [&["--namespace", self.namespace()], arguments].concat();
        self.plane.run_kubectl(&namespaced, None).await
    }

    /// Waits until a JobRun is in a state.
    pub async fn job_run_in(&self, name: &str, state: &str) -> Result<DynamicObject> {
        self.until(self.job_runs(), name, &format!("should be {state}"), |run| {
            objects::status(run, "state") == Some(state)
        })
        .await
    }

    /// Waits until a VirtualCluster is in a state.
    pub async fn virtual_cluster_in(&self, name: &str, state: &str) -> Result<DynamicObject> {
        let is_in = |cluster: &DynamicObject| objects::status(cluster, "state") == Some(state);
        self.until(self.virtual_clusters(), name, &format!("should be {state}"), is_in).await
    }

    /// Waits until an object has a condition with that status.
    pub async fn condition(
        &self,
        api: Api<DynamicObject>,
        name: &str,
        kind: &str,
        status: &str,
    ) -> Result<DynamicObject> {
        let has = |object: &DynamicObject| {
            objects::condition(object, kind).is_some_and(|found| found.status == status)
        };
        self.until(api, name, &format!("should have {kind}={status}"), has).await
    }

    /// Waits until an object is as it should be; a time-out shows its status and the end of the operator's log.
    pub async fn until(
        &self,
        api: Api<DynamicObject>,
        name: &str,
        what: &str,
        is: impl Fn(&DynamicObject) -> bool,
    ) -> Result<DynamicObject> {
        let pick = |object: Option<&DynamicObject>| object.filter(|object| is(object)).cloned();
        wait::object(api, name, PATIENCE, what, pick).await.with_context(|| self.operators_words())
    }

    /// Deletes an object and waits until it is gone.
    pub async fn delete(&self, api: Api<DynamicObject>, name: &str) -> Result<()> {
        api.delete(name, &DeleteParams::default()).await.with_context(|| format!("can't delete {name}"))?;
        wait::deleted(api, name, PATIENCE).await.with_context(|| self.operators_words())
    }

    /// Applies a VirtualCluster of that name and waits until it is ready; returns its id.
    pub async fn ready_cluster(&self, name: &str) -> Result<String> {
        self.apply(&manifest::virtual_cluster(name, self.namespace())).await?;
        let cluster = self.condition(self.virtual_clusters(), name, "Ready", "True").await?;
        objects::status(&cluster, "id").map(str::to_owned).context("a ready cluster has an id")
    }

    /// Changes fields of an object, as `kubectl patch --type=merge` does.
    pub async fn patch(&self, api: Api<DynamicObject>, name: &str, patch: Value) -> Result<DynamicObject> {
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.with_context(|| format!("can't patch {name}"))
    }

    /// Waits until a condition has these words in its message.
    pub async fn message(
        &self,
        api: Api<DynamicObject>,
        name: &str,
        kind: &str,
        words: &str,
    ) -> Result<DynamicObject> {
        let says = |object: &DynamicObject| {
            objects::condition(object, kind).is_some_and(|found| found.message.contains(words))
        };
        self.until(api, name, &format!("{kind} should say {words:?}"), says).await
    }

    /// Waits until the simulator is as it should be.
    pub async fn in_aws<T>(&self, what: &str, look: impl Fn(&Handle) -> Option<T>) -> Result<T> {
        let found = wait::eventually(PATIENCE, what, async || Ok(look(&self.simulator))).await;
        found.with_context(|| self.operators_words())
    }

    /// Sets an annotation on an object.
    pub async fn annotate(&self, api: Api<DynamicObject>, name: &str, key: &str, value: &str) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Every job of that name in AWS.
    pub fn jobs(&self, name: &str) -> Vec<JobRunSnapshot> {
        self.simulator.snapshot().job_runs.into_iter().filter(|job| job.name == name).collect()
    }

    /// The one job of that name in AWS; none or several are an error.
    pub fn the_job(&self, name: &str) -> Result<JobRunSnapshot> {
        let mut jobs = self.jobs(name);
        ensure!(jobs.len() == 1, "there should be one job {name} in AWS, and there are {}", jobs.len());
        jobs.pop().context("one job")
    }

    /// The Kubernetes Events about an object, in order.
    pub async fn events(&self, name: &str) -> Result<Vec<SeenEvent>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), self.namespace());
        let mut events = api.list(&ListParams::default()).await?.items;
        events.retain(|event| event.regarding.as_ref().and_then(|o| o.name.as_deref()) == Some(name));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let seen = |event: Event| SeenEvent {
            count: event.series.as_ref().map_or(1, |series| series.count),
            type_: event.type_.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            note: event.note.unwrap_or_default(),
        };
        Ok(events.into_iter().map(seen).collect())
    }

    /// Waits for an event with that reason about an object.
    pub async fn event(&self, name: &str, reason: &str) -> Result<SeenEvent> {
        wait::eventually(PATIENCE, &format!("{name} should have an event {reason}"), async || {
            let mut events = self.events(name).await?;
            match events.iter().position(|event| event.reason == reason) {
                Some(index) => Ok(Some(events.swap_remove(index))),
                None => bail!("events are {events:?}"),
            }
        })
        .await
    }

    fn operators_words(&self) -> String {
        format!("the operator's log ends with\n{}", self.operator.process().log_tail(30))
    }
}

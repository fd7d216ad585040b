//! What most suites start from: a namespace on the shared control plane, an AWS of its own, an operator that watches it.
//!
//! Must not: know our types (see [`crate::objects`]).
//! Invariant: two environments share nothing but the control plane, so suites run at the same time.

use std::time::Duration;

use anyhow::{Context, Result};
use emr_simulator::{Handle, Options};
use kube::Api;
use kube::Client;
use kube::api::{DeleteParams, DynamicObject};

use crate::control_plane::{ControlPlane, shared};
use crate::namespace::Namespace;
use crate::objects;
use crate::operator::{Builder, Operator};
use crate::{simulator, wait};

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
        let client = plane.client()?;
        let namespace = Namespace::create(&client, name).await?;
        let simulator = emr_simulator::start(options).await?;
        let builder =
            Operator::builder(plane.kubeconfig(), simulator.url()).watch_namespace(namespace.name());
        let builder = operator(builder);
        let operator = builder.clone().start(plane.scratch()).await?;
        Ok(Self { plane, client, namespace, simulator, builder, operator })
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

    /// Starts the operator again with the same flags, after the one before was killed or terminated.
    pub async fn restart_operator(&mut self) -> Result<()> {
        self.operator = self.builder.clone().start(self.plane.scratch()).await?;
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

    fn operators_words(&self) -> String {
        format!("the operator's log ends with\n{}", self.operator.process().log_tail(30))
    }
}

//! The kind JobRun: observe, plan, act, report.
//!
//! This file makes one step of a pass; [`plan`] decides, [`act`] makes the one call, [`report`] writes what came
//! of it. Invariant: every step ends in a write, a call, or the end of the pass.

pub mod act;
mod end;
mod find;
#[cfg(test)]
mod model_tests;
pub mod overrides;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod report;
pub mod request;
#[cfg(test)]
mod request_tests;
pub mod status;
#[cfg(test)]
mod status_tests;
pub mod target;
mod turn;

use std::sync::Arc;

use emrcontainers_api::JOB_RUN_FINALIZER;
use emrcontainers_api::job_run::{JobRun, JobRunSpec, JobRunStatus};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::context::Context;
use crate::decode::Assembled;
use crate::memory::Memories;
use crate::metrics::RunState;
use crate::pass::{PassError, Progress, Reconciled};
use crate::scope::decide::{Acting, Told};
use crate::tags;
use crate::watch::{Watched, prune_metadata};
use crate::write::Kind;
use plan::{Step, View};
use target::{ClusterTarget, Target};

impl Kind for JobRun {
    const FINALIZER: &'static str = JOB_RUN_FINALIZER;
}

impl Assembled for JobRun {
    type Spec = JobRunSpec;
    type Status = JobRunStatus;

    fn assemble(metadata: ObjectMeta, spec: JobRunSpec, status: Option<JobRunStatus>) -> Self {
        Self { metadata, spec, status }
    }
}

impl Watched for JobRun {
    const KIND: crate::metrics::Kind = crate::metrics::Kind::JobRun;

    const IS_REFERRED_TO: bool = false;

    const UNSETTLED: Option<&'static str> =
        Some("status.state!=COMPLETED,status.state!=FAILED,status.state!=CANCELLED");

    type End = RunState;

    fn prune(&mut self) {
        prune_metadata(&mut self.metadata);
        if self.status.as_ref().is_some_and(|status| status.id.is_some()) {
            // It is never submitted again: what it was submitted with is of no more use to us.
            self.spec.configuration_overrides = None;
            self.spec.overrides = None;
            self.spec.job_driver = None;
            self.spec.tags = None;
        }
    }

    fn settled(&self) -> Option<RunState> {
        plan::settled(self).then(|| RunState::of(self))
    }

    fn is_start(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
            && self.status.as_ref().is_none_or(|status| status.id.is_none())
    }
}

impl Reconciled for JobRun {
    fn memories(context: &Context) -> &Memories<Self> {
        &context.job_runs
    }

    fn stored(context: &Context, namespace: &str, name: &str) -> Option<Arc<Self>> {
        context.job_run_scopes.get(namespace, name)
    }

    fn may_call(&self, context: &Context) -> bool {
        context.pool.keeps_for(self.metadata.uid.as_deref().unwrap_or_default())
    }

    async fn step(object: &Arc<Self>, context: &Context) -> Result<Progress<Self>, PassError> {
        step(object, context).await
    }
}

/// Observes, plans and acts, once.
async fn step(run: &Arc<JobRun>, context: &Context) -> Result<Progress<JobRun>, PassError> {
    let uid = run.uid().unwrap_or_default();
    let target = resolve(run, context);
    let memory = context.job_runs.get(&uid);
    let observation = context.poller.observed(&uid);
    let view = View {
        run,
        memory: &memory,
        observation: observation.as_ref(),
        target: &target,
        retain: context.retain(&**run),
    };
    let place = run.status.as_ref().and_then(|status| status.ack_resource_metadata.as_ref());
    let step = plan::plan(&view);
    // These take no call: what is let go or written down doesn't need anybody who may act.
    let idle = matches!(step, Step::Rest | Step::Save(_) | Step::Release);
    let (acting, withheld) = match context.acting(&**run, place, idle) {
        Ok(acting) => (acting, None),
        Err(withheld) => (Acting { scope: context.home.clone(), told: Told::default() }, Some(withheld)),
    };
    let Acting { scope, told } = &acting;
    let pass = act::Pass { run, uid: &uid, target: &target, scope, told, context };
    if let Some(withheld) = withheld {
        return pass.withhold(&withheld).await;
    }
    if !matches!(step, Step::Start(_) | Step::Cancel(_)) {
        pass.leave_queue();
    }
    match step {
        Step::Rest => Ok(pass.rest()),
        Step::Acknowledge => pass.acknowledge().await,
        Step::Refuse(why) => pass.refuse(&why).await,
        Step::Reopen => pass.reopen().await,
        Step::AwaitReference => pass.await_reference().await,
        Step::AddFinalizer => pass.add_finalizer().await,
        Step::TakeOver(request) => pass.take_over(*request).await,
        Step::Start(request) => pass.start(*request).await,
        Step::Save(submission) => pass.save(*submission, observation.as_ref()).await,
        Step::Observe(submitted) => pass.observe(&submitted, observation.as_ref()).await,
        Step::Cancel(submitted) => pass.cancel(&submitted).await,
        Step::AwaitEnd(submitted) => pass.await_end(&submitted, observation.as_ref()).await,
        Step::Find(virtual_cluster_id) => pass.find(&virtual_cluster_id).await,
        Step::Release => pass.release().await,
    }
}

/// Resolves what the run refers to, and registers a run that has to wait.
fn resolve(run: &JobRun, context: &Context) -> Target {
    let find = |namespace: &str, name: &str| context.cluster_scopes.get(namespace, name);
    let mut virtual_cluster = target::virtual_cluster(run, find);
    if let ClusterTarget::Waiting { .. } = virtual_cluster {
        let namespace = run.namespace().unwrap_or_default();
        let reference = run.spec.virtual_cluster_ref.as_ref();
        if let Some(cluster) = reference.and_then(|reference| reference.target(&namespace)) {
            context.waiters.add(cluster, (&namespace, &run.name_any()));
            // The cluster may have become ready before the run was registered.
            virtual_cluster = target::virtual_cluster(run, find);
        }
    }
    Target { virtual_cluster, default_tags: tags::expand(&context.settings.resource_tags, run) }
}

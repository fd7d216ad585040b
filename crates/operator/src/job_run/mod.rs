//! The kind JobRun: observe, plan, act, report.
//!
//! This file makes one step of a pass; [`plan`] decides, [`act`] makes the one call, [`report`] writes what came
//! of it. Invariant: every step ends in a write, a call, or the end of the pass.

pub mod act;
mod adopt;
pub mod adoption;
pub mod destination;
mod end;
mod find;
mod hand_over;
pub mod likeness;
#[cfg(test)]
mod model_tests;
pub mod overrides;
pub mod plan;
#[cfg(test)]
mod plan_ask_tests;
#[cfg(test)]
mod plan_tests;
pub mod report;
pub mod request;
#[cfg(test)]
mod request_tests;
mod retag;
pub mod role;
mod shadow;
mod start;
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

use crate::adoption::Adopted;
use crate::context::Context;
use crate::decode::Assembled;
use crate::emr::poll::Observation;
use crate::memory::{Memories, Memory};
use crate::metrics::RunState;
use crate::pass::{PassError, Progress, Reconciled};
use crate::scope::decide::{Acting, Withheld};
use crate::tags;
use crate::watch::{Watched, prune_metadata};
use crate::write::Kind;
use destination::Destination;
use plan::{Step, View};
use target::{ClusterTarget, Reach, RoleTarget, Target};

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
            // It is never submitted again: what it was submitted with is of no more use to us, but for what can be changed.
            self.spec.configuration_overrides = None;
            self.spec.overrides = None;
            self.spec.job_driver = None;
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
        let is_worked_on = context.settings.worked_on.includes(Self::KIND);
        context.job_run_scopes.get(namespace, name).filter(|_| is_worked_on)
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
    let is_submitted = context.job_runs.get(&uid).submission.is_some();
    let target = resolve(run, is_submitted, context).await?;
    // Not before what has to be waited for: another pass may have started the run meanwhile, if the object has gone.
    let memory = context.job_runs.get(&uid);
    let observation = context.poller.observed(&uid);
    let (step, acting) = decide(run, &memory, observation.as_ref(), &target, context);
    let (acting, withheld) = match acting {
        Ok(acting) => (acting, None),
        Err(withheld) => (Acting::nobody(&context.home), Some(withheld)),
    };
    let Acting { scope, told } = &acting;
    let pass = act::Pass { run, uid: &uid, target: &target, scope, told, context };
    if let Some(withheld) = withheld {
        return pass.withhold(&withheld).await;
    }
    if !matches!(step, Step::Start(_) | Step::Cancel(_)) {
        pass.leave_queue();
    }
    perform(&pass, step, observation.as_ref()).await
}

/// The next step, and who takes it.
fn decide(
    run: &JobRun,
    memory: &Memory<JobRun>,
    observation: Option<&Observation>,
    target: &Target,
    context: &Context,
) -> (Step, Result<Acting, Withheld>) {
    let tried = Destination::tried(run, memory);
    let tried_at = tried.as_ref().map(Destination::place);
    let saved_at = run.status.as_ref().and_then(|status| status.ack_resource_metadata.as_ref());
    let place = saved_at.or(tried_at.as_ref());
    let acting = context.acting(run, place, false);
    let step = plan::plan(&View {
        run,
        memory,
        observation,
        target,
        retain: context.retain(run),
        read_only: context.is_read_only(run),
        adoption: context.adoption(),
        scope: acting.as_ref().ok().map(|acting| &acting.scope),
        tried: tried.as_ref(),
        elsewhere: acting.as_ref().is_ok_and(|acting| acting.told.drift.is_some()),
    });
    match (acting, tried) {
        (Err(_), _) if step.is_idle() => {
            let acting = context.acting(run, place, true);
            (step, acting)
        }
        (Err(Withheld::Unfit(why)), Some(tried)) => (step, Err(Withheld::Unfit(tried.explain(&why)))),
        (Err(Withheld::NoRole(why)), Some(tried)) => (step, Err(Withheld::NoRole(tried.explain(&why)))),
        (acting, _) => (step, acting),
    }
}

/// Makes the one call that the step names.
async fn perform(
    pass: &act::Pass<'_>,
    step: Step,
    observation: Option<&Observation>,
) -> Result<Progress<JobRun>, PassError> {
    match step {
        Step::Rest => Ok(pass.rest()),
        Step::Acknowledge => pass.acknowledge().await,
        Step::Refuse(why) => pass.refuse(&why).await,
        Step::Misask(why) => pass.misasked(&why).await,
        Step::Adopt(existing, otherwise) => match pass.adopt(&existing, otherwise.map(|step| *step)).await {
            Adopted::Progress(progress) => progress,
            Adopted::Otherwise(step) => Box::pin(perform(pass, step, observation)).await,
        },
        Step::Look(virtual_cluster_id) => pass.look(&virtual_cluster_id).await,
        Step::Missing => pass.missing_read_only().await,
        Step::Reopen => pass.reopen().await,
        Step::AwaitReference => pass.await_reference().await,
        Step::AddFinalizer(destination) | Step::RestoreFinalizer(destination) => {
            pass.add_finalizer(destination.as_ref()).await
        }
        Step::TakeOver(virtual_cluster_id) => pass.take_over(&virtual_cluster_id, true).await,
        Step::RuleOut(virtual_cluster_id) => pass.take_over(&virtual_cluster_id, false).await,
        Step::Start(request) => pass.start(*request).await,
        Step::Save(submission) => pass.save(*submission, observation).await,
        Step::Observe(submitted) => pass.observe(&submitted, observation).await,
        Step::Retag(submitted) => pass.retag(&submitted, observation).await,
        Step::Cancel(submitted) => pass.cancel(&submitted).await,
        Step::AwaitEnd(submitted) => pass.await_end(&submitted, observation).await,
        Step::Find(virtual_cluster_id) => pass.find(&virtual_cluster_id).await,
        Step::Release => pass.release().await,
    }
}

/// Resolves what a run refers to.
async fn resolve(run: &JobRun, is_submitted: bool, context: &Context) -> Result<Target, PassError> {
    Ok(Target {
        virtual_cluster: resolve_cluster(run, context),
        execution_role: resolve_role(run, is_submitted, context).await?,
        default_tags: tags::expand(&context.settings.resource_tags, run),
    })
}

/// Resolves the virtual cluster, and registers a run that has to wait for it.
fn resolve_cluster(run: &JobRun, context: &Context) -> ClusterTarget {
    let reach = Reach {
        cross_namespace: context.settings.cross_namespace,
        sees: &|namespace| context.cluster_scopes.sees(namespace),
        find: &|namespace, name| context.cluster_scopes.get(namespace, name),
    };
    let found = target::virtual_cluster(run, &reach);
    if matches!(found, ClusterTarget::Waiting { .. }) && plan::needs_cluster(run) {
        let namespace = run.namespace().unwrap_or_default();
        let reference = run.spec.virtual_cluster_ref.as_ref();
        if let Some(cluster) = reference.and_then(|reference| reference.target(&namespace)) {
            context.waiters.add(cluster, (&namespace, &run.name_any()));
            // The cluster may have become ready before the run was registered.
            return target::virtual_cluster(run, &reach);
        }
    }
    found
}

/// Resolves the role, which is looked up only for a run that is still to be started.
async fn resolve_role(run: &JobRun, is_submitted: bool, context: &Context) -> Result<RoleTarget, PassError> {
    let said = target::execution_role(run, context.settings.cross_namespace);
    match &said {
        RoleTarget::Referred { namespace, name } if plan::is_to_be_started(run) && !is_submitted => {
            let answer = context.roles.get(namespace, name).await?;
            Ok(target::judge_role(namespace, name, &answer))
        }
        _ => Ok(said),
    }
}

//! Decides the next step for a JobRun. Pure: no I/O, no clock.
//!
//! Invariants: a status with a final state and no id means that no job was started; a run that may have been submitted is
//! never submitted with another token; a final state is never left; the finalizer goes on before the run is submitted and
//! comes off only when no live job can belong to the object.

use emrcontainers_api::job_run::{self, JobRun};
use emrcontainers_api::{JOB_RUN_FINALIZER, annotations};
use kube::ResourceExt;

use super::adoption::{Existing, existing};
use super::destination::Destination;
use super::request::{self, Unfit};
use super::status::Submission;
use super::target::{ClusterTarget, Target};
use crate::adoption;
use crate::emr::model::StartJobRun;
use crate::emr::poll::Observation;
use crate::emr::pool::Scope;
use crate::memory::Memory;

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub struct View<'a> {
    /// The object, as fresh as we know it.
    pub run: &'a JobRun,
    /// What this process did for the object and may not have read back yet.
    pub memory: &'a Memory<JobRun>,
    /// What the service said of the run last.
    pub observation: Option<&'a Observation>,
    /// The virtual cluster, the role and the tags that the run resolves to.
    pub target: &'a Target,
    /// Whether the run outlives the object.
    pub retain: bool,
    /// Whether nothing may be changed at AWS.
    pub read_only: bool,
    /// Whether annotations may ask to take a run over.
    pub adoption: bool,
    /// Who acts, and where; nobody may, if there is none.
    pub scope: Option<&'a Scope>,
    /// Where the run may have been started before its status has an id.
    pub tried: Option<&'a Destination>,
    /// Whether the object asks for another region than that.
    pub elsewhere: bool,
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing is to be done until the object changes.
    Rest,
    /// The status answers an older generation; nothing else is to be done.
    Acknowledge,
    /// The run can't be submitted as it is described.
    Refuse(String),
    /// The annotations ask for what can't be done.
    Misask(String),
    /// The object names a run: take it over, or else do that.
    Adopt(Box<Existing>, Option<Box<Step>>),
    /// No run may be started, but one may have been: look for it in this virtual cluster.
    Look(String),
    /// No run may be started, and none is known.
    Missing,
    /// The run was refused and is to be tried again: say that it isn't over, before anything is started.
    Reopen,
    /// A reference isn't ready.
    AwaitReference,
    /// The run may be submitted once the finalizer is there, and the object says where.
    AddFinalizer(Option<Destination>),
    /// The run lives and the finalizer is gone: put it back, or the deletion of the object leaves the job behind.
    RestoreFinalizer(Option<Destination>),
    /// The run may have been submitted before: look for it in this virtual cluster, and take it over. If it isn't
    /// listed, the same start is made there again with the same token.
    TakeOver(String),
    /// The same, where no such start follows: what lists may lack has to be waited for.
    RuleOut(String),
    /// Submit the run.
    Start(Box<StartJobRun>),
    /// Save the id that the service gave: nothing else comes before it.
    Save(Box<Submission>),
    /// Watch the run, and report what the service says of it.
    Observe(Submitted),
    /// The same, after making its tags those of the spec, which was edited.
    Retag(Submitted),
    /// The object goes and the run lives: cancel it.
    Cancel(Submitted),
    /// The object goes and its run is ending: wait for the end, and tell it.
    AwaitEnd(Submitted),
    /// The object goes, and its run may have been submitted before: look for it in this virtual cluster.
    Find(String),
    /// No live run can belong to the object: let it go.
    Release,
}

/// A run that the service has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Id of the run.
    pub id: String,
    /// The virtual cluster it is in.
    pub virtual_cluster_id: String,
}

impl Step {
    /// Whether it takes no call: what is let go or written down doesn't need anybody who may act.
    pub(super) fn is_idle(&self) -> bool {
        matches!(
            self,
            Self::Rest
                | Self::Acknowledge
                | Self::Misask(_)
                | Self::Missing
                | Self::RestoreFinalizer(_)
                | Self::Save(_)
                | Self::Release
        )
    }
}

/// The next step. That of a read-only object changes nothing at AWS.
pub fn plan(view: &View<'_>) -> Step {
    let run = view.run;
    if let Some(submission) = &view.memory.submission
        && run.status.as_ref().is_none_or(|status| status.id.is_none())
    {
        if has_finalizer(run) {
            return Step::Save(submission.clone());
        }
        if run.metadata.deletion_timestamp.is_none() && !view.read_only {
            // Replaced before its id was saved.
            let place = &submission.place;
            return Step::RestoreFinalizer(Some(Destination::at(place, &submission.virtual_cluster_id)));
        }
    }
    if run.metadata.deletion_timestamp.is_some() {
        return plan_deletion(view);
    }
    if settled(run) {
        return Step::Rest;
    }
    if let Some(submitted) = submitted(view) {
        return if has_final_state(run) {
            Step::Acknowledge
        } else if !has_finalizer(run) && !view.read_only {
            // Whoever replaces the object with its manifest takes it off.
            Step::RestoreFinalizer(Destination::saved(run, &submitted.virtual_cluster_id))
        } else if tags_are_due(run) && !view.read_only && !has_ended(view.observation) {
            Step::Retag(submitted)
        } else {
            Step::Observe(submitted)
        };
    }
    if run.status.as_ref().is_some_and(|status| status.id.is_some()) {
        return submitted_somewhere(view);
    }
    match adoption(view) {
        Ok(None) => unadopted(view),
        Ok(Some((existing, or_create))) => {
            let otherwise = or_create.then(|| Box::new(unadopted(view)));
            Step::Adopt(Box::new(existing), otherwise)
        }
        Err(Unfit::Invalid(why)) => Step::Misask(why),
        Err(Unfit::Waiting) => Step::AwaitReference,
    }
}

/// The run that the object asks to take over, and whether one is started if there is none.
fn adoption(view: &View<'_>) -> Result<Option<(Existing, bool)>, Unfit> {
    let asked =
        if view.adoption { adoption::asked(view.run, request::is_managed(view.run)) } else { Ok(None) };
    let Some(asked) = asked.map_err(Unfit::Invalid)? else { return Ok(None) };
    Ok(Some((existing(&asked.fields, view.target)?, asked.or_create)))
}

/// The next step for a run without an id that doesn't ask for another's.
fn unadopted(view: &View<'_>) -> Step {
    let run = view.run;
    if view.read_only {
        let looked = view.memory.never_started || view.memory.sought || !has_finalizer(run);
        return match whereabouts(view).filter(|_| !looked) {
            Some(id) => Step::Look(id),
            None => Step::Missing,
        };
    }
    if has_final_state(run) {
        return Step::Reopen;
    }
    // With our finalizer and without an id: an earlier process may have submitted the run, or this one without an answer, or
    // it was in a life before a restore.
    let may_exist = has_finalizer(run) && !view.memory.is_unstarted();
    match request::build(run, view.target) {
        // Its job may run, whatever became of its spec and of what it refers to since.
        Err(why) => match (whereabouts(view).filter(|_| may_exist), why) {
            (Some(id), _) => Step::RuleOut(id),
            (None, Unfit::Invalid(why)) => Step::Refuse(why),
            (None, Unfit::Waiting) => Step::AwaitReference,
        },
        Ok(request) if may_exist => existing_or_again(view, request),
        Ok(request) => {
            let here = view.scope.map(|scope| Destination::new(scope, &request.virtual_cluster_id));
            let is_said = has_finalizer(run) && here.is_some() && Destination::of(run) == here;
            if is_said { Step::Start(Box::new(request)) } else { Step::AddFinalizer(here) }
        }
    }
}

/// The next step for a run that may be submitted, and may have been before.
fn existing_or_again(view: &View<'_>, request: StartJobRun) -> Step {
    let run = view.run;
    match view.tried {
        Some(tried) if view.elsewhere || tried.virtual_cluster_id != request.virtual_cluster_id => {
            Step::RuleOut(tried.virtual_cluster_id.clone())
        }
        // Its token may be another: upstream's is forgotten, and the number of a restored one went with the status.
        _ if !view.memory.sought && (request::is_restored(run) || !request::is_managed(run)) => {
            Step::RuleOut(request.virtual_cluster_id)
        }
        _ if !view.memory.sought => Step::TakeOver(request.virtual_cluster_id),
        _ => Step::Start(Box::new(request)),
    }
}

/// The virtual cluster that a run without an id would be in, if there is one.
fn whereabouts(view: &View<'_>) -> Option<String> {
    let tried = view.tried.map(|tried| tried.virtual_cluster_id.as_str());
    tried.or_else(|| view.target.virtual_cluster.id()).map(str::to_owned)
}

/// A run that has an id, and where it is can't be told: with its reference it may be, and until then it is neither
/// refused nor submitted.
fn submitted_somewhere(view: &View<'_>) -> Step {
    match view.target.virtual_cluster {
        _ if has_final_state(view.run) => Step::Acknowledge,
        ClusterTarget::Waiting { .. } => Step::AwaitReference,
        ClusterTarget::Given(_) | ClusterTarget::Resolved(_) | ClusterTarget::Invalid(_) => Step::Rest,
    }
}

fn plan_deletion(view: &View<'_>) -> Step {
    let run = view.run;
    if !has_finalizer(run) {
        return Step::Rest;
    }
    if view.retain || view.read_only || has_final_state(run) {
        return Step::Release;
    }
    let Some(submitted) = submitted(view) else {
        // With our finalizer and without an id: this process knows that it never submitted the run, or it has to look.
        if view.memory.never_started {
            return Step::Release;
        }
        if adoption::is_adopted(run)
            && let Ok(Some((existing, _))) = adoption(view)
        {
            return Step::Adopt(Box::new(existing), Some(Box::new(Step::Release)));
        }
        return whereabouts(view).map_or(Step::Release, Step::Find);
    };
    match view.observation {
        Some(Observation::Gone) => Step::Release,
        // Whoever watches the object sees how the run ended; with that in the status it is released.
        Some(Observation::Run(seen)) if job_run::is_final(&seen.state) => Step::AwaitEnd(submitted),
        observation => {
            let cancelling = view.memory.cancel_asked
                || current_state(run) == Some(job_run::CANCEL_PENDING)
                || matches!(observation, Some(Observation::Run(s)) if s.state == job_run::CANCEL_PENDING);
            if cancelling { Step::AwaitEnd(submitted) } else { Step::Cancel(submitted) }
        }
    }
}

/// Whether nothing will ever have to be done for the object as it is now: such an object never enters the queue.
pub fn settled(run: &JobRun) -> bool {
    let Some(status) = &run.status else { return false };
    run.metadata.deletion_timestamp.is_none()
        && has_final_state(run)
        && status.observed_generation.is_none_or(|seen| Some(seen) == run.metadata.generation)
        && (status.id.is_some()
            || !asks_again(retry(run), status.last_handled_retry.as_deref()) && !asks_for_a_run(run))
}

/// Whether the spec of a live run was edited since its status answered it. Its tags are the one thing that AWS can change
/// of a run. A status of upstream's answers no generation: it was made of the spec as it is.
pub fn tags_are_due(run: &JobRun) -> bool {
    let answered =
        run.status.as_ref().filter(|status| status.id.is_some()).and_then(|s| s.observed_generation);
    answered.is_some_and(|answered| Some(answered) != run.metadata.generation)
        && run.metadata.deletion_timestamp.is_none()
        && !has_final_state(run)
}

/// Whether the run is still to be started, as far as the object tells.
pub fn is_to_be_started(run: &JobRun) -> bool {
    run.metadata.deletion_timestamp.is_none() && run.status.as_ref().is_none_or(|status| status.id.is_none())
}

/// Whether nothing is done for the run until its virtual cluster is known: it is still to be started, or where it is isn't
/// known otherwise.
pub fn needs_cluster(run: &JobRun) -> bool {
    is_to_be_started(run) || run.metadata.deletion_timestamp.is_none() && virtual_cluster_of(run).is_none()
}

fn has_ended(observation: Option<&Observation>) -> bool {
    match observation {
        Some(Observation::Run(seen)) => job_run::is_final(&seen.state),
        Some(Observation::Gone) => true,
        None => false,
    }
}

/// Whether a retry annotation has a value that wasn't answered yet; taking it away asks for nothing.
pub fn asks_again(annotation: Option<&str>, answered: Option<&str>) -> bool {
    annotation.is_some() && annotation != answered
}

/// Whether annotations ask for a run that exists, or try to.
fn asks_for_a_run(run: &JobRun) -> bool {
    adoption::asked(run, request::is_managed(run)) != Ok(None)
}

/// Whether a live job may belong to the object, as far as the object tells.
pub fn may_be_live(run: &JobRun) -> bool {
    has_finalizer(run) && !has_final_state(run)
}

/// The value of the retry annotation.
pub fn retry(run: &JobRun) -> Option<&str> {
    run.annotations().get(annotations::RETRY).map(String::as_str)
}

/// Whether our finalizer is on.
pub fn has_finalizer(run: &JobRun) -> bool {
    run.finalizers().iter().any(|name| name == JOB_RUN_FINALIZER)
}

fn current_state(run: &JobRun) -> Option<&str> {
    run.status.as_ref()?.state.as_deref()
}

fn has_final_state(run: &JobRun) -> bool {
    current_state(run).is_some_and(job_run::is_final)
}

/// The run that the service has accepted.
fn submitted(view: &View<'_>) -> Option<Submitted> {
    let id = view.run.status.as_ref()?.id.clone()?;
    let virtual_cluster_id = virtual_cluster_of(view.run).or_else(|| view.target.virtual_cluster.id())?;
    Some(Submitted { id, virtual_cluster_id: virtual_cluster_id.to_owned() })
}

/// The virtual cluster that a submitted run is in. Upstream saves none, but the run's ARN names it.
pub fn virtual_cluster_of(run: &JobRun) -> Option<&str> {
    let status = run.status.as_ref()?;
    let from_arn = || {
        let arn = status.ack_resource_metadata.as_ref()?.arn.as_deref()?;
        let (_, rest) = arn.split_once("/virtualclusters/")?;
        rest.split('/').next()
    };
    let given = [status.virtual_cluster_id.as_deref(), from_arn(), run.spec.virtual_cluster_id.as_deref()];
    given.into_iter().flatten().find(|id| !id.is_empty())
}

//! Writes what came of a step: the status if it differs, and an event if the state has moved.
//!
//! Must not decide anything. Invariant: at most one status write a step, none for an equal status.

use std::sync::Arc;

use emrcontainers_api::condition;
use emrcontainers_api::job_run::{self, JobRun, JobRunStatus};
use kube::Resource;

use super::plan;
use super::status::{self, Manner, Situation, Submission, Tags};
use crate::adoption::is_adopted;
use crate::context::Context;
use crate::emr::error::is_denial;
use crate::emr::poll::Observed;
use crate::event::{EventType, reason};
use crate::metrics::Kind;
use crate::pass::PassError;
use crate::write::{self, Written};

/// What became of a report.
pub enum Reported {
    /// The status says so now, or did already.
    Said(Arc<JobRun>),
    /// Somebody wrote in between: plan anew on this object.
    Conflict(Arc<JobRun>),
    /// The object is gone.
    Gone,
}

/// What is known of the tags of a run that nothing was sent for.
pub fn tags_of(run: &JobRun) -> Tags<'static> {
    if plan::tags_are_due(run) { Tags::Due } else { Tags::Sent }
}

/// Reports a situation.
pub async fn report(
    run: &Arc<JobRun>,
    situation: &Situation<'_>,
    manner: Manner<'_>,
    context: &Context,
) -> Result<Reported, PassError> {
    let next = status::next(run, situation, manner);
    if run.status.as_ref() == Some(&next) {
        // The status has nothing new to say, but the call has failed once more: that is counted.
        if matches!(situation, Situation::Trouble(_)) {
            tell(run, Some(&next), situation, context);
        }
        return Ok(Reported::Said(Arc::clone(run)));
    }
    let mut changed = JobRun::clone(run);
    changed.status = Some(next);
    match write::status(&context.writer, &changed).await? {
        Written::Done(written) => {
            context.metrics.status_written(Kind::JobRun);
            context.job_runs.wrote(&written);
            tell(run, written.status.as_ref(), situation, context);
            if let Tags::Failed(why) = manner.tags {
                tell_of_trouble(run, why, context);
            }
            Ok(Reported::Said(written))
        }
        Written::Conflict(newer) => {
            context.job_runs.wrote(&newer);
            Ok(Reported::Conflict(newer))
        }
        Written::Gone => Ok(Reported::Gone),
    }
}

/// Publishes the event that belongs to a status change.
fn tell(run: &JobRun, after: Option<&JobRunStatus>, situation: &Situation<'_>, context: &Context) {
    let Some(after) = after else { return };
    let (type_, reason, note) = match situation {
        Situation::Reference { why, .. } => {
            (EventType::Normal, reason::WAITING_FOR_REFERENCE, (*why).to_owned())
        }
        // That it waits is an event; where it stands meanwhile is not.
        Situation::Waiting { reason, .. } if waits_already(run, reason) => return,
        Situation::Waiting { reason, message } => (EventType::Normal, *reason, (*message).to_owned()),
        Situation::NoRole(why) => {
            (EventType::Warning, reason::ROLE_NOT_AVAILABLE, format!("{}: {why}", condition::NO_ROLE_MESSAGE))
        }
        Situation::Trouble(message) => return tell_of_trouble(run, message, context),
        Situation::Refused(why) => {
            (EventType::Warning, reason::REFUSED, format!("{why}; {}", status::REFUSED_REMEDY))
        }
        Situation::Misasked(why) => (EventType::Warning, reason::REFUSED, (*why).to_owned()),
        Situation::Lost => (EventType::Warning, reason::NOT_FOUND, message(after)),
        Situation::Submitted(submission, seen) => {
            let Submission { id, virtual_cluster_id: cluster, found, .. } = submission;
            if found.is_some() && is_adopted(run) {
                let note = format!("job run {id} in virtual cluster {cluster} was adopted");
                (EventType::Normal, reason::ADOPTED, note)
            } else if found.is_some() {
                let note = format!(
                    "job run {id} in virtual cluster {cluster} was started for this object before: it is taken over, and none is \
                     started"
                );
                (EventType::Normal, reason::TAKEN_OVER, note)
            } else {
                let note = format!("job run {id} was submitted to virtual cluster {cluster}");
                context.events.publish(&run.object_ref(&()), EventType::Normal, reason::SUBMITTED, &note);
                if let Some(seen) = seen {
                    tell_of_state(run, Some(job_run::PENDING), after, seen, context);
                }
                return;
            }
        }
        Situation::CancelAsked => (
            EventType::Normal,
            reason::CANCEL_REQUESTED,
            "the object is being deleted: its job run is cancelled".to_owned(),
        ),
        Situation::Acknowledged => return,
        Situation::Observed(seen) => {
            let before = run.status.as_ref().and_then(|status| status.state.as_deref());
            return tell_of_state(run, before, after, seen, context);
        }
    };
    context.events.publish(&run.object_ref(&()), type_, reason, &note);
}

fn tell_of_trouble(run: &JobRun, message: &str, context: &Context) {
    let denied = is_denial(message) || message.contains("AccessDenied");
    let reason = if denied { reason::ACCESS_DENIED } else { reason::RETRYING };
    context.events.publish(&run.object_ref(&()), EventType::Warning, reason, message);
}

/// Publishes the event of a state that is another than before, and takes the measure of an end.
fn tell_of_state(
    run: &JobRun,
    before: Option<&str>,
    after: &JobRunStatus,
    seen: &Observed,
    context: &Context,
) {
    let state = after.state.as_deref().unwrap_or_default();
    if before != Some(state) {
        let (type_, reason) = of_state(state);
        context.events.publish(&run.object_ref(&()), type_, reason, &message(after));
    }
    if job_run::is_final(&seen.state)
        && let Some(finished_at) = seen.finished_at
    {
        let lag = context.now().duration_since(finished_at);
        context.metrics.state_lag(lag.unsigned_abs());
        tracing::info!(state = seen.state, id = after.id.as_deref().unwrap_or_default(), "job run ended");
    }
}

fn waits_already(run: &JobRun, reason: &str) -> bool {
    let ready = run.status.as_ref().and_then(|status| condition::find(&status.conditions, condition::READY));
    ready.is_some_and(|ready| ready.reason.as_deref() == Some(reason))
}

/// What `Ready` says.
fn message(status: &JobRunStatus) -> String {
    let ready = condition::find(&status.conditions, condition::READY);
    ready.and_then(|ready| ready.message.clone()).unwrap_or_default()
}

fn of_state(state: &str) -> (EventType, &'static str) {
    match state {
        job_run::PENDING => (EventType::Normal, reason::PENDING),
        job_run::SUBMITTED => (EventType::Normal, reason::SUBMITTED_TO_CLUSTER),
        job_run::RUNNING => (EventType::Normal, reason::RUNNING),
        job_run::COMPLETED => (EventType::Normal, reason::COMPLETED),
        job_run::CANCEL_PENDING => (EventType::Normal, reason::CANCEL_PENDING),
        job_run::CANCELLED => (EventType::Warning, reason::CANCELLED),
        job_run::FAILED => (EventType::Warning, reason::FAILED),
        _ => (EventType::Normal, reason::STATE_CHANGED),
    }
}

//! Makes the calls of a deletion: cancel, wait for the end, let the object go.
//!
//! Must not decide what to do: `plan` does. Invariant: the finalizer comes off only when no live job can belong to the
//! object.

use emrcontainers_api::job_run::{CANCEL_PENDING, is_final};
use kube::Resource;

use super::act::{Pass, Result};
use super::plan::Submitted;
use super::report::Reported;
use super::status::Situation;
use crate::emr::error::Class;
use crate::emr::limit::{Grant, Kind as TurnKind, Turn};
use crate::emr::poll::Observation;
use crate::event::{EventType, reason};
use crate::pass::{Next, Progress};
use crate::timing;
use crate::write::{self, Written};

impl Pass<'_> {
    /// Cancels the run when its turn has come.
    pub async fn cancel(&self, submitted: &Submitted) -> Result {
        self.track(submitted);
        match self.ask_for_turn(TurnKind::Cancel, false) {
            Turn::Granted(grant) => self.cancel_with(grant, submitted).await,
            Turn::Queued(place) => self.await_turn(TurnKind::Cancel, place).await,
        }
    }

    async fn cancel_with(&self, grant: Grant, submitted: &Submitted) -> Result {
        let client = self.context.pool.client(self.scope);
        let Err(error) = client.cancel_job_run(grant, &submitted.virtual_cluster_id, &submitted.id).await
        else {
            self.context.job_runs.update(self.uid, |memory| memory.cancel_asked = true);
            return self.report_then(&Situation::CancelAsked, Next::Await).await;
        };
        match error.class {
            // It has ended, or is being cancelled: the poller tells which.
            Class::NotCancellable => {
                self.context.job_runs.update(self.uid, |memory| memory.cancel_asked = true);
                Ok(Progress::End(Next::Await))
            }
            Class::NotFound if self.is_new() => Ok(Progress::End(Next::After(timing::LISTS_LAG_CHECK))),
            Class::NotFound => self.release().await,
            Class::Throttled => Ok(Progress::End(Next::After(timing::AFTER_THROTTLE))),
            Class::Transient
            | Class::AccessDenied
            | Class::Retryable
            | Class::AlreadyTerminated
            | Class::NamespaceTaken
            | Class::Refused => self.trouble(&format!("the job run can't be cancelled: {error}")).await,
        }
    }

    /// Whether the service may not show the run everywhere yet: no list has shown it, and hasn't had the time to.
    fn is_new(&self) -> bool {
        let seen = self.run.status.as_ref().is_some_and(|status| status.created_at.is_some());
        !seen && self.context.poller.tracked_for(self.uid).is_some_and(|time| time < timing::LISTS_LAG)
    }

    /// Waits for the end of a run that is being cancelled, and tells it; the object is released after that.
    pub async fn await_end(&self, submitted: &Submitted, observation: Option<&Observation>) -> Result {
        if let Some(Observation::Run(seen)) = observation
            && is_final(&seen.state)
        {
            return Ok(match self.report(&Situation::Observed(seen)).await? {
                Reported::Said(run) | Reported::Conflict(run) => Progress::Again(run),
                Reported::Gone => self.rest(),
            });
        }
        self.track(submitted);
        if let Some(problem) = self.context.poller.problem(self.scope, &submitted.virtual_cluster_id) {
            return self.report_then(&Situation::Trouble(&problem), Next::Await).await;
        }
        match observation {
            // What was seen before the cancel took hold says nothing of it.
            Some(Observation::Run(seen)) if seen.state == CANCEL_PENDING => {
                self.report_then(&Situation::Observed(seen), Next::Await).await
            }
            Some(Observation::Run(_) | Observation::Gone) | None => self.acknowledge().await,
        }
    }

    /// Takes the finalizer off.
    pub async fn release(&self) -> Result {
        self.context.poller.untrack(self.uid);
        if self.context.retain(&**self.run) {
            let note = "the job run is left as it is, because the deletion policy is retain";
            self.context.events.publish(&self.run.object_ref(&()), EventType::Normal, reason::RETAINED, note);
        }
        match write::remove_finalizer(&self.context.writer, &**self.run).await? {
            Written::Done(released) => {
                self.context.job_runs.wrote(&released);
                Ok(Progress::End(Next::Await))
            }
            Written::Gone => Ok(Progress::End(Next::Await)),
            Written::Conflict(newer) => {
                self.context.job_runs.wrote(&newer);
                Ok(Progress::Again(newer))
            }
        }
    }
}

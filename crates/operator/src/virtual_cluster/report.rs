//! Writes what came of a step: the status if it differs, and an event if the state has moved.
//!
//! Must not decide anything. Invariant: at most one status write a step, none for an equal status.

use emrcontainers_api::condition;
use emrcontainers_api::virtual_cluster::{VirtualCluster, VirtualClusterStatus};
use kube::Resource;

use super::act::{Pass, Result};
use super::status::{self, Situation};
use crate::adoption::is_adopted;
use crate::emr::error::is_denial;
use crate::event::{EventType, reason};
use crate::metrics::Kind;
use crate::pass::{Next, Progress};
use crate::write::{self, Written};

impl Pass<'_> {
    /// Reports, and says when the next pass is.
    pub(super) async fn report_then(&self, situation: &Situation<'_>, next: Next) -> Result {
        Ok(match self.report(situation).await? {
            None | Some(Written::Done(_)) => Progress::End(next),
            Some(Written::Conflict(newer)) => Progress::Again(newer),
            Some(Written::Gone) => Progress::End(Next::Await),
        })
    }

    /// Writes the status if it differs; `None` if it doesn't.
    pub(super) async fn report(&self, situation: &Situation<'_>) -> Result<Option<Written<VirtualCluster>>> {
        let status = status::next(self.cluster, situation, self.told, self.context.now());
        if self.cluster.status.as_ref() == Some(&status) {
            return Ok(None);
        }
        let mut changed = VirtualCluster::clone(self.cluster);
        changed.status = Some(status);
        let written = write::status(&self.context.writer, &changed).await?;
        match &written {
            Written::Done(done) => {
                self.context.metrics.status_written(Kind::VirtualCluster);
                self.context.clusters.wrote(done);
                self.tell(done.status.as_ref(), situation);
            }
            Written::Conflict(newer) => self.context.clusters.wrote(newer),
            Written::Gone => {}
        }
        Ok(Some(written))
    }

    /// Publishes the event that belongs to a status change.
    fn tell(&self, after: Option<&VirtualClusterStatus>, situation: &Situation<'_>) {
        let before = self.cluster.status.as_ref();
        let state = |status: Option<&VirtualClusterStatus>| status.and_then(|status| status.state.clone());
        match situation {
            Situation::Trouble(message) | Situation::Unequal(_, message) if is_denial(message) => {
                self.event(EventType::Warning, reason::ACCESS_DENIED, message);
            }
            Situation::Trouble(message) | Situation::Unequal(_, message) => {
                self.event(EventType::Warning, reason::RETRYING, message);
            }
            Situation::NoRole(why) => {
                let note = format!("{}: {why}", condition::NO_ROLE_MESSAGE);
                self.event(EventType::Warning, reason::ROLE_NOT_AVAILABLE, &note);
            }
            Situation::Unfit(why) | Situation::Refused(why) | Situation::Misasked(why) => {
                self.event(EventType::Warning, reason::REFUSED, why);
            }
            Situation::Gone(why) => self.event(EventType::Warning, reason::NOT_FOUND, why),
            Situation::InUse(users) => {
                self.event(EventType::Warning, reason::WAITING_FOR_JOB_RUNS, &status::in_use(users));
            }
            Situation::DeleteAsked => {
                self.event(EventType::Normal, reason::DELETING, "the virtual cluster is being terminated");
            }
            Situation::Seen(seen)
                if before.and_then(|status| status.id.as_ref()).is_none() && is_adopted(&**self.cluster) =>
            {
                let note = format!("virtual cluster {} was adopted", seen.id);
                self.event(EventType::Normal, reason::ADOPTED, &note);
            }
            Situation::Seen(seen) if before.and_then(|status| status.id.as_ref()).is_none() => {
                let note = format!("virtual cluster {} was created", seen.id);
                self.event(EventType::Normal, reason::CREATED, &note);
            }
            Situation::Seen(seen) if state(before) != state(after) => {
                let note = format!("virtual cluster {} is {}", seen.id, seen.state);
                self.event(EventType::Normal, reason::STATE_CHANGED, &note);
            }
            Situation::Seen(_) | Situation::Reopened => {}
        }
    }

    pub(super) fn event(&self, type_: EventType, reason: &'static str, note: &str) {
        self.context.events.publish(&self.cluster.object_ref(&()), type_, reason, note);
    }
}

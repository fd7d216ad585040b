//! Writes what came of a step: the status if it differs, and an event with it.
//!
//! Must not decide anything, nor tell a value. Invariant: at most one status write a step, none for an equal status.

use emrcontainers_api::condition;
use emrcontainers_api::field_export::FieldExport;
use kube::Resource;

use super::act::{Pass, Result};
use super::status::{self, Situation};
use super::target::{Target, TargetError};
use crate::event::{EventType, reason};
use crate::metrics::Kind;
use crate::pass::{Next, Progress};
use crate::write::{self, Written};

impl Pass<'_> {
    /// Reports, and says when the next pass is.
    pub(super) async fn report_then(&self, situation: Situation<'_>, next: Next) -> Result {
        let status = status::next(self.export, situation, self.context.now());
        if self.export.status.as_ref() == Some(&status) {
            return Ok(Progress::End(next));
        }
        let mut changed = FieldExport::clone(self.export);
        changed.status = Some(status);
        Ok(match write::status(&self.context.writer, &changed).await? {
            Written::Done(done) => {
                self.context.metrics.status_written(Kind::FieldExport);
                self.context.exports.memories.wrote(&done);
                self.tell(situation);
                Progress::End(next)
            }
            Written::Conflict(newer) => {
                self.context.exports.memories.wrote(&newer);
                Progress::Again(newer)
            }
            Written::Gone => Progress::End(Next::Await),
        })
    }

    /// Says that the key may stay in a target.
    pub(super) fn tell_left(&self, target: &Target, error: &TargetError) {
        tracing::warn!(from = %target, %error, "the key of an export is left, since its target may not be written");
        let note = format!("{target} may keep the key: the operator's account may not take it out");
        self.context.events.publish(
            &self.export.object_ref(&()),
            EventType::Warning,
            reason::KEY_LEFT,
            &note,
        );
    }

    fn tell(&self, situation: Situation<'_>) {
        let (type_, reason, note) = match situation {
            Situation::Exported if self.was_exported() => return,
            Situation::Exported => {
                let target = Target::of(self.export);
                (EventType::Normal, reason::EXPORTED, format!("{target} has the value"))
            }
            Situation::Waiting(_) => return,
            Situation::Trouble(message) => (EventType::Warning, reason::RETRYING, message.to_owned()),
            Situation::Refused(message) => (EventType::Warning, reason::REFUSED, message.to_owned()),
        };
        self.context.events.publish(&self.export.object_ref(&()), type_, reason, &note);
    }

    fn was_exported(&self) -> bool {
        let before = self.export.status.as_ref();
        before.is_some_and(|status| condition::is_true(&status.conditions, condition::READY))
    }
}

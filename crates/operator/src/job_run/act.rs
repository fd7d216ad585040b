//! Makes the one call that a step names, and reports what came of it.
//!
//! Must not decide what to do: `plan` does. Invariant: an AWS error is classified by `emr` and only mapped here to one
//! of wait, tell and repeat, or refuse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use emrcontainers_api::job_run::{PENDING, is_final};
use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::{JobRun, annotations, condition};
use kube::ResourceExt;

use super::destination::Destination;
use super::plan::{self, Submitted};
use super::report::{Reported, report, tags_of};
use super::request;
use super::status::{Manner, Situation, Tags};
use super::target::Target;
use crate::context::Context;
use crate::emr::error::{Class, EmrError};
use crate::emr::limit::RunKey;
use crate::emr::poll::{Observation, Tracked};
use crate::emr::pool::Scope;
use crate::event::reason;
use crate::pass::{Next, PassError, Progress};
use crate::scope::decide::{Told, Withheld};
use crate::timing;
use crate::write::{self, Written};

pub(super) type Result = std::result::Result<Progress<JobRun>, PassError>;

/// One step of a pass over a run.
pub struct Pass<'a> {
    /// The object.
    pub run: &'a Arc<JobRun>,
    /// Its UID.
    pub uid: &'a str,
    /// What it refers to, resolved.
    pub target: &'a Target,
    /// Who acts, and where.
    pub scope: &'a Scope,
    /// What is told of who acts.
    pub told: &'a Told,
    /// Everything else.
    pub context: &'a Context,
}

impl Pass<'_> {
    /// Nothing is to be done: nothing of ours goes on for the object either.
    pub fn rest(&self) -> Progress<JobRun> {
        self.context.poller.untrack(self.uid);
        Progress::End(Next::Await)
    }

    /// Says that the status answers the newest generation.
    pub async fn acknowledge(&self) -> Result {
        self.report_then(&Situation::Acknowledged, Next::Await).await
    }

    /// Says why the run can't be submitted; nothing is repeated.
    pub async fn refuse(&self, why: &str) -> Result {
        self.report_then(&Situation::Refused(why), Next::Await).await
    }

    /// Says that a refused run is tried again. The status must not say FAILED while a start is under way: a run that
    /// was refused is released without a look for its job.
    pub async fn reopen(&self) -> Result {
        let message = "the run was refused before and is tried again";
        match self.report(&Situation::Waiting { reason: reason::RETRYING, message }).await? {
            Reported::Said(newer) => {
                // A run that was refused was not started, and its next try is the first with its token.
                self.context.job_runs.update(self.uid, |memory| {
                    memory.never_started = true;
                    (memory.unanswered, memory.repeated_since) = (None, None);
                });
                Ok(Progress::Again(newer))
            }
            Reported::Conflict(newer) => Ok(Progress::Again(newer)),
            Reported::Gone => Ok(self.rest()),
        }
    }

    /// Says why nobody may act for the run, and keeps no call for it; what it lacks wakes it.
    pub async fn withhold(&self, withheld: &Withheld) -> Result {
        self.leave_queue();
        let situation = match withheld {
            // It is known in a moment.
            Withheld::UnknownNamespace | Withheld::UnknownMap(_) => return Ok(Progress::End(Next::Await)),
            Withheld::NoRole(why) => Situation::NoRole(why),
            Withheld::Unfit(why) => Situation::Trouble(why),
        };
        self.context.poller.untrack(self.uid);
        self.report_then(&situation, Next::Await).await
    }

    /// Says what the run waits for. A virtual cluster wakes it; a role isn't watched, and is looked at again.
    pub async fn await_reference(&self) -> Result {
        let Some((status, why, has_to_be_looked_at)) = self.target.waits_for() else {
            return Ok(Progress::Again(Arc::clone(self.run)));
        };
        let next = if has_to_be_looked_at { Next::After(self.next_look_at_role()) } else { Next::Await };
        self.report_then(&Situation::Reference { status, why }, next).await
    }

    /// A quarter of the time that the run has waited, within bounds.
    fn next_look_at_role(&self) -> Duration {
        let (first, last) = timing::ROLE_CHECK;
        let conditions =
            self.run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let resolved = condition::find(conditions, condition::REFERENCES_RESOLVED);
        let since = resolved.and_then(|condition| condition.last_transition_time);
        let waited = since.map(|at| self.context.now().duration_since(at).unsigned_abs()).unwrap_or_default();
        (waited / 4).clamp(first, last)
    }

    /// Puts the finalizer on, says where the run is submitted to, and goes on with the object as it is then.
    pub async fn add_finalizer(&self, destination: Option<&Destination>) -> Result {
        let destination = destination.map(Destination::text);
        // The origin is not the object's word but ours: one that is made from another's manifest has that one's.
        let origin =
            if plan::has_finalizer(self.run) { request::origin(self.run) } else { self.uid.to_owned() };
        let mut said = BTreeMap::from([(annotations::ORIGIN, origin.as_str())]);
        said.extend(destination.as_deref().map(|text| (annotations::DESTINATION, text)));
        match write::add_finalizer(&self.context.writer, &**self.run, &said).await? {
            Written::Done(run) => {
                self.context.job_runs.wrote(&run);
                let is_new = run.status.as_ref().is_none_or(|status| status.id.is_none());
                self.context.job_runs.update(self.uid, |memory| {
                    let may_exist =
                        memory.sought || memory.unanswered.is_some() || memory.submission.is_some();
                    memory.never_started |= is_new && !may_exist;
                });
                Ok(Progress::Again(run))
            }
            Written::Conflict(newer) => {
                self.context.job_runs.wrote(&newer);
                Ok(Progress::Again(newer))
            }
            Written::Gone => Ok(self.rest()),
        }
    }

    /// Watches the run, and reports what the service says of it.
    pub async fn observe(&self, submitted: &Submitted, observation: Option<&Observation>) -> Result {
        self.observe_with(submitted, observation, tags_of(self.run), Next::Await).await
    }

    /// The same, with what became of its tags, and of when to look at them again.
    pub(super) async fn observe_with(
        &self,
        submitted: &Submitted,
        observation: Option<&Observation>,
        tags: Tags<'_>,
        next: Next,
    ) -> Result {
        let live = !matches!(observation, Some(Observation::Gone))
            && !matches!(observation, Some(Observation::Run(seen)) if is_final(&seen.state));
        let problem = live.then(|| {
            self.track(submitted);
            // Runs are woken when a problem comes and when it goes.
            self.context.poller.problem(self.scope, &submitted.virtual_cluster_id)
        });
        let problem = problem.flatten();
        let situation = match (&problem, observation) {
            (Some(problem), _) => Situation::Trouble(problem),
            // Nothing new, but the generation may have moved, or a problem may have gone.
            (None, None) => Situation::Acknowledged,
            (None, Some(Observation::Gone)) => Situation::Lost,
            (None, Some(Observation::Run(seen))) => Situation::Observed(seen),
        };
        self.report_with(&situation, tags, next).await
    }

    /// Tells of an error and tries again later; a throttle is only waited for.
    pub(super) async fn failed(&self, error: &EmrError) -> Result {
        match error.class {
            Class::Throttled => Ok(Progress::End(Next::After(timing::AFTER_THROTTLE))),
            _ => self.trouble(&error.to_string()).await,
        }
    }

    /// Says what is wrong, and tries again later each time.
    pub async fn trouble(&self, message: &str) -> Result {
        self.report_then(&Situation::Trouble(message), Next::Backoff).await
    }

    pub(super) async fn report(&self, situation: &Situation<'_>) -> std::result::Result<Reported, PassError> {
        report(self.run, situation, self.manner(tags_of(self.run)), self.context).await
    }

    fn manner<'m>(&'m self, tags: Tags<'m>) -> Manner<'m> {
        Manner {
            ready: self.context.settings.job_ready_policy,
            by_reference: self.target.by_reference(),
            cross_namespace: self.context.settings.cross_namespace,
            tags,
            told: self.told,
            now: self.context.now(),
        }
    }

    pub(super) async fn report_then(&self, situation: &Situation<'_>, next: Next) -> Result {
        self.report_with(situation, tags_of(self.run), next).await
    }

    async fn report_with(&self, situation: &Situation<'_>, tags: Tags<'_>, next: Next) -> Result {
        Ok(match report(self.run, situation, self.manner(tags), self.context).await? {
            Reported::Said(run) => {
                if plan::settled(&run) {
                    // Its end is written down: nothing of it stays in memory.
                    self.context.poller.untrack(self.uid);
                    self.context.job_runs.update(self.uid, |memory| memory.sought = false);
                }
                Progress::End(next)
            }
            Reported::Conflict(newer) => Progress::Again(newer),
            Reported::Gone => self.rest(),
        })
    }

    pub(super) fn track(&self, submitted: &Submitted) {
        let status = self.run.status.as_ref();
        let state = status.and_then(|status| status.state.clone());
        let created_at = status.and_then(|status| status.created_at);
        let tracked = Tracked {
            run_id: submitted.id.clone(),
            key: self.key(),
            // We wrote PENDING ourselves; with a time of creation it is the service's word.
            just_started: created_at.is_none() && state.as_deref() == Some(PENDING),
            state,
            created_at: created_at.or_else(|| self.run.creation_timestamp().map(|at| at.0)),
        };
        self.context.poller.track(self.scope, &submitted.virtual_cluster_id, tracked);
    }

    pub(super) fn key(&self) -> RunKey {
        RunKey::new(self.uid, &self.run.namespace().unwrap_or_default(), &self.run.name_any())
    }

    pub(super) fn place(&self, cluster: &str, id: &str, arn: Option<String>) -> AckResourceMetadata {
        let partition = &self.context.partition;
        let Scope { account, region, .. } = self.scope;
        let arn = arn.unwrap_or_else(|| {
            format!(
                "arn:{partition}:emr-containers:{region}:{account}:/virtualclusters/{cluster}/jobruns/{id}"
            )
        });
        AckResourceMetadata {
            arn: Some(arn),
            owner_account_id: account.clone(),
            partition: Some(partition.clone()),
            region: region.clone(),
        }
    }
}

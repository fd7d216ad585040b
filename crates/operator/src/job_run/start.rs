//! Submits a run, and saves the id that the service gives.
//!
//! Must not decide when: `plan` does. Invariant: a start of which it isn't known what became of it is remembered as
//! that, and a refusal is believed only when nothing can have been started before.

use std::sync::Arc;
use std::time::Instant;

use emrcontainers_api::JobRun;
use emrcontainers_api::job_run::PENDING;
use kube::ResourceExt;

use super::act::{Pass, Result};
use super::report::Reported;
use super::status::{Situation, Submission};
use super::target::ClusterTarget;
use crate::emr::error::{Class, EmrError};
use crate::emr::limit::{Kind as TurnKind, Turn};
use crate::emr::model::StartJobRun;
use crate::emr::poll::{Observation, Tracked};
use crate::memory::Memory;
use crate::pass::{Next, PassError, Progress, is_stored};
use crate::timing;
use crate::write::{self, Written};

impl Pass<'_> {
    /// Submits the run when its turn has come.
    pub async fn start(&self, request: StartJobRun) -> Result {
        let client = self.context.pool.client(self.scope);
        let before = self.context.job_runs.get(self.uid);
        if before.failures > 0
            && let Some(progress) = self.read_again().await?
        {
            return Ok(progress);
        }
        // AWS may have forgotten the token by now, and lists show what it stood for.
        if before.repeated_since.is_some_and(|since| since.elapsed() >= timing::TOKEN_TRUST) {
            self.context.job_runs.update(self.uid, |memory| memory.sought = false);
            return Ok(Progress::Again(Arc::clone(self.run)));
        }
        // Nothing is waited for between this and what is remembered of the start: who sees the object off looks there.
        if !is_stored(&**self.run, self.context) {
            return Ok(self.rest());
        }
        let grant = match self.ask_for_turn(TurnKind::Start, !before.never_started) {
            Turn::Granted(grant) => grant,
            Turn::Queued(place) => return self.await_turn(TurnKind::Start, place).await,
        };
        // From here on the run may exist, whatever comes back.
        self.context.job_runs.update(self.uid, |memory| {
            memory.never_started = false;
            memory.sought = true;
            // It has ended by then, also where the pass is given up.
            memory.unanswered = Some(Instant::now() + timing::STEP);
            memory.repeated_since = before.repeated_since.or_else(|| Some(Instant::now()));
        });
        let overrides = request.configuration_overrides.clone();
        let asked_for = request.virtual_cluster_id.clone();
        let created = match client.start_job_run(grant, request).await {
            Ok(created) => created,
            Err(error) => return self.not_started(&error, &before, &asked_for).await,
        };
        let virtual_cluster_id = created.virtual_cluster_id.unwrap_or(asked_for);
        let submission = Submission {
            place: self.place(&virtual_cluster_id, &created.id, created.arn),
            id: created.id,
            virtual_cluster_id,
            overrides,
            found: None,
            generation: self.generation_of_start(before.never_started),
            advice: None,
        };
        Ok(self.accepted(submission))
    }

    /// Reads the object again after a pass that failed. Its last write may have been done without an answer, and the
    /// watch may not have told of it yet: that the run was refused, say. Nothing is started on what is out of date.
    async fn read_again(&self) -> std::result::Result<Option<Progress<JobRun>>, PassError> {
        Ok(match write::newer(&self.context.writer, &**self.run).await? {
            Written::Done(_) => None,
            Written::Conflict(newer) => {
                self.context.job_runs.wrote(&newer);
                Some(Progress::Again(newer))
            }
            Written::Gone => Some(self.rest()),
        })
    }

    /// What follows from an error: an earlier try may have been accepted and its reply lost, and the service may refuse to
    /// repeat it.
    async fn not_started(
        &self,
        error: &EmrError,
        before: &Memory<JobRun>,
        virtual_cluster_id: &str,
    ) -> Result {
        let is_answered = error.proves_nothing_was_done();
        self.context.job_runs.update(self.uid, |memory| {
            memory.never_started = before.never_started && is_answered;
            if is_answered {
                (memory.unanswered, memory.repeated_since) = (before.unanswered, before.repeated_since);
            } else {
                memory.unanswered = Some(Instant::now());
            }
        });
        let may_exist = !(before.never_started && is_answered);
        if !may_exist || !self.is_for_good(error) {
            return self.start_failed(error).await;
        }
        let is_settled = self.lists_are_settled();
        match self.seek(virtual_cluster_id).await {
            Ok(Some(job)) => Ok(self.found(job, virtual_cluster_id)),
            Ok(None) if is_settled => self.start_failed(error).await,
            Ok(None) => Ok(Progress::End(Next::After(timing::LISTS_LAG_CHECK))),
            Err(error) => self.failed(&error).await,
        }
    }

    /// The generation whose tags a run has that was started now. A start that may have been made before, of an object that
    /// was edited, may have brought the run with the tags of back then.
    fn generation_of_start(&self, never_started: bool) -> Option<i64> {
        let generation = self.run.metadata.generation;
        if never_started || generation == Some(1) { generation } else { Some(0) }
    }

    /// Remembers the id that the service gave; it is saved in the next step, behind the starts of others.
    fn accepted(&self, submission: Submission) -> Progress<JobRun> {
        let created = self.run.creation_timestamp().map(|time| self.context.now().duration_since(time.0));
        self.context.metrics.submitted(created.map(jiff::SignedDuration::unsigned_abs).unwrap_or_default());
        tracing::info!(id = submission.id, "job run submitted");
        // What it does until its id is saved is seen, and is saved with it.
        let tracked = Tracked {
            run_id: submission.id.clone(),
            key: self.key(),
            just_started: true,
            state: Some(PENDING.to_owned()),
            created_at: None,
        };
        self.context.poller.track(self.scope, &submission.virtual_cluster_id, tracked);
        self.context.job_runs.update(self.uid, |memory| {
            memory.submission = Some(Box::new(submission));
            (memory.unanswered, memory.repeated_since) = (None, None);
        });
        Progress::Started
    }

    /// Whether a start that failed so is over. A cluster that was named by its id can't come back; one that is referred
    /// to is replaced by its object.
    fn is_for_good(&self, error: &EmrError) -> bool {
        let given = matches!(self.target.virtual_cluster, ClusterTarget::Given(_));
        error.class == Class::Refused || error.class == Class::NotFound && given
    }

    async fn start_failed(&self, error: &EmrError) -> Result {
        let message = error.to_string();
        match error.class {
            Class::Throttled => Ok(Progress::End(Next::After(timing::AFTER_THROTTLE))),
            Class::Refused => self.refuse(&message).await,
            Class::NotFound if self.is_for_good(error) => {
                let why =
                    format!("spec.virtualClusterID: {message}; give the id of a running virtual cluster");
                self.refuse(&why).await
            }
            Class::Transient
            | Class::NotFound
            | Class::AccessDenied
            | Class::Retryable
            | Class::NotCancellable
            | Class::AlreadyTerminated
            | Class::NamespaceTaken => self.report_then(&Situation::Trouble(&message), Next::Backoff).await,
        }
    }

    /// Saves the id that the service gave. It stays in memory until then: if the write fails, the call isn't repeated.
    pub async fn save(&self, submission: Submission, observation: Option<&Observation>) -> Result {
        let seen = match observation {
            Some(Observation::Run(seen)) => Some(seen),
            Some(Observation::Gone) | None => submission.found.as_ref(),
        };
        match self.report(&Situation::Submitted(&submission, seen)).await? {
            Reported::Said(run) => {
                self.context.job_runs.update(self.uid, |memory| {
                    memory.submission = None;
                    memory.sought = false;
                });
                Ok(Progress::Again(run))
            }
            Reported::Conflict(newer) => Ok(Progress::Again(newer)),
            Reported::Gone => Ok(self.rest()),
        }
    }
}

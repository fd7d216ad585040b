//! Looks for a run that was started for the object and isn't in its status: by a process that ended before it saved the
//! id, or in the object's life before a restore.
//!
//! Must not decide when to look: `plan` does. Invariant: only a run whose token was made for this object is taken over,
//! and nothing is started while the answer is out.

use std::sync::Arc;
use std::time::Instant;

use emrcontainers_api::JobRun;
use emrcontainers_api::job_run::{FAILED, is_final};
use kube::ResourceExt;

use super::act::{Pass, Result};
use super::hand_over::Sighting;
use super::plan;
use super::request;
use super::status::Submission;
use super::target::ClusterTarget;
use crate::emr::error::{Class, EmrError};
use crate::emr::model;
use crate::emr::poll::{Observed, Tracked};
use crate::pass::{Next, Progress};
use crate::timing;
use crate::virtual_cluster;

impl Pass<'_> {
    /// Takes over the run that was started before; if there is none, it may be started. `again`: what was started just now
    /// may not be listed yet, but its token is remembered for longer than lists lag, and the start is made again with it.
    pub async fn take_over(&self, virtual_cluster_id: &str, again: bool) -> Result {
        let is_settled = self.lists_are_settled();
        match self.sight(virtual_cluster_id, is_settled).await? {
            Sighting::Run(job) => Ok(self.found(*job, virtual_cluster_id)),
            Sighting::None if !again && !is_settled => {
                Ok(Progress::End(Next::After(timing::LISTS_LAG_CHECK)))
            }
            Sighting::None => Ok(self.sought(is_settled)),
            Sighting::Doubt(runs) => {
                let answered =
                    self.run.status.as_ref().and_then(|status| status.last_handled_retry.as_deref());
                // Somebody who knows better says that it is to be started.
                if plan::asks_again(plan::retry(self.run), answered) {
                    return Ok(self.sought(true));
                }
                self.doubt(&runs).await
            }
            // A virtual cluster that is gone, or never was, refuses the start in its own words.
            Sighting::Failed(error) if error.proves_no_run_in(virtual_cluster_id) => Ok(self.sought(true)),
            Sighting::Failed(error) if again && error.class == Class::Refused => Ok(self.sought(false)),
            Sighting::Failed(error) => self.failed(&error).await,
        }
    }

    /// Looks for the run of an object that goes.
    pub async fn find(&self, virtual_cluster_id: &str) -> Result {
        let is_settled = self.lists_are_settled();
        match self.sight(virtual_cluster_id, is_settled).await? {
            Sighting::Run(job) if is_final(&job.state) => self.release().await,
            Sighting::Run(job) => Ok(self.found(*job, virtual_cluster_id)),
            Sighting::None if !is_settled => Ok(Progress::End(Next::After(timing::LISTS_LAG_CHECK))),
            Sighting::None => self.release().await,
            Sighting::Doubt(runs) => {
                let live: Vec<_> = runs.into_iter().filter(|run| !is_final(&run.state)).collect();
                if live.is_empty() { self.release().await } else { self.doubt(&live).await }
            }
            // In a virtual cluster that isn't there, or whose id can't be one, nothing was ever started.
            Sighting::Failed(error) if error.proves_no_run_in(virtual_cluster_id) => self.release().await,
            Sighting::Failed(error) => self.failed(&error).await,
        }
    }

    /// Whether what lists don't show isn't there: nobody has asked for it just now, neither the process before nor this one.
    /// It speaks of lists that are asked for after it.
    pub(super) fn lists_are_settled(&self) -> bool {
        let unanswered = self.context.job_runs.get(self.uid).unanswered;
        self.context.lists_are_settled()
            && unanswered.is_none_or(|since| since.elapsed() >= timing::LISTS_LAG)
    }

    /// Since when a list tells what there is to tell: all, once lists are settled; until then as much as it can now.
    fn lists_tell_from(&self) -> Instant {
        let unanswered = self.context.job_runs.get(self.uid).unanswered;
        let asked = unanswered.into_iter().fold(self.context.started, Instant::max);
        let settled = asked + timing::LISTS_LAG;
        let now = Instant::now();
        if settled <= now {
            settled
        } else {
            asked.max(now.checked_sub(timing::LISTS_LAG_CHECK).unwrap_or(now))
        }
    }

    /// The newest run that was started for the object, if the service lists one.
    pub(super) async fn seek(
        &self,
        virtual_cluster_id: &str,
    ) -> std::result::Result<Option<model::JobRun>, EmrError> {
        let client = self.context.pool.client(self.scope);
        // The run of a restored object is older than the object, so that only its name keeps the list short.
        let restored = request::is_restored(self.run);
        let created = self.run.creation_timestamp().filter(|_| !restored);
        let created_after = created.and_then(|at| at.0.checked_sub(timing::CLOCK_SKEW).ok());
        let tokens = request::tokens(self.run);
        let is_ours = |run: &&model::JobRun| {
            run.client_token.as_deref().is_some_and(|token| token.starts_with(&tokens))
        };
        let from = self.lists_tell_from();
        let mut found: Option<model::JobRun> = None;
        let mut listed = Ok(());
        for name in request::names(self.run) {
            let of_name = (virtual_cluster_id, name.as_str());
            let lists = &self.context.name_lists;
            let list = lists.list(client.clone(), self.scope, of_name, created_after, from).await;
            for run in list.runs.iter().filter(is_ours) {
                if found.as_ref().is_none_or(|other| other.created_at < run.created_at) {
                    found = Some(run.clone());
                }
            }
            listed = listed.and(list.end.clone());
            // One that has the name of now is newer than any that was started before the spec had it.
            if found.is_some() {
                break;
            }
        }
        match found {
            // Lists may leave out why a run failed, and a run that has ended is never looked at again.
            Some(run) if run.state == FAILED && run.failure_reason.is_none() => {
                client.describe_job_run(virtual_cluster_id, &run.id).await.map(Some)
            }
            Some(run) => Ok(Some(run)),
            None => listed.map(|()| None),
        }
    }

    /// Remembers a run that was found; its id and its state are saved in the next step.
    pub(super) fn found(&self, job: model::JobRun, virtual_cluster_id: &str) -> Progress<JobRun> {
        self.found_with(job, virtual_cluster_id, None)
    }

    /// The same, with what is to be told of it.
    pub(super) fn found_with(
        &self,
        job: model::JobRun,
        virtual_cluster_id: &str,
        advice: Option<String>,
    ) -> Progress<JobRun> {
        tracing::info!(id = job.id, state = job.state, "job run found and taken over");
        let seen = Observed::of(&job);
        if !seen.has_ended() {
            let tracked = Tracked {
                run_id: job.id.clone(),
                key: self.key(),
                just_started: false,
                state: Some(job.state),
                created_at: job.created_at,
            };
            self.context.poller.track(self.scope, virtual_cluster_id, tracked);
        }
        // It may have the tags of a spec that was edited since: then its status answers none.
        let is_as_edited = self.tag_change(&job.tags).is_empty();
        let submission = Submission {
            generation: if is_as_edited { self.run.metadata.generation } else { Some(0) },
            place: self.place(virtual_cluster_id, &job.id, job.arn),
            id: job.id,
            virtual_cluster_id: virtual_cluster_id.to_owned(),
            overrides: request::read_overrides(self.run).ok().flatten(),
            found: Some(seen),
            advice,
        };
        self.context.job_runs.update(self.uid, |memory| {
            memory.submission = Some(Box::new(submission));
            (memory.unanswered, memory.repeated_since) = (None, None);
        });
        Progress::Started
    }

    /// Nothing was started before, as far as lists show or for certain: go on.
    fn sought(&self, is_certain: bool) -> Progress<JobRun> {
        self.context.job_runs.update(self.uid, |memory| {
            memory.sought = true;
            let now = Instant::now();
            memory.unanswered = if is_certain { None } else { Some(memory.unanswered.unwrap_or(now)) };
            memory.repeated_since = memory.unanswered.and(Some(now));
        });
        // A cluster that goes waits for those that may have been started in it.
        if is_certain && matches!(self.target.virtual_cluster, ClusterTarget::Waiting { .. }) {
            virtual_cluster::wake_deleting(self.run, self.context);
        }
        Progress::Again(Arc::clone(self.run))
    }
}

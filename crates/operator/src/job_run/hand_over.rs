//! Looks for the run of an object that upstream's controller left behind: started, perhaps, and without an id.
//!
//! Must not decide when: `plan` does. Invariant: a run is taken over only when it is the one that fits, no object has it,
//! and no other object could; where that can't be told nothing is started, cancelled or let go.

use std::collections::HashSet;

use emrcontainers_api::JobRun;
use emrcontainers_api::annotations::{ADOPTION_FIELDS, ADOPTION_POLICY, DELETION_POLICY, RETRY};
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};

use super::act::{Pass, Result};
use super::adoption::compare;
use super::likeness::{Likeness, is_handed_over, is_rival, like_what_was_asked_for, likeness};
use super::request;
use crate::decode::Decoded;
use crate::emr::error::{Class, EmrError};
use crate::emr::model::{self, JobRunFilter};
use crate::pass::PassError;
use crate::tags;
use crate::timing;

/// More runs than these that may be the object's are not told apart.
const MOST_COMPARED: usize = 10;

/// What was found for an object.
pub(super) enum Sighting {
    /// No run.
    None,
    /// Its run.
    Run(Box<model::JobRun>),
    /// Runs of which one, or none, is its.
    Doubt(Vec<model::JobRun>),
    /// AWS didn't say.
    Failed(EmrError),
}

impl Pass<'_> {
    /// Looks for the object's run, by its tokens, and by what it is if upstream may have started it.
    pub(super) async fn sight(
        &self,
        virtual_cluster_id: &str,
        is_settled: bool,
    ) -> std::result::Result<Sighting, PassError> {
        match self.seek(virtual_cluster_id).await {
            Ok(Some(job)) => Ok(Sighting::Run(Box::new(job))),
            // Those who call wait then: what a list lacks could make the difference between one run and two.
            Ok(None) if is_handed_over(self.run) && is_settled => {
                self.sight_of_upstream(virtual_cluster_id).await
            }
            Ok(None) => Ok(Sighting::None),
            Err(error) => Ok(Sighting::Failed(error)),
        }
    }

    async fn sight_of_upstream(&self, virtual_cluster_id: &str) -> std::result::Result<Sighting, PassError> {
        let mut listed = match self.listed(virtual_cluster_id).await {
            Ok(listed) if listed.is_empty() => return Ok(Sighting::None),
            Ok(listed) => listed,
            Err(error) => return Ok(Sighting::Failed(error)),
        };
        let others = self.others().await?;
        let taken: HashSet<&str> =
            others.iter().filter_map(|other| other.status.as_ref()?.id.as_deref()).collect();
        listed.retain(|(_, run)| !taken.contains(run.id.as_str()));
        let mut left = match self.alike(virtual_cluster_id, listed).await {
            Ok(left) => left,
            Err(error) => return Ok(Sighting::Failed(error)),
        };
        let has_rival = others.iter().any(|other| is_rival(self.run, other));
        Ok(match (left.len(), left.pop()) {
            (0, _) | (_, None) => Sighting::None,
            (1, Some((Likeness::Sure, run))) if !has_rival => Sighting::Run(Box::new(run)),
            (_, Some(last)) => {
                left.push(last);
                Sighting::Doubt(left.into_iter().map(|(_, run)| run).collect())
            }
        })
    }

    /// The runs that may be the object's, as far as a list tells.
    async fn listed(
        &self,
        virtual_cluster_id: &str,
    ) -> std::result::Result<Vec<(Likeness, model::JobRun)>, EmrError> {
        let client = self.context.pool.client(self.scope);
        let created = self.run.creation_timestamp();
        let filter = JobRunFilter {
            virtual_cluster_id: virtual_cluster_id.to_owned(),
            name: self.run.spec.name.clone().filter(|name| request::is_name(name)),
            states: Vec::new(),
            created_after: created.and_then(|at| at.0.checked_sub(timing::CLOCK_SKEW).ok()),
        };
        let templates = &self.context.settings.resource_tags;
        let tags = tags::upstreams(templates, &self.target.default_tags, self.run.spec.tags.as_ref());
        let mut listed = Vec::new();
        client
            .list_job_runs(&filter, u32::MAX, |run| match likeness(self.run, &tags, &run) {
                Likeness::None => {}
                like => listed.push((like, run)),
            })
            .await?;
        Ok(listed)
    }

    /// Those of them that were started with what the object says. Of too many none is sure, since none was compared.
    async fn alike(
        &self,
        virtual_cluster_id: &str,
        listed: Vec<(Likeness, model::JobRun)>,
    ) -> std::result::Result<Vec<(Likeness, model::JobRun)>, EmrError> {
        if listed.len() > MOST_COMPARED {
            return Ok(listed.into_iter().map(|(_, run)| (Likeness::Doubtful, run)).collect());
        }
        let client = self.context.pool.client(self.scope);
        let mut alike = Vec::new();
        for (like, run) in listed {
            match client.describe_job_run_in_detail(virtual_cluster_id, &run.id).await {
                Ok((run, details)) => {
                    let compared = compare(&self.run.spec, self.target, virtual_cluster_id, &run, &details);
                    alike.extend(like_what_was_asked_for(like, &compared.differs).map(|like| (like, run)));
                }
                Err(error) if error.class == Class::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(alike)
    }

    /// All runs that are watched, as they are now: those that have ended aren't in the store any more.
    async fn others(&self) -> std::result::Result<Vec<JobRun>, PassError> {
        let client = &self.context.client;
        let watched = &self.context.settings.watch_namespaces;
        let mut apis: Vec<Api<Decoded<JobRun>>> =
            watched.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect();
        if apis.is_empty() {
            apis.push(Api::all(client.clone()));
        }
        let mut others = Vec::new();
        for api in apis {
            let mut page = ListParams::default().limit(timing::LIST_PAGE);
            loop {
                let list = api.list(&page).await?;
                others.extend(list.items.into_iter().filter_map(|decoded| decoded.0.ok()));
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page = page.continue_token(&token),
                    None => break,
                }
            }
        }
        others.retain(|other| other.meta().uid != self.run.meta().uid);
        Ok(others)
    }

    /// Says which runs may be the object's; whoever knows tells.
    pub(super) async fn doubt(&self, runs: &[model::JobRun]) -> Result {
        let mut ids: Vec<&str> = runs.iter().map(|run| run.id.as_str()).collect();
        ids.sort_unstable();
        let more = ids.len().saturating_sub(MOST_COMPARED);
        ids.truncate(MOST_COMPARED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let remedy = if self.run.metadata.deletion_timestamp.is_some() {
            format!("cancel those that are this object's, or set {DELETION_POLICY} to retain to leave them")
        } else {
            format!(
                "to take one of them over, set {ADOPTION_POLICY} to adopt and {ADOPTION_FIELDS} to its id and virtualClusterID; \
                 to start another, set {RETRY} to a new value"
            )
        };
        let message = format!(
            "another controller may have started this run without saving its id: it can't be told which of {}{more} is its, if \
             any; {remedy}",
            ids.join(", ")
        );
        self.trouble(&message).await
    }
}

//! Makes the tags of a live run those of its spec, after an edit.
//!
//! Must not ask AWS for tags when nothing was edited: a run whose status answers its generation costs no call, in this
//! process and in the next. Invariant: an edit is answered when AWS has its tags, or the run has ended.

use emrcontainers_api::job_run::is_final;
use kube::{Resource, ResourceExt};

use super::act::{Pass, Result};
use super::plan::Submitted;
use super::status::Tags;
use crate::emr::error::{Class, EmrError};
use crate::emr::poll::Observation;
use crate::event::{EventType, reason};
use crate::pass::Next;
use crate::tags::{self, TagChange};
use crate::timing;

impl Pass<'_> {
    /// Sends what was edited, and goes on watching the run, whatever came of it.
    pub async fn retag(&self, submitted: &Submitted, observation: Option<&Observation>) -> Result {
        if let Some(why) = tags::problem(&self.target.default_tags, self.run.spec.tags.as_ref()) {
            // Only another edit helps, and that brings a pass.
            return self.observe_with(submitted, observation, Tags::Failed(&why), Next::Await).await;
        }
        match self.send_tags(submitted).await {
            Ok(()) => self.observe_with(submitted, observation, Tags::Sent, Next::Await).await,
            Err(error) if error.class == Class::Throttled => {
                self.observe_with(submitted, observation, Tags::Due, Next::After(timing::AFTER_THROTTLE))
                    .await
            }
            Err(error) => {
                let why = format!("the tags of the run can't be changed: {error}");
                self.observe_with(submitted, observation, Tags::Failed(&why), Next::Backoff).await
            }
        }
    }

    async fn send_tags(&self, submitted: &Submitted) -> std::result::Result<(), EmrError> {
        let client = self.context.pool.client(self.scope);
        let Submitted { id, virtual_cluster_id } = submitted;
        let described = client.describe_job_run(virtual_cluster_id, id).await?;
        let change = self.tag_change(&described.tags);
        // The tags of a run that has ended can't be changed.
        if change.is_empty() || is_final(&described.state) {
            return Ok(());
        }
        let place = self.run.status.as_ref().and_then(|status| status.ack_resource_metadata.as_ref());
        let known = described.arn.or_else(|| place.and_then(|place| place.arn.clone()));
        let Some(arn) = self.place(virtual_cluster_id, id, known).arn else { return Ok(()) };
        client.change_tags(&arn, change).await?;
        tracing::info!(id, run = self.run.name_any(), "the tags of the job run were changed");
        let object = self.run.object_ref(&());
        self.context.events.publish(&object, EventType::Normal, reason::UPDATED, "updated tags");
        Ok(())
    }

    /// What makes these tags of the run those of its spec.
    pub(super) fn tag_change(&self, observed: &std::collections::BTreeMap<String, String>) -> TagChange {
        let desired = tags::merge(&self.target.default_tags, self.run.spec.tags.as_ref());
        TagChange::between(observed, &desired, |_| false)
    }
}

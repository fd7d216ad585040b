//! Recognises the virtual cluster of an object that upstream's controller left behind: created, and without an id.
//!
//! Nothing has to be looked for: AWS gives a namespace to one cluster, so creating another is refused, and the one that
//! stands in the way tells what it is. Invariant: it is taken over only when name, tags and time say that it was created
//! for this object, and no other object has it.

use emrcontainers_api::virtual_cluster::RUNNING;
use kube::ResourceExt;

use super::act::{Pass, Result};
use super::status::Situation;
use crate::emr::error::EmrError;
use crate::emr::model;
use crate::pass::{Next, Progress};
use crate::tags;
use crate::write::Written;

impl Pass<'_> {
    /// The cluster that has the namespace, if it was created for this object.
    pub(super) async fn left_behind(
        &self,
        holder: &model::VirtualCluster,
    ) -> std::result::Result<Option<model::VirtualCluster>, EmrError> {
        let memory = self.context.clusters.get(self.uid);
        let was_refused = self.cluster.status.as_ref().is_some_and(|status| status.refusals.is_some());
        if memory.never_started || was_refused || holder.state != RUNNING {
            return Ok(None);
        }
        // Lists may leave members out.
        let holder = self.client().describe_virtual_cluster(&holder.id).await?;
        Ok(self.is_made_for_this(&holder).then_some(holder))
    }

    fn is_made_for_this(&self, holder: &model::VirtualCluster) -> bool {
        let born = self.cluster.creation_timestamp().map(|at| at.0);
        let templates = &self.context.settings.resource_tags;
        let tags = tags::upstreams(templates, &self.default_tags(), self.cluster.spec.tags.as_ref());
        let is_tagged = tags.iter().all(|(key, value)| holder.tags.get(key) == Some(value));
        let is_taken = || {
            let has = |other: &emrcontainers_api::VirtualCluster| {
                let id = other.status.as_ref().and_then(|status| status.id.as_deref());
                id == Some(&holder.id) && other.metadata.uid != self.cluster.metadata.uid
            };
            !self.context.cluster_scopes.filter(has).is_empty()
        };
        holder.name.as_deref() == Some(&self.cluster.spec.name)
            && holder.created_at >= born
            && is_tagged
            && !is_taken()
    }

    /// Saves what the service says of the cluster.
    pub(super) async fn save(&self, cluster: model::VirtualCluster) -> Result {
        match self.report(&Situation::Seen(&self.seen(cluster))).await? {
            Some(Written::Done(newer) | Written::Conflict(newer)) => Ok(Progress::Again(newer)),
            Some(Written::Gone) | None => Ok(Progress::End(Next::Await)),
        }
    }
}

//! What AWS has and the spec says otherwise, and sends it: tags and limits.
//!
//! Must not tell anybody: `act` does. Invariant: tags that AWS would refuse are not sent.

use std::collections::BTreeMap;

use emrcontainers_api::virtual_cluster::{SchedulerConfiguration, VirtualCluster};

use super::act::Pass;
use super::{adoption, plan};
use crate::context::Context;
use crate::emr::error::EmrError;
use crate::emr::model;
use crate::event::{EventType, reason};
use crate::tags::{self, TagChange};

/// What AWS would refuse of the cluster's tags.
pub(super) fn tags_problem(cluster: &VirtualCluster, context: &Context) -> Option<String> {
    tags::problem(&default_tags(cluster, context), cluster.spec.tags.as_ref())
}

fn default_tags(cluster: &VirtualCluster, context: &Context) -> Vec<(String, String)> {
    tags::expand(&context.settings.resource_tags, cluster)
}

impl Pass<'_> {
    /// Sends the differences in tags and limits.
    pub(super) async fn update(
        &self,
        described: &model::VirtualCluster,
    ) -> std::result::Result<(), EmrError> {
        let client = self.client();
        let change = match self.tags_problem() {
            Some(_) => TagChange::default(),
            None => self.tag_change(&described.tags),
        };
        let arn = described.arn.clone().unwrap_or_else(|| self.arn(&described.id));
        let mut changed = Vec::new();
        if !change.is_empty() {
            client.change_tags(&arn, change).await?;
            changed.push("tags");
        }
        let limits = |of: &Option<SchedulerConfiguration>| of.clone().unwrap_or_default();
        let wanted = limits(&self.cluster.spec.scheduler_configuration);
        if plan::limits_differ(&wanted, &limits(&described.scheduler_configuration), self.is_edited()) {
            // The service ignores a repeated token; each change is one of its own.
            let token = format!("{}-{:x}", self.uid, rand::random::<u64>());
            client.update_virtual_cluster(&described.id, &token, &wanted).await?;
            changed.push("scheduler limits");
        }
        if !changed.is_empty() {
            let note = format!("updated {}", changed.join(" and "));
            self.event(EventType::Normal, reason::UPDATED, &note);
        }
        Ok(())
    }

    /// The members that would be sent if anything were.
    pub(super) fn unsent_differences(&self, described: &model::VirtualCluster) -> Vec<&'static str> {
        let change = self.tag_change(&described.tags);
        adoption::unsent_differences(&self.cluster.spec, described, &change, self.is_edited())
    }

    fn is_edited(&self) -> bool {
        let seen = self.cluster.status.as_ref().and_then(|status| status.observed_generation);
        seen.is_some() && seen != self.cluster.metadata.generation
    }

    pub(super) fn tags(&self) -> BTreeMap<String, String> {
        tags::merge(&self.default_tags(), self.cluster.spec.tags.as_ref())
    }

    pub(super) fn default_tags(&self) -> Vec<(String, String)> {
        default_tags(self.cluster, self.context)
    }

    /// What AWS would refuse of the tags.
    pub(super) fn tags_problem(&self) -> Option<String> {
        tags_problem(self.cluster, self.context)
    }

    /// What makes these tags of the cluster the desired ones. The operator's own go along with an edit; by themselves they
    /// are no difference, or every new version and every other flag would tag everything anew.
    pub(super) fn tag_change(&self, observed: &BTreeMap<String, String>) -> TagChange {
        let (defaults, own) = (&self.context.settings.resource_tags, self.cluster.spec.tags.as_ref());
        let is_edited = self.is_edited();
        TagChange::between(observed, &self.tags(), |key| {
            let is_own = own.is_some_and(|own| own.contains_key(key));
            !is_edited && !is_own && defaults.iter().any(|(default, _)| default == key)
        })
    }
}

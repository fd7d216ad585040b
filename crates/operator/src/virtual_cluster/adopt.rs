//! Takes over a virtual cluster that the object names: looks it up, marks the object, and saves the id.
//!
//! Must not decide whether: `plan` does. Invariant: the object is marked, with the finalizer, before its status has the id;
//! AWS is only read.

use emrcontainers_api::VirtualCluster;
use emrcontainers_api::annotations::{ADOPTION_FIELDS, ADOPTION_POLICY, READ_ONLY};
use emrcontainers_api::virtual_cluster::TERMINATED;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::act::{Pass, Result};
use super::adoption::{Existing, left_out};
use super::plan::Step;
use super::status::Situation;
use crate::adoption::{elsewhere, is_adopt, is_adopted, unmarked};
use crate::emr::error::Class;
use crate::emr::model;
use crate::pass::{Next, Progress};
use crate::tags;
use crate::write::{self, Kind, Written};

type Adopted = crate::adoption::Adopted<Result, Step>;

impl Pass<'_> {
    /// Takes the cluster over, or says what is to be done without it.
    pub async fn adopt(&self, existing: &Existing, otherwise: Option<Step>) -> Adopted {
        if let Some(why) = existing.arn.as_deref().and_then(|arn| elsewhere(arn, self.scope)) {
            return Adopted::Progress(self.misasked(&why).await);
        }
        match self.client().describe_virtual_cluster(&existing.id).await {
            // What is terminated stays listed for a while, and nothing can be done with it.
            Ok(cluster) if cluster.state != TERMINATED => Adopted::Progress(self.take(cluster).await),
            Err(error) if error.class == Class::Refused => {
                let why = format!("Error populating adoption fields: {error}");
                Adopted::Progress(self.misasked(&why).await)
            }
            Err(error) if error.class != Class::NotFound => Adopted::Progress(self.failed(&error).await),
            Ok(_) | Err(_) => {
                if let Some(step) = otherwise {
                    return Adopted::Otherwise(step);
                }
                let message = format!(
                    "adopted resource not found: there is no virtual cluster {}; correct the annotation \
                     {ADOPTION_FIELDS}, or create it",
                    existing.id
                );
                Adopted::Progress(self.trouble(&message).await)
            }
        }
    }

    /// Marks the object, and saves what the service says of the cluster.
    pub(super) async fn take(&self, cluster: model::VirtualCluster) -> Result {
        let marked = is_adopted(&**self.cluster)
            && self.cluster.finalizers().iter().any(|name| name == VirtualCluster::FINALIZER);
        // An object that goes takes no finalizer any more; it has it, or there was nothing to find.
        if marked || self.cluster.meta().deletion_timestamp.is_some() {
            return self.save(cluster).await;
        }
        let defaults = tags::expand(&self.context.settings.resource_tags, &**self.cluster);
        // Who would have one created knows what it is like.
        let is_filled = is_adopt(&**self.cluster);
        let spec = if is_filled { left_out(&self.cluster.spec, &cluster, &defaults) } else { json!({}) };
        let written = write::adopt(&self.context.writer, &**self.cluster, &spec).await;
        if let Some(why) = written.as_ref().err().and_then(unmarked) {
            return self.trouble(&why).await;
        }
        match written? {
            Written::Done(adopted) => {
                self.context.clusters.wrote(&adopted);
                Pass { cluster: &adopted, ..*self }.save(cluster).await
            }
            Written::Conflict(newer) => {
                self.context.clusters.wrote(&newer);
                Ok(Progress::Again(newer))
            }
            Written::Gone => Ok(Progress::End(Next::Await)),
        }
    }

    /// Says that the annotations can't be followed; another edit of them is looked at at once.
    pub async fn misasked(&self, why: &str) -> Result {
        self.report_then(&Situation::Misasked(why), Next::Await).await
    }

    /// Says that there is nothing to look at.
    pub async fn missing_read_only(&self) -> Result {
        let message = format!(
            "read-only resource not found: no virtual cluster is known for this object and none is created; name one with the \
             annotations {ADOPTION_POLICY} and {ADOPTION_FIELDS}, or take {READ_ONLY} away"
        );
        self.trouble(&message).await
    }
}

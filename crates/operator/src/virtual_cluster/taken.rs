//! What is done about a namespace that another virtual cluster has.
//!
//! Must not create or delete anything. Invariant: the one that stands in the way is named, unless AWS doesn't say.

use emrcontainers_api::virtual_cluster::{ARRESTED, RUNNING, TERMINATING};

use super::act::{Pass, Result};
use super::plan;
use super::status::Situation;
use crate::emr::error::EmrError;
use crate::emr::model::{self, VirtualClusterFilter};
use crate::pass::Next;
use crate::timing;

impl Pass<'_> {
    /// Another cluster has the namespace: say which, or wait if it is on its way out.
    pub(super) async fn taken(&self, message: &str) -> Result {
        let (eks, namespace) =
            (self.cluster.spec.container_provider.id.clone(), plan::namespace(self.cluster));
        let holder = match self.holder().await {
            Ok(holder) => holder,
            Err(error) => {
                let message = format!("{message} (which one can't be told: {error})");
                return self.report_then(&Situation::Trouble(&message), Next::Backoff).await;
            }
        };
        if let Some(holder) = &holder {
            match self.left_behind(holder).await {
                Ok(Some(left)) => return self.save(left).await,
                Ok(None) => {}
                Err(error) => return self.failed(&error).await,
            }
        }
        match holder {
            Some(holder) if holder.state == TERMINATING => {
                let message = format!("{message}: {} is being terminated; this one follows it", holder.id);
                self.report_then(&Situation::Trouble(&message), Next::After(timing::TERMINATION_CHECK)).await
            }
            Some(holder) => {
                let why = format!(
                    "{message}: virtual cluster {} ({}, {}) has namespace {namespace} of EKS cluster {}; delete that \
                     one, or use another namespace",
                    holder.id,
                    holder.name.as_deref().unwrap_or("unnamed"),
                    holder.state,
                    eks.as_deref().unwrap_or_default(),
                );
                self.report_then(&Situation::Refused(&why), Next::After(timing::CLUSTER_RESYNC)).await
            }
            // It ended in between.
            None => self.report_then(&Situation::Trouble(message), Next::Backoff).await,
        }
    }

    /// The cluster that has the namespace.
    pub(super) async fn holder(&self) -> std::result::Result<Option<model::VirtualCluster>, EmrError> {
        let (eks, namespace) = (&self.cluster.spec.container_provider.id, plan::namespace(self.cluster));
        let states = [RUNNING, ARRESTED, TERMINATING].map(str::to_owned).to_vec();
        let filter = VirtualClusterFilter { eks_cluster: eks.clone(), states };
        let clusters = self.client().list_virtual_clusters(&filter).await?;
        Ok(clusters.into_iter().find(|other| {
            other.eks_cluster == *eks && other.namespace.as_deref().unwrap_or("default") == namespace
        }))
    }
}

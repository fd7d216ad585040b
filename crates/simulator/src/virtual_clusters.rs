//! The five operations on virtual clusters.
//!
//! Decisions where AWS documents nothing:
//! - a `clientToken` that was used before returns the first virtual cluster, whatever the rest of
//!   the request says, also after it was terminated; a repeated update changes nothing;
//! - TERMINATING and ARRESTED virtual clusters still hold their namespace;
//! - deleting one that is TERMINATING changes nothing and succeeds; ARRESTED can be deleted again;
//! - only a RUNNING one can be updated;
//! - virtual clusters count as integrated by EKS access entries;
//! - describing an unknown id is ResourceNotFoundException, deleting it a ValidationException,
//!   since the model doesn't have the former there.
//!
//! Invariant: one live virtual cluster for each EKS cluster and namespace.

use jiff::Timestamp;
use serde_json::json;

use crate::clock::later;
use crate::error::ApiError;
use crate::lifecycle::JobState;
use crate::operation::Operation;
use crate::options::Options;
use crate::paging::{Page, Query};
use crate::resource::{ClusterState, VirtualCluster};
use crate::service::{Reply, reply};
use crate::state::Store;
use crate::validate;
use crate::wire::{CreateVirtualCluster, SchedulerStatus, UpdateVirtualCluster, VirtualClusterView};

impl Store {
    pub(crate) fn create_virtual_cluster(
        &mut self,
        request: CreateVirtualCluster,
        options: &Options,
        now: Timestamp,
    ) -> Reply {
        validate::create_virtual_cluster(&request)?;
        let key = (Operation::CreateVirtualCluster, request.client_token.clone().unwrap_or_default());
        if let Some(index) = self.tokens.get(&key) {
            return self.created(*index);
        }
        let id = self.ids.virtual_cluster(now);
        let cluster = VirtualCluster::new(id, request, now);
        if let Some(times) = self.eks.updating.get_mut(cluster.eks_cluster()).filter(|times| **times > 0) {
            *times -= 1;
            return Err(ApiError::validation(format!(
                "Cluster {} is not reachable as its connection is currently being updated",
                cluster.eks_cluster()
            )));
        }
        if self.eks.withdrawn.contains(cluster.eks_cluster()) {
            return Err(ApiError::validation(format!(
                "Cluster {} is not accessible: the service-linked role has no access to namespace {}",
                cluster.eks_cluster(),
                cluster.namespace()
            )));
        }
        let place = (cluster.eks_cluster().to_owned(), cluster.namespace().to_owned());
        if self.live.contains_key(&place) {
            return Err(ApiError::validation("A virtual cluster already exists in the given namespace"));
        }
        let taken = || self.live.values().filter_map(|index| self.clusters.get(*index));
        if options.unique_virtual_cluster_names && taken().any(|other| other.name == cluster.name) {
            return Err(ApiError::validation(format!(
                "A virtual cluster with the name {} already exists",
                cluster.name
            )));
        }
        let index = self.add_cluster(cluster, now);
        self.tokens.insert(key, index);
        self.created(index)
    }

    fn created(&self, index: usize) -> Reply {
        let cluster = self.clusters.get(index).ok_or_else(|| unknown(""))?;
        reply(&json!({ "id": cluster.id, "name": cluster.name, "arn": self.arn(&cluster.id) }))
    }

    pub(crate) fn describe_virtual_cluster(&self, id: &str) -> Reply {
        let cluster = self.clusters.get(self.cluster(id)?).ok_or_else(|| unknown(id))?;
        reply(&json!({ "virtualCluster": self.cluster_view(cluster) }))
    }

    pub(crate) fn update_virtual_cluster(
        &mut self,
        id: &str,
        request: UpdateVirtualCluster,
        now: Timestamp,
    ) -> Reply {
        validate::update(request.client_token.as_ref(), request.scheduler_configuration.as_ref())?;
        let index = self.cluster(id)?;
        let key = (Operation::UpdateVirtualCluster, request.client_token.unwrap_or_default());
        if !self.tokens.contains_key(&key) {
            let cluster = self.clusters.get_mut(index).ok_or_else(|| unknown(id))?;
            if cluster.state != ClusterState::Running {
                return Err(ApiError::validation(format!("Virtual cluster {id} is not in RUNNING state")));
            }
            cluster.scheduler = request
                .scheduler_configuration
                .filter(|new| new.max_concurrent_job_runs.is_some() || new.max_in_queue_job_runs.is_some());
            self.tokens.insert(key, index);
            self.start_waiting(index, now);
        }
        self.describe_virtual_cluster(id)
    }

    pub(crate) fn delete_virtual_cluster(&mut self, id: &str, options: &Options, now: Timestamp) -> Reply {
        validate::id("id", id)?;
        let Some(index) = self.cluster_index.get(id).copied() else {
            return Err(ApiError::validation(format!("Virtual cluster {id} not found")));
        };
        match self.clusters.get(index).map(|cluster| cluster.state) {
            Some(ClusterState::Terminated) => {
                return Err(ApiError::validation(format!("Virtual cluster {id} is already terminated")));
            }
            Some(ClusterState::Terminating) | None => {}
            Some(ClusterState::Running | ClusterState::Arrested) => {
                self.terminate(index, later(now, options.terminating_for), now);
                self.advance(now);
            }
        }
        reply(&json!({ "id": id }))
    }

    pub(crate) fn list_virtual_clusters(&self, query: &Query, options: &Options) -> Reply {
        let states = query.all("states");
        validate::states_filter(&states, &ClusterState::NAMES)?;
        let page = Page::parse(query, "", options.page_size)?;
        let (low, high) = page.range(&self.clusters, |cluster| cluster.created_at);
        let is = |key: &str, value: &str| query.first(key).is_none_or(|wanted| wanted == value);
        let shown = (low..high).rev().filter(|index| {
            self.clusters.get(*index).is_some_and(|cluster| {
                (states.is_empty() || states.iter().any(|state| state == cluster.state.name()))
                    && is("containerProviderId", cluster.eks_cluster())
                    && is("containerProviderType", "EKS")
                    && is("eksAccessEntryIntegrated", "true")
            })
        });
        let (indexes, token) = page.take(shown);
        let views: Vec<_> = indexes
            .iter()
            .filter_map(|index| self.clusters.get(*index))
            .map(|cluster| self.cluster_view(cluster))
            .collect();
        reply(&crate::wire::VirtualClusterPage { virtual_clusters: views, next_token: token })
    }

    fn cluster_view<'a>(&self, cluster: &'a VirtualCluster) -> VirtualClusterView<'a> {
        VirtualClusterView {
            id: &cluster.id,
            name: &cluster.name,
            arn: self.arn(&cluster.id),
            state: cluster.state.name(),
            container_provider: &cluster.provider,
            created_at: cluster.created_at,
            tags: &cluster.tags,
            security_configuration_id: cluster.security_configuration_id.as_deref(),
            session_enabled: cluster.session_enabled,
            scheduler_configuration: cluster.scheduler.as_ref(),
            scheduler_status: SchedulerStatus {
                current_in_queue_job_runs: cluster.count(JobState::Pending)
                    + cluster.count(JobState::Submitted),
                current_concurrent_job_runs: cluster.count(JobState::Running),
            },
        }
    }

    /// The index of a virtual cluster, also of a terminated one.
    pub(crate) fn cluster(&self, id: &str) -> Result<usize, ApiError> {
        validate::id("virtualClusterId", id)?;
        self.cluster_index.get(id).copied().ok_or_else(|| unknown(id))
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("Virtual cluster {id} doesn't exist."))
}

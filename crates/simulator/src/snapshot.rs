//! What the control endpoint and the handle do to the service, and what they show of it.
//!
//! Invariant: showing state first brings it up to the clock, so it never lags behind.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::faults::Fault;
use crate::journal::{Counter, LoggedRequest};
use crate::outcome::Rule;
use crate::resource::ClusterState;
use crate::service::Service;
use crate::state::Store;

/// Everything that a simulator holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The simulator's time.
    pub now: Timestamp,
    /// Virtual clusters of every account and region, the oldest first.
    pub virtual_clusters: Vec<VirtualClusterSnapshot>,
    /// Job runs of every account and region, the oldest first.
    pub job_runs: Vec<JobRunSnapshot>,
    /// Replies that wait to be released.
    pub held_replies: usize,
}

/// A state, and when it was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// The state as replies show it.
    pub state: String,
    /// When it was entered; finer than the API's whole seconds.
    pub at: Timestamp,
}

/// A virtual cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualClusterSnapshot {
    /// Id.
    pub id: String,
    /// Account that owns it.
    pub account: String,
    /// Region that it is in.
    pub region: String,
    /// Name.
    pub name: String,
    /// State.
    pub state: String,
    /// EKS cluster.
    pub eks_cluster: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// The token that it was created with.
    pub client_token: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Its states so far.
    pub history: Vec<StateChange>,
}

/// A job run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRunSnapshot {
    /// Id.
    pub id: String,
    /// Account that owns it.
    pub account: String,
    /// Region that it is in.
    pub region: String,
    /// The virtual cluster that it belongs to.
    pub virtual_cluster_id: String,
    /// Name, empty when it has none.
    pub name: String,
    /// The token that it was started with.
    pub client_token: String,
    /// State.
    pub state: String,
    /// Failure reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// State details.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_details: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Its states so far.
    pub history: Vec<StateChange>,
}

impl Service {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut inner = self.lock();
        let now = inner.advance();
        let mut virtual_clusters: Vec<_> = inner.stores.values().flat_map(Store::cluster_snapshots).collect();
        let mut job_runs: Vec<_> = inner.stores.values().flat_map(Store::run_snapshots).collect();
        virtual_clusters.sort_by(|a, b| a.id.cmp(&b.id));
        job_runs.sort_by(|a, b| a.id.cmp(&b.id));
        Snapshot { now, virtual_clusters, job_runs, held_replies: self.held.load(Ordering::SeqCst) }
    }

    pub(crate) fn counters(&self) -> BTreeMap<String, Counter> {
        self.lock().journal.counters()
    }

    pub(crate) fn requests_since(&self, since: u64) -> Vec<LoggedRequest> {
        self.lock().journal.since(since)
    }

    pub(crate) fn add_fault(&self, fault: Fault) -> anyhow::Result<u64> {
        self.lock().faults.add(fault)
    }

    pub(crate) fn clear_faults(&self) {
        self.lock().faults.remove(None);
    }

    pub(crate) fn add_outcome(&self, rule: Rule) -> anyhow::Result<()> {
        self.lock().outcomes.add(rule)
    }

    pub(crate) fn clear_outcomes(&self) {
        self.lock().outcomes.clear();
    }

    pub(crate) fn advance_clock(&self, by: Duration) -> Timestamp {
        let mut inner = self.lock();
        inner.clock.advance(by);
        inner.advance()
    }

    pub(crate) fn force_virtual_cluster(&self, id: &str, state: &str) -> anyhow::Result<()> {
        let state = ClusterState::parse(state)
            .ok_or_else(|| anyhow::anyhow!("{state} is no state of a virtual cluster"))?;
        let mut inner = self.lock();
        let now = inner.advance();
        let found = inner
            .stores
            .values_mut()
            .find_map(|store| store.cluster_index.get(id).copied().map(|index| (store, index)));
        let (store, index) = found.ok_or_else(|| anyhow::anyhow!("there is no virtual cluster {id}"))?;
        store.set_cluster(index, state, now);
        Ok(())
    }

    pub(crate) fn tag_virtual_cluster(&self, id: &str, key: &str, value: &str) -> anyhow::Result<()> {
        let mut inner = self.lock();
        let cluster = inner.stores.values_mut().find_map(|store| {
            let index = store.cluster_index.get(id).copied()?;
            store.clusters.get_mut(index)
        });
        let cluster = cluster.ok_or_else(|| anyhow::anyhow!("there is no virtual cluster {id}"))?;
        cluster.tags.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    pub(crate) fn force_job_run(
        &self,
        id: &str,
        state: &str,
        failure_reason: Option<String>,
        state_details: Option<String>,
    ) -> anyhow::Result<()> {
        let mut inner = self.lock();
        let now = inner.advance();
        let found = inner
            .stores
            .values_mut()
            .find_map(|store| store.run_index.get(id).copied().map(|index| (store, index)));
        let (store, index) = found.ok_or_else(|| anyhow::anyhow!("there is no job run {id}"))?;
        store.force(index, state, failure_reason, state_details, now);
        Ok(())
    }

    /// Sets how an EKS cluster behaves, in every account and region.
    pub(crate) fn set_eks_cluster(&self, name: &str, updating_times: Option<u32>, access: Option<bool>) {
        let mut inner = self.lock();
        inner.eks.set(name, updating_times, access);
        for store in inner.stores.values_mut() {
            store.eks.set(name, updating_times, access);
        }
    }
}

impl Store {
    fn cluster_snapshots(&self) -> impl Iterator<Item = VirtualClusterSnapshot> {
        self.clusters.iter().map(|cluster| VirtualClusterSnapshot {
            id: cluster.id.clone(),
            account: self.account.clone(),
            region: self.region.clone(),
            name: cluster.name.clone(),
            state: cluster.state.name().to_owned(),
            eks_cluster: cluster.eks_cluster().to_owned(),
            namespace: cluster.namespace().to_owned(),
            client_token: cluster.client_token.clone(),
            tags: cluster.tags.clone(),
            history: cluster
                .history
                .iter()
                .map(|(state, at)| StateChange { state: (*state).to_owned(), at: *at })
                .collect(),
        })
    }

    fn run_snapshots(&self) -> impl Iterator<Item = JobRunSnapshot> {
        self.runs.iter().map(|run| JobRunSnapshot {
            id: run.id.clone(),
            account: self.account.clone(),
            region: self.region.clone(),
            virtual_cluster_id: self
                .clusters
                .get(run.cluster)
                .map(|cluster| cluster.id.clone())
                .unwrap_or_default(),
            name: run.request.name.clone().unwrap_or_default(),
            client_token: run.request.client_token.clone().unwrap_or_default(),
            state: run.reported().to_owned(),
            failure_reason: run.failure_reason.clone(),
            state_details: run.state_details.clone(),
            tags: run.tags.clone(),
            created_at: run.created_at,
            finished_at: run.finished_at,
            history: run
                .history
                .iter()
                .map(|(state, at)| StateChange { state: state.clone(), at: *at })
                .collect(),
        })
    }
}

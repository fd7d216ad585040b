//! What the service keeps of a virtual cluster and of a job run, and of EKS clusters.
//!
//! Data only: `state` moves it. Invariant: a run is in the set of exactly one state of its cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::Timestamp;

use crate::lifecycle::JobState;
use crate::outcome::Script;
use crate::wire::{ContainerProvider, CreateVirtualCluster, SchedulerConfiguration, StartJobRun, Tags};

/// A virtual cluster's state, as the service model names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterState {
    Running,
    Terminating,
    Terminated,
    Arrested,
}

impl ClusterState {
    pub(crate) const NAMES: [&str; 4] = ["RUNNING", "TERMINATING", "TERMINATED", "ARRESTED"];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Terminating => "TERMINATING",
            Self::Terminated => "TERMINATED",
            Self::Arrested => "ARRESTED",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Running, Self::Terminating, Self::Terminated, Self::Arrested]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

#[derive(Debug)]
pub(crate) struct VirtualCluster {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) client_token: String,
    pub(crate) provider: ContainerProvider,
    pub(crate) state: ClusterState,
    pub(crate) created_at: Timestamp,
    pub(crate) history: Vec<(&'static str, Timestamp)>,
    pub(crate) tags: Tags,
    pub(crate) security_configuration_id: Option<String>,
    pub(crate) session_enabled: Option<bool>,
    pub(crate) scheduler: Option<SchedulerConfiguration>,
    /// Runs by state, so that a list costs what it returns.
    pub(crate) runs: BTreeMap<JobState, BTreeSet<usize>>,
    /// Runs that the concurrency limit holds back, in the order of waiting.
    pub(crate) waiting: VecDeque<usize>,
    /// Outdates what was planned before the last change.
    pub(crate) epoch: u32,
}

impl VirtualCluster {
    /// A virtual cluster that was just asked for; the service makes it RUNNING at once.
    pub(crate) fn new(id: String, request: CreateVirtualCluster, now: Timestamp) -> Self {
        Self {
            id,
            name: request.name.unwrap_or_default(),
            client_token: request.client_token.unwrap_or_default(),
            provider: request.container_provider.unwrap_or_default(),
            state: ClusterState::Running,
            created_at: now,
            history: Vec::new(),
            tags: request.tags.unwrap_or_default(),
            security_configuration_id: request.security_configuration_id,
            session_enabled: request.session_enabled,
            scheduler: request
                .scheduler_configuration
                .filter(|s| s.max_concurrent_job_runs.is_some() || s.max_in_queue_job_runs.is_some()),
            runs: BTreeMap::new(),
            waiting: VecDeque::new(),
            epoch: 0,
        }
    }

    pub(crate) fn count(&self, state: JobState) -> usize {
        self.runs.get(&state).map_or(0, BTreeSet::len)
    }

    pub(crate) fn namespace(&self) -> &str {
        let eks = self.provider.info.as_ref().and_then(|info| info.eks_info.as_ref());
        eks.and_then(|eks| eks.namespace.as_deref()).unwrap_or_default()
    }

    pub(crate) fn eks_cluster(&self) -> &str {
        self.provider.id.as_deref().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(crate) struct JobRun {
    pub(crate) id: String,
    pub(crate) cluster: usize,
    pub(crate) request: StartJobRun,
    pub(crate) script: Script,
    pub(crate) state: JobState,
    /// A forced state that the service model doesn't have.
    pub(crate) unknown_state: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    pub(crate) listed_from: Timestamp,
    pub(crate) running_since: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) failure_reason: Option<String>,
    pub(crate) state_details: Option<String>,
    pub(crate) tags: Tags,
    pub(crate) history: Vec<(String, Timestamp)>,
    /// Outdates what was planned before the run was forced.
    pub(crate) epoch: u32,
}

impl JobRun {
    /// The state as replies show it.
    pub(crate) fn reported(&self) -> &str {
        if let Some(state) = &self.unknown_state {
            return state;
        }
        let name = self.state.name();
        self.script.reported.get(name).map_or(name, String::as_str)
    }
}

/// How EKS clusters behave that don't behave well.
#[derive(Clone, Debug, Default)]
pub(crate) struct EksClusters {
    /// Those whose access was withdrawn.
    pub(crate) withdrawn: BTreeSet<String>,
    /// Those that answer "being updated", and how often yet.
    pub(crate) updating: HashMap<String, u32>,
}

impl EksClusters {
    pub(crate) fn set(&mut self, name: &str, updating_times: Option<u32>, access: Option<bool>) {
        if let Some(times) = updating_times {
            self.updating.insert(name.to_owned(), times);
        }
        match access {
            Some(true) => drop(self.withdrawn.remove(name)),
            Some(false) => drop(self.withdrawn.insert(name.to_owned())),
            None => {}
        }
    }
}

//! What goes to AWS and comes back, in plain types. States stay verbatim: a state that AWS adds later is not an error.

use std::collections::BTreeMap;

use emrcontainers_api::job_run::JobDriver;
use emrcontainers_api::overrides::ConfigurationOverrides;
use emrcontainers_api::virtual_cluster::SchedulerConfiguration;
use jiff::Timestamp;

/// A virtual cluster to create.
#[derive(Clone, Debug, Default)]
pub struct CreateVirtualCluster {
    /// Repeating a request with the same token gives the same virtual cluster.
    pub client_token: String,
    /// The name of the virtual cluster.
    pub name: String,
    /// The name of the EKS cluster.
    pub eks_cluster: String,
    /// The namespace of the EKS cluster; the service decides when it is left out.
    pub namespace: Option<String>,
    /// The label of the nodes that run its jobs.
    pub node_label: Option<String>,
    /// The security configuration.
    pub security_configuration_id: Option<String>,
    /// Whether interactive sessions are allowed.
    pub session_enabled: Option<bool>,
    /// How many runs may wait and run.
    pub scheduler_configuration: Option<SchedulerConfiguration>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A job run to start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StartJobRun {
    /// Repeating a request with the same token gives the same run.
    pub client_token: String,
    /// The virtual cluster that runs it.
    pub virtual_cluster_id: String,
    /// The name of the run.
    pub name: Option<String>,
    /// The role that the job assumes.
    pub execution_role_arn: Option<String>,
    /// The release of EMR.
    pub release_label: Option<String>,
    /// What to run.
    pub job_driver: Option<JobDriver>,
    /// What is changed in the defaults.
    pub configuration_overrides: Option<ConfigurationOverrides>,
    /// How often the driver is tried.
    pub max_attempts: Option<i32>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A resource that was created, or that existed for the same token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: Option<String>,
    /// The virtual cluster that a run is in.
    pub virtual_cluster_id: Option<String>,
}

/// A virtual cluster as the service describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualCluster {
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its state, such as `RUNNING`; empty when the service gives none.
    pub state: String,
    /// The name of the EKS cluster.
    pub eks_cluster: Option<String>,
    /// The namespace of the EKS cluster.
    pub namespace: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// How many runs may wait and run, when there are limits.
    pub scheduler_configuration: Option<SchedulerConfiguration>,
    /// How many runs wait now.
    pub current_in_queue_job_runs: Option<i32>,
    /// How many runs run now.
    pub current_concurrent_job_runs: Option<i32>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A job run as the service lists or describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRun {
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its state, such as `RUNNING`; empty when the service gives none.
    pub state: String,
    /// The state in words.
    pub state_details: Option<String>,
    /// Why it failed; lists may leave it out.
    pub failure_reason: Option<String>,
    /// When it was created, to the second.
    pub created_at: Option<Timestamp>,
    /// When it ended, to the second.
    pub finished_at: Option<Timestamp>,
    /// How often its driver has been tried, when it has a retry policy.
    pub attempts: Option<i32>,
    /// The token that it was started with.
    pub client_token: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// Which virtual clusters to list.
#[derive(Clone, Debug, Default)]
pub struct VirtualClusterFilter {
    /// Only those of this EKS cluster.
    pub eks_cluster: Option<String>,
    /// Only those in these states; all when empty.
    pub states: Vec<String>,
}

/// Which job runs to list.
#[derive(Clone, Debug, Default)]
pub struct JobRunFilter {
    /// The virtual cluster.
    pub virtual_cluster_id: String,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those in these states; all when empty.
    pub states: Vec<&'static str>,
    /// Only those created after this.
    pub created_after: Option<Timestamp>,
}

/// How far a list was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// So many pages were read.
    pub pages: u32,
    /// There are no more.
    pub complete: bool,
}

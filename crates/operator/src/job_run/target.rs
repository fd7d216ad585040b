//! What a JobRun refers to, resolved: its virtual cluster. Pure: the store's answer comes in as an argument.
//!
//! The texts are upstream's, so that what users search for stays the same.

use emrcontainers_api::condition::{self, ConditionStatus};
use emrcontainers_api::virtual_cluster;
use emrcontainers_api::{JobRun, VirtualCluster};
use kube::ResourceExt;

/// Everything that a run's references resolve to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The virtual cluster.
    pub virtual_cluster: ClusterTarget,
    /// Tags that every resource gets, expanded for this object.
    pub default_tags: Vec<(String, String)>,
}

/// The virtual cluster that a run names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterTarget {
    /// It is given by its id.
    Given(String),
    /// The object referred to has an id and takes runs.
    Resolved(String),
    /// The object referred to isn't ready.
    Waiting {
        /// `False` where only a change of the reference or its target helps.
        status: ConditionStatus,
        /// What is missing.
        why: String,
        /// The target's id, if it has one: enough to look for a run, not to start one.
        id: Option<String>,
    },
    /// The spec names none, or two.
    Invalid(String),
}

impl ClusterTarget {
    /// The id, if known.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Given(id) | Self::Resolved(id) => Some(id),
            Self::Waiting { id, .. } => id.as_deref(),
            Self::Invalid(_) => None,
        }
    }

    /// Whether it came by reference.
    pub fn by_reference(&self) -> bool {
        matches!(self, Self::Resolved(_) | Self::Waiting { .. })
    }
}

/// Resolves the virtual cluster; `find` looks an object up by namespace and name.
pub fn virtual_cluster(
    run: &JobRun,
    find: impl FnOnce(&str, &str) -> Option<std::sync::Arc<VirtualCluster>>,
) -> ClusterTarget {
    let namespace = run.namespace().unwrap_or_default();
    let (id, reference) = (run.spec.virtual_cluster_id.as_deref(), run.spec.virtual_cluster_ref.as_ref());
    let invalid = |text: &str| ClusterTarget::Invalid(format!("spec.virtualClusterRef: {text}"));
    let reference = match (id, reference) {
        (Some(_), Some(_)) => {
            return invalid(
                "both resource reference wrapper and ID cannot be used together: VirtualClusterID,VirtualClusterRef; \
                 keep one of them",
            );
        }
        (Some(id), None) => return ClusterTarget::Given(id.to_owned()),
        (None, None) => {
            return invalid(
                "resource reference wrapper or ID required: VirtualClusterID,VirtualClusterRef; set one of them",
            );
        }
        (None, Some(reference)) => reference,
    };
    let Some((namespace, name)) = reference.target(&namespace) else {
        return invalid(
            "provided resource reference is nil or empty: VirtualClusterRef; set spec.virtualClusterRef.from.name",
        );
    };
    let waiting = |status, why: String, id: Option<&str>| ClusterTarget::Waiting {
        status,
        why,
        id: id.map(str::to_owned),
    };
    let Some(cluster) = find(namespace, name) else {
        let why = format!(
            "virtualclusters.emrcontainers.services.k8s.aws \"{name}\" not found in namespace \"{namespace}\": \
             create it, or correct spec.virtualClusterRef"
        );
        return waiting(ConditionStatus::Unknown, why, None);
    };
    let status = cluster.status.clone().unwrap_or_default();
    let id = status.id.as_deref();
    if cluster.metadata.deletion_timestamp.is_some() {
        let why = format!(
            "the referenced resource is being deleted. resource:VirtualCluster, namespace:{namespace}, name:{name}"
        );
        return waiting(ConditionStatus::Unknown, why, id);
    }
    if condition::is_true(&status.conditions, condition::TERMINAL) {
        let why = format!(
            "the referenced resource has 'ACK.Terminal' condition 'True'. Cannot be referenced. \
             resource:VirtualCluster, namespace:{namespace}, name:{name}"
        );
        return waiting(ConditionStatus::False, why, id);
    }
    // A passing trouble of a cluster that is there (a tag that can't be set, a read that failed) holds no run up.
    let synced = condition::is_true(&status.conditions, condition::RESOURCE_SYNCED);
    if status.state.as_deref().map_or(!synced, |state| state != virtual_cluster::RUNNING) {
        let why = format!(
            "the referenced resource is not synced yet. resource:VirtualCluster, namespace:{namespace}, name:{name}"
        );
        return waiting(ConditionStatus::Unknown, why, id);
    }
    let Some(id) = id else {
        let why = format!(
            "the referenced resource is missing the target field. resource:VirtualCluster, \
             namespace:{namespace}, name:{name}, targetField:Status.ID"
        );
        return waiting(ConditionStatus::Unknown, why, None);
    };
    ClusterTarget::Resolved(id.to_owned())
}

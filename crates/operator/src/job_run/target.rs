//! What a JobRun refers to, resolved: its virtual cluster and its role. Pure: what was found comes in as an argument.
//!
//! The texts are upstream's, so that what users search for stays the same; a remedy of ours may follow them. Invariant: a
//! reference to another namespace is followed only where the operator allows it.

use emrcontainers_api::condition::{self, ConditionStatus};
use emrcontainers_api::reference::ResourceReference;
use emrcontainers_api::virtual_cluster;
use emrcontainers_api::{JobRun, VirtualCluster};
use kube::ResourceExt;

use super::role::{Answer, Role};

/// The longest id that the service gives.
const MAX_ID_CHARS: usize = 64;

/// Everything that a run's references resolve to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The virtual cluster.
    pub virtual_cluster: ClusterTarget,
    /// The role that the job runs as.
    pub execution_role: RoleTarget,
    /// Tags that every resource gets, expanded for this object.
    pub default_tags: Vec<(String, String)>,
}

impl Target {
    /// Whether anything of it comes by reference.
    pub fn by_reference(&self) -> bool {
        self.virtual_cluster.by_reference() || self.execution_role.by_reference()
    }

    /// What it waits for, if for anything: the status of that condition, the cause, and whether nobody tells when it comes.
    pub fn waits_for(&self) -> Option<(ConditionStatus, &str, bool)> {
        match (&self.virtual_cluster, &self.execution_role) {
            (ClusterTarget::Waiting { status, why, .. }, _) => Some((*status, why, false)),
            (_, RoleTarget::Waiting { status, why, may_come }) => Some((*status, why, *may_come)),
            _ => None,
        }
    }
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

/// The role that a run names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleTarget {
    /// Its ARN is given.
    Given(String),
    /// An object is referred to, and was not looked up: nothing is to be started.
    Referred {
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
    },
    /// The object referred to has an ARN.
    Resolved(String),
    /// The object referred to isn't ready.
    Waiting {
        /// `False` where only a change of the reference or its target helps.
        status: ConditionStatus,
        /// What is missing.
        why: String,
        /// Whether it may come to be ready by itself.
        may_come: bool,
    },
    /// The spec names none, or two.
    Invalid(String),
}

impl RoleTarget {
    fn by_reference(&self) -> bool {
        matches!(self, Self::Referred { .. } | Self::Resolved(_) | Self::Waiting { .. })
    }
}

/// What there is to find, and what may be.
pub struct Reach<'a> {
    /// Whether references may lead to other namespaces.
    pub cross_namespace: bool,
    /// Whether this operator sees the virtual clusters of a namespace.
    pub sees: &'a dyn Fn(&str) -> bool,
    /// Looks a virtual cluster up by namespace and name.
    pub find: &'a dyn Fn(&str, &str) -> Option<std::sync::Arc<VirtualCluster>>,
}

/// Resolves the virtual cluster.
pub fn virtual_cluster(run: &JobRun, reach: &Reach<'_>) -> ClusterTarget {
    let own = run.namespace().unwrap_or_default();
    let (id, reference) = (run.spec.virtual_cluster_id.as_deref(), run.spec.virtual_cluster_ref.as_ref());
    let invalid = |text: &str| ClusterTarget::Invalid(format!("spec.virtualClusterRef: {text}"));
    let reference = match (id, reference) {
        (Some(_), Some(_)) => {
            return invalid(
                "both resource reference wrapper and ID cannot be used together: VirtualClusterID,VirtualClusterRef; \
                 keep one of them",
            );
        }
        (Some(id), None) if is_id(id) => return ClusterTarget::Given(id.to_owned()),
        (Some(id), None) => {
            return ClusterTarget::Invalid(format!(
                "spec.virtualClusterID: {id:?} is no id of a virtual cluster; it has to be up to {MAX_ID_CHARS} lower-case \
                 letters and digits"
            ));
        }
        (None, None) => {
            return invalid(
                "resource reference wrapper or ID required: VirtualClusterID,VirtualClusterRef; set one of them",
            );
        }
        (None, Some(reference)) => reference,
    };
    let Some((namespace, name)) = reference.target(&own) else {
        return invalid(
            "provided resource reference is nil or empty: VirtualClusterRef; set spec.virtualClusterRef.from.name",
        );
    };
    let found = (reach.find)(namespace, name);
    let status = found.as_ref().and_then(|cluster| cluster.status.clone()).unwrap_or_default();
    let id = status.id.as_deref().filter(|id| is_id(id));
    let waiting = |status, why: String| ClusterTarget::Waiting { status, why, id: id.map(str::to_owned) };
    if namespace != own && !reach.cross_namespace {
        return waiting(ConditionStatus::False, not_across(&own, namespace, name));
    }
    let Some(cluster) = found else {
        let missing = not_found("virtualclusters.emrcontainers.services.k8s.aws", name);
        let remedy = if (reach.sees)(namespace) {
            format!("in namespace \"{namespace}\": create it, or correct spec.virtualClusterRef")
        } else {
            format!(
                "among what this operator watches: let --watch-namespace name \"{namespace}\" too, or correct \
                 spec.virtualClusterRef"
            )
        };
        return waiting(ConditionStatus::Unknown, format!("{missing} {remedy}"));
    };
    let place = Place { kind: "VirtualCluster", namespace, name };
    if cluster.metadata.deletion_timestamp.is_some() {
        return waiting(ConditionStatus::Unknown, place.is_going());
    }
    if condition::is_true(&status.conditions, condition::TERMINAL) {
        return waiting(ConditionStatus::False, place.is_terminal());
    }
    // A passing trouble of a cluster that is there (a tag that can't be set, a read that failed) holds no run up.
    let synced = condition::is_true(&status.conditions, condition::RESOURCE_SYNCED);
    if status.state.as_deref().map_or(!synced, |state| state != virtual_cluster::RUNNING) {
        return waiting(ConditionStatus::Unknown, place.is_not_synced());
    }
    match id {
        Some(id) => ClusterTarget::Resolved(id.to_owned()),
        None => waiting(ConditionStatus::Unknown, place.lacks("Status.ID")),
    }
}

/// Whether a text has the form of an id of the service.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// What the spec says of the role.
pub fn execution_role(run: &JobRun, cross_namespace: bool) -> RoleTarget {
    let invalid = |field: &str, text: &str| RoleTarget::Invalid(format!("spec.{field}: {text}"));
    let reference = match (&run.spec.execution_role_arn, &run.spec.execution_role_ref) {
        (Some(arn), None) => return RoleTarget::Given(arn.clone()),
        (None, None) => {
            return invalid(
                "executionRoleARN",
                "is missing; set the ARN of the IAM role that the job runs as",
            );
        }
        (Some(_), Some(_)) => {
            return invalid(
                "executionRoleRef",
                "both resource reference wrapper and ID cannot be used together: ExecutionRoleARN,ExecutionRoleRef; \
                 keep one of them",
            );
        }
        (None, Some(reference)) => reference,
    };
    let own = run.namespace().unwrap_or_default();
    match reference.target(&own) {
        None => invalid(
            "executionRoleRef",
            "provided resource reference is nil or empty: ExecutionRoleRef; set spec.executionRoleRef.from.name",
        ),
        Some((namespace, name)) if namespace != own && !cross_namespace => RoleTarget::Waiting {
            status: ConditionStatus::False,
            why: not_across(&own, namespace, name),
            may_come: false,
        },
        Some((namespace, name)) => {
            RoleTarget::Referred { namespace: namespace.to_owned(), name: name.to_owned() }
        }
    }
}

/// What a role that was looked up comes to.
pub fn judge_role(namespace: &str, name: &str, answer: &Answer) -> RoleTarget {
    let waiting = |status, why| RoleTarget::Waiting { status, why, may_come: true };
    let Role { is_going, is_terminal, is_synced, arn } = match answer {
        Answer::Found(role) => role,
        Answer::Missing(words) => return waiting(ConditionStatus::Unknown, words.clone()),
    };
    let place = Place { kind: "Role", namespace, name };
    if *is_going {
        return waiting(ConditionStatus::Unknown, place.is_going());
    }
    if *is_terminal {
        return waiting(ConditionStatus::False, place.is_terminal());
    }
    if !*is_synced {
        return waiting(ConditionStatus::Unknown, place.is_not_synced());
    }
    match arn {
        Some(arn) => RoleTarget::Resolved(arn.clone()),
        None => waiting(ConditionStatus::Unknown, place.lacks("Status.ACKResourceMetadata.ARN")),
    }
}

/// What is to be known of a run that refers to other namespaces, where that is allowed.
pub fn cross_namespace_advice(run: &JobRun) -> Option<String> {
    let own = run.namespace().unwrap_or_default();
    let references = [&run.spec.virtual_cluster_ref, &run.spec.execution_role_ref];
    let across = references.into_iter().flatten().filter_map(|reference: &ResourceReference| {
        let (namespace, name) = reference.target(&own).filter(|(namespace, _)| *namespace != own)?;
        Some(format!(
            "Cross-namespace resource reference detected: resource in namespace \"{own}\" references \"{name}\" in \
             namespace \"{namespace}\". Cross-namespace behavior will be disabled by default in a future release. Set \
             --enable-cross-namespace=true to preserve this behavior."
        ))
    });
    let texts: Vec<String> = across.collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

fn not_across(own: &str, namespace: &str, name: &str) -> String {
    format!(
        "cross-namespace resource reference is not allowed. Set --enable-cross-namespace=true to allow it. \
         sourceNamespace:{own}, targetNamespace:{namespace}, name:{name}"
    )
}

/// The API server's words.
pub(super) fn not_found(resource: &str, name: &str) -> String {
    format!("{resource} \"{name}\" not found")
}

/// An object that is referred to.
struct Place<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
}

impl Place<'_> {
    fn words(&self) -> String {
        format!("resource:{}, namespace:{}, name:{}", self.kind, self.namespace, self.name)
    }

    fn is_going(&self) -> String {
        format!("the referenced resource is being deleted. {}", self.words())
    }

    fn is_terminal(&self) -> String {
        let words = self.words();
        format!("the referenced resource has 'ACK.Terminal' condition 'True'. Cannot be referenced. {words}")
    }

    fn is_not_synced(&self) -> String {
        format!("the referenced resource is not synced yet. {}", self.words())
    }

    fn lacks(&self, field: &str) -> String {
        let words = self.words();
        format!("the referenced resource is missing the target field. {words}, targetField:{field}")
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;

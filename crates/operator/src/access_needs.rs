//! What the operator has to be allowed to do, and how to say that it isn't. Pure.
//!
//! Invariant: what is listed here is what the chart grants and the operator can't do its work without; what only makes
//! something faster isn't.

use emrcontainers_api::{GROUP, SHARED_GROUP};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};

use crate::leader::LEASE;
use crate::metrics::Kind;
use crate::settings::Settings;

/// What is done with a kind, at least and where it is worked on, other than with the lease.
const WORK: [(Kind, &str, &[&str], &[&str]); 4] = [
    (Kind::JobRun, "jobruns", &["get", "list", "watch"], &["patch"]),
    (Kind::JobRun, "jobruns/status", &[], &["update"]),
    (Kind::VirtualCluster, "virtualclusters", &["get", "list", "watch"], &["patch"]),
    (Kind::VirtualCluster, "virtualclusters/status", &[], &["update"]),
];

/// What is done for FieldExports. The targets are read and written one by one.
const EXPORTS: [(&str, &str, &[&str]); 4] = [
    (SHARED_GROUP, "fieldexports", &["get", "list", "watch", "patch"]),
    (SHARED_GROUP, "fieldexports/status", &["update"]),
    ("", "configmaps", &["get", "patch"]),
    ("", "secrets", &["get", "patch"]),
];

/// What is done with what is of the whole cluster, when all namespaces are watched. Of one that is named, the annotations
/// are looked at where that is allowed.
const NAMESPACES: (&str, &str, &[&str]) = ("", "namespaces", &["list", "watch"]);
/// The same when role selectors decide who acts.
const SELECTORS: (&str, &str, &[&str]) = ("services.k8s.aws", "iamroleselectors", &["list", "watch"]);

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// All namespaces if there is none.
    namespace: Option<String>,
    /// All objects if there is none.
    name: Option<&'static str>,
}

impl Need {
    /// The question whether it is allowed.
    pub fn review(&self) -> SelfSubjectAccessReview {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let attributes = ResourceAttributes {
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: Some(subresource.to_owned()).filter(|name| !name.is_empty()),
            verb: Some(self.verb.to_owned()),
            namespace: self.namespace.clone(),
            name: self.name.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch")
    }

    /// Where it is about the same as another.
    fn is_beside(&self, other: &Self) -> bool {
        (self.group, self.resource, &self.namespace) == (other.group, other.resource, &other.namespace)
    }
}

/// All that is needed in the watched namespaces (all, if none is named), of the whole cluster, and for the lease. Events are
/// not: what is done is done without them too, and a log that can't be written to the objects is no reason not to be ready.
pub fn needs(settings: &Settings, lease: Option<&str>) -> Vec<Need> {
    let namespaces: Vec<&str> = settings.watch_namespaces.iter().map(String::as_str).collect();
    let mut needs = Vec::new();
    for namespace in watched(&namespaces) {
        for (kind, resource, read, work) in WORK {
            let work = if settings.worked_on.includes(kind) { work } else { &[] };
            needs.extend(read.iter().chain(work).map(|verb| Need {
                group: GROUP,
                resource,
                verb,
                namespace: namespace.map(str::to_owned),
                name: None,
            }));
        }
    }
    if namespaces.is_empty() {
        needs.extend(in_each(&[], &[NAMESPACES]));
    }
    if settings.feature_gates.iam_role_selector {
        needs.extend(in_each(&[], &[SELECTORS]));
    }
    // A name can't bound `create`, as it isn't known when the request is authorised. That a candidate may watch the lease
    // makes a hand-over faster and is not needed.
    for (verb, name) in [("create", None), ("get", Some(LEASE)), ("update", Some(LEASE))] {
        needs.extend(lease.map(|namespace| Need {
            group: "coordination.k8s.io",
            resource: "leases",
            verb,
            namespace: Some(namespace.to_owned()),
            name,
        }));
    }
    needs
}

/// All that FieldExports need in the watched namespaces.
pub fn export_needs(namespaces: &[&str]) -> Vec<Need> {
    in_each(namespaces, &EXPORTS)
}

/// The namespaces to ask about, `None` for all.
fn watched<'a>(namespaces: &[&'a str]) -> Vec<Option<&'a str>> {
    if namespaces.is_empty() { vec![None] } else { namespaces.iter().copied().map(Some).collect() }
}

fn in_each(namespaces: &[&str], work: &[(&'static str, &'static str, &'static [&'static str])]) -> Vec<Need> {
    let mut needs = Vec::new();
    for namespace in watched(namespaces) {
        for (group, resource, verbs) in work {
            needs.extend(verbs.iter().map(|verb| Need {
                group,
                resource,
                verb,
                namespace: namespace.map(str::to_owned),
                name: None,
            }));
        }
    }
    needs
}

/// Says what has to be granted, if anything.
pub fn missing(denied: &[&Need]) -> Result<(), String> {
    let groups = denied.chunk_by(|one, other| one.is_beside(other));
    let sentences = groups.filter_map(|group| {
        let first = group.first()?;
        let verbs: Vec<&str> = group.iter().map(|need| need.verb).collect();
        let place = first
            .namespace
            .as_ref()
            .map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"));
        let group = if first.group.is_empty() { String::new() } else { format!(".{}", first.group) };
        let resource = match first.resource.split_once('/') {
            Some((resource, subresource)) => format!("{resource}{group}/{subresource}"),
            None => format!("{}{group}", first.resource),
        };
        Some(format!("{} {resource} in {place}", verbs.join(", ")))
    });
    let sentences: Vec<String> = sentences.collect();
    if sentences.is_empty() {
        return Ok(());
    }
    Err(format!("are missing: grant the operator's account to {}", sentences.join("; to ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &str) -> Settings {
        let arguments =
            ["operator", "--aws-region=eu-west-1"].into_iter().chain(arguments.split_whitespace());
        Settings::from_command_line(arguments).unwrap()
    }

    #[test]
    fn what_is_missing_is_named_by_verb_resource_and_place() {
        assert_eq!(missing(&[]), Ok(()));
        let writing = needs(&settings(""), Some("home")).into_iter().filter(|need| !need.is_read());
        let verbs: std::collections::BTreeSet<&str> = writing.map(|need| need.verb).collect();
        assert_eq!(verbs.into_iter().collect::<Vec<_>>(), ["create", "patch", "update"]);
        let everywhere = needs(&settings(""), None);
        let writes: Vec<&Need> = everywhere.iter().filter(|need| need.verb != "get").collect();
        assert_eq!(
            missing(&writes[..4]).unwrap_err(),
            "are missing: grant the operator's account to list, watch, patch \
             jobruns.emrcontainers.services.k8s.aws in all namespaces; to update \
             jobruns.emrcontainers.services.k8s.aws/status in all namespaces"
        );
        let namespaces: Vec<&Need> = everywhere.iter().filter(|need| need.resource == "namespaces").collect();
        assert_eq!(
            missing(&namespaces).unwrap_err(),
            "are missing: grant the operator's account to list, watch namespaces in all namespaces"
        );
        let two = needs(&settings("--watch-namespace=a,b"), Some("home"));
        let leases: Vec<&Need> = two.iter().filter(|need| need.resource == "leases").collect();
        assert_eq!(
            missing(&leases).unwrap_err(),
            "are missing: grant the operator's account to create, get, update leases.coordination.k8s.io in namespace home"
        );
        let patches: Vec<&Need> = two.iter().filter(|need| need.verb == "patch").collect();
        assert!(
            missing(&patches[..3])
                .unwrap_err()
                .ends_with("in namespace a; to patch jobruns.emrcontainers.services.k8s.aws in namespace b")
        );
        let shared = namespaces.len();
        assert_eq!(
            two.len(),
            2 * (everywhere.len() - shared) + 3,
            "the lease is in one namespace only, and a namespace that is named isn't listed"
        );
        let exports = export_needs(&["a"]);
        let targets: Vec<&Need> = exports.iter().filter(|need| need.group.is_empty()).collect();
        assert_eq!(
            missing(&targets).unwrap_err(),
            "are missing: grant the operator's account to get, patch configmaps in namespace a; to get, patch secrets in \
             namespace a"
        );
    }

    #[test]
    fn selectors_are_read_where_their_gate_is_open() {
        let two = needs(&settings("--watch-namespace=a,b"), None);
        let gate = settings("--watch-namespace=a --enable-carm=false --feature-gates=IAMRoleSelector=true");
        let of_selectors =
            needs(&gate, None).iter().filter(|need| need.resource == "iamroleselectors").count();
        assert_eq!((of_selectors, two.iter().any(|need| need.resource == "iamroleselectors")), (2, false));
    }

    #[test]
    fn a_kind_that_is_only_read_needs_no_more() {
        let runs_only = needs(&settings("--reconcile-resources=JobRun"), None);
        let verbs = |what: &str| {
            runs_only.iter().filter(|need| need.resource.starts_with(what)).map(|need| need.verb).collect()
        };
        let (runs, clusters): (Vec<_>, Vec<_>) = (verbs("jobruns"), verbs("virtualclusters"));
        assert_eq!(runs, ["get", "list", "watch", "patch", "update"]);
        assert_eq!(clusters, ["get", "list", "watch"]);
    }

    #[test]
    fn a_question_is_as_narrow_as_the_need() {
        let needs = needs(&settings("--watch-namespace=a"), Some("home"));
        let asked = |resource: &str, verb: &str| {
            let need = needs.iter().find(|need| need.resource == resource && need.verb == verb).unwrap();
            need.review().spec.resource_attributes.unwrap()
        };
        let status = asked("jobruns/status", "update");
        assert_eq!(
            (status.resource.as_deref(), status.subresource.as_deref()),
            (Some("jobruns"), Some("status"))
        );
        assert_eq!((status.namespace.as_deref(), status.name), (Some("a"), None));
        assert_eq!(asked("leases", "update").name.as_deref(), Some(LEASE));
        assert_eq!(asked("leases", "create").name, None);
    }
}

//! Which role selectors fit an object. Pure.
//!
//! All parts of a selector have to fit (and), of a list any of its entries (or); a part that is left out fits everything.
//! Invariant: a selector that makes no sense fits nothing.

use std::collections::{BTreeMap, BTreeSet};

use emrcontainers_api::IAMRoleSelectorSpec;
use emrcontainers_api::iam_role_selector::{LabelSelector, NamespaceSelector, ResourceType};

use super::role_map::account_of;

/// What a selector looks at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The labels of the namespace.
    pub namespace_labels: &'a BTreeMap<String, String>,
    /// API group, version and kind.
    pub resource: [&'a str; 3],
    /// The object's labels.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// Whether a selector fits.
pub fn fits(selector: &IAMRoleSelectorSpec, candidate: &Candidate<'_>) -> bool {
    let namespace = selector.namespace_selector.as_ref();
    let types = selector.resource_type_selector.as_deref().unwrap_or_default();
    namespace.is_none_or(|wanted| fits_namespace(wanted, candidate))
        && (types.is_empty() || types.iter().any(|wanted| fits_type(wanted, candidate.resource)))
        && has_labels(selector.resource_label_selector.as_ref(), candidate.labels)
}

fn fits_namespace(wanted: &NamespaceSelector, candidate: &Candidate<'_>) -> bool {
    (wanted.names.is_empty() || wanted.names.iter().any(|name| name == candidate.namespace))
        && has_labels(wanted.label_selector.as_ref(), Some(candidate.namespace_labels))
}

fn fits_type(wanted: &ResourceType, [group, version, kind]: [&str; 3]) -> bool {
    [(&wanted.group, group), (&wanted.version, version), (&wanted.kind, kind)]
        .iter()
        .all(|(wanted, is)| wanted.is_empty() || wanted == is)
}

fn has_labels(wanted: Option<&LabelSelector>, labels: Option<&BTreeMap<String, String>>) -> bool {
    wanted.is_none_or(|wanted| {
        let mut wanted = wanted.match_labels.iter();
        wanted.all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

/// What makes a selector unfit for use, if anything.
pub fn flaw(selector: &IAMRoleSelectorSpec) -> Option<String> {
    if selector.arn.is_empty() {
        return Some("ARN cannot be empty".to_owned());
    }
    if let Err(why) = account_of(&selector.arn) {
        return Some(format!("invalid ARN: {why}"));
    }
    if let Some(namespaces) = &selector.namespace_selector {
        let mut seen = BTreeSet::new();
        for name in &namespaces.names {
            if name.is_empty() {
                return Some("invalid namespace selector: namespace name cannot be empty".to_owned());
            }
            if !seen.insert(name) {
                return Some(format!("invalid namespace selector: duplicate namespace name: {name}"));
            }
        }
        if has_empty_key(namespaces.label_selector.as_ref()) {
            return Some("invalid namespace selector: label key cannot be empty".to_owned());
        }
    }
    let mut seen = BTreeSet::new();
    for (index, ResourceType { group, kind, version }) in
        selector.resource_type_selector.iter().flatten().enumerate()
    {
        if group.is_empty() && kind.is_empty() && version.is_empty() {
            return Some(format!(
                "invalid resource type selector: at least one of group, version, or kind must be specified at index {index}"
            ));
        }
        if !seen.insert((group, version, kind)) {
            return Some(format!(
                "invalid resource type selector: duplicate resource type selector: {group}/{version}/{kind}"
            ));
        }
    }
    has_empty_key(selector.resource_label_selector.as_ref())
        .then(|| "invalid label selector: label key cannot be empty".to_owned())
}

fn has_empty_key(labels: Option<&LabelSelector>) -> bool {
    labels.is_some_and(|labels| labels.match_labels.contains_key(""))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(more: &Value) -> IAMRoleSelectorSpec {
        let mut spec = json!({"arn": "arn:aws:iam::111122223333:role/etl"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn all_parts_have_to_fit_and_of_a_list_any_entry() {
        let labels = BTreeMap::from([("team".to_owned(), "etl".to_owned())]);
        let candidate = Candidate {
            namespace: "jobs",
            namespace_labels: &BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
            resource: ["emrcontainers.services.k8s.aws", "v1alpha1", "JobRun"],
            labels: Some(&labels),
        };
        let kind = |group: &str, kind: &str| json!({"group": group, "version": "", "kind": kind});
        for (selector, expected) in [
            (json!({}), true),
            (json!({"namespaceSelector": {"names": []}}), true),
            (json!({"namespaceSelector": {"names": ["other", "jobs"]}}), true),
            (json!({"namespaceSelector": {"names": ["other"]}}), false),
            (
                json!({"namespaceSelector": {"names": ["jobs"], "labelSelector": {"matchLabels": {"env": "dev"}}}}),
                false,
            ),
            (
                json!({"namespaceSelector": {"names": [], "labelSelector": {"matchLabels": {"env": "prod"}}}}),
                true,
            ),
            (json!({"resourceTypeSelector": []}), true),
            (json!({"resourceTypeSelector": [kind("s3.services.k8s.aws", ""), kind("", "JobRun")]}), true),
            (json!({"resourceTypeSelector": [kind("", "VirtualCluster")]}), false),
            (json!({"resourceTypeSelector": [kind("s3.services.k8s.aws", "JobRun")]}), false),
            (json!({"resourceLabelSelector": {"matchLabels": {"team": "etl"}}}), true),
            (json!({"resourceLabelSelector": {"matchLabels": {"team": "etl", "tier": "a"}}}), false),
            (
                json!({
                    "namespaceSelector": {"names": ["jobs"]},
                    "resourceLabelSelector": {"matchLabels": {"team": "ml"}},
                }),
                false,
            ),
        ] {
            let selector = spec(&selector);
            assert_eq!(flaw(&selector), None, "{selector:?}");
            assert_eq!(fits(&selector, &candidate), expected, "{selector:?}");
        }
    }

    #[test]
    fn a_selector_that_makes_no_sense_is_told_from_one_that_does() {
        let any = json!({"group": "", "version": "", "kind": ""});
        let run = json!({"group": "", "version": "", "kind": "JobRun"});
        for (selector, expected) in [
            (json!({"arn": ""}), "ARN cannot be empty"),
            (json!({"arn": "etl"}), "invalid ARN: arn: invalid prefix"),
            (json!({"namespaceSelector": {"names": [""]}}), "namespace name cannot be empty"),
            (json!({"namespaceSelector": {"names": ["a", "a"]}}), "duplicate namespace name: a"),
            (json!({"resourceTypeSelector": [any]}), "must be specified at index 0"),
            (json!({"resourceTypeSelector": [run, run]}), "duplicate resource type selector: //JobRun"),
            (json!({"resourceLabelSelector": {"matchLabels": {"": "x"}}}), "label key cannot be empty"),
        ] {
            let flaw = flaw(&spec(&selector)).unwrap();
            assert!(flaw.contains(expected), "{flaw}");
        }
    }
}

//! The rights that the manifest grants to the operator are those that it asks for.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds no manifest has to fail")]

use std::collections::BTreeSet;

use emrcontainers_operator::access_needs;
use emrcontainers_operator::settings::Settings;
use serde_json::Value;

const MANIFEST: &str = include_str!("../../../manifests/install.yaml");
/// What is used where it is granted, and done without elsewhere.
const NOT_NEEDED: [&str; 8] = [
    "create events.events.k8s.io",
    "patch events.events.k8s.io",
    "get roles.iam.services.k8s.aws",
    "list leases.coordination.k8s.io",
    "watch leases.coordination.k8s.io",
    "get namespaces",
    "list configmaps",
    "watch configmaps",
];

fn right(verb: &str, resource: &str, group: &str) -> String {
    if group.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {resource}.{group}") }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[test]
fn the_operator_is_granted_what_it_asks_for_and_no_more() {
    let objects: Vec<Value> = serde_saphyr::from_multiple(MANIFEST).unwrap();
    let name = |object: &Value, at: &str| {
        let (kind, name) = (object["kind"].as_str()?, object.pointer(at)?.as_str()?);
        Some(format!("{kind} {name}"))
    };
    let bound: Vec<_> = objects.iter().filter_map(|binding| name(&binding["roleRef"], "/name")).collect();
    let roles =
        objects.iter().filter(|role| name(role, "/metadata/name").is_some_and(|name| bound.contains(&name)));
    let mut granted = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                granted.extend(texts(&rule["verbs"]).map(|verb| right(verb, resource, group)));
            }
        }
    }
    let settings = Settings::from_command_line(["operator", "--aws-region=us-west-2"]).unwrap();
    let needs = [access_needs::needs(&settings, Some("default")), access_needs::export_needs(&[])].concat();
    let asked = needs.iter().filter_map(|need| need.review().spec.resource_attributes).map(|need| {
        let resource: Vec<_> = need.resource.into_iter().chain(need.subresource).collect();
        right(&need.verb.unwrap_or_default(), &resource.join("/"), &need.group.unwrap_or_default())
    });
    let expected: BTreeSet<_> = asked.chain(NOT_NEEDED.map(str::to_owned)).collect();
    assert_eq!(granted, expected);
}

//! Tables of what is done for an export, and that whatever is done comes to an end.

use emrcontainers_api::field_export::{FieldExport, FieldExportOutputType};
use emrcontainers_api::{FIELD_EXPORT_FINALIZER, GROUP, annotations};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{self, Bounds, Source, SourceKind, Step};
use super::target::Target;

fn export(spec: Value, metadata: Value) -> FieldExport {
    let mut object = json!({
        "metadata": {"name": "out", "namespace": "ns", "uid": "u"},
        "spec": {
            "from": {"path": ".status.id", "resource": {"group": GROUP, "kind": "VirtualCluster", "name": "vc"}},
            "to": {"kind": "configmap", "name": "target"},
        },
    });
    merge(&mut object["metadata"], metadata);
    merge(&mut object["spec"], spec);
    serde_json::from_value(object).unwrap()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn plan(export: &FieldExport, cross_namespace: bool) -> Step {
    plan::plan(export, Bounds { cross_namespace, system_namespace: "ack-system" })
}

fn claimed(target: &str) -> Value {
    json!({ "finalizers": [FIELD_EXPORT_FINALIZER], "annotations": { annotations::EXPORTED_TO: target } })
}

fn target(text: &str) -> Target {
    Target::parse(text).unwrap()
}

#[test]
fn an_export_claims_its_target_before_it_writes_it() {
    let new = export(json!({}), json!({}));
    assert_eq!(plan(&new, true), Step::Claim(target("configmap/ns/target")));
    // Upstream's controller puts the finalizer on, and no annotation.
    let of_upstream = export(json!({}), json!({ "finalizers": [FIELD_EXPORT_FINALIZER] }));
    assert_eq!(plan(&of_upstream, true), Step::Claim(target("configmap/ns/target")));
    let Step::Export(wanted) = plan(&export(json!({}), claimed("configmap/ns/target")), true) else {
        panic!("should be exported")
    };
    let source = Source { kind: SourceKind::VirtualCluster, namespace: "ns".into(), name: "vc".into() };
    assert_eq!((wanted.source, wanted.key.as_str()), (source, "ns.out"));
    for (key, expected) in [("k", "k"), ("", "ns.out"), ("  ", "ns.out")] {
        let export = export(json!({"to": {"key": key}}), claimed("configmap/ns/target"));
        assert!(matches!(plan(&export, true), Step::Export(wanted) if wanted.key == expected), "{key:?}");
    }
}

#[test]
fn another_target_is_claimed_after_the_former_one_is_vacated() {
    for to in [json!({"name": "other"}), json!({"kind": "secret"}), json!({"namespace": "elsewhere"})] {
        let moved = export(json!({ "to": to }), claimed("configmap/ns/target"));
        assert_eq!(plan(&moved, true), Step::Vacate(target("configmap/ns/target")), "{moved:?}");
    }
    // Also where it can't be written to.
    let away = export(json!({"to": {"namespace": "elsewhere"}}), claimed("configmap/ns/target"));
    assert_eq!(plan(&away, false), Step::Vacate(target("configmap/ns/target")));
    // An empty namespace is the export's own.
    let home = export(json!({"to": {"namespace": ""}}), claimed("configmap/ns/target"));
    assert!(matches!(plan(&home, false), Step::Export(_)));
}

#[test]
fn what_can_not_be_exported_is_refused_with_the_remedy() {
    for (spec, words) in [
        (json!({"from": {"resource": {"kind": "Bucket"}}}), "set JobRun or VirtualCluster"),
        (json!({"from": {"resource": {"name": ""}}}), "spec.from.resource.name"),
        (json!({"to": {"name": ""}}), "spec.to.name"),
        (
            json!({"to": {"namespace": "b"}}),
            "cross-namespace resource reference is not allowed. Set --enable-cross-namespace=true to allow it. \
             sourceNamespace:ns, targetNamespace:b, name:target",
        ),
    ] {
        let refused = plan(&export(spec, json!({})), false);
        assert!(matches!(&refused, Step::Refuse(why) if why.contains(words)), "{refused:?}");
    }
}

#[test]
fn an_export_of_another_controller_is_left_alone() {
    let bucket = json!({"from": {"resource": {"group": "s3.services.k8s.aws", "kind": "Bucket"}}});
    let deleted =
        json!({"deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": [FIELD_EXPORT_FINALIZER]});
    for metadata in [json!({}), json!({ "finalizers": [FIELD_EXPORT_FINALIZER] }), deleted] {
        assert_eq!(plan(&export(bucket.clone(), metadata), true), Step::Rest);
    }
    // One that was ours leaves nothing behind.
    let was_ours = export(bucket, claimed("secret/ns/s"));
    assert_eq!(plan(&was_ours, true), Step::Vacate(target("secret/ns/s")));
}

#[test]
fn a_deleted_export_takes_its_key_with_it() {
    let deletion = json!({"deletionTimestamp": "2026-01-02T03:04:05Z"});
    assert_eq!(plan(&export(json!({}), deletion.clone()), true), Step::Rest);
    let mut metadata = claimed("configmap/ns/target");
    merge(&mut metadata, deletion);
    // Wherever it should be by now.
    let moved = export(json!({"to": {"name": "other"}}), metadata.clone());
    assert_eq!(plan(&moved, true), Step::Release(Some(target("configmap/ns/target"))));
    metadata["annotations"] = json!({});
    assert_eq!(plan(&export(json!({}), metadata), true), Step::Release(None));
}

/// What a step leaves of the object's metadata, as `act` writes it.
fn after(export: &FieldExport, step: &Step, holds: &mut Vec<Target>) -> Option<FieldExport> {
    let mut next = export.clone();
    let annotations = next.metadata.annotations.get_or_insert_default();
    let finalizers = next.metadata.finalizers.get_or_insert_default();
    match step {
        Step::Rest | Step::Refuse(_) | Step::Release(None) => return None,
        Step::Claim(target) => {
            annotations.insert(annotations::EXPORTED_TO.to_owned(), target.to_string());
            if !finalizers.iter().any(|name| name == FIELD_EXPORT_FINALIZER) {
                finalizers.push(FIELD_EXPORT_FINALIZER.to_owned());
            }
        }
        Step::Vacate(target) => {
            holds.retain(|held| held != target);
            annotations.remove(annotations::EXPORTED_TO);
            if !super::plan::is_ours(export) {
                finalizers.retain(|name| name != FIELD_EXPORT_FINALIZER);
            }
        }
        Step::Release(Some(target)) => {
            holds.retain(|held| held != target);
            return None;
        }
        Step::Export(wanted) => {
            holds.push(wanted.target.clone());
            return None;
        }
    }
    Some(next)
}

proptest! {
    /// An export that is edited again and again, and deleted in the end, leaves no key anywhere and never more than one.
    #[test]
    fn edits_and_the_deletion_leave_no_key(
        edits in prop::collection::vec(
            (prop::bool::ANY, 0..3_usize, prop::bool::ANY, prop::bool::ANY, 0..6_usize),
            1..8,
        )
    ) {
        let mut object = export(json!({}), json!({}));
        let mut holds = Vec::new();
        for (ours, to, secret, cross_namespace, steps) in edits {
            object.spec.from.resource.group = if ours { GROUP } else { "s3.services.k8s.aws" }.to_owned();
            object.spec.to.name = ["a", "b", "c"][to].to_owned();
            let kinds = [FieldExportOutputType::ConfigMap, FieldExportOutputType::Secret];
            object.spec.to.kind = kinds[usize::from(secret)];
            object.spec.to.namespace = Some(if cross_namespace { "ns" } else { "elsewhere" }.to_owned());
            // The process may end after any step.
            for _ in 0..steps {
                let step = plan(&object, to != 1);
                let Some(next) = after(&object, &step, &mut holds) else { break };
                object = next;
                holds.dedup();
                prop_assert!(holds.len() <= 1, "{holds:?}");
            }
            holds.dedup();
        }
        let is_held = object.metadata.finalizers.iter().flatten().any(|name| name == FIELD_EXPORT_FINALIZER);
        prop_assert!(is_held || holds.is_empty(), "the finalizer is there while a key may be: {holds:?}");
        object.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap();
        let step = plan(&object, false);
        after(&object, &step, &mut holds);
        prop_assert!(holds.is_empty(), "{holds:?}");
    }
}

#[test]
fn no_export_writes_the_config_maps_of_roles() {
    let to = |kind: &str, namespace: &str, name: &str| {
        let to = json!({"to": {"kind": kind, "namespace": namespace, "name": name}});
        plan(&export(to, json!({})), true)
    };
    for name in ["ack-role-account-map", "ack-role-team-map"] {
        let Step::Refuse(why) = to("configmap", "ack-system", name) else {
            panic!("{name} should be refused")
        };
        assert!(why.contains(name) && why.contains("choose another target"), "{why}");
        for (kind, namespace) in [("secret", "ack-system"), ("configmap", "ns")] {
            assert!(matches!(to(kind, namespace, name), Step::Claim(_)), "{kind} in {namespace}");
        }
    }
    assert!(matches!(to("configmap", "ack-system", "other"), Step::Claim(_)));
}

//! What each state of a reference comes to, as tables.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn run(spec: &Value) -> JobRun {
    serde_json::from_value(json!({"metadata": {"name": "run", "namespace": "a"}, "spec": spec})).unwrap()
}

fn cluster(status: &Value) -> VirtualCluster {
    serde_json::from_value(json!({
        "metadata": {"name": "vc", "namespace": "b"},
        "spec": {"name": "vc", "containerProvider": {}}, "status": status,
    }))
    .unwrap()
}

fn resolve(reference: &Value, found: Option<VirtualCluster>, allowed: bool) -> ClusterTarget {
    let found = found.map(Arc::new);
    let reach = Reach {
        cross_namespace: allowed,
        sees: &|namespace| namespace != "unseen",
        find: &|_, _| found.clone(),
    };
    virtual_cluster(&run(&json!({"virtualClusterRef": {"from": reference}})), &reach)
}

fn told(target: &ClusterTarget) -> (ConditionStatus, &str) {
    match target {
        ClusterTarget::Waiting { status, why, .. } => (*status, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_state_of_a_reference_is_told_in_upstreams_words() {
    let far = || json!({"name": "vc", "namespace": "b"});
    let unknown = ConditionStatus::Unknown;
    let terminal = json!({"conditions": [{"type": "ACK.Terminal", "status": "True"}]});
    let synced = json!({"conditions": [{"type": "ACK.ResourceSynced", "status": "True"}]});
    for (found, status, words) in [
        (
            None,
            unknown,
            "virtualclusters.emrcontainers.services.k8s.aws \"vc\" not found in namespace \"b\": create it",
        ),
        (
            Some(json!({})),
            unknown,
            "the referenced resource is not synced yet. resource:VirtualCluster, namespace:b, name:vc",
        ),
        (
            Some(terminal),
            ConditionStatus::False,
            "the referenced resource has 'ACK.Terminal' condition 'True'. Cannot be referenced. \
             resource:VirtualCluster, namespace:b, name:vc",
        ),
        (
            Some(synced),
            unknown,
            "the referenced resource is missing the target field. resource:VirtualCluster, namespace:b, name:vc, \
             targetField:Status.ID",
        ),
    ] {
        let target = resolve(&far(), found.as_ref().map(cluster), true);
        let (found, why) = told(&target);
        assert!(found == status && why.starts_with(words), "{why}");
    }
    let ready = || Some(cluster(&json!({"id": "abc", "state": "RUNNING"})));
    assert_eq!(resolve(&far(), ready(), true), ClusterTarget::Resolved("abc".into()));
    let unseen = resolve(&json!({"name": "vc", "namespace": "unseen"}), None, true);
    assert!(told(&unseen).1.contains("let --watch-namespace name \"unseen\" too"), "{unseen:?}");
    // Where it isn't allowed, the id is still enough to look for a run.
    let refused = resolve(&far(), ready(), false);
    let words = "cross-namespace resource reference is not allowed. Set --enable-cross-namespace=true to allow it. \
                 sourceNamespace:a, targetNamespace:b, name:vc";
    assert_eq!(told(&refused), (ConditionStatus::False, words));
    assert_eq!(refused.id(), Some("abc"));
    for near in [json!({"name": "vc"}), json!({"name": "vc", "namespace": "a"})] {
        assert_eq!(resolve(&near, ready(), false), ClusterTarget::Resolved("abc".into()));
    }
}

#[test]
fn every_state_of_a_role_is_told_in_upstreams_words() {
    let good = || Role { is_synced: true, arn: Some("arn".into()), ..Role::default() };
    let place = "resource:Role, namespace:b, name:r";
    for (role, status, words) in [
        (Role { is_going: true, ..good() }, ConditionStatus::Unknown, "is being deleted. "),
        (
            Role { is_terminal: true, ..good() },
            ConditionStatus::False,
            "has 'ACK.Terminal' condition 'True'. Cannot be referenced. ",
        ),
        (Role { is_synced: false, ..good() }, ConditionStatus::Unknown, "is not synced yet. "),
        (Role { arn: None, ..good() }, ConditionStatus::Unknown, "is missing the target field. "),
    ] {
        let field = if role.arn.is_none() { ", targetField:Status.ACKResourceMetadata.ARN" } else { "" };
        let why = format!("the referenced resource {words}{place}{field}");
        let expected = RoleTarget::Waiting { status, why, may_come: true };
        assert_eq!(judge_role("b", "r", &Answer::Found(role)), expected);
    }
    assert_eq!(judge_role("b", "r", &Answer::Found(good())), RoleTarget::Resolved("arn".into()));
}

#[test]
fn an_id_that_none_can_have_is_refused_before_it_gets_into_a_path() {
    let reach = Reach { cross_namespace: true, sees: &|_| true, find: &|_, _| None };
    let given = |id: &str| virtual_cluster(&run(&json!({"virtualClusterID": id})), &reach);
    let longest = "a".repeat(64);
    for id in ["0", "abc123", &longest] {
        assert_eq!(given(id), ClusterTarget::Given(id.into()));
    }
    for id in ["", "VC1", "vc/1", "..", &format!("{longest}a")] {
        let target = given(id);
        assert!(
            matches!(&target, ClusterTarget::Invalid(why) if why.starts_with("spec.virtualClusterID: ")),
            "{target:?}"
        );
    }
}

#[test]
fn a_spec_names_one_role_in_one_way() {
    let reference = |namespace: &str| json!({"from": {"name": "r", "namespace": namespace}});
    let far = run(&json!({"executionRoleRef": reference("b")}));
    let referred = RoleTarget::Referred { namespace: "b".into(), name: "r".into() };
    assert_eq!(execution_role(&far, true), referred);
    assert!(
        matches!(execution_role(&far, false), RoleTarget::Waiting { may_come: false, why, .. } if why.ends_with("targetNamespace:b, name:r"))
    );
    for (spec, words) in [
        (json!({}), "is missing"),
        (
            json!({"executionRoleARN": "x", "executionRoleRef": reference("a")}),
            "cannot be used together: ExecutionRoleARN,ExecutionRoleRef",
        ),
        (json!({"executionRoleRef": {}}), "provided resource reference is nil or empty: ExecutionRoleRef"),
    ] {
        let target = execution_role(&run(&spec), true);
        assert!(matches!(&target, RoleTarget::Invalid(why) if why.contains(words)), "{target:?}");
    }
}

#[test]
fn references_to_other_namespaces_are_advised_of() {
    let both = run(&json!({
        "virtualClusterRef": {"from": {"name": "vc", "namespace": "b"}},
        "executionRoleRef": {"from": {"name": "r", "namespace": "c"}},
    }));
    let advice = cross_namespace_advice(&both).unwrap();
    for words in [
        "resource in namespace \"a\" references \"vc\" in namespace \"b\". Cross-namespace behavior will be disabled by \
         default in a future release. Set --enable-cross-namespace=true to preserve this behavior.",
        "references \"r\" in namespace \"c\"",
    ] {
        assert!(advice.contains(words), "{advice}");
    }
    let near = run(&json!({"virtualClusterRef": {"from": {"name": "vc", "namespace": "a"}}}));
    assert_eq!(cross_namespace_advice(&near), None);
}

#[test]
fn what_comes_by_reference_is_known_and_the_cluster_is_waited_for_first() {
    let unknown = ConditionStatus::Unknown;
    let cluster_waits = ClusterTarget::Waiting { status: unknown, why: "no cluster".into(), id: None };
    let role_waits = |may_come| RoleTarget::Waiting { status: unknown, why: "no role".into(), may_come };
    let clusters = [ClusterTarget::Given("vc".into()), ClusterTarget::Invalid("none".into())];
    let referred_clusters = [ClusterTarget::Resolved("vc".into()), cluster_waits.clone()];
    let roles = [RoleTarget::Given("arn".into()), RoleTarget::Invalid("none".into())];
    let referred = RoleTarget::Referred { namespace: "a".into(), name: "role".into() };
    let referred_roles = [referred, RoleTarget::Resolved("arn".into()), role_waits(true)];
    let target = |virtual_cluster: &ClusterTarget, execution_role: &RoleTarget| Target {
        virtual_cluster: virtual_cluster.clone(),
        execution_role: execution_role.clone(),
        default_tags: Vec::new(),
    };
    for cluster in clusters.iter().chain(&referred_clusters) {
        for role in roles.iter().chain(&referred_roles) {
            let by_reference = referred_clusters.contains(cluster) || referred_roles.contains(role);
            assert_eq!(target(cluster, role).by_reference(), by_reference, "{cluster:?} {role:?}");
        }
    }
    let waits = |cluster: &ClusterTarget, role: &RoleTarget| {
        target(cluster, role).waits_for().map(|(_, why, may_come)| (why.to_owned(), may_come))
    };
    let [given, _] = &clusters;
    assert_eq!(waits(&cluster_waits, &role_waits(true)), Some(("no cluster".to_owned(), false)));
    assert_eq!(waits(given, &role_waits(true)), Some(("no role".to_owned(), true)));
    assert_eq!(waits(given, &role_waits(false)), Some(("no role".to_owned(), false)));
    assert_eq!(waits(given, &roles[0]), None);
}

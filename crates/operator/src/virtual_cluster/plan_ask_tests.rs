//! What annotations ask for: to take a virtual cluster over, or only to look at one.

use emrcontainers_api::virtual_cluster::{RUNNING, VirtualCluster};
use emrcontainers_api::{annotations, condition};

use super::adoption::Existing;
use super::plan::{Step, View, plan};
use super::plan_tests::{after, cluster, finalised, in_state, replaced, seen, view};
use super::status::Situation;
use crate::memory::Memory;

/// The step, once what is asked for is changed.
fn step(cluster: &VirtualCluster, change: impl FnOnce(&mut View<'_>)) -> Step {
    let memory = Memory::default();
    let mut view = view(cluster, &memory, &[], false);
    change(&mut view);
    plan(&view)
}

fn asks(mut cluster: VirtualCluster, policy: &str) -> VirtualCluster {
    let asked = [(annotations::ADOPTION_POLICY, policy), (annotations::ADOPTION_FIELDS, r#"{"id": "vc9"}"#)];
    let asked = asked.map(|(key, value)| (key.to_owned(), value.to_owned()));
    cluster.metadata.annotations = Some(asked.into());
    cluster
}

fn adopt(otherwise: Option<Step>) -> Step {
    Step::Adopt(Existing { id: "vc9".into(), arn: None }, otherwise.map(Box::new))
}

fn of_another_type() -> VirtualCluster {
    let mut cluster = cluster();
    cluster.spec.container_provider.type_ = Some("GKE".into());
    after(cluster, &Situation::Unfit("of another type"))
}

fn create() -> Step {
    Step::Create { token: "uid-1".into() }
}

#[test]
fn a_cluster_is_taken_over_while_nothing_was_made_for_the_object() {
    for (what, cluster, expected) in [
        ("adopt", asks(cluster(), "adopt"), adopt(None)),
        ("or create", asks(cluster(), "adopt-or-create"), adopt(Some(Step::AddFinalizer))),
        ("ours may have been made", asks(finalised(cluster()), "adopt-or-create"), create()),
        ("adopt never creates", asks(finalised(cluster()), "adopt"), adopt(None)),
        ("it has one", asks(in_state(RUNNING), "adopt"), Step::Sync("vc1".into())),
    ] {
        assert_eq!(step(&cluster, |_| {}), expected, "{what}");
    }
    let ignored = step(&asks(cluster(), "adopt"), |view| view.adoption = false);
    assert_eq!(ignored, Step::AddFinalizer, "the feature gate is closed");
    let unfit = step(&asks(of_another_type(), "adopt-or-create"), |_| {});
    assert_eq!(unfit, adopt(Some(Step::Settled)), "none of its own can be made");
}

#[test]
fn what_can_not_be_followed_is_told_and_forgotten_with_the_annotation() {
    let asked = asks(cluster(), "import");
    let Step::Misask(why) = step(&asked, |_| {}) else { panic!("it can't be followed") };
    assert!(why.contains("unrecognized adoption policy import"), "{why}");
    let mut told = after(asked, &Situation::Misasked(&why));
    assert!(matches!(step(&told, |_| {}), Step::Misask(_)));
    told.metadata.annotations = None;
    assert_eq!(step(&told, |_| {}), Step::AddFinalizer);
    assert_eq!(step(&finalised(told), |_| {}), create(), "it was no refusal of AWS");
    assert_eq!(step(&of_another_type(), |_| {}), Step::Settled, "that isn't for an annotation");
}

#[test]
fn a_read_only_object_changes_nothing_at_aws() {
    let refused = || after(finalised(cluster()), &Situation::Refused("no"));
    let gone = || after(in_state(RUNNING), &Situation::Gone("gone"));
    for (what, cluster, expected) in [
        ("new", cluster(), Step::Missing),
        ("finalised", finalised(cluster()), Step::Missing),
        ("running", in_state(RUNNING), Step::Sync("vc1".into())),
        ("replaced", replaced(in_state(RUNNING)), Step::Sync("vc1".into())),
        ("refused", refused(), Step::Missing),
        ("refused and replaced", replaced(refused()), Step::Missing),
        ("gone", gone(), Step::Settled),
        ("adopt", asks(cluster(), "adopt"), adopt(None)),
        ("or create", asks(cluster(), "adopt-or-create"), adopt(Some(Step::Missing))),
        ("or again", asks(replaced(refused()), "adopt-or-create"), adopt(Some(Step::Missing))),
        ("or nothing", asks(of_another_type(), "adopt-or-create"), adopt(Some(Step::Settled))),
    ] {
        assert_eq!(step(&cluster, |view| view.read_only = true), expected, "{what}");
    }
}

#[test]
fn a_difference_that_stays_is_told_of_what_was_seen() {
    let advised = |situation: &Situation<'_>| {
        let conditions = after(finalised(cluster()), situation).status.unwrap().conditions;
        condition::find(&conditions, condition::ADVISORY).and_then(|told| told.message.clone())
    };
    let mut differs = seen(RUNNING);
    differs.advice = Some("differs in spec.name".into());
    assert_eq!(advised(&Situation::Seen(&differs)).as_deref(), Some("differs in spec.name"));
    let unequal = Situation::Unequal(&differs, "tags");
    assert_eq!(advised(&unequal).as_deref(), Some("differs in spec.name"));
    assert_eq!(advised(&Situation::Seen(&seen(RUNNING))), None);
}

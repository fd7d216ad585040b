//! Each situation of a virtual cluster and the step that follows, as a table; and its status.

use emrcontainers_api::condition::{self, ConditionStatus};
use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::virtual_cluster::{
    ARRESTED, ContainerInfo, ContainerProvider, EksInfo, RUNNING, SchedulerConfiguration, TERMINATED,
    TERMINATING, VirtualCluster, VirtualClusterSpec,
};
use emrcontainers_api::{VIRTUAL_CLUSTER_FINALIZER, annotations};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Step, View, limits_differ, namespace, never_asked, plan};
use super::status::{SeenCluster, Situation, next};
use crate::memory::Memory;
use crate::scope::decide::Told;

pub(super) fn cluster() -> VirtualCluster {
    let provider = ContainerProvider { id: Some("eks".into()), type_: Some("EKS".into()), info: None };
    let spec = VirtualClusterSpec {
        name: "vc".into(),
        container_provider: provider,
        ..VirtualClusterSpec::default()
    };
    let mut cluster = VirtualCluster::new("vc", spec);
    cluster.metadata.uid = Some("uid".into());
    cluster.metadata.generation = Some(1);
    cluster
}

pub(super) fn finalised(mut cluster: VirtualCluster) -> VirtualCluster {
    cluster.metadata.finalizers = Some(vec![VIRTUAL_CLUSTER_FINALIZER.to_owned()]);
    cluster
}

fn deleted(cluster: VirtualCluster) -> VirtualCluster {
    let mut cluster = finalised(cluster);
    cluster.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    cluster
}

pub(super) fn after(mut cluster: VirtualCluster, situation: &Situation<'_>) -> VirtualCluster {
    cluster.status = Some(next(&cluster, situation, &Told::default(), Timestamp::UNIX_EPOCH));
    cluster
}

pub(super) fn seen(state: &str) -> SeenCluster {
    SeenCluster {
        id: "vc1".into(),
        place: AckResourceMetadata::default(),
        state: state.into(),
        created_at: None,
        scheduler: None,
        advice: None,
        unsent: false,
    }
}

pub(super) fn in_state(state: &str) -> VirtualCluster {
    after(finalised(cluster()), &Situation::Seen(&seen(state)))
}

/// As a manifest leaves it that replaces it.
pub(super) fn replaced(mut cluster: VirtualCluster) -> VirtualCluster {
    cluster.metadata.finalizers = None;
    cluster
}

fn retried(mut cluster: VirtualCluster) -> VirtualCluster {
    cluster.metadata.annotations = Some([(annotations::RETRY.to_owned(), "1".to_owned())].into());
    cluster
}

pub(super) fn view<'a>(
    cluster: &'a VirtualCluster,
    memory: &'a Memory<VirtualCluster>,
    users: &'a [String],
    retain: bool,
) -> View<'a> {
    View { cluster, memory, users, tags_problem: None, retain, read_only: false, adoption: true }
}

fn step(cluster: &VirtualCluster, memory: &Memory<VirtualCluster>, users: &[String], retain: bool) -> Step {
    plan(&view(cluster, memory, users, retain))
}

#[test]
fn each_situation_has_its_step() {
    let token = |n: u32| format!("uid-{n}");
    let refused = || after(finalised(cluster()), &Situation::Refused("no"));
    let gone = || after(in_state(RUNNING), &Situation::Gone("gone"));
    let mut unknown = cluster();
    unknown.spec.container_provider.type_ = Some("GKE".into());
    let mut edited = refused();
    edited.metadata.generation = Some(2);
    let cases = [
        ("new", cluster(), Step::AddFinalizer),
        ("finalised", finalised(cluster()), Step::Create { token: token(1) }),
        (
            "of an unknown type",
            unknown,
            Step::Refuse("spec.containerProvider.type_: \"GKE\" is not known; set EKS".into()),
        ),
        ("running", in_state(RUNNING), Step::Sync("vc1".into())),
        ("refused", refused(), Step::LookAgain { token: token(2) }),
        ("refused and edited", edited, Step::Create { token: token(2) }),
        ("refused and retried", retried(refused()), Step::Create { token: token(2) }),
        ("gone", gone(), Step::Settled),
        (
            "gone before its id was saved",
            after(finalised(cluster()), &Situation::Gone("gone")),
            Step::Settled,
        ),
        ("gone and retried", retried(gone()), Step::Reopen),
        ("gone and reopened", after(retried(gone()), &Situation::Reopened), Step::Create { token: token(2) }),
        ("deleted while running", deleted(in_state(RUNNING)), Step::Delete("vc1".into())),
        ("deleted while terminating", deleted(in_state(TERMINATING)), Step::AwaitTermination("vc1".into())),
        ("deleted while arrested", deleted(in_state(ARRESTED)), Step::Delete("vc1".into())),
        ("deleted when gone", deleted(gone()), Step::Release),
        ("deleted when refused", deleted(refused()), Step::Recover { token: token(2) }),
        ("deleted with a finalizer and no id", deleted(cluster()), Step::Recover { token: token(1) }),
    ];
    for (what, cluster, expected) in cases {
        assert_eq!(step(&cluster, &Memory::default(), &[], false), expected, "{what}");
    }
}

#[test]
fn a_cluster_that_lacks_the_finalizer_gets_it_before_anything_is_created_or_sent() {
    let refused = replaced(after(finalised(cluster()), &Situation::Refused("no")));
    let gone = replaced(after(in_state(RUNNING), &Situation::Gone("gone")));
    for (what, cluster, expected) in [
        ("refused before it was on", after(cluster(), &Situation::Unfit("no")), Step::AddFinalizer),
        ("refused", refused, Step::AddFinalizer),
        ("running", replaced(in_state(RUNNING)), Step::RestoreFinalizer("vc1".into())),
        ("gone", gone, Step::Settled),
    ] {
        assert_eq!(step(&cluster, &Memory::default(), &[], false), expected, "{what}");
    }
}

#[test]
fn a_spec_that_is_not_even_sent_leaves_the_token_of_a_creation_that_may_be_unanswered() {
    let mut unfit = after(finalised(cluster()), &Situation::Unfit("too many tags"));
    assert_eq!(
        step(&deleted(unfit.clone()), &Memory::default(), &[], false),
        Step::Recover { token: "uid-1".into() }
    );
    unfit.metadata.generation = Some(2);
    assert_eq!(step(&unfit, &Memory::default(), &[], false), Step::Create { token: "uid-1".into() });
}

#[test]
fn nothing_was_asked_only_if_neither_this_process_nor_the_status_knows_of_it() {
    let asked = Memory { asked_at: Some(Timestamp::UNIX_EPOCH), ..Memory::default() };
    for (cluster, memory, expected) in [
        (cluster(), Memory::default(), true),
        (after(cluster(), &Situation::Unfit("no")), Memory::default(), true),
        (after(cluster(), &Situation::NoRole("none")), Memory::default(), true),
        (cluster(), asked, false),
        (after(cluster(), &Situation::Refused("no")), Memory::default(), false),
        (replaced(in_state(RUNNING)), Memory::default(), false),
    ] {
        assert_eq!(never_asked(&cluster, &memory), expected, "{cluster:?}");
    }
}

#[test]
fn a_deletion_waits_for_users_and_respects_retain() {
    let cluster = deleted(in_state(RUNNING));
    assert_eq!(step(&cluster, &Memory::default(), &["job".to_owned()], false), Step::AwaitUsers);
    assert_eq!(step(&cluster, &Memory::default(), &["job".to_owned()], true), Step::Release);
    let never_created = Memory { never_started: true, ..Memory::default() };
    assert_eq!(step(&deleted(self::cluster()), &never_created, &[], false), Step::Release);
}

#[test]
fn a_deletion_is_asked_for_once_by_a_process() {
    let asked = Memory { cancel_asked: true, ..Memory::default() };
    let expected = Step::AwaitTermination("vc1".into());
    assert_eq!(step(&deleted(in_state(RUNNING)), &asked, &[], false), expected);
}

#[test]
fn limits_are_sent_where_they_differ_and_taken_back_only_by_an_edit() {
    let limits = |max_concurrent_job_runs, max_in_queue_job_runs| SchedulerConfiguration {
        max_concurrent_job_runs,
        max_in_queue_job_runs,
    };
    for (wanted, observed, edited, expected) in [
        (limits(None, None), limits(None, None), true, false),
        (limits(Some(1), Some(2)), limits(Some(1), Some(2)), true, false),
        (limits(Some(1), None), limits(Some(2), None), false, true),
        (limits(None, Some(1)), limits(None, Some(2)), false, true),
        (limits(None, None), limits(Some(1), None), false, false),
        (limits(None, None), limits(Some(1), None), true, true),
        (limits(None, None), limits(None, Some(1)), true, true),
    ] {
        assert_eq!(limits_differ(&wanted, &observed, edited), expected, "{wanted:?} {observed:?} {edited}");
    }
}

#[test]
fn the_namespace_is_default_unless_the_spec_names_one() {
    let mut named = cluster();
    assert_eq!(namespace(&named), "default");
    let eks_info = Some(EksInfo { namespace: Some("spark".into()), node_label: None });
    named.spec.container_provider.info = Some(ContainerInfo { eks_info });
    assert_eq!(namespace(&named), "spark");
}

#[test]
fn a_cluster_that_is_reopened_answers_the_generation_that_asked_for_it() {
    let gone = after(in_state(RUNNING), &Situation::Gone("gone"));
    let reopened = after(retried(gone), &Situation::Reopened).status.unwrap();
    assert_eq!((reopened.observed_generation, reopened.refusals), (Some(1), Some(1)));
    assert_eq!((reopened.id, reopened.state), (None, None));
}

#[test]
fn a_cluster_that_runs_has_exactly_upstreams_conditions() {
    let conditions = in_state(RUNNING).status.unwrap().conditions;
    let short: Vec<_> = conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status, c.message.as_deref().unwrap_or_default(), c.reason.as_deref()))
        .collect();
    let message = "Resource synced successfully";
    assert_eq!(
        short,
        [
            (condition::RESOURCE_SYNCED, ConditionStatus::True, message, None),
            (condition::READY, ConditionStatus::True, message, None)
        ]
    );
}

#[test]
fn an_edit_is_answered_only_when_all_of_it_was_sent() {
    let answered = |situation: &Situation<'_>| {
        let mut edited = in_state(RUNNING);
        edited.metadata.generation = Some(2);
        after(edited, situation).status.unwrap().observed_generation
    };
    let unsent = SeenCluster { unsent: true, ..seen(RUNNING) };
    assert_eq!(answered(&Situation::Seen(&seen(RUNNING))), Some(2));
    assert_eq!(answered(&Situation::Seen(&unsent)), Some(1));
    assert_eq!(answered(&Situation::Unequal(&seen(RUNNING), "no right to tag")), Some(1));
    assert_eq!(answered(&Situation::Trouble("oops")), Some(1));
    assert_eq!(answered(&Situation::NoRole("none")), Some(1));
    assert_eq!(answered(&Situation::Gone("gone")), Some(2));
    let never_made = after(cluster(), &Situation::Trouble("oops")).status.unwrap();
    assert_eq!(never_made.observed_generation, Some(1), "there is nothing to be sent to");
}

#[test]
fn a_cluster_that_is_not_ready_says_what_it_waits_for() {
    let ready = |situation: &Situation<'_>| {
        let conditions = after(in_state(RUNNING), situation).status.unwrap().conditions;
        let line = |type_| condition::find(&conditions, type_).map(|c| (c.status, c.reason.clone().unwrap()));
        (line(condition::READY), line(condition::RECONCILING))
    };
    let both = |reason: &str| {
        let line = |status| Some((status, reason.to_owned()));
        (line(ConditionStatus::False), line(ConditionStatus::True))
    };
    assert_eq!(ready(&Situation::Trouble("oops")), both(condition::RECOVERABLE));
    assert_eq!(ready(&Situation::InUse(&["job".to_owned()])), both("InUse"));
    assert_eq!(ready(&Situation::DeleteAsked), both(TERMINATING));
    assert_eq!(ready(&Situation::Seen(&seen("NEW_STATE"))), both("NEW_STATE"));
    let unequal = after(in_state(RUNNING), &Situation::Unequal(&seen(RUNNING), "no right to tag"));
    assert!(!condition::is_true(&unequal.status.unwrap().conditions, condition::RESOURCE_SYNCED));
}

#[test]
fn d16_a_cluster_that_others_terminated_is_not_ready() {
    let gone = after(in_state(RUNNING), &Situation::Gone("gone"));
    let status = gone.status.as_ref().unwrap();
    assert_eq!(status.state.as_deref(), Some(TERMINATED));
    assert!(condition::is_true(&status.conditions, condition::TERMINAL));
    assert!(condition::is_true(&status.conditions, condition::STALLED));
    assert!(!condition::is_true(&status.conditions, condition::READY));
    let again = after(gone.clone(), &Situation::Gone("gone"));
    assert_eq!(again.status, gone.status, "an equal situation writes nothing");
}

#[test]
fn users_are_named_and_then_counted() {
    let users: Vec<String> = (0..7).map(|n| format!("job{n}")).collect();
    assert!(super::status::in_use(&users).contains("job0, job1, job2, job3, job4 and 2 more"));
    assert!(super::status::in_use(&users[..5]).contains("job0, job1, job2, job3, job4; delete them"));
}

#[test]
fn only_what_takes_no_call_goes_on_while_nobody_may_act() {
    let id = || "vc1".to_owned();
    for step in [Step::Rest, Step::Missing, Step::Release, Step::RestoreFinalizer(id())] {
        assert!(step.is_idle(), "{step:?}");
    }
    for step in [Step::AddFinalizer, Step::Sync(id()), Step::Delete(id()), Step::AwaitTermination(id())] {
        assert!(!step.is_idle(), "{step:?}");
    }
}

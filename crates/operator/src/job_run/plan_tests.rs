//! Each situation of a run and the step that follows, as tables. What follows from all of them is in `model_tests`.

use emrcontainers_api::condition::ConditionStatus;
use emrcontainers_api::job_run::{CANCEL_PENDING, COMPLETED, FAILED, JobRunSpec, JobRunStatus, RUNNING};
use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::{JOB_RUN_FINALIZER, JobRun, annotations};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::destination::Destination;
use super::model_tests::{a_run, seen};
use super::plan::{
    Step, Submitted, View, asks_again, is_to_be_started, may_be_live, needs_cluster, plan, retry, settled,
    virtual_cluster_of,
};
use super::status::Submission;
use super::target::{ClusterTarget, RoleTarget, Target};
use crate::emr::poll::Observation;
use crate::emr::pool::Scope;
use crate::memory::Memory;

fn in_state(state: &str, id: Option<&str>) -> JobRun {
    let mut run = a_run();
    run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
    run.status = Some(JobRunStatus {
        id: id.map(str::to_owned),
        state: Some(state.into()),
        observed_generation: run.metadata.generation,
        ..JobRunStatus::default()
    });
    run
}

fn retried(mut run: JobRun, value: &str, answered: Option<&str>) -> JobRun {
    run.metadata.annotations = Some([(annotations::RETRY.to_owned(), value.to_owned())].into());
    run.status.get_or_insert_default().last_handled_retry = answered.map(str::to_owned);
    run
}

fn edited(mut run: JobRun) -> JobRun {
    run.metadata.generation = Some(2);
    run
}

fn deleted(mut run: JobRun) -> JobRun {
    run.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    run
}

fn step(run: &JobRun, memory: &Memory<JobRun>, observation: Option<&Observation>) -> Step {
    step_in(run, memory, observation, ClusterTarget::Given("vc1".into()))
}

fn step_in(
    run: &JobRun,
    memory: &Memory<JobRun>,
    observation: Option<&Observation>,
    virtual_cluster: ClusterTarget,
) -> Step {
    let scope = Scope::new("123456789012", "us-west-2");
    step_by(run, memory, observation, virtual_cluster, Some(&scope))
}

fn step_by(
    run: &JobRun,
    memory: &Memory<JobRun>,
    observation: Option<&Observation>,
    virtual_cluster: ClusterTarget,
    scope: Option<&Scope>,
) -> Step {
    let execution_role = RoleTarget::Given("arn:aws:iam::123456789012:role/job".into());
    let target = Target { virtual_cluster, execution_role, default_tags: Vec::new() };
    let tried = Destination::tried(run, memory);
    plan(&View {
        run,
        memory,
        observation,
        target: &target,
        retain: false,
        read_only: false,
        adoption: true,
        scope,
        tried: tried.as_ref(),
        elsewhere: false,
    })
}

#[test]
fn a_run_that_is_replaced_before_its_id_is_saved_gets_its_finalizer_back_first() {
    let place = AckResourceMetadata {
        owner_account_id: "123456789012".into(),
        region: "us-west-2".into(),
        ..AckResourceMetadata::default()
    };
    let submission = Submission {
        id: "job0".into(),
        virtual_cluster_id: "vc1".into(),
        place: place.clone(),
        overrides: None,
        found: None,
        generation: Some(1),
        advice: None,
    };
    let memory = Memory { submission: Some(Box::new(submission.clone())), ..Memory::default() };
    let replaced = a_run();
    let there = Some(Destination::at(&place, "vc1"));
    // Also where what it refers to isn't looked at any more.
    assert_eq!(
        step_in(&replaced, &memory, None, ClusterTarget::Invalid("none".into())),
        Step::RestoreFinalizer(there)
    );
    let mut held = replaced.clone();
    held.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
    assert_eq!(step(&held, &memory, None), Step::Save(Box::new(submission)));
    assert_eq!(step(&deleted(replaced), &memory, None), Step::Rest, "it goes without us");
}

#[test]
fn a_run_needs_its_cluster_until_it_is_known_where_it_is() {
    let saved = in_state(RUNNING, Some("job0"));
    let nowhere = || JobRun { spec: JobRunSpec::default(), ..saved.clone() };
    for (what, run, to_be_started, needs) in [
        ("new", a_run(), true, true),
        ("refused", in_state(FAILED, None), true, true),
        ("running", saved.clone(), false, saved.spec.virtual_cluster_id.is_none()),
        ("running where nothing tells", nowhere(), false, true),
        ("deleted before its start", deleted(a_run()), false, false),
        ("deleted where nothing tells", deleted(nowhere()), false, false),
    ] {
        assert_eq!((is_to_be_started(&run), needs_cluster(&run)), (to_be_started, needs), "{what}");
    }
}

#[test]
fn a_run_is_settled_when_it_has_ended_and_nobody_asks_for_more() {
    let refused = || in_state(FAILED, None);
    for (what, run, expected) in [
        ("new", a_run(), false),
        ("running", in_state(RUNNING, Some("job0")), false),
        ("completed", in_state(COMPLETED, Some("job0")), true),
        ("completed and edited", edited(in_state(COMPLETED, Some("job0"))), false),
        ("completed and retried", retried(in_state(COMPLETED, Some("job0")), "1", None), true),
        ("completed and deleted", deleted(in_state(COMPLETED, Some("job0"))), false),
        ("refused", refused(), true),
        ("refused and edited", edited(refused()), false),
        ("refused and retried", retried(refused(), "2", Some("1")), false),
        ("refused, retried and answered", retried(refused(), "2", Some("2")), true),
    ] {
        assert_eq!(settled(&run), expected, "{what}");
    }
}

#[test]
fn only_a_retry_annotation_with_a_new_value_asks_again() {
    assert!(asks_again(Some("1"), None) && asks_again(Some("2"), Some("1")));
    assert!(!asks_again(Some("1"), Some("1")) && !asks_again(None, Some("1")) && !asks_again(None, None));
    assert_eq!(retry(&a_run()), None);
    assert_eq!(retry(&retried(a_run(), "x", None)), Some("x"));
}

#[test]
fn a_run_may_be_live_from_the_finalizer_to_the_end() {
    assert!(!may_be_live(&a_run()));
    assert!(may_be_live(&in_state(RUNNING, Some("job0"))));
    assert!(!may_be_live(&in_state(COMPLETED, Some("job0"))));
}

#[test]
fn a_deleted_run_is_cancelled_once_and_released_when_its_end_is_known() {
    let submitted = || Submitted { id: "job0".into(), virtual_cluster_id: "vc1".into() };
    let running = deleted(in_state(RUNNING, Some("job0")));
    let cancelling = deleted(in_state(CANCEL_PENDING, Some("job0")));
    let [plain, asked] =
        [false, true].map(|cancel_asked| Memory { cancel_asked, ..Memory::<JobRun>::default() });
    let [live, ending, ended] = [RUNNING, CANCEL_PENDING, COMPLETED].map(|s| Observation::Run(seen(s)));
    for (what, run, memory, observation, expected) in [
        ("nothing seen", &running, &plain, None, Step::Cancel(submitted())),
        ("seen running", &running, &plain, Some(&live), Step::Cancel(submitted())),
        ("asked for", &running, &asked, Some(&live), Step::AwaitEnd(submitted())),
        ("said to be ending", &cancelling, &plain, Some(&live), Step::AwaitEnd(submitted())),
        ("seen ending", &running, &plain, Some(&ending), Step::AwaitEnd(submitted())),
        ("seen ended", &running, &plain, Some(&ended), Step::AwaitEnd(submitted())),
        ("seen ended while asked for", &running, &asked, Some(&ended), Step::AwaitEnd(submitted())),
        ("gone", &running, &plain, Some(&Observation::Gone), Step::Release),
        ("ended", &deleted(in_state(COMPLETED, Some("job0"))), &plain, None, Step::Release),
    ] {
        assert_eq!(step(run, memory, observation), expected, "{what}");
    }
}

#[test]
fn tags_are_sent_of_a_live_run_that_was_edited_and_of_no_other() {
    let submitted = || Submitted { id: "job0".into(), virtual_cluster_id: "vc1".into() };
    let mut upstreams = edited(in_state(RUNNING, Some("job0")));
    upstreams.status.get_or_insert_default().observed_generation = None;
    let [live, ended] = [RUNNING, COMPLETED].map(|state| Observation::Run(seen(state)));
    for (what, run, observation, expected) in [
        ("as it was", in_state(RUNNING, Some("job0")), None, Step::Observe(submitted())),
        ("edited", edited(in_state(RUNNING, Some("job0"))), Some(&live), Step::Retag(submitted())),
        ("edited, nothing seen", edited(in_state(RUNNING, Some("job0"))), None, Step::Retag(submitted())),
        (
            "edited, seen ended",
            edited(in_state(RUNNING, Some("job0"))),
            Some(&ended),
            Step::Observe(submitted()),
        ),
        (
            "edited, gone",
            edited(in_state(RUNNING, Some("job0"))),
            Some(&Observation::Gone),
            Step::Observe(submitted()),
        ),
        ("edited, ended", edited(in_state(COMPLETED, Some("job0"))), None, Step::Acknowledge),
        ("of upstream's", upstreams, None, Step::Observe(submitted())),
    ] {
        assert_eq!(step(&run, &Memory::default(), observation), expected, "{what}");
    }
}

#[test]
fn where_a_run_is_was_saved_or_is_in_its_arn_or_its_spec() {
    let mut run = in_state(RUNNING, Some("job0"));
    assert_eq!(virtual_cluster_of(&run), Some("vc1"), "the spec's");
    let arn = |rest: &str| {
        let arn = Some(format!("arn:aws:emr-containers:eu-west-1:123456789012:/virtualclusters/{rest}"));
        Some(AckResourceMetadata { arn, ..AckResourceMetadata::default() })
    };
    let place = |run: &mut JobRun, place| run.status.get_or_insert_default().ack_resource_metadata = place;
    place(&mut run, arn("vc2/jobruns/job0"));
    assert_eq!(virtual_cluster_of(&run), Some("vc2"), "the ARN's");
    place(&mut run, arn(""));
    assert_eq!(virtual_cluster_of(&run), Some("vc1"), "an ARN without an id is none");
    place(&mut run, arn("vc2/jobruns/job0"));
    run.status.get_or_insert_default().virtual_cluster_id = Some("vc3".into());
    assert_eq!(virtual_cluster_of(&run), Some("vc3"), "the saved one");
}

#[test]
fn a_run_with_an_id_is_neither_refused_nor_submitted_where_its_cluster_is_unknown() {
    let nowhere = || ClusterTarget::Invalid("spec.virtualClusterRef: none".into());
    let waiting =
        || ClusterTarget::Waiting { status: ConditionStatus::Unknown, why: "not found".into(), id: None };
    for (state, target, expected) in [
        (RUNNING, nowhere(), Step::Rest),
        (RUNNING, waiting(), Step::AwaitReference),
        (COMPLETED, nowhere(), Step::Acknowledge),
        (COMPLETED, waiting(), Step::Acknowledge),
    ] {
        let mut run = edited(in_state(state, Some("job0")));
        run.spec.virtual_cluster_id = None;
        assert_eq!(step_in(&run, &Memory::default(), None, target), expected, "{state}");
    }
}

/// With our finalizer and what goes on with it, and without an id.
fn marked(origin: Option<&str>, destination: Option<&str>) -> JobRun {
    let mut run = a_run();
    run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
    let own = run.metadata.annotations.get_or_insert_default();
    own.extend(origin.map(|origin| (annotations::ORIGIN.to_owned(), origin.to_owned())));
    own.extend(destination.map(|there| (annotations::DESTINATION.to_owned(), there.to_owned())));
    run
}

#[test]
fn what_may_have_been_started_is_looked_for_where_it_was_and_ruled_out_where_no_token_protects_it() {
    const HERE: Option<&str> = Some("123456789012/us-west-2/vc1");
    const THERE: Option<&str> = Some("123456789012/us-west-2/vc0");
    let unknown = Memory::default();
    let unstarted = Memory { never_started: true, ..Memory::default() };
    let unanswered =
        Memory { sought: true, unanswered: Some(std::time::Instant::now()), ..Memory::default() };
    let mut spoilt = marked(Some("uid"), HERE);
    spoilt.spec.release_label = None;
    let [here, there] = ["vc1", "vc0"].map(str::to_owned);
    let look = |run: &JobRun, memory: &Memory<JobRun>| match step(run, memory, None) {
        Step::Start(_) => Step::Rest,
        step => step,
    };
    let (ruled_out, started) = (|cluster: &String| Step::RuleOut(cluster.clone()), Step::Rest);
    for (what, run, memory, expected) in [
        ("ours", &marked(Some("uid"), HERE), &unknown, Step::TakeOver(here.clone())),
        ("ours, unanswered", &marked(Some("uid"), HERE), &unanswered, started.clone()),
        ("upstream's", &marked(None, None), &unknown, ruled_out(&here)),
        ("restored", &marked(Some("first"), HERE), &unknown, ruled_out(&here)),
        ("moved", &marked(Some("uid"), THERE), &unknown, ruled_out(&there)),
        ("moved, unanswered", &marked(Some("uid"), THERE), &unanswered, ruled_out(&there)),
        ("spoilt", &spoilt, &unknown, ruled_out(&here)),
        ("spoilt, unanswered", &spoilt, &unanswered, ruled_out(&here)),
        ("deleted and moved", &deleted(marked(Some("uid"), THERE)), &unknown, Step::Find(there.clone())),
        ("known not to be started", &marked(Some("uid"), HERE), &unstarted, started),
    ] {
        assert_eq!(look(run, memory), expected, "{what}");
    }
    for (what, run) in [("moved", marked(Some("uid"), THERE)), ("upstream's", marked(None, None))] {
        let said = look(&run, &unstarted);
        assert!(
            matches!(&said, Step::AddFinalizer(Some(here)) if Some(here.text().as_str()) == HERE),
            "{what}: {said:?}"
        );
    }
    assert!(matches!(look(&spoilt, &unstarted), Step::Refuse(_)));
}

#[test]
fn a_live_run_that_lost_its_finalizer_gets_it_back_and_one_that_has_ended_does_not() {
    let without = |mut run: JobRun| {
        run.metadata.finalizers = None;
        run.status.get_or_insert_default().ack_resource_metadata = Some(AckResourceMetadata {
            owner_account_id: "1".into(),
            region: "r".into(),
            ..AckResourceMetadata::default()
        });
        run
    };
    let live = step(&without(in_state(RUNNING, Some("job0"))), &Memory::default(), None);
    assert!(matches!(&live, Step::RestoreFinalizer(Some(there)) if there.text() == "1/r/vc1"), "{live:?}");
    let ended = step(&without(in_state(COMPLETED, Some("job0"))), &Memory::default(), None);
    assert_eq!(ended, Step::Rest);
}

#[test]
fn only_what_takes_no_call_goes_on_while_nobody_may_act() {
    let there = || Submitted { id: "job0".into(), virtual_cluster_id: "vc1".into() };
    for step in [Step::Rest, Step::Missing, Step::Release, Step::RestoreFinalizer(None)] {
        assert!(step.is_idle(), "{step:?}");
    }
    for step in [
        Step::AddFinalizer(None),
        Step::RuleOut("vc1".into()),
        Step::Observe(there()),
        Step::Cancel(there()),
        Step::Find("vc1".into()),
    ] {
        assert!(!step.is_idle(), "{step:?}");
    }
}

#[test]
fn nothing_is_started_where_nobody_knows_where() {
    let mut run = a_run();
    run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
    let memory = Memory { never_started: true, ..Memory::default() };
    let nowhere = step_by(&run, &memory, None, ClusterTarget::Given("vc1".into()), None);
    assert_eq!(nowhere, Step::AddFinalizer(None));
}

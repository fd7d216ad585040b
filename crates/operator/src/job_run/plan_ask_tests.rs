//! What annotations make of each situation of a run: adoption and read-only, in every combination.

use emrcontainers_api::{JOB_RUN_FINALIZER, JobRun, annotations};
use serde_json::{Value, json};

use super::plan::{Step, View, plan, settled};
use super::target::{ClusterTarget, RoleTarget, Target};
use crate::emr::poll::{Observation, Observed};
use crate::memory::Memory;

const FIELDS: &str = r#"{"id": "jr9", "virtualClusterID": "vc9"}"#;

/// Every kind of object that can be met.
fn objects() -> Vec<Value> {
    let statuses = [
        Value::Null,
        json!({"conditions": []}),
        json!({"state": "FAILED", "observedGeneration": 1, "refusals": 1}),
        json!({"id": "jr1", "virtualClusterID": "vc1", "state": "RUNNING"}),
        json!({"id": "jr1", "virtualClusterID": "vc1", "state": "RUNNING", "observedGeneration": 0}),
        json!({"id": "jr1", "virtualClusterID": "vc1", "state": "COMPLETED"}),
    ];
    let specs = [
        json!({}),
        json!({
            "executionRoleARN": "arn:aws:iam::123456789012:role/job", "releaseLabel": "emr-7.10.0-latest",
            "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://b/j.py"}},
        }),
    ];
    let marks = [
        json!({}),
        json!({annotations::ADOPTION_POLICY: "adopt", annotations::ADOPTION_FIELDS: FIELDS}),
        json!({annotations::ADOPTION_POLICY: "adopt-or-create", annotations::ADOPTION_FIELDS: FIELDS}),
        json!({annotations::ADOPTION_POLICY: "adopt", annotations::ADOPTION_FIELDS: "?"}),
        json!({annotations::ADOPTED: "true", annotations::ADOPTION_FIELDS: FIELDS}),
    ];
    let mut objects = Vec::new();
    for status in &statuses {
        for spec in &specs {
            for mark in &marks {
                for (finalizers, origin, deleted) in [
                    (json!([]), false, false),
                    (json!([JOB_RUN_FINALIZER]), false, false),
                    (json!([JOB_RUN_FINALIZER]), true, false),
                    (json!([JOB_RUN_FINALIZER]), false, true),
                    (json!([JOB_RUN_FINALIZER]), true, true),
                ] {
                    let mut annotations = mark.clone();
                    if origin {
                        annotations[annotations::ORIGIN] = json!("uid");
                    }
                    objects.push(json!({
                        "metadata": {
                            "name": "r", "namespace": "ns", "uid": "uid", "generation": 1, "finalizers": finalizers,
                            "annotations": annotations,
                            "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z"),
                        },
                        "spec": spec,
                        "status": status,
                    }));
                }
            }
        }
    }
    objects
}

fn memories() -> [Memory<JobRun>; 3] {
    let memory = Memory::default;
    [
        memory(),
        Memory { never_started: true, ..memory() },
        Memory { sought: true, cancel_asked: true, ..memory() },
    ]
}

fn target(virtual_cluster: ClusterTarget) -> Target {
    let execution_role = RoleTarget::Given("arn:aws:iam::123456789012:role/job".into());
    Target { virtual_cluster, execution_role, default_tags: Vec::new() }
}

fn planned(
    run: &JobRun,
    memory: &Memory<JobRun>,
    observation: Option<&Observation>,
    target: &Target,
    read_only: bool,
) -> Step {
    plan(&View {
        run,
        memory,
        observation,
        target,
        retain: false,
        read_only,
        adoption: true,
        scope: None,
        tried: None,
        elsewhere: false,
    })
}

/// What is planned for an object in every situation.
fn each_plan(read_only: bool, mut look: impl FnMut(&JobRun, &Step)) {
    let running = Observation::Run(Observed { state: "RUNNING".into(), ..Observed::default() });
    let targets = [ClusterTarget::Given("vc1".into()), ClusterTarget::Invalid("none".into())].map(target);
    for object in objects() {
        let run: JobRun = serde_json::from_value(object).unwrap();
        for memory in &memories() {
            for observation in [None, Some(&running), Some(&Observation::Gone)] {
                for target in &targets {
                    look(&run, &planned(&run, memory, observation, target, read_only));
                }
            }
        }
    }
}

#[test]
fn a_read_only_run_is_looked_for_once_and_only_if_it_may_have_been_started() {
    let [with, without] = [json!([JOB_RUN_FINALIZER]), json!([])].map(|finalizers| {
        let metadata = json!({"name": "r", "uid": "uid", "finalizers": finalizers});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}})).unwrap()
    });
    let [unknown, never, sought] = &memories();
    let target = target(ClusterTarget::Given("vc1".into()));
    for (what, run, memory, expected) in [
        ("unknown", &with, unknown, Step::Look("vc1".into())),
        ("never started", &with, never, Step::Missing),
        ("looked for", &with, sought, Step::Missing),
        ("without our finalizer", &without, unknown, Step::Missing),
    ] {
        assert_eq!(planned(run, memory, None, &target, true), expected, "{what}");
    }
}

/// Whether a step changes something at AWS.
fn changes_aws(step: &Step) -> bool {
    match step {
        Step::Retag(_) | Step::Start(_) | Step::Cancel(_) => true,
        Step::Adopt(_, otherwise) => otherwise.as_deref().is_some_and(changes_aws),
        _ => false,
    }
}

#[test]
fn a_read_only_object_never_leads_to_a_change_at_aws() {
    let mut plans = 0;
    each_plan(true, |run, step| {
        plans += 1;
        assert!(
            !changes_aws(step) && !matches!(step, Step::AddFinalizer(_) | Step::RestoreFinalizer(_)),
            "{step:?} for {run:?}"
        );
    });
    assert!(plans > 1_000);
    let mut changes = 0;
    each_plan(false, |_, step| changes += u32::from(changes_aws(step)));
    assert!(changes > 0, "the situations are such that others are changed");
}

#[test]
fn what_asks_for_adopt_or_is_adopted_never_starts_a_run_of_its_own() {
    each_plan(false, |run, step| {
        let has = |key: &str, value: &str| {
            run.metadata.annotations.as_ref().and_then(|all| all.get(key)).is_some_and(|v| v == value)
        };
        let is_managed = has(annotations::ORIGIN, "uid");
        let adopted = has(annotations::ADOPTED, "true");
        if adopted || (has(annotations::ADOPTION_POLICY, "adopt") && !is_managed) {
            let leads = matches!(
                step,
                Step::Start(_) | Step::AddFinalizer(_) | Step::TakeOver(_) | Step::RuleOut(_) | Step::Reopen
            );
            assert!(!leads, "{step:?} for {run:?}");
            let Step::Adopt(_, otherwise) = step else { return };
            assert!(otherwise.as_deref().is_none_or(|step| *step == Step::Release), "{otherwise:?}");
        }
    });
}

#[test]
fn a_refused_run_that_is_told_to_adopt_is_looked_at_again() {
    for object in objects() {
        let run: JobRun = serde_json::from_value(object).unwrap();
        let asks = run.metadata.annotations.as_ref().is_some_and(|all| {
            all.contains_key(annotations::ADOPTED)
                || all.contains_key(annotations::ADOPTION_POLICY) && !all.contains_key(annotations::ORIGIN)
        });
        let has_id = run.status.as_ref().is_some_and(|status| status.id.is_some());
        assert!(!(asks && !has_id && settled(&run)), "{run:?}");
    }
}

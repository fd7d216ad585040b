//! What the store keeps, and what it tells of changes.

use emrcontainers_api::JobRun;
use kube::ResourceExt;
use kube_runtime::watcher::Event;
use serde_json::{Value, json};

use crate::metrics::RunState;
use crate::store::{Change, Store};

fn run(name: &str, uid: &str, status: &Value) -> JobRun {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": uid, "generation": 1},
        "spec": {"virtualClusterID": "vc"},
        "status": status,
    }))
    .unwrap()
}

fn live(name: &str) -> JobRun {
    run(name, name, &json!({"id": "1", "state": "RUNNING", "observedGeneration": 1}))
}

fn ended(name: &str) -> JobRun {
    run(name, name, &json!({"id": "1", "state": "COMPLETED", "observedGeneration": 1}))
}

/// The names of what a list has that was or is at work, and of what it lacks.
fn listed(store: &Store<JobRun>, objects: Vec<JobRun>) -> (Vec<String>, Vec<String>) {
    assert!(matches!(store.take_in(Event::Init), Change::None));
    for object in objects {
        assert!(matches!(store.take_in(Event::InitApply(object)), Change::None));
    }
    let Change::Listed { applied, lost } = store.take_in(Event::InitDone) else {
        panic!("the list is whole")
    };
    let mut names = (
        applied.iter().map(|run| run.object.name_any()).collect::<Vec<_>>(),
        lost.iter().map(|run| run.name_any()).collect::<Vec<_>>(),
    );
    names.0.sort();
    names.1.sort();
    names
}

fn states(store: &Store<JobRun>) -> Vec<RunState> {
    let mut states = Vec::new();
    store.each(|run| states.push(run.unwrap_or_else(RunState::of)));
    states.sort_by_key(|state| state.as_str());
    states
}

#[test]
fn of_a_finished_run_only_its_end_is_kept_until_it_is_edited_or_deleted() {
    let store = Store::<JobRun>::default();
    store.take_in(Event::Apply(live("a")));
    assert!(store.get("ns", "a").is_some() && states(&store) == [RunState::Running]);
    let Change::Applied(change) = store.take_in(Event::Apply(ended("a"))) else { panic!("it changed") };
    assert!(change.before.is_some(), "it was at work until now");
    assert!(store.get("ns", "a").is_none() && store.filter(|_| true).is_empty());
    assert_eq!(states(&store), [RunState::Completed]);

    let mut edited = ended("a");
    edited.metadata.generation = Some(2);
    let Change::Applied(change) = store.take_in(Event::Apply(edited)) else { panic!("it changed") };
    assert!(change.before.is_none() && store.get("ns", "a").is_some());
    store.take_in(Event::Apply(ended("a")));
    let mut deleted = ended("a");
    deleted.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap());
    store.take_in(Event::Apply(deleted));
    assert!(store.get("ns", "a").is_some(), "its finalizer has to go");
    store.take_in(Event::Delete(ended("a")));
    assert!(states(&store).is_empty());
}

#[test]
fn a_list_takes_effect_when_it_is_whole_and_names_what_went_unseen() {
    let store = Store::<JobRun>::default();
    let first = listed(&store, vec![live("a"), live("b"), live("c"), ended("d")]);
    assert_eq!(first, (vec!["a".into(), "b".into(), "c".into()], vec![]), "what has ended needs nothing");

    store.take_in(Event::Init);
    store.take_in(Event::InitApply(live("e")));
    assert!(store.get("ns", "e").is_none() && store.get("ns", "a").is_some());
    // The watch broke off in the midst of the list, and begins a new one.
    let another = run("c", "another", &json!({"state": "RUNNING"}));
    let second = listed(&store, vec![live("a"), ended("b"), another]);
    assert_eq!(second.0, ["a", "b", "c"], "b has ended meanwhile");
    assert_eq!(second.1, ["c"], "another object has its name");
    assert_eq!(states(&store), [RunState::Completed, RunState::Running, RunState::Running]);
    assert_eq!(listed(&store, vec![]), (vec![], vec!["a".into(), "c".into()]));
}

#[test]
fn a_handle_is_the_same_store_and_what_has_settled_is_not_filtered() {
    let store = Store::default();
    let other = store.clone();
    for run in [live("a"), live("b"), ended("c")] {
        store.take_in(Event::Apply(run));
    }
    let names = |runs: Vec<std::sync::Arc<JobRun>>| {
        let mut names: Vec<_> = runs.iter().map(|run| run.name_any()).collect();
        names.sort();
        names
    };
    assert_eq!(names(other.filter(|_| true)), ["a", "b"]);
    assert_eq!(names(other.filter(|run| run.name_any() == "b")), ["b"]);
    assert!(other.filter(|_| false).is_empty());
}

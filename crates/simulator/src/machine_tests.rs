//! The pure machine under any order of calls and time.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::clock::later;
use crate::lifecycle::JobState;
use crate::options::Options;
use crate::outcome::{Outcomes, Rule, glob};
use crate::paging::Query;
use crate::resource::EksClusters;
use crate::service::Reply;
use crate::state::Store;

const RUNS: usize = 6;

#[derive(Clone, Debug)]
enum Do {
    Start(usize),
    Cancel(usize),
    Advance(u64),
    Limit(i64),
}

fn step() -> impl Strategy<Value = Do> {
    prop_oneof![
        (0..RUNS).prop_map(Do::Start),
        (0..RUNS).prop_map(Do::Cancel),
        (0_u64..4000).prop_map(Do::Advance),
        (1_i64..4).prop_map(Do::Limit),
    ]
}

struct World {
    store: Store,
    outcomes: Outcomes,
    options: Options,
    now: Timestamp,
    cluster: String,
    updates: usize,
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut store = Store::new("111111111111", "us-east-1", 1, 1000, EksClusters::default());
        let request = json!({
            "name": "vc", "clientToken": "t",
            "containerProvider": {"type": "EKS", "id": "eks", "info": {"eksInfo": {"namespace": "ns"}}},
        });
        let options = Options::default();
        let reply = store.create_virtual_cluster(serde_json::from_value(request).unwrap(), &options, now);
        let cluster = json(reply)["id"].as_str().unwrap().to_owned();
        let mut outcomes = Outcomes::default();
        for rule in [
            json!({"name": "run-1", "state": "FAILED"}),
            json!({"name": "run-2", "failsIn": "PENDING"}),
            json!({"name": "run-3", "failsIn": "SUBMITTED", "cancelRace": "cancel"}),
            json!({"name": "run-4", "cancelRace": "completion"}),
            json!({"name": "run-5", "pendingSeconds": 0, "submittedSeconds": 0, "runningSeconds": 0}),
        ] {
            outcomes.add(serde_json::from_value::<Rule>(rule).unwrap()).unwrap();
        }
        Self { store, outcomes, options, now, cluster, updates: 0 }
    }

    fn start(&mut self, n: usize) -> Reply {
        let request = json!({
            "name": format!("run-{n}"), "clientToken": format!("token-{n}"),
            "executionRoleArn": "arn:aws:iam::111111111111:role/x", "releaseLabel": "emr-7.10.0-latest",
            "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "local:///x.py"}},
        });
        let request = serde_json::from_value(request).unwrap();
        self.store.start_job_run(&self.cluster, request, &mut self.outcomes, &self.options, ("me", self.now))
    }

    fn advance(&mut self, by: Duration) {
        self.now = later(self.now, by);
        self.store.advance(self.now);
    }

    fn limit(&mut self, runs: i64) {
        self.updates += 1;
        let request = json!({
            "clientToken": format!("update-{}", self.updates),
            "schedulerConfiguration": {"maxConcurrentJobRuns": runs},
        });
        let request = serde_json::from_value(request).unwrap();
        self.store.update_virtual_cluster(&self.cluster.clone(), request, self.now).unwrap();
    }

    fn check(&self) {
        let cluster = &self.store.clusters[0];
        for (index, run) in self.store.runs.iter().enumerate() {
            let states: Vec<_> =
                run.history.iter().map(|(state, _)| JobState::parse(state).unwrap()).collect();
            assert_eq!(states[0], JobState::Pending);
            assert_eq!(states.last(), Some(&run.state));
            assert!(states.windows(2).all(|pair| pair[0].may_become(pair[1])), "{states:?}");
            assert!(run.history.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{:?}", run.history);
            assert_eq!(run.finished_at.is_some(), run.state.is_final());
            assert_eq!(run.failure_reason.is_some(), run.state == JobState::Failed);
            for (state, runs) in &cluster.runs {
                assert_eq!(runs.contains(&index), *state == run.state);
            }
        }
    }
}

fn json(reply: Reply) -> Value {
    serde_json::from_slice(&reply.unwrap()).unwrap()
}

proptest! {
    #[test]
    fn runs_move_only_along_allowed_edges_and_end(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut ids: HashMap<usize, Value> = HashMap::new();
        for step in steps {
            match step {
                Do::Start(n) => {
                    let id = json(world.start(n))["id"].clone();
                    prop_assert_eq!(ids.entry(n).or_insert_with(|| id.clone()), &id, "a token gave a second run");
                }
                Do::Cancel(n) => {
                    if let Some(id) = ids.get(&n) {
                        let id = id.as_str().unwrap();
                        let may = world.store.runs[world.store.run_index[id]].state.is_cancellable();
                        let reply = world.store.cancel_job_run(&world.cluster, id, world.now);
                        prop_assert_eq!(reply.is_ok(), may);
                        if let Err(error) = reply {
                            prop_assert_eq!(error.message, format!("Job run {id} is not in a cancellable state"));
                        }
                    }
                }
                Do::Advance(by) => world.advance(Duration::from_millis(by)),
                Do::Limit(runs) => world.limit(runs),
            }
            world.check();
        }
        prop_assert_eq!(world.store.runs.len(), ids.len());
        world.advance(Duration::from_hours(1));
        world.check();
        prop_assert!(world.store.runs.iter().all(|run| run.state.is_final()));
    }

    #[test]
    fn pages_hold_every_run_once(count in 0_usize..40, size in 1_usize..9, new in 0_usize..3) {
        let mut world = World::new();
        for n in 0..count {
            world.start(n + 100).unwrap();
            world.advance(Duration::from_millis(300));
        }
        let before: Vec<String> = world.store.runs.iter().rev().map(|run| run.id.clone()).collect();
        let mut seen = Vec::new();
        let mut query = Query(vec![("maxResults".to_owned(), size.to_string())]);
        loop {
            let options = world.options.clone();
            let page = json(world.store.list_job_runs(&world.cluster, &query, &options, world.now));
            seen.extend(page["jobRuns"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()));
            let Some(token) = page["nextToken"].as_str() else { break };
            query.0.truncate(1);
            query.0.push(("nextToken".to_owned(), token.to_owned()));
            for n in 0..new {
                world.start(1000 + seen.len() * 10 + n).unwrap();
            }
        }
        prop_assert_eq!(seen, before);
    }
}

#[test]
fn no_more_runs_than_the_limit_run_and_the_rest_follows_in_order() {
    let mut world = World::new();
    world.limit(2);
    for n in 10..15 {
        world.start(n).unwrap();
    }
    let running = |world: &World| world.store.clusters[0].count(JobState::Running);
    world.advance(Duration::from_secs(2));
    assert_eq!(running(&world), 2);
    world.advance(Duration::from_secs(7));
    assert_eq!(running(&world), 2);
    let started: Vec<_> = world.store.runs.iter().map(|run| run.running_since).collect();
    assert!(started[1] < started[2] && started[3].is_some() && started[4].is_none(), "{started:?}");
    world.limit(3);
    assert_eq!(running(&world), 3);
}

#[test]
fn ids_have_the_lengths_of_the_service_and_sort_by_time() {
    let mut world = World::new();
    assert_eq!(world.cluster.len(), 25);
    for n in 0..500 {
        world.start(n + 100).unwrap();
    }
    let ids: Vec<_> = world.store.runs.iter().map(|run| run.id.clone()).collect();
    assert!(ids.iter().all(|id| id.len() == 19));
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn globs_match_as_in_a_shell() {
    for (pattern, text, matches) in [
        ("*", "", true),
        ("a*", "abc", true),
        ("*c", "abc", true),
        ("a*c*e", "abcde", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("abc", "abcd", false),
        ("b*", "abc", false),
    ] {
        assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
    }
}

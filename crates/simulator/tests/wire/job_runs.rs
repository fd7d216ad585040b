//! Runs: life cycles, tokens, lists, outcomes.

use std::time::Duration;

use emr_simulator::{CancelRace, Options, Refusal, Rule};
use serde_json::{Value, json};

use crate::{Sim, run_body};

fn rule(name: &str) -> Rule {
    Rule { name: Some(name.to_owned()), ..Rule::default() }
}

#[tokio::test]
async fn a_run_goes_through_its_states() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let run = sim.run(&vc, "job").await;
    for (seconds, state) in [(0.9, "PENDING"), (0.2, "SUBMITTED"), (2.0, "RUNNING"), (7.0, "COMPLETED")] {
        sim.pass(seconds);
        assert_eq!(sim.state(&vc, &run).await, state);
    }
    let run = sim.get(&format!("/virtualclusters/{vc}/jobruns/{run}")).await.ok()["jobRun"].clone();
    assert_eq!(run["stateDetails"], "JobRun completed successfully. It ran for 7 Seconds");
    assert_eq!(run["configurationOverrides"]["monitoringConfiguration"]["persistentAppUI"], "ENABLED");
    assert_eq!(run["createdBy"], "arn:aws:iam::123456789012:user/simulator");
    assert_eq!(run["tags"], json!({}));
    assert_eq!(run["createdAt"].as_str().unwrap().len(), "2026-11-21T00:00:00Z".len());
    for absent in ["failureReason", "retryPolicyConfiguration", "retryPolicyExecution"] {
        assert_eq!(run.get(absent), None, "{absent}");
    }
    let history: Vec<_> = sim.handle.snapshot().job_runs[0].history.iter().map(|h| h.state.clone()).collect();
    assert_eq!(history, ["PENDING", "SUBMITTED", "RUNNING", "COMPLETED"]);
}

#[tokio::test]
async fn a_token_gives_one_run_whatever_else_the_request_says() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let first = sim.run(&vc, "job").await;
    let mut other = run_body("other");
    other["clientToken"] = json!("job");
    let again = sim.post(&format!("/virtualclusters/{vc}/jobruns"), other).await.ok();
    assert_eq!((again["id"].as_str(), again["name"].as_str()), (Some(first.as_str()), Some("job")));
    assert_eq!(sim.handle.snapshot().job_runs.len(), 1);
}

#[tokio::test]
async fn list_items_lack_what_only_describe_says() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    sim.handle.add_outcome(Rule { state: Some("FAILED".to_owned()), ..rule("*") }).unwrap();
    sim.run(&vc, "job").await;
    sim.pass(60.0);
    let list = sim.get(&format!("/virtualclusters/{vc}/jobruns")).await.ok();
    let item = list["jobRuns"][0].clone();
    for absent in ["jobDriver", "configurationOverrides", "failureReason"] {
        assert_eq!(item.get(absent), None, "{absent}");
    }
    assert_eq!(item["state"], "FAILED");
    assert_eq!(item["clientToken"], "job");
    assert!(item["stateDetails"].as_str().unwrap().starts_with("JobRun failed."));
    assert_eq!(list.get("nextToken"), None);

    let sim = Sim::with(Options { list_failure_reason: true, ..Options::default() }).await;
    let vc = sim.cluster("a").await;
    sim.handle.add_outcome(Rule { state: Some("FAILED".to_owned()), ..rule("*") }).unwrap();
    sim.run(&vc, "job").await;
    sim.pass(60.0);
    let list = sim.get(&format!("/virtualclusters/{vc}/jobruns")).await.ok();
    assert_eq!(list["jobRuns"][0]["failureReason"], "USER_ERROR");
}

#[tokio::test]
async fn lists_filter_by_state_name_and_time() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let other = sim.cluster("b").await;
    sim.run(&vc, "old").await;
    sim.run(&other, "elsewhere").await;
    sim.pass(60.0);
    sim.run(&vc, "new").await;
    let names = async |query: &str| {
        let list = sim.get(&format!("/virtualclusters/{vc}/jobruns?{query}")).await.ok();
        let items = list["jobRuns"].as_array().unwrap().clone();
        items.iter().map(|run| run["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["new", "old"]);
    assert_eq!(names("states=COMPLETED").await, ["old"]);
    assert_eq!(names("states=PENDING&states=COMPLETED&states=PENDING").await, ["new", "old"]);
    assert_eq!(names("states=RUNNING").await, [""; 0]);
    assert_eq!(names("name=old").await, ["old"]);
    let created = |name: &str| {
        let snapshot = sim.handle.snapshot();
        let at = snapshot.job_runs.iter().find(|run| run.name == name).unwrap().created_at;
        jiff::Timestamp::from_second(at.as_second()).unwrap()
    };
    let (old, new) = (created("old"), created("new"));
    assert_eq!(names(&format!("createdAfter={old}")).await, ["new"]);
    assert_eq!(names(&format!("createdBefore={new}")).await, ["old"]);
    for query in ["states=LOST", "maxResults=0", "nextToken=x", "name=%20"] {
        let reply = sim.get(&format!("/virtualclusters/{vc}/jobruns?{query}")).await;
        reply.refused("ValidationException", "");
    }
    let reply = sim.get(&format!("/virtualclusters/{vc}/jobruns?createdAfter=today")).await;
    reply.refused("SerializationException", "createdAfter");
}

#[tokio::test]
async fn a_page_token_belongs_to_its_filters() {
    let sim = Sim::with(Options { page_size: 2, ..Options::default() }).await;
    let vc = sim.cluster("a").await;
    for n in 0..5 {
        sim.run(&vc, &format!("job-{n}")).await;
    }
    let path = format!("/virtualclusters/{vc}/jobruns?maxResults=50");
    let page = sim.get(&path).await.ok();
    assert_eq!(page["jobRuns"].as_array().unwrap().len(), 2);
    let token = page["nextToken"].as_str().unwrap();
    let next = sim.get(&format!("{path}&nextToken={token}")).await.ok();
    assert_eq!(next["jobRuns"][0]["name"], "job-2");
    let wrong = sim.get(&format!("{path}&states=PENDING&nextToken={token}")).await;
    wrong.refused("ValidationException", "nextToken");
}

#[tokio::test]
async fn cancelling_takes_time_and_only_once() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let run = sim.run(&vc, "job").await;
    let path = format!("/virtualclusters/{vc}/jobruns/{run}");
    assert_eq!(sim.delete(&path).await.ok(), json!({"id": run, "virtualClusterId": vc}));
    assert_eq!(sim.state(&vc, &run).await, "CANCEL_PENDING");
    let text = format!("Job run {run} is not in a cancellable state");
    let refusal = sim.delete(&path).await;
    refusal.refused("ValidationException", "");
    assert_eq!(refusal.message(), text);
    sim.pass(1.0);
    let cancelled = sim.get(&path).await.ok()["jobRun"].clone();
    assert_eq!(cancelled["state"], "CANCELLED");
    assert_eq!(cancelled["stateDetails"], "JobRun CANCELLED successfully.");
    assert_eq!(sim.delete(&path).await.message(), text);
}

#[tokio::test]
async fn a_run_may_complete_while_it_is_cancelled() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let race = |cancel_race| Rule { cancel_race, ..rule(&format!("{cancel_race:?}")) };
    for winner in [CancelRace::First, CancelRace::Cancel, CancelRace::Completion] {
        sim.handle.add_outcome(race(winner)).unwrap();
        let run = sim.run(&vc, &format!("{winner:?}")).await;
        sim.pass(9.5);
        sim.delete(&format!("/virtualclusters/{vc}/jobruns/{run}")).await.ok();
        sim.pass(3.0);
        let expected = if winner == CancelRace::Cancel { "CANCELLED" } else { "COMPLETED" };
        assert_eq!(sim.state(&vc, &run).await, expected, "{winner:?}");
    }
}

#[tokio::test]
async fn a_run_without_capacity_fails_when_its_start_times_out() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    sim.handle.add_outcome(Rule { no_capacity: true, ..rule("*") }).unwrap();
    let patient = sim.run(&vc, "patient").await;
    let mut body = run_body("hasty");
    body["configurationOverrides"]["applicationConfiguration"] =
        json!([{"classification": "emr-containers-defaults", "properties": {"job-start-timeout": "60"}}]);
    let hasty = sim.post(&format!("/virtualclusters/{vc}/jobruns"), body).await.ok();
    let hasty = hasty["id"].as_str().unwrap();
    sim.pass(62.0);
    assert_eq!(sim.state(&vc, &patient).await, "SUBMITTED");
    let failed = sim.get(&format!("/virtualclusters/{vc}/jobruns/{hasty}")).await.ok()["jobRun"].clone();
    assert_eq!(
        (failed["state"].as_str(), failed["failureReason"].as_str()),
        (Some("FAILED"), Some("USER_ERROR"))
    );
    assert!(failed["stateDetails"].as_str().unwrap().len() > 256);
    sim.pass(840.0);
    assert_eq!(sim.state(&vc, &patient).await, "FAILED");
}

#[tokio::test]
async fn starts_can_be_refused_and_rules_spent() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let refusal = Refusal {
        code: "ValidationException".to_owned(),
        message: "no such release".to_owned(),
        status: 400,
    };
    let refuse = Rule {
        release_label: Some("emr-7.10*".to_owned()),
        start_refused: Some(refusal),
        count: Some(1),
        ..Rule::default()
    };
    sim.handle.add_outcome(refuse).unwrap();
    let path = format!("/virtualclusters/{vc}/jobruns");
    sim.post(&path, run_body("job")).await.refused("ValidationException", "no such release");
    sim.post(&path, run_body("job")).await.ok();
}

#[tokio::test]
async fn states_that_no_client_knows_are_shown_on_demand() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let reported_states = [("RUNNING".to_owned(), "NAPPING".to_owned())].into();
    sim.handle.add_outcome(Rule { reported_states, ..rule("nap") }).unwrap();
    let run = sim.run(&vc, "nap").await;
    sim.pass(5.0);
    assert_eq!(sim.state(&vc, &run).await, "NAPPING");
    let list = sim.get(&format!("/virtualclusters/{vc}/jobruns?states=RUNNING")).await.ok();
    assert_eq!(list["jobRuns"], json!([]));
    sim.pass(10.0);
    assert_eq!(sim.state(&vc, &run).await, "COMPLETED");
}

#[tokio::test]
async fn lists_may_lag_behind_a_start() {
    let sim = Sim::with(Options { list_delay: Duration::from_secs(5), ..Options::default() }).await;
    let vc = sim.cluster("a").await;
    let run = sim.run(&vc, "job").await;
    let list = async || sim.get(&format!("/virtualclusters/{vc}/jobruns")).await.ok()["jobRuns"].clone();
    assert_eq!(list().await, json!([]));
    assert_eq!(sim.state(&vc, &run).await, "PENDING");
    sim.pass(5.0);
    assert_eq!(list().await[0]["id"], run.as_str());
}

#[tokio::test]
async fn attempts_are_counted_only_with_a_retry_policy() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    sim.handle.add_outcome(Rule { attempts: Some(3), running_seconds: Some(30.0), ..rule("*") }).unwrap();
    let mut body = run_body("retry");
    body["retryPolicyConfiguration"] = json!({"maxAttempts": 5});
    let run = sim.post(&format!("/virtualclusters/{vc}/jobruns"), body).await.ok();
    let path = format!("/virtualclusters/{vc}/jobruns/{}", run["id"].as_str().unwrap());
    for (seconds, count) in [(3.0, 1), (11.0, 2), (10.0, 3), (60.0, 3)] {
        sim.pass(seconds);
        let run = sim.get(&path).await.ok()["jobRun"].clone();
        assert_eq!(run["retryPolicyExecution"], json!({"currentAttemptCount": count}), "{run}");
        assert_eq!(run["retryPolicyConfiguration"], json!({"maxAttempts": 5}));
    }
    let item = sim.get(&format!("/virtualclusters/{vc}/jobruns")).await.ok()["jobRuns"][0].clone();
    assert_eq!(item.get("retryPolicyConfiguration"), None);
    assert_eq!(item["retryPolicyExecution"]["currentAttemptCount"], 3);
}

#[tokio::test]
async fn unknown_ids_and_bodies_that_are_none_are_400() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let run = sim.run(&vc, "job").await;
    let other = sim.cluster("b").await;
    let missing = "ResourceNotFoundException";
    sim.get("/virtualclusters/none/jobruns").await.refused(missing, "doesn't exist");
    sim.get(&format!("/virtualclusters/{vc}/jobruns/none"))
        .await
        .refused(missing, "Job run none doesn't exist");
    sim.get(&format!("/virtualclusters/{other}/jobruns/{run}")).await.refused(missing, "doesn't exist");
    sim.delete(&format!("/virtualclusters/{vc}/jobruns/none")).await.refused(missing, "doesn't exist");
    sim.post("/virtualclusters/none/jobruns", run_body("x")).await.refused(missing, "doesn't exist");
    sim.get("/virtualclusters/NONE!").await.refused("ValidationException", "[0-9a-z]+");
    let path = format!("/virtualclusters/{vc}/jobruns");
    sim.post(&path, json!({"name": 1})).await.refused("SerializationException", "");
    sim.post(&path, Value::Null).await.refused("ValidationException", "clientToken");
    let mut body = run_body("template");
    body["jobTemplateId"] = json!("t");
    assert_eq!(sim.post(&path, body).await.status, 501);
    assert_eq!(sim.get("/jobtemplates").await.error_type, "NotImplementedException");
    assert_eq!(sim.get("/nowhere").await.status, 404);
}

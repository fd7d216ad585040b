//! The control endpoint over HTTP.

use emr_simulator::{LoggedRequest, Snapshot};
use serde_json::json;

use crate::{Sim, run_body};

#[tokio::test]
async fn it_does_what_the_handle_does() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let rule = json!([{"name": "bad-*", "state": "FAILED", "failureReason": "NEW_REASON"}, {"name": "*"}]);
    sim.post("/_simulator/outcomes", rule).await.ok();
    let fault = json!({"operation": "StartJobRun", "kind": "status500", "count": 1});
    assert_eq!(sim.post("/_simulator/faults", fault).await.ok(), json!({"id": 1}));
    let path = format!("/virtualclusters/{vc}/jobruns");
    assert_eq!(sim.post(&path, run_body("bad-1")).await.status, 500);
    let run = sim.run(&vc, "bad-1").await;
    sim.post("/_simulator/clock", json!({"advance_seconds": 60})).await.ok();
    let described = sim.get(&format!("{path}/{run}")).await.ok();
    assert_eq!(described["jobRun"]["failureReason"], "NEW_REASON");
    assert_eq!(sim.get("/_simulator/counters").await.ok()["StartJobRun"]["calls"], 2);

    let snapshot: Snapshot = serde_json::from_value(sim.get("/_simulator/state").await.ok()).unwrap();
    assert_eq!(snapshot, sim.handle.snapshot());
    assert_eq!(snapshot.job_runs[0].client_token, "bad-1");
    let requests = sim.get("/_simulator/requests?since=1").await.ok();
    let requests: Vec<LoggedRequest> = serde_json::from_value(requests).unwrap();
    assert_eq!(requests[0].n, 2);
    assert_eq!(requests[0].error_code.as_deref(), Some("InternalServerException"));
    assert_eq!(requests[1].client_token.as_deref(), Some("bad-1"));
    assert_eq!(requests[1].body["name"], "bad-1");

    sim.delete("/_simulator/faults/1").await.ok();
    assert_eq!(sim.delete("/_simulator/faults/1").await.status, 400);
    sim.delete("/_simulator/outcomes").await.ok();
    assert_eq!(sim.get("/_simulator/outcomes").await.ok(), json!([]));
    sim.post("/_simulator/reset", json!({})).await.ok();
    assert!(sim.handle.snapshot().virtual_clusters.is_empty() && sim.handle.counters().is_empty());
}

#[tokio::test]
async fn states_are_forced_and_stay() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let run = sim.run(&vc, "job").await;
    let force = format!("/_simulator/jobruns/{run}");
    for state in ["RUNNING", "PAUSED", "SUBMITTED"] {
        sim.post(&force, json!({"state": state})).await.ok();
        sim.pass(1000.0);
        assert_eq!(sim.state(&vc, &run).await, state);
    }
    let details = json!({"state": "FAILED", "failureReason": "CLUSTER_UNAVAILABLE", "stateDetails": "gone"});
    sim.post(&force, details).await.ok();
    let described = sim.get(&format!("/virtualclusters/{vc}/jobruns/{run}")).await.ok()["jobRun"].clone();
    assert_eq!(described["failureReason"], "CLUSTER_UNAVAILABLE");
    assert_eq!(described["stateDetails"], "gone");
    assert!(described["finishedAt"].is_string());

    let run = sim.run(&vc, "cancelled").await;
    sim.post(&format!("/_simulator/jobruns/{run}"), json!({"state": "RUNNING"})).await.ok();
    sim.delete(&format!("/virtualclusters/{vc}/jobruns/{run}")).await.ok();
    sim.pass(1.0);
    assert_eq!(sim.state(&vc, &run).await, "CANCELLED");

    sim.post(&format!("/_simulator/virtualclusters/{vc}"), json!({"state": "ARRESTED"})).await.ok();
    assert_eq!(sim.get(&format!("/virtualclusters/{vc}")).await.ok()["virtualCluster"]["state"], "ARRESTED");
    assert_eq!(sim.post("/_simulator/jobruns/none", json!({"state": "FAILED"})).await.status, 400);
    sim.post("/_simulator/eksclusters/eks", json!({"updatingTimes": 1, "access": false})).await.ok();
}

#[tokio::test]
async fn a_wrong_body_says_what_is_wrong() {
    let sim = Sim::start().await;
    for (path, body, expected) in [
        ("faults", json!({"kind": "explode"}), "explode"),
        ("faults", json!({"kind": "hang", "probability": 2}), "between 0 and 1"),
        ("outcomes", json!({"nam": "x"}), "nam"),
        ("outcomes", json!({"state": "DONE"}), "COMPLETED or FAILED"),
        ("clock", json!({"advance_seconds": -1}), "not a duration"),
    ] {
        let reply = sim.post(&format!("/_simulator/{path}"), body).await;
        assert_eq!(reply.status, 400);
        assert!(reply.body["error"].as_str().unwrap().contains(expected), "{}", reply.body);
    }
}

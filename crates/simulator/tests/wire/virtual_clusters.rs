//! Virtual clusters: namespaces, deletion, scheduler, tags.

use emr_simulator::Options;
use reqwest::Method;
use serde_json::json;

use crate::{Sim, cluster_body, run_body};

#[tokio::test]
async fn a_namespace_holds_one_live_virtual_cluster() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    assert_eq!(sim.cluster("a").await, vc, "the token was repeated");
    let taken = "A virtual cluster already exists in the given namespace";
    let reply = sim.post("/virtualclusters", cluster_body("a", "other")).await;
    reply.refused("ValidationException", taken);
    assert_eq!(reply.message(), taken);
    let mut elsewhere = cluster_body("a", "elsewhere");
    elsewhere["containerProvider"]["id"] = json!("eks-2");
    sim.post("/virtualclusters", elsewhere).await.ok();
    sim.delete(&format!("/virtualclusters/{vc}")).await.ok();
    let reply = sim.post("/virtualclusters", cluster_body("a", "other")).await;
    reply.refused("ValidationException", taken);
    sim.pass(1.0);
    let new = sim.post("/virtualclusters", cluster_body("a", "other")).await.ok();
    assert_ne!(new["id"], vc.as_str());
}

#[tokio::test]
async fn names_are_unique_only_on_request() {
    let sim = Sim::with(Options { unique_virtual_cluster_names: true, ..Options::default() }).await;
    let vc = sim.cluster("a").await;
    sim.post("/virtualclusters", cluster_body("b", "b")).await.refused("ValidationException", "name vc");
    sim.delete(&format!("/virtualclusters/{vc}")).await.ok();
    sim.pass(1.0);
    sim.post("/virtualclusters", cluster_body("b", "b")).await.ok();
}

#[tokio::test]
async fn deleting_takes_time_and_leaves_a_trace() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let path = format!("/virtualclusters/{vc}");
    assert_eq!(sim.delete(&path).await.ok(), json!({"id": vc}));
    assert_eq!(sim.get(&path).await.ok()["virtualCluster"]["state"], "TERMINATING");
    assert_eq!(sim.delete(&path).await.ok(), json!({"id": vc}));
    let start = sim.post(&format!("{path}/jobruns"), run_body("job")).await;
    start.refused("ValidationException", "not in RUNNING state");
    sim.pass(1.0);
    let gone = sim.get(&path).await.ok();
    assert_eq!(gone["virtualCluster"]["state"], "TERMINATED");
    sim.delete(&path).await.refused("ValidationException", "already terminated");
    sim.delete("/virtualclusters/none").await.refused("ValidationException", "not found");
    sim.get("/virtualclusters/none").await.refused("ResourceNotFoundException", "doesn't exist");
    let listed = sim.get("/virtualclusters").await.ok();
    assert_eq!(listed["virtualClusters"][0]["state"], "TERMINATED");
    let live = sim.get("/virtualclusters?states=RUNNING&states=ARRESTED&containerProviderId=eks").await.ok();
    assert_eq!(live["virtualClusters"], json!([]));
}

#[tokio::test]
async fn a_deletion_without_access_ends_arrested_and_can_be_repeated() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let path = format!("/virtualclusters/{vc}");
    sim.handle.set_eks_cluster("eks", None, Some(false));
    sim.delete(&path).await.ok();
    sim.pass(5.0);
    assert_eq!(sim.get(&path).await.ok()["virtualCluster"]["state"], "ARRESTED");
    sim.handle.set_eks_cluster("eks", None, Some(true));
    sim.delete(&path).await.ok();
    sim.pass(5.0);
    assert_eq!(sim.get(&path).await.ok()["virtualCluster"]["state"], "TERMINATED");
}

#[tokio::test]
async fn a_fresh_eks_cluster_is_not_reachable_at_first() {
    let sim = Sim::start().await;
    sim.handle.set_eks_cluster("eks", Some(2), None);
    for _ in 0..2 {
        let reply = sim.post("/virtualclusters", cluster_body("a", "a")).await;
        reply.refused("ValidationException", "is not reachable as its connection is currently being updated");
    }
    sim.cluster("a").await;
}

#[tokio::test]
async fn a_full_queue_refuses_starts() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let path = format!("/virtualclusters/{vc}");
    let update = |token: &str, scheduler| json!({"clientToken": token, "schedulerConfiguration": scheduler});
    let limits = json!({"maxInQueueJobRuns": 2, "maxConcurrentJobRuns": 1});
    let updated = sim.patch(&path, update("1", limits.clone())).await.ok();
    assert_eq!(updated["virtualCluster"]["schedulerConfiguration"], limits);
    sim.run(&vc, "one").await;
    sim.run(&vc, "two").await;
    let third = sim.post(&format!("{path}/jobruns"), run_body("three")).await;
    third.refused("ValidationException", "queue");
    sim.pass(4.0);
    let status = sim.get(&path).await.ok()["virtualCluster"]["schedulerStatus"].clone();
    assert_eq!(status, json!({"currentInQueueJobRuns": 1, "currentConcurrentJobRuns": 1}));
    sim.run(&vc, "three").await;

    sim.patch(&path, update("1", json!({"maxInQueueJobRuns": 9}))).await.ok();
    let unchanged = sim.get(&path).await.ok();
    assert_eq!(unchanged["virtualCluster"]["schedulerConfiguration"], limits, "the token was repeated");
    sim.patch(&path, update("2", json!({}))).await.ok();
    let vc = sim.get(&path).await.ok();
    assert_eq!(vc["virtualCluster"].get("schedulerConfiguration"), None, "an update replaces");
}

#[tokio::test]
async fn tags_belong_to_what_is_active() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let run = sim.run(&vc, "job").await;
    let arn = format!("arn:aws:emr-containers:eu-west-1:123456789012:/virtualclusters/{vc}");
    let path = |arn: &str| format!("/tags/{}", arn.replace(':', "%3A").replace('/', "%2F"));
    let run_path = path(&format!("{arn}/jobruns/{run}"));
    for path in [path(&arn), run_path.clone()] {
        sim.post(&path, json!({"tags": {"a:b": "1", "c d": "2", "e": "3"}})).await.ok();
        sim.send(Method::DELETE, &format!("{path}?tagKeys=a%3Ab&tagKeys=c%20d"), None).await.unwrap().ok();
        assert_eq!(sim.get(&path).await.ok(), json!({"tags": {"e": "3"}}));
        let many: serde_json::Map<_, _> = (0..50).map(|n| (format!("k{n}"), json!(""))).collect();
        sim.post(&path, json!({"tags": many})).await.refused("ValidationException", "50 tags");
        sim.post(&path, json!({"tags": {"aws:x": ""}})).await.refused("ValidationException", "reserved");
        sim.delete(&path).await.refused("ValidationException", "tagKeys");
    }
    sim.get(&path("arn:aws:emr-containers:eu-west-1:123456789012:/jobtemplates/aaaaaaaaaaaaaaaaaaaa"))
        .await
        .refused("ValidationException", "resourceArn");
    sim.get(&path(&format!("{arn}0"))).await.refused("ResourceNotFoundException", "doesn't exist");
    sim.pass(60.0);
    sim.post(&run_path, json!({"tags": {"x": "y"}})).await.refused("ValidationException", "active");
    sim.delete(&format!("/virtualclusters/{vc}")).await.ok();
    sim.post(&path(&arn), json!({"tags": {"x": "y"}})).await.ok();
    sim.pass(60.0);
    sim.post(&path(&arn), json!({"tags": {"x": "y"}})).await.refused("ValidationException", "active");
    assert_eq!(sim.get(&path(&arn)).await.ok(), json!({"tags": {}}));
}

#[tokio::test]
async fn a_uri_that_is_no_text_is_refused_as_aws_refuses() {
    let sim = Sim::start().await;
    sim.get("/virtualclusters/%ff").await.refused("SerializationException", "URI");
}

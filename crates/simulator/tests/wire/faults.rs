//! Quotas and faults.

use std::time::Duration;

use emr_simulator::{Fault, FaultKind, Options, Quotas, ThrottleForm};
use reqwest::Method;

use crate::{Sim, run_body};

/// Time in which a test expects what must come, and gives up on what must not.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn documented_quotas_throttle_and_refill() {
    let sim = Sim::with(Options { quotas: Quotas::documented(), ..Options::default() }).await;
    let vc = sim.cluster("a").await;
    let path = format!("/virtualclusters/{vc}/jobruns");
    for n in 0..25 {
        sim.run(&vc, &format!("job-{n}")).await;
    }
    sim.post(&path, run_body("late")).await.refused("ThrottlingException", "Rate exceeded");
    sim.get(&path).await.ok();
    sim.pass(1.0);
    sim.post(&path, run_body("late")).await.ok();
    sim.post(&path, run_body("later")).await.refused("ThrottlingException", "");
    let counters = sim.handle.counters();
    let starts = &counters["StartJobRun"];
    assert_eq!((starts.calls, starts.ok, starts.throttled), (28, 26, 2));
    assert_eq!(starts.errors["ThrottlingException"], 2);
}

#[tokio::test]
async fn all_calls_share_a_bucket() {
    let quotas: Quotas = "DescribeVirtualCluster=1:50,all=1:3".parse().unwrap();
    let sim = Sim::with(Options { quotas, ..Options::default() }).await;
    let vc = sim.cluster("a").await;
    sim.get("/virtualclusters").await.ok();
    sim.get(&format!("/virtualclusters/{vc}")).await.ok();
    sim.get("/virtualclusters").await.refused("ThrottlingException", "");
    assert!("Nothing=1:1".parse::<Quotas>().is_err());
    assert!("StartJobRun=1".parse::<Quotas>().is_err());
}

#[tokio::test]
async fn throttle_errors_have_the_chosen_form() {
    for (form, status, code) in [
        (ThrottleForm::TooManyRequestsException, 429, "TooManyRequestsException"),
        (ThrottleForm::Bare429, 429, ""),
        (ThrottleForm::RequestThrottledException, 400, "RequestThrottledException"),
        (ThrottleForm::EksRequestThrottledException, 429, "EKSRequestThrottledException"),
    ] {
        let sim = Sim::with(Options { throttle_form: form, ..Options::default() }).await;
        sim.handle.add_fault(Fault::new("*", FaultKind::Throttle)).unwrap();
        let reply = sim.get("/virtualclusters").await;
        assert_eq!((reply.status.as_u16(), reply.error_type.as_str()), (status, code));
    }
}

#[tokio::test]
async fn a_lost_reply_leaves_a_run_that_its_token_finds() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let lost = Fault { count: Some(1), ..Fault::new("StartJobRun", FaultKind::ReplyLost) };
    sim.handle.add_fault(lost).unwrap();
    let path = format!("/virtualclusters/{vc}/jobruns");
    assert!(sim.send(Method::POST, &path, Some(run_body("job"))).await.is_err());
    let made = sim.handle.snapshot().job_runs[0].id.clone();
    assert_eq!(sim.run(&vc, "job").await, made);
    let counters = sim.handle.counters();
    assert_eq!((counters["StartJobRun"].lost, counters["StartJobRun"].ok), (1, 1));
}

#[tokio::test]
async fn an_error_after_the_call_was_done_leaves_a_run_that_its_token_finds() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let fails = Fault { count: Some(1), ..Fault::new("StartJobRun", FaultKind::FailsAfter) };
    sim.handle.add_fault(fails).unwrap();
    let path = format!("/virtualclusters/{vc}/jobruns");
    let reply = sim.send(Method::POST, &path, Some(run_body("job"))).await.unwrap();
    assert_eq!(reply.status, 500);
    let made = sim.handle.snapshot().job_runs[0].id.clone();
    assert_eq!(sim.run(&vc, "job").await, made);
}

#[tokio::test]
async fn a_held_reply_comes_when_it_is_released() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let held = Fault { count: Some(1), ..Fault::new("StartJobRun", FaultKind::HoldReply) };
    sim.handle.add_fault(held).unwrap();
    let path = format!("/virtualclusters/{vc}/jobruns");
    let start = sim.send(Method::POST, &path, Some(run_body("job")));
    let release = async {
        while sim.handle.snapshot().held_replies == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sim.handle.snapshot().job_runs.len(), 1, "it was done before it was held");
        assert_eq!(sim.handle.release(), 1);
    };
    let (reply, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(start, release) }).await.unwrap();
    assert_eq!(reply.unwrap().ok()["name"], "job");
    assert_eq!(sim.handle.snapshot().held_replies, 0);
}

#[tokio::test]
async fn a_hanging_call_does_nothing() {
    let sim = Sim::start().await;
    let vc = sim.cluster("a").await;
    let hang = Fault { delay_ms: 50, ..Fault::new("StartJobRun", FaultKind::Hang) };
    sim.handle.add_fault(hang).unwrap();
    let path = format!("/virtualclusters/{vc}/jobruns");
    assert!(sim.send(Method::POST, &path, Some(run_body("job"))).await.is_err());
    assert_eq!(sim.handle.snapshot().job_runs.len(), 0);
    assert_eq!(sim.handle.requests_since(1)[0].fault, Some(FaultKind::Hang));
}

#[tokio::test]
async fn errors_come_in_the_forms_of_the_service() {
    let sim = Sim::start().await;
    for (kind, status, code) in [
        (FaultKind::Status500, 500, "InternalServerException"),
        (FaultKind::Status503, 503, ""),
        (FaultKind::AccessDenied, 403, "AccessDeniedException"),
        (FaultKind::ExpiredToken, 403, "ExpiredTokenException"),
    ] {
        let id = sim.handle.add_fault(Fault::new("ListVirtualClusters", kind)).unwrap();
        let reply = sim.get("/virtualclusters").await;
        assert_eq!((reply.status.as_u16(), reply.error_type.as_str()), (status, code));
        assert!(sim.handle.remove_fault(id));
    }
    let chosen = Fault {
        code: Some("Odd".to_owned()),
        message: Some("very".to_owned()),
        status: Some(418),
        skip: 1,
        contains: Some("states=RUNNING".to_owned()),
        ..Fault::new("*", FaultKind::Error)
    };
    sim.handle.add_fault(chosen).unwrap();
    sim.get("/virtualclusters").await.ok();
    sim.get("/virtualclusters?states=RUNNING").await.ok();
    let reply = sim.get("/virtualclusters?states=RUNNING").await;
    assert_eq!((reply.status.as_u16(), reply.error_type.as_str(), reply.message()), (418, "Odd", "very"));
    assert!(sim.handle.add_fault(Fault::new("Nothing", FaultKind::Error)).is_err());
}

#[tokio::test]
async fn the_same_seed_strikes_the_same_calls() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let sim = Sim::with(Options { seed, ..Options::default() }).await;
        let fault = Fault { probability: 0.5, ..Fault::new("*", FaultKind::Status500) };
        sim.handle.add_fault(fault).unwrap();
        let mut struck = Vec::new();
        for _ in 0..40 {
            struck.push(sim.get("/virtualclusters").await.status == 500);
        }
        assert!(struck.contains(&true) && struck.contains(&false));
        runs.push(struck);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn stopping_closes_hanging_calls() {
    let sim = Sim::start().await;
    sim.handle.add_fault(Fault::new("*", FaultKind::Hang)).unwrap();
    let request = sim.request(Method::GET, "/virtualclusters", "AKIAEXAMPLE/20261121/eu-west-1").send();
    let waiting = tokio::spawn(request);
    let asked = async {
        while sim.handle.counters().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
    tokio::time::timeout(PATIENCE, sim.handle.stop()).await.unwrap();
    assert!(waiting.await.unwrap().is_err());
}

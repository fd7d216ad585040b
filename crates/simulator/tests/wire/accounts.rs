//! Callers: accounts, regions and STS.

use std::time::Duration;

use emr_simulator::Options;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::json;

use crate::{Sim, cluster_body, read};

fn between<'a>(text: &'a str, tag: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<{tag}>")).unwrap();
    rest.split_once(&format!("</{tag}>")).unwrap().0
}

#[tokio::test]
async fn accounts_and_regions_are_apart() {
    let options = Options {
        access_keys: vec![("AKIAOTHER".to_owned(), "222222222222".to_owned())],
        ..Options::default()
    };
    let sim = Sim::with(options).await;
    let scopes = [
        ("AKIAEXAMPLE/20261121/eu-west-1", "eu-west-1:123456789012"),
        ("AKIAEXAMPLE/20261121/us-west-2", "us-west-2:123456789012"),
        ("AKIAOTHER/20261121/eu-west-1", "eu-west-1:222222222222"),
        ("333333333333/20261121/cn-north-1", "cn-north-1:333333333333"),
    ];
    for (scope, arn) in scopes {
        let request = sim.request(Method::POST, "/virtualclusters", scope).json(&cluster_body("a", "t"));
        let created = read(request.send().await.unwrap()).await.unwrap().ok();
        assert!(created["arn"].as_str().unwrap().contains(&format!(":emr-containers:{arn}:/")), "{created}");
        let list = sim.request(Method::GET, "/virtualclusters", scope).send().await.unwrap();
        let list = read(list).await.unwrap().ok();
        assert_eq!(list["virtualClusters"].as_array().unwrap().len(), 1);
    }
    assert_eq!(sim.handle.snapshot().virtual_clusters.len(), scopes.len());
    let unsigned = sim.http.get(format!("{}/virtualclusters", sim.handle.url())).send().await.unwrap();
    assert_eq!(read(unsigned).await.unwrap().ok(), json!({"virtualClusters": []}));
}

#[tokio::test]
async fn an_assumed_role_acts_in_its_account() {
    let sim = Sim::start().await;
    let form = "Action=AssumeRole&RoleArn=arn:aws:iam::444444444444:role/path/ops&RoleSessionName=me";
    let reply =
        sim.request(Method::POST, "/", "AKIAEXAMPLE/20261121/eu-west-1").body(form).send().await.unwrap();
    let reply = reply.text().await.unwrap();
    let scope = format!("{}/20261121/eu-west-1", between(&reply, "AccessKeyId"));
    let who = sim.request(Method::POST, "/", &scope).body("Action=GetCallerIdentity").send().await.unwrap();
    let who = who.text().await.unwrap();
    assert_eq!(between(&who, "Account"), "444444444444");
    assert_eq!(between(&who, "Arn"), "arn:aws:sts::444444444444:assumed-role/ops/me");
    let request = sim.request(Method::POST, "/virtualclusters", &scope).json(&cluster_body("a", "t"));
    read(request.send().await.unwrap()).await.unwrap().ok();
    assert_eq!(sim.handle.snapshot().virtual_clusters[0].account, "444444444444");
    let bad = sim.request(Method::POST, "/", &scope).body("Action=AssumeRole&RoleArn=x&RoleSessionName=me");
    let bad = bad.send().await.unwrap();
    assert_eq!(bad.status(), 400);
    assert_eq!(between(&bad.text().await.unwrap(), "Code"), "ValidationError");
}

#[tokio::test]
async fn a_signature_of_another_time_is_refused_if_that_is_wanted() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let strict = Sim::with(Options { clock_skew: Some(minutes(5)), ..Options::default() }).await;
    let lenient = Sim::start().await;
    let ask = async |sim: &Sim, offset: SignedDuration| {
        let date = (sim.handle.snapshot().now + offset).strftime("%Y%m%dT%H%M%SZ").to_string();
        let request = sim.request(Method::GET, "/virtualclusters", "AKIAEXAMPLE/20261121/eu-west-1");
        read(request.header("x-amz-date", date).send().await.unwrap()).await.unwrap()
    };
    for offset in [SignedDuration::from_mins(-4), SignedDuration::from_mins(4)] {
        ask(&strict, offset).await.ok();
    }
    for offset in [SignedDuration::from_hours(-2), SignedDuration::from_hours(2)] {
        let reply = ask(&strict, offset).await;
        assert_eq!((reply.status.as_u16(), reply.error_type.as_str()), (403, "InvalidSignatureException"));
        ask(&lenient, offset).await.ok();
        let logged = lenient.handle.requests_since(0).pop().unwrap();
        let differs = logged.signed_at.unwrap().duration_since(logged.at) - offset;
        assert!(differs.unsigned_abs() <= Duration::from_secs(1), "{differs}");
        assert_eq!(logged.access_key.as_deref(), Some("AKIAEXAMPLE"));
    }
}

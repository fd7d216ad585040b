//! The simulator over HTTP, as a client sees it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops with a message"
)]

mod accounts;
mod control;
mod faults;
mod job_runs;
mod virtual_clusters;

use std::time::Duration;

use emr_simulator::{ClockMode, Handle, Options, start};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A reply that came.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) error_type: String,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}: {}", self.error_type, self.body);
        self.body
    }

    pub(crate) fn refused(&self, code: &str, message: &str) {
        assert_eq!(self.status, StatusCode::BAD_REQUEST, "{}", self.body);
        assert_eq!(self.error_type, code);
        assert!(self.message().contains(message), "{}", self.message());
    }
}

/// A simulator and a client that signs as `key` in `region`.
pub(crate) struct Sim {
    pub(crate) handle: Handle,
    pub(crate) http: reqwest::Client,
}

impl Sim {
    /// On a virtual clock: PENDING 1 s, SUBMITTED 2 s, RUNNING 7 s, a second for all else.
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let options = Options {
            clock: ClockMode::Virtual,
            pending_for: Duration::from_secs(1),
            submitted_for: Duration::from_secs(2),
            ..options
        };
        Self { handle: start(options).await.unwrap(), http: reqwest::Client::new() }
    }

    pub(crate) fn request(&self, method: Method, path: &str, scope: &str) -> reqwest::RequestBuilder {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={scope}/emr-containers/aws4_request, SignedHeaders=host, Signature=0"
        );
        self.http
            .request(method, format!("{}{path}", self.handle.url()))
            .header("authorization", authorization)
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Result<Reply> {
        let mut request = self.request(method, path, "AKIAEXAMPLE/20261121/eu-west-1");
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request.send().await?).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await.unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PATCH, path, Some(body)).await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await.unwrap()
    }

    pub(crate) fn pass(&self, seconds: f64) {
        self.handle.advance_clock(Duration::from_secs_f64(seconds));
    }

    /// A virtual cluster in a namespace of the EKS cluster `eks`.
    pub(crate) async fn cluster(&self, namespace: &str) -> String {
        let reply = self.post("/virtualclusters", cluster_body(namespace, namespace)).await.ok();
        reply["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn run(&self, cluster: &str, name: &str) -> String {
        let reply = self.post(&format!("/virtualclusters/{cluster}/jobruns"), run_body(name)).await.ok();
        reply["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn state(&self, cluster: &str, run: &str) -> Value {
        self.get(&format!("/virtualclusters/{cluster}/jobruns/{run}")).await.ok()["jobRun"]["state"].clone()
    }
}

pub(crate) async fn read(response: reqwest::Response) -> reqwest::Result<Reply> {
    let status = response.status();
    let error_type = response.headers().get("x-amzn-errortype");
    let error_type = error_type.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    assert!(
        response.headers().contains_key("x-amzn-requestid")
            || response.url().path().starts_with("/_simulator")
    );
    let body = response.bytes().await?;
    Ok(Reply { status, error_type, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

pub(crate) fn cluster_body(namespace: &str, token: &str) -> Value {
    json!({
        "name": "vc", "clientToken": token,
        "containerProvider": {"type": "EKS", "id": "eks", "info": {"eksInfo": {"namespace": namespace}}},
    })
}

/// A run whose name is also its token.
pub(crate) fn run_body(name: &str) -> Value {
    json!({
        "name": name, "clientToken": name,
        "executionRoleArn": "arn:aws:iam::123456789012:role/x", "releaseLabel": "emr-7.10.0-latest",
        "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "local:///x.py"}},
        "configurationOverrides": {"applicationConfiguration": [{"classification": "spark-defaults"}]},
    })
}

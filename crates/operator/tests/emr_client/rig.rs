//! A server that answers by script, and a client that asks it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_emrcontainers::config::{Credentials, SharedCredentialsProvider};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use emrcontainers_operator::emr::Client;
use emrcontainers_operator::emr::error::{Class, EmrError};
use emrcontainers_operator::emr::limit::{Grant, Kind, Priority, RunKey, Turn};
use emrcontainers_operator::emr::observe::Observer;
use emrcontainers_operator::emr::operation::Operation;
use emrcontainers_operator::emr::pool::{Pool, PoolConfig, Scope};
use emrcontainers_operator::fence::Fence;
use emrcontainers_operator::quotas::Quotas;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) replies: VecDeque<(u16, &'static str, Value)>,
    pub(crate) requests: Vec<(String, String, Value)>,
}

pub(crate) type Shared = Arc<Mutex<Script>>;

/// Answers by the script, then with an empty object. The error code goes where the service puts it.
async fn answer(State(script): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut script = script.lock().unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    script.requests.push((method.to_string(), uri.to_string(), body));
    let (status, code, body) = script.replies.pop_front().unwrap_or((200, "", json!({})));
    let headers = [("content-type", "application/json"), ("x-amzn-errortype", code)];
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
    let mut response = (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

#[derive(Default)]
pub(crate) struct Attempts(pub(crate) Mutex<Vec<(Operation, Option<Class>)>>);

impl Observer for Attempts {
    fn attempt(&self, operation: Operation, _took: Duration, error: Option<&EmrError>) {
        self.0.lock().unwrap().push((operation, error.map(|error| error.class)));
    }
}

pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) script: Shared,
    pub(crate) attempts: Arc<Attempts>,
}

pub(crate) fn config(url: &str, observer: Arc<dyn Observer>) -> PoolConfig {
    let credentials = Credentials::new("AKID", "secret", None, None, "test");
    PoolConfig {
        region: "eu-west-1".to_owned(),
        endpoint_url: Some(url.to_owned()),
        identity_endpoint_url: Some(url.to_owned()),
        attempt_timeout: std::time::Duration::from_secs(10),
        ca_bundle: None,
        credentials: Some(SharedCredentialsProvider::new(credentials)),
        quotas: Quotas::Off,
        wake: unbounded_channel().0,
        observer,
        fence: Fence::open(),
    }
}

pub(crate) fn scope() -> Scope {
    Scope::new("111122223333", "eu-west-1")
}

pub(crate) async fn rig(replies: impl IntoIterator<Item = (u16, &'static str, Value)>) -> Rig {
    let script = Arc::new(Mutex::new(Script { replies: replies.into_iter().collect(), ..Script::default() }));
    let app = axum::Router::new().fallback(answer).with_state(script.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let attempts = Arc::new(Attempts::default());
    let pool = Pool::new(config(&url, attempts.clone())).await.unwrap();
    Rig { client: pool.client(&scope()), script, attempts }
}

pub(crate) fn grant(client: &Client, kind: Kind) -> Grant {
    match client.limiter().request(kind, &RunKey::new("uid", "default", "run"), Priority::default()) {
        Turn::Granted(grant) => grant,
        Turn::Queued(_) => panic!("no quota"),
    }
}

pub(crate) fn error(message: &str) -> Value {
    json!({ "message": message })
}

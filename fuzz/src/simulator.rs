//! The simulator's wire inputs: a list of requests in JSON, or one as plain text. Every request gets an answer in AWS's
//! shape, and what the simulator holds afterwards is a state that the service could be in.

use std::collections::HashSet;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Uri, header};
use emr_simulator::{ClockMode, Options, Snapshot};
use futures::FutureExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Requests of one input; more show nothing new.
const MOST_REQUESTS: usize = 40;

#[derive(Debug, Deserialize)]
struct Call {
    method: String,
    /// `$0` stands for the first id that was given out, and so on.
    uri: String,
    #[serde(default)]
    body: Value,
    /// What stands in the credential's scope: key, date, region.
    #[serde(default)]
    scope: Option<String>,
}

pub(crate) fn check(data: &[u8]) {
    let calls = serde_json::from_slice(data).unwrap_or_else(|_| plain(data));
    let mut world = World::new();
    for call in calls.iter().take(MOST_REQUESTS) {
        world.call(call);
    }
    world.check();
}

/// `METHOD URI`, a line break and the body.
fn plain(data: &[u8]) -> Vec<Call> {
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
    let (method, uri) = head.split_once(' ').unwrap_or(("POST", head));
    vec![Call { method: method.to_owned(), uri: uri.to_owned(), body: Value::from(body), scope: None }]
}

struct Answer {
    status: u16,
    error_type: String,
    has_request_id: bool,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }
}

/// One simulator for all inputs: to build its routes takes longer than to go through most inputs.
struct Simulator {
    app: TowerToHyperService<axum::Router>,
    /// Nothing waits here; a delayed reply needs a timer to be made, and is then left alone.
    runtime: Runtime,
}

thread_local! {
    static SIMULATOR: Simulator = Simulator {
        app: TowerToHyperService::new(emr_simulator::router(Options {
            clock: ClockMode::Virtual,
            ..Options::default()
        })),
        runtime: Builder::new_current_thread().enable_time().build().unwrap(),
    };
}

/// What an input has made so far.
#[derive(Default)]
struct World {
    ids: Vec<String>,
    /// Somebody asked for faults: errors and lost replies are right answers.
    faulty: bool,
    /// Somebody put resources into states by force.
    forced: bool,
}

impl World {
    fn new() -> Self {
        send(Method::POST, Uri::from_static("/_simulator/reset"), String::new(), None).unwrap();
        Self::default()
    }

    fn call(&mut self, call: &Call) {
        let uri = self
            .ids
            .iter()
            .enumerate()
            .rev()
            .fold(call.uri.clone(), |uri, (n, id)| uri.replace(&format!("${n}"), id));
        let (Ok(method), Ok(uri)) = (call.method.parse::<Method>(), uri.parse::<Uri>()) else { return };
        let control = uri.path().starts_with("/_simulator");
        let changes = control && method != Method::GET;
        self.faulty |= changes && uri.path().starts_with("/_simulator/faults");
        self.forced |= changes && (uri.path().contains("jobruns") || uri.path().contains("virtualclusters"));
        let body = match &call.body {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let Some(answer) = send(method, uri.clone(), body, call.scope.as_deref()) else {
            assert!(self.faulty, "no answer to {call:?}");
            return;
        };
        if control {
            assert!(answer.status < 500, "{} to {call:?}", answer.status);
        } else if !self.faulty {
            in_the_shape_of_aws(&answer, call);
            self.learn(&answer);
        }
    }

    fn learn(&mut self, answer: &Answer) {
        let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        if let Some(id) = body["id"].as_str().filter(|_| answer.status == 200)
            && !self.ids.iter().any(|known| known == id)
        {
            self.ids.push(id.to_owned());
        }
    }

    /// What is there is what could be, and every way to ask for it gives the same.
    fn check(&self) {
        send(Method::DELETE, Uri::from_static("/_simulator/faults"), String::new(), None);
        let held: Snapshot = serde_json::from_value(get("/_simulator/state", "")).unwrap();
        let ids: HashSet<&str> = held.job_runs.iter().map(|run| run.id.as_str()).collect();
        assert_eq!(ids.len(), held.job_runs.len(), "two runs with an id");
        let tokens: HashSet<_> =
            held.job_runs.iter().map(|run| (&run.account, &run.region, &run.client_token)).collect();
        assert_eq!(tokens.len(), held.job_runs.len(), "two runs for a token");
        let live = held.virtual_clusters.iter().filter(|cluster| cluster.state != "TERMINATED");
        let places: Vec<_> =
            live.map(|live| (&live.account, &live.region, &live.eks_cluster, &live.namespace)).collect();
        let distinct = places.iter().collect::<HashSet<_>>().len();
        assert!(self.forced || distinct == places.len(), "two live virtual clusters in a namespace");
        for run in &held.job_runs {
            assert!(run.tags.len() <= 50 && !run.client_token.is_empty());
            let ended = matches!(run.state.as_str(), "COMPLETED" | "FAILED" | "CANCELLED");
            assert!(self.forced || run.finished_at.is_some() == ended, "{run:?}");
            assert!(run.history.windows(2).all(|pair| pair[0].at <= pair[1].at), "{run:?}");
            let scope = format!("{}/20261121/{}", run.account, run.region);
            let Some(scope) = plain_scope(&scope) else { continue };
            let shown =
                get(&format!("/virtualclusters/{}/jobruns/{}", run.virtual_cluster_id, run.id), scope);
            assert_eq!(shown["jobRun"]["state"], run.state.as_str());
        }
        for cluster in &held.virtual_clusters {
            let scope = format!("{}/20261121/{}", cluster.account, cluster.region);
            let Some(scope) = plain_scope(&scope) else { continue };
            let runs = held.job_runs.iter().filter(|run| run.virtual_cluster_id == cluster.id).count();
            assert_eq!(listed(&cluster.id, scope), runs, "pages miss runs or repeat them");
        }
    }
}

fn send(method: Method, uri: Uri, body: String, scope: Option<&str>) -> Option<Answer> {
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let authorization = scope
        .map(|scope| format!("AWS4-HMAC-SHA256 Credential={scope}/emr-containers/aws4_request, Signature=0"));
    if let Some(value) = authorization.and_then(|text| text.parse().ok()) {
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let response = SIMULATOR.with(|Simulator { app, runtime }| {
        let _timers = runtime.enter();
        app.call(request).now_or_never()
    });
    let response = response?.unwrap();
    let (parts, body) = response.into_parts();
    let header = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    Some(Answer {
        status: parts.status.as_u16(),
        error_type: header("x-amzn-errortype").unwrap_or_default(),
        has_request_id: header("x-amzn-requestid").is_some(),
        body: axum::body::to_bytes(body, usize::MAX).now_or_never()?.unwrap(),
    })
}

fn get(uri: &str, scope: &str) -> Value {
    let answer = send(Method::GET, uri.parse().unwrap(), String::new(), Some(scope)).expect("an answer");
    assert_eq!(answer.status, 200, "{uri}: {:?}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// How many runs the pages of a list show.
fn listed(cluster: &str, scope: &str) -> usize {
    let mut shown = HashSet::new();
    let mut token = String::new();
    loop {
        let page = get(&format!("/virtualclusters/{cluster}/jobruns?maxResults=3{token}"), scope);
        for run in page["jobRuns"].as_array().unwrap() {
            assert!(shown.insert(run["id"].as_str().unwrap().to_owned()), "listed twice");
        }
        let Some(next) = page["nextToken"].as_str() else { return shown.len() };
        token = format!("&nextToken={next}");
    }
}

/// A scope that can be sent, which an account or region that was made up may not be.
fn plain_scope(scope: &str) -> Option<&str> {
    let plain = scope.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'-');
    Some(scope).filter(|_| plain && scope.matches('/').count() == 2)
}

fn in_the_shape_of_aws(answer: &Answer, call: &Call) {
    assert!(answer.has_request_id, "no request id: {call:?}");
    let xml = answer.body.starts_with(b"<");
    match answer.status {
        200 if xml => assert!(answer.body.ends_with(b"Response>")),
        200 => assert!(answer.json().is_object(), "{call:?}"),
        501 => assert_eq!(answer.error_type, "NotImplementedException", "{call:?}"),
        status => {
            assert!((400..500).contains(&status), "{status} to {call:?}");
            assert!(!answer.error_type.is_empty(), "no error type: {call:?}");
            assert!(xml || answer.json()["message"].is_string(), "no message: {call:?}");
        }
    }
}

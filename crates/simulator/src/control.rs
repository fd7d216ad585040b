//! The control endpoint, under `/_simulator/`: what the library's handle does, over HTTP.
//!
//! Must not touch state itself: it calls the same methods as the handle.
//! Invariant: it is subject to no quota, fault or latency, and is in no counter.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::clock::seconds;
use crate::service::Service;

/// A JSON text, or what is wrong with the request.
type Answer = anyhow::Result<String>;
type App = State<Arc<Service>>;

pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/_simulator/state", get(async |State(app): App| respond(shown(&app.snapshot()))))
        .route(
            "/_simulator/reset",
            post(async |State(app): App| {
                app.reset();
                respond(done())
            }),
        )
        .route("/_simulator/counters", get(async |State(app): App| respond(shown(&app.counters()))))
        .route(
            "/_simulator/requests",
            get(async |State(app): App, Query(since): Query<Since>| {
                respond(shown(&app.requests_since(since.since)))
            }),
        )
        .route(
            "/_simulator/faults",
            get(async |State(app): App| respond(shown(&app.lock().faults.list())))
                .post(async |State(app): App, body: Bytes| respond(add_fault(&app, &body)))
                .delete(async |State(app): App| {
                    app.clear_faults();
                    respond(done())
                }),
        )
        .route(
            "/_simulator/faults/{id}",
            delete(async |State(app): App, Path(id): Path<u64>| respond(remove_fault(&app, id))),
        )
        .route(
            "/_simulator/release",
            post(async |State(app): App| respond(shown(&json!({ "released": app.release() })))),
        )
        .route(
            "/_simulator/outcomes",
            get(async |State(app): App| respond(shown(&app.lock().outcomes.rules())))
                .post(async |State(app): App, body: Bytes| respond(add_outcomes(&app, &body)))
                .delete(async |State(app): App| {
                    app.clear_outcomes();
                    respond(done())
                }),
        )
        .route("/_simulator/clock", post(async |State(app): App, body: Bytes| respond(advance(&app, &body))))
        .route(
            "/_simulator/virtualclusters/{id}",
            post(async |State(app): App, Path(id): Path<String>, body: Bytes| {
                respond(force_cluster(&app, &id, &body))
            }),
        )
        .route(
            "/_simulator/jobruns/{id}",
            post(async |State(app): App, Path(id): Path<String>, body: Bytes| {
                respond(force_run(&app, &id, &body))
            }),
        )
        .route(
            "/_simulator/eksclusters/{name}",
            post(async |State(app): App, Path(name): Path<String>, body: Bytes| {
                respond(set_eks(&app, &name, &body))
            }),
        )
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    #[serde(alias = "advanceSeconds")]
    advance_seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceCluster {
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ForceRun {
    state: String,
    failure_reason: Option<String>,
    state_details: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetEks {
    #[serde(default)]
    updating_times: Option<u32>,
    #[serde(default)]
    access: Option<bool>,
}

/// One rule, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    More(Vec<T>),
    One(T),
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> anyhow::Result<T> {
    serde_json::from_slice(body).map_err(|error| anyhow::anyhow!("the body can't be read: {error}"))
}

fn shown(value: &impl serde::Serialize) -> Answer {
    Ok(serde_json::to_string(value)?)
}

fn done() -> Answer {
    shown(&json!({}))
}

fn add_fault(app: &Service, body: &Bytes) -> Answer {
    shown(&json!({ "id": app.add_fault(parse(body)?)? }))
}

fn remove_fault(app: &Service, id: u64) -> Answer {
    anyhow::ensure!(app.lock().faults.remove(Some(id)), "there is no fault {id}");
    shown(&json!({}))
}

fn add_outcomes(app: &Service, body: &Bytes) -> Answer {
    // Parsed as one of the two by hand, since an untagged enum would hide what is wrong with a rule.
    let rules = match parse::<OneOrMore<Value>>(body)? {
        OneOrMore::More(rules) => rules,
        OneOrMore::One(rule) => vec![rule],
    };
    for rule in rules {
        app.add_outcome(serde_json::from_value(rule)?)?;
    }
    shown(&json!({}))
}

fn advance(app: &Service, body: &Bytes) -> Answer {
    let by: Advance = parse(body)?;
    shown(&json!({ "now": app.advance_clock(seconds(by.advance_seconds)?) }))
}

fn force_cluster(app: &Service, id: &str, body: &Bytes) -> Answer {
    let force: ForceCluster = parse(body)?;
    app.force_virtual_cluster(id, &force.state).and_then(|()| done())
}

fn force_run(app: &Service, id: &str, body: &Bytes) -> Answer {
    let force: ForceRun = parse(body)?;
    app.force_job_run(id, &force.state, force.failure_reason, force.state_details).and_then(|()| done())
}

fn set_eks(app: &Service, name: &str, body: &Bytes) -> Answer {
    let set: SetEks = parse(body)?;
    app.set_eks_cluster(name, set.updating_times, set.access);
    shown(&json!({}))
}

fn respond(answer: Answer) -> Response {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::BAD_REQUEST, json!({ "error": format!("{error:#}") }).to_string()),
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

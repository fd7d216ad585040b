//! That nothing is done after the term has ended, by whatever task.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::election::Election;
use super::times::LeaseTimes;
use super::{Outcome, elect};
use crate::fence::Fence;
use crate::metrics::Metrics;

/// An API server with one lease, and whether the fence was open whenever it was read or written.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    /// Whether another has taken it.
    taken: bool,
    fence: Option<Fence>,
    was_open: Vec<(Method, bool)>,
}

impl Server {
    fn answer(&mut self, method: &Method, body: &str) -> Response {
        if let Some(fence) = &self.fence {
            self.was_open.push((method.clone(), fence.is_open()));
        }
        if *method == Method::PUT && self.taken {
            return failure(StatusCode::CONFLICT, "Conflict");
        }
        if *method != Method::GET {
            self.lease = Some(serde_json::from_str(body).unwrap());
        }
        match &self.lease {
            Some(lease) => axum::Json(lease).into_response(),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }
}

fn failure(code: StatusCode, reason: &str) -> Response {
    let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16()});
    (code, axum::Json(status)).into_response()
}

fn rig(retry_period: Duration) -> (Arc<Mutex<Server>>, Election) {
    let server = Arc::new(Mutex::new(Server::default()));
    let asked = Arc::clone(&server);
    let answer =
        move |method: Method, body: String| async move { asked.lock().unwrap().answer(&method, &body) };
    let client = Client::new(Router::new().fallback(answer), "default");
    let times = LeaseTimes { retry_period, ..LeaseTimes::default() };
    (server, Election::new(client, "ns", "us", times, true))
}

#[tokio::test]
async fn the_fence_is_shut_before_the_lease_is_given_back() {
    let (server, election) = rig(LeaseTimes::default().retry_period);
    let work = |fence: Fence| {
        assert!(fence.is_open());
        server.lock().unwrap().fence = Some(fence);
        async { Ok(()) }
    };
    let outcome = elect(&election, &Metrics::new(), &CancellationToken::new(), work).await;
    assert_eq!(outcome.unwrap(), Outcome::Worked);
    let server = server.lock().unwrap();
    assert_eq!(server.lease.as_ref().unwrap()["spec"]["holderIdentity"], "", "it is given back");
    assert!(server.was_open.iter().any(|(method, _)| method == Method::PUT), "{:?}", server.was_open);
    assert!(server.was_open.iter().all(|(_, open)| !open), "{:?}", server.was_open);
}

#[tokio::test]
async fn the_fence_is_shut_when_the_lease_is_lost_before_its_time() {
    let (server, election) = rig(Duration::from_millis(1));
    let work = |fence: Fence| {
        let mut server = server.lock().unwrap();
        // Somebody writes it by hand.
        server.taken = true;
        server.lease = Some(json!({"metadata": {"name": "other"}, "spec": {"holderIdentity": "another"}}));
        server.fence = Some(fence);
        std::future::pending()
    };
    let lost = elect(&election, &Metrics::new(), &CancellationToken::new(), work).await.unwrap_err();
    assert!(lost.to_string().contains("the lease is lost"), "{lost}");
    assert!(!server.lock().unwrap().fence.as_ref().unwrap().is_open());
}

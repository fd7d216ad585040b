//! Connections: accepts them, and closes those whose reply is to be lost.
//!
//! axum's own server can't end a connection without a reply, so its router runs on hyper here.
//! Invariant: once `run` returns, no connection is open.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::routes::NoReply;
use crate::service::Service;
use crate::{control, routes};

/// The routes of the API and of the control endpoint.
pub(crate) fn app(service: Arc<Service>) -> Router {
    routes::api().merge(control::routes()).with_state(service)
}

/// Serves until `stop` is cancelled.
pub(crate) async fn run(listener: TcpListener, service: Arc<Service>, stop: CancellationToken) {
    let app = app(service);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (app, stop) = (app.clone(), stop.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection(stream, app) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                // Out of file handles, most likely: let others finish first.
                tokio::task::yield_now().await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, app: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't switch off delays");
    }
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let reply = app.call(request);
        async move {
            let response: Result<Response, Infallible> = reply.await;
            match response {
                Ok(response) if response.extensions().get::<NoReply>().is_none() => Ok(response),
                _ => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            }
        }
    });
    let served =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended");
    }
}

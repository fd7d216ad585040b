//! /metrics, /healthz and /readyz over plain HTTP, on upstream's two addresses.
//!
//! Only reads: nothing that a caller sends changes anything. Ports are bound before anything else starts, so that a
//! port in use is a start-up error.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::{Liveness, Readiness, Report};
use crate::metrics::{self, Metrics};
use crate::settings::Settings;

/// The bound ports and what is served there.
#[derive(Debug)]
pub struct Server {
    metrics: Option<(TcpListener, Router)>,
    health: Option<(TcpListener, Router)>,
}

impl Server {
    /// Binds the addresses of the settings.
    pub async fn bind(
        settings: &Settings,
        metrics: &Metrics,
        readiness: &Readiness,
        liveness: &Liveness,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            metrics: bind("--metrics-addr", settings.metrics_addr)
                .await?
                .map(|on| (on, metrics_routes(metrics))),
            health: bind("--healthz-addr", settings.healthz_addr)
                .await?
                .map(|on| (on, health_routes(readiness, liveness))),
        })
    }

    /// Where the metrics are served, with the port that the system chose if 0 was asked for.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Where /healthz and /readyz are served.
    pub fn healthz_addr(&self) -> Option<SocketAddr> {
        self.health.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Serves until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::try_join!(serve(self.metrics, &stop), serve(self.health, &stop))?;
        Ok(())
    }
}

async fn bind(flag: &str, address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}: give {flag} an address that is free"))?;
    tracing::info!(address = %listener.local_addr().unwrap_or(address), flag, "listening");
    Ok(Some(listener))
}

async fn serve(server: Option<(TcpListener, Router)>, stop: &CancellationToken) -> anyhow::Result<()> {
    let Some((listener, routes)) = server else {
        stop.cancelled().await;
        return Ok(());
    };
    // Without a graceful shutdown: a scraper's idle connection must not delay the exit.
    tokio::select! {
        result = async { axum::serve(listener, routes).await } => result.context("the metrics or health server ended"),
        () = stop.cancelled() => Ok(()),
    }
}

fn metrics_routes(metrics: &Metrics) -> Router {
    let metrics = metrics.clone();
    Router::new().route("/metrics", get(move || std::future::ready(metrics_page(&metrics))))
}

fn metrics_page(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn health_routes(readiness: &Readiness, liveness: &Liveness) -> Router {
    let (readiness, liveness) = (readiness.clone(), liveness.clone());
    Router::new()
        .route("/healthz", get(move || std::future::ready(health_page(liveness.report()))))
        .route("/readyz", get(move || std::future::ready(health_page(readiness.report()))))
}

fn health_page(report: Report) -> Response {
    let code = if report.good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, report.text).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    fn settings(arguments: &[&str]) -> Settings {
        let arguments =
            ["operator", "--aws-region=eu-central-1"].into_iter().chain(arguments.iter().copied());
        Settings::from_command_line(arguments).unwrap()
    }

    #[tokio::test]
    async fn each_page_is_on_its_address() {
        let (metrics, readiness, liveness) = (Metrics::new(), Readiness::default(), Liveness::default());
        let settings = settings(&["--metrics-addr=127.0.0.1:0", "--healthz-addr=127.0.0.1:0"]);
        let server = Server::bind(&settings, &metrics, &readiness, &liveness).await.unwrap();
        let (metrics_addr, healthz_addr) = (server.metrics_addr().unwrap(), server.healthz_addr().unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));

        let page = get(metrics_addr, "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains(metrics::CONTENT_TYPE), "{page}");
        assert!(page.contains("# EOF\n"), "{page}");
        assert!(get(metrics_addr, "/healthz").await.starts_with("HTTP/1.1 404 "));
        assert!(get(healthz_addr, "/healthz").await.starts_with("HTTP/1.1 200 "));

        let gate = readiness.gate("crds", "JobRun is not installed");
        let page = get(healthz_addr, "/readyz").await;
        assert!(
            page.starts_with("HTTP/1.1 503 ") && page.contains("[-]crds JobRun is not installed\n"),
            "{page}"
        );
        gate.open();
        assert!(get(healthz_addr, "/readyz").await.starts_with("HTTP/1.1 200 "));

        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("--metrics-addr={}", taken.local_addr().unwrap());
        let settings = settings(&[&address, "--healthz-addr=0"]);
        let server =
            Server::bind(&settings, &Metrics::new(), &Readiness::default(), &Liveness::default()).await;
        let error = format!("{:#}", server.unwrap_err());
        assert!(error.contains("give --metrics-addr an address that is free"), "{error}");
    }
}

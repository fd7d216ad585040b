//! /metrics, /healthz and /readyz over plain HTTP, on upstream's two addresses.
//!
//! Only reads: nothing that a caller sends changes anything. Ports are bound before anything else starts, so that a
//! port in use is a start-up error. `0.0.0.0` means every address, IPv6 too, as it does for upstream.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use socket2::{Domain, Socket, Type};
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
    let listener = listen(address)
        .await
        .with_context(|| format!("can't listen on {address}: give {flag} an address that is free"))?;
    tracing::info!(address = %listener.local_addr().unwrap_or(address), flag, "listening");
    Ok(Some(listener))
}

/// The connections that may wait to be accepted, as tokio has it.
const BACKLOG: i32 = 1024;

/// Listens as Go does: `0.0.0.0` serves IPv6 too, so that probes reach the pod in a cluster of either kind.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip().is_unspecified() {
        match listen_on_both(address.port()) {
            Ok(listener) => return Ok(listener),
            // A port in use must not be taken for a machine without IPv6.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => tracing::debug!(%error, "no IPv6 here"),
        }
    }
    TcpListener::bind(address).await
}

/// Listens on every IPv6 and IPv4 address; an error where there is no IPv6.
fn listen_on_both(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    // What the system would do by itself is a setting of the machine.
    socket.set_only_v6(false)?;
    // Restarting must not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
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
    use std::net::Ipv4Addr;

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
    async fn an_unspecified_address_serves_ipv4_and_where_there_is_ipv6_that_too() {
        let settings = settings(&["--metrics-addr=0.0.0.0:0", "--healthz-addr=0"]);
        let server = Server::bind(&settings, &Metrics::new(), &Readiness::default(), &Liveness::default())
            .await
            .unwrap();
        let port = server.metrics_addr().unwrap().port();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        let page = get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            let page = get(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "/metrics").await;
            assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_ipv4_port_in_use_is_not_shared_by_listening_on_ipv6() {
        let taken = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let error = listen(taken.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
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

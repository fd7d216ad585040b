//! Runs Amazon EMR on EKS from custom resources.
//!
//! [`run`] is the whole operator: the same for the binary and for tests. It serves metrics and health at once, waits for
//! the lease, and runs the controllers while it is held.

pub mod access;
pub mod access_needs;
pub mod adoption;
pub mod api_requests;
pub mod args;
pub mod busy;
pub mod context;
mod controller_metrics;
pub mod controllers;
pub mod decode;
pub mod emr;
pub mod environment;
pub mod event;
pub mod event_queue;
mod event_series;
pub mod feature_gates;
pub mod fence;
pub mod field_export;
pub mod health;
pub mod hooks;
pub mod job_run;
pub mod leader;
mod log_lines;
pub mod memory;
mod metric_label_sets;
mod metric_labels;
mod metric_registration;
pub mod metrics;
mod observer;
pub mod pass;
pub mod per_kind;
mod process_metrics;
pub mod quotas;
pub mod runner;
#[cfg(test)]
mod runner_tests;
pub mod scope;
pub mod selector;
pub mod server;
pub mod settings;
mod settings_check;
mod settings_values;
pub mod shadow;
pub mod store;
#[cfg(test)]
mod store_tests;
pub mod tags;
pub mod telemetry;
pub mod timing;
pub mod vanished;
pub mod virtual_cluster;
pub mod watch;
pub mod watch_backoff;
pub mod watch_first;
pub mod work_queue;
pub mod write;

use anyhow::{Context, bail};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::busy::Busy;
use crate::controllers::Process;
use crate::health::{Liveness, Readiness};
use crate::leader::Outcome;
use crate::metrics::Metrics;
use crate::server::Server;
use crate::settings::Settings;

/// Runs the operator until `stop`, and then until the passes that run have ended and the lease is given back.
///
/// # Errors
/// When `AWS_CA_BUNDLE` is bad, a port can't be bound, a controller fails or the lease is lost. The process must exit
/// then, and also after an end without an error: tasks may be left.
pub async fn run(
    settings: Settings,
    client: Client,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    // Not only once the lease is held: a replica that could never work must not seem to be fit to take over.
    let ca_bundle = emr::tls::bundle_of_environment()?;
    let (readiness, liveness) = (Readiness::default(), Liveness::default());
    let server = Server::bind(&settings, &metrics, &readiness, &liveness).await?;
    // Metrics, health and events outlive the controllers, so that the end can be watched.
    let ended = CancellationToken::new();
    let _end = ended.clone().drop_guard();
    let server = tokio::spawn(server.run(ended.clone()));
    let identity = leader::identity();
    let busy = Busy::default();
    let (events, publisher) = event::channel(client.clone(), &identity, busy.clone(), metrics.clone());
    let publisher = tokio::spawn(publisher.run(ended.clone()));

    let draining = tokio::spawn(close_on_stop(readiness.clone(), stop.clone()));
    let access = Access::new(&readiness);
    // While this replica waits for the lease too: it must not seem to be fit to take over if it isn't.
    let looked_up = liveness.part("access", "the look-ups of definitions and permissions", timing::STUCK);
    let checking = tokio::spawn(access.clone().keep_checking(settings.clone(), client.clone(), looked_up));
    let counted = metrics.clone();
    let (of_process, connection) = (settings.clone(), client.clone());
    let work = |fence| {
        let process = Process {
            settings: of_process,
            ca_bundle,
            client: connection,
            fence,
            metrics: counted,
            readiness,
            access,
            liveness,
            events,
            busy,
        };
        drained(controllers::run(process, stop.clone()), &stop)
    };
    // On the heap, so that callers don't carry the state of the election and of all controllers.
    let led = Box::pin(leader::run_as_leader(&settings, client, &identity, &metrics, &stop, work));
    let result = tokio::select! {
        result = led => result,
        result = server => match result {
            Ok(Ok(())) => bail!("the metrics and health server ended before the controllers"),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error).context("the metrics and health server failed"),
        },
    };
    draining.abort();
    checking.abort();
    ended.cancel();
    if tokio::time::timeout(timing::EVENT_FLUSH, publisher).await.is_err() {
        tracing::debug!("some events were left unsent");
    }
    match result? {
        Outcome::Worked if !stop.is_cancelled() => bail!("the controllers ended without being asked to"),
        Outcome::Worked | Outcome::NeverLed => Ok(()),
    }
}

/// Closes /readyz once the process is to stop, so that nothing counts on it any more.
async fn close_on_stop(readiness: Readiness, stop: CancellationToken) {
    let gate = readiness.gate("running", "");
    gate.open();
    stop.cancelled().await;
    gate.close("is draining: the process was asked to stop");
}

/// Bounds how long the work may go on after `stop`.
async fn drained(
    work: impl Future<Output = anyhow::Result<()>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(timing::DRAIN).await;
    };
    tokio::select! {
        result = work => result,
        () = overdue => {
            // A call that hangs. It is safe to leave: the next process repeats it with the same token.
            tracing::warn!("passes that did not end within {} s after the stop are left", timing::DRAIN.as_secs());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_after_the_stop_is_dropped() {
        let stop = CancellationToken::new();
        assert!(drained(async { Ok(()) }, &stop).await.is_ok());
        stop.cancel();
        assert!(
            drained(std::future::pending(), &stop).await.is_ok(),
            "a call that hangs doesn't hold up the exit"
        );
    }
}

//! Everything that runs only while this replica leads.
//!
//! Must end by itself after `stop`, once the passes that run have ended.

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::event::Events;
use crate::health::{Liveness, Readiness};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// What the process offers its controllers.
#[derive(Clone)]
pub struct Process {
    /// What the user asked for.
    pub settings: Settings,
    /// The API server.
    pub client: Client,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to say what /readyz should wait for.
    pub readiness: Readiness,
    /// Where to give signs of life for /healthz.
    pub liveness: Liveness,
    /// Where to hand over Kubernetes Events.
    pub events: Events,
}

/// Runs the controllers until `stop`.
pub async fn run(process: Process, stop: CancellationToken) -> anyhow::Result<()> {
    tracing::info!(region = %process.settings.aws_region, "started");
    stop.cancelled().await;
    Ok(())
}

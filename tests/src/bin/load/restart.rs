//! How long a controller takes from its start to its first useful deed, with all objects that there are by then.
//!
//! Must not: help it; the run that it is to start was created before, and its name makes it the last one of a list.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use tests::wait;
use tokio::time::{Instant, sleep};

use crate::options::Scenario;
use crate::phase::{Mark, Phase};
use crate::rig::Rig;
use crate::workload::{Job, cluster_name};

const NAME: &str = "zz-restart";
/// A controller may have to wait for a lease, and to read a lot.
const STARTS_WITHIN: Duration = Duration::from_mins(3);

/// What a restart took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Restart {
    /// From the start of the process to the arrival of StartJobRun.
    pub(crate) first_start_seconds: f64,
    /// All that happened until it was settled.
    pub(crate) phase: Phase,
    pub(crate) resident_bytes: u64,
    pub(crate) peak_bytes: u64,
}

/// Kills and starts the controllers.
pub(crate) async fn measure(rig: &Rig, scenario: &Scenario, namespace: &str) -> Result<Restart> {
    rig.controllers.kill_all().await?;
    Job::new(NAME, &cluster_name(0), namespace)?.send(&rig.client, Instant::now()).await?;
    let from = Mark::begin(rig).await?;
    let last = rig.simulator.requests_since(0).last().map_or(0, |request| request.n);
    let started = Timestamp::now();
    rig.controllers.start_all(scenario.controllers).await?;
    let what = "the run that was created meanwhile should be started";
    let at = wait::eventually(STARTS_WITHIN, what, async || Ok(started_at(rig, last))).await?;
    sleep(scenario.settle).await;
    let to = Mark::end(rig).await?;
    let used = rig.controllers.used_since_start().await?;
    Ok(Restart {
        first_start_seconds: at.duration_since(started).as_secs_f64(),
        phase: Phase::between(&from, &to, 0),
        resident_bytes: used.resident_bytes,
        peak_bytes: used.peak_bytes,
    })
}

fn started_at(rig: &Rig, last: u64) -> Option<Timestamp> {
    let requests = rig.simulator.requests_since(last);
    let start = requests.iter().find(|request| {
        request.operation == "StartJobRun"
            && request.body.get("name").and_then(serde_json::Value::as_str) == Some(NAME)
    });
    start.map(|request| request.at)
}

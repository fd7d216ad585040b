//! By what it is known that a fault was felt: the operator's words and figures, and AWS's journal.
//!
//! Must not: judge whether what it did then was right. Invariant: evidence of before a fault never counts.

use std::collections::HashMap;
use std::time::Duration;

use emr_simulator::LoggedRequest;
use jiff::SignedDuration;
use tokio::time::timeout;

use super::lease::ANSWER_WITHIN;
use super::plan::{Jump, OutageKind, Trouble};
use super::replicas::Replicas;
use super::world::World;
use crate::operator::Metrics;
use crate::{simulator, wait};

/// By how much the time of a signature may differ from when it arrives.
const ON_ITS_WAY: SignedDuration = SignedDuration::from_secs(30);
/// How long a new process may take to list what there is; where it has to get the lease first, longer.
const LISTED_WITHIN: Duration = Duration::from_secs(20);
/// How long the operator may be idle: after an outage it tries to watch again ever later, at most every 30 s.
const BUSY_WITHIN: Duration = Duration::from_secs(45);
/// The bucket of passes that take no longer than they should, in seconds.
const QUICK: &str = "0.5";

/// A figure of each process, or one of all.
pub(super) type Evidence = HashMap<u32, f64>;

/// What there is of a kind of outage.
pub(super) async fn of_outage(replicas: &Replicas, kind: OutageKind) -> Evidence {
    let words: &[&str] = match kind {
        OutageKind::Freeze => return measured(replicas, slow_passes).await,
        OutageKind::Crash | OutageKind::LongCrash => &["Connect", "connection"],
        OutageKind::Compact => &["too old resource version"],
        OutageKind::Rights => &["is forbidden"],
        OutageKind::StatusWrites => &[super::strike::REFUSAL],
    };
    said(replicas, words).await
}

/// Whether there is more of it than before.
pub(super) fn has_grown(before: &Evidence, now: &Evidence) -> bool {
    now.iter().any(|(whose, figure)| *figure > before.get(whose).copied().unwrap_or_default() + 0.5)
}

/// Waits until it is seen.
pub(super) async fn seen(within: Duration, mut look: impl AsyncFnMut() -> bool) -> bool {
    let seen = wait::eventually(within, "it should be felt", async || Ok(look().await.then_some(())));
    seen.await.is_ok()
}

/// AWS's journal from now on.
pub(super) struct Journal<'a> {
    world: &'a World<'a>,
    since: u64,
}

impl<'a> Journal<'a> {
    /// From now on.
    pub(super) fn open(world: &'a World<'a>) -> Self {
        Self { world, since: simulator::all_calls(&world.simulator) }
    }

    fn has(&self, is: impl Fn(&LoggedRequest) -> bool) -> bool {
        self.world.simulator.requests_since(self.since).iter().any(is)
    }

    /// Whether a call was struck.
    pub(super) fn has_struck(&self, trouble: &Trouble) -> bool {
        self.has(|request| request.fault == Some(trouble.kind))
    }

    /// Whether a call came from a wrong time.
    pub(super) fn has_jumped(&self, jump: Jump) -> bool {
        self.has(|request| {
            let offset = request.signed_at.map(|signed_at| signed_at.duration_since(request.at));
            offset.is_some_and(|offset| (offset - jump.offset).abs() < ON_ITS_WAY)
        })
    }
}

/// Waits until a process has listed what there is, so that it has something to watch.
pub(super) async fn watches(replicas: &Replicas) -> bool {
    let listed = |metrics: &Metrics| metrics.sum("emrcontainers_job_runs", &[]);
    seen(LISTED_WITHIN, async || has_grown(&Evidence::new(), &measured(replicas, listed).await)).await
}

/// Waits until a process makes passes: one that has nothing to do doesn't notice that the API server stands still.
pub(super) async fn works(replicas: &Replicas) -> bool {
    let before = measured(replicas, passes).await;
    seen(BUSY_WITHIN, async || has_grown(&before, &measured(replicas, passes).await)).await
}

/// How many calls the operator has given up, or lost.
pub(super) async fn unanswered(replicas: &Replicas) -> Evidence {
    measured(replicas, |metrics| metrics.sum("emrcontainers_aws_attempts_total", &[("status_code", "0")]))
        .await
}

fn passes(metrics: &Metrics) -> f64 {
    metrics.sum("emrcontainers_reconcile_pass_seconds_count", &[])
}

fn slow_passes(metrics: &Metrics) -> f64 {
    passes(metrics) - metrics.sum("emrcontainers_reconcile_pass_seconds_bucket", &[("le", QUICK)])
}

async fn measured(replicas: &Replicas, measure: impl Fn(&Metrics) -> f64) -> Evidence {
    let state = replicas.state.lock().await;
    let mut figures = Evidence::new();
    for running in &state.running {
        // One that starts doesn't answer.
        if let Ok(Ok(metrics)) = timeout(ANSWER_WITHIN, running.operator.metrics()).await {
            figures.insert(running.operator.process().pid(), measure(&metrics));
        }
    }
    figures
}

/// How many lines of all logs say one of these.
async fn said(replicas: &Replicas, words: &[&str]) -> Evidence {
    let state = replicas.state.lock().await;
    let logs = state.logs.iter().filter_map(|log| std::fs::read_to_string(log).ok());
    let lines = |log: String| log.lines().filter(|line| words.iter().any(|word| line.contains(word))).count();
    let count = u32::try_from(logs.map(lines).sum::<usize>()).unwrap_or(u32::MAX);
    Evidence::from([(0, f64::from(count))])
}

//! Who works: only the replica that holds the lease.
//!
//! The lease is upstream's and so is the protocol, so that in a cluster that is half migrated the two never work at the
//! same time. A replica that lost the lease never joins again: tasks that it started may be alive, so it must exit.
//! Invariant: the work is polled only while the lease is held, and the lease is given back only after the work ended and
//! its fence was shut.

mod election;
#[cfg(test)]
mod end_tests;
mod identity;
mod record;
pub mod times;

use anyhow::{Context, anyhow};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::fence::Fence;
use crate::metrics::Metrics;
use crate::settings::{LeaderElection, Settings};
use crate::timing::RELEASE;
use election::{Candidacy, Election};

pub use identity::identity;

/// The name of upstream's lease.
pub const LEASE: &str = "ack-emrcontainers.services.k8s.aws";

/// How the time as leader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The work came to its end.
    Worked,
    /// This replica was stopped before it was its turn.
    NeverLed,
}

/// Runs `work` while this replica holds the lease, or just so if no lease is wanted or can be had. The fence that the
/// work gets says whether it may still act. After `stop` the work must end by itself; then the lease is given back.
pub async fn run_as_leader<W: Future<Output = anyhow::Result<()>>>(
    settings: &Settings,
    client: Client,
    identity: &str,
    metrics: &Metrics,
    stop: &CancellationToken,
    work: impl FnOnce(Fence) -> W,
) -> anyhow::Result<Outcome> {
    let result = if settings.leader_election == LeaderElection::Off {
        work_without_lease(metrics, work).await
    } else {
        let namespace = namespace_of_lease(settings);
        tracing::info!(%namespace, lease = LEASE, identity, "waiting for the lease");
        let is_needed = settings.leader_election == LeaderElection::On;
        let election = Election::new(client, &namespace, identity, settings.lease_times, is_needed);
        let result = elect(&election, metrics, stop, work).await;
        result.with_context(|| format!("as candidate for the lease {namespace}/{LEASE}"))
    };
    metrics.set_leader(false);
    result
}

async fn work_without_lease<W: Future<Output = anyhow::Result<()>>>(
    metrics: &Metrics,
    work: impl FnOnce(Fence) -> W,
) -> anyhow::Result<Outcome> {
    metrics.set_leader(true);
    work(Fence::open()).await.map(|()| Outcome::Worked)
}

/// Where the lease is.
pub fn namespace_of_lease(settings: &Settings) -> String {
    identity::namespace(settings.leader_election_namespace.as_deref())
}

async fn elect<W: Future<Output = anyhow::Result<()>>>(
    election: &Election,
    metrics: &Metrics,
    stop: &CancellationToken,
    work: impl FnOnce(Fence) -> W,
) -> anyhow::Result<Outcome> {
    let term = match election.win(stop).await {
        Candidacy::Won(term) => *term,
        Candidacy::Stopped => {
            // A request that was not answered in time may have been carried out.
            release(election).await;
            return Ok(Outcome::NeverLed);
        }
        Candidacy::Forbidden(error) => {
            tracing::warn!(
                %error,
                "no leader is elected, because the account may not use the lease: grant create, get and update on \
                 leases.coordination.k8s.io and set --enable-leader-election, or turn it off, and run one replica"
            );
            let fence = Fence::open();
            metrics.set_leader(true);
            // The right may have been taken away for a while only, and from another replica too.
            let result = tokio::select! {
                biased;
                () = election.allowed() => Err(anyhow!(
                    "the account may use the lease by now: this process must exit, so that a leader is elected"
                )),
                result = work(fence.clone()) => result,
            };
            fence.close();
            return result.map(|()| Outcome::Worked);
        }
    };
    tracing::info!(identity = election.identity, "the lease is ours");
    metrics.set_leader(true);
    let fence = Fence::until(term.end);
    let lost =
        |why: String| anyhow!("the lease is lost, so another replica may work: this one must exit ({why})");
    // Polled in this order, so that nothing is done by who could know that it doesn't lead any more.
    let result = tokio::select! {
        biased;
        why = election.keep(term, &fence) => Err(lost(why)),
        () = fence.shut() => Err(lost("its time was over when something was to be done".to_owned())),
        result = work(fence.clone()) => Ok(result),
    };
    // The work was dropped or has ended, but not the tasks that it started: the next leader need not wait for our time
    // to end.
    fence.close();
    let worked = result?;
    release(election).await;
    worked.map(|()| Outcome::Worked)
}

async fn release(election: &Election) {
    match tokio::time::timeout(RELEASE, election.release()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the lease could not be given back; the next replica waits until it expires");
        }
        Err(_) => tracing::warn!(
            "the lease could not be given back in time; the next replica waits until it expires"
        ),
    }
}

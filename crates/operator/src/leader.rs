//! Who works: only the replica that holds the lease.
//!
//! The lease is upstream's and so is the protocol, so that in a cluster that is half migrated the two never work at the
//! same time. A replica that lost the lease never joins again: tasks that it started may be alive, so it must exit.
//! Invariant: the work is polled only while the lease is held, and the lease is given back only after the work ended.

use std::pin::pin;

use anyhow::Context;
use futures::StreamExt;
use k8s_controller::LeaderElection;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::timing::RELEASE;

/// The name of upstream's lease.
pub const LEASE: &str = "ack-emrcontainers.services.k8s.aws";

/// Where a pod finds the name of its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace by convention.
const DEFAULT_NAMESPACE: &str = "ack-system";

/// How the time as leader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The work came to its end.
    Worked,
    /// This replica was stopped before it was its turn.
    NeverLed,
}

/// Runs `work` while this replica holds the lease, or just so if no lease is wanted. After `stop` the work must end by
/// itself; then the lease is given back.
pub async fn run_as_leader(
    settings: &Settings,
    client: Client,
    identity: &str,
    metrics: &Metrics,
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Outcome> {
    if !settings.leader_election {
        metrics.set_leader(true);
        let result = work.await;
        metrics.set_leader(false);
        return result.map(|()| Outcome::Worked);
    }
    let namespace = namespace_of_lease(settings);
    tracing::info!(%namespace, lease = LEASE, identity, "waiting for the lease");
    let election = LeaderElection::new(client.clone(), &namespace, LEASE, identity);
    let leases: Api<Lease> = Api::namespaced(client, &namespace);
    let result = elect(&election, &leases, metrics, stop, work).await;
    metrics.set_leader(false);
    result.with_context(|| format!("as candidate for the lease {namespace}/{LEASE}"))
}

/// Where the lease is.
pub fn namespace_of_lease(settings: &Settings) -> String {
    lease_namespace(settings.leader_election_namespace.as_deref(), pod_namespace(), variable)
}

async fn elect(
    election: &LeaderElection,
    leases: &Api<Lease>,
    metrics: &Metrics,
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Outcome> {
    let mut work = pin!(work);
    loop {
        let leading = CancellationToken::new();
        let (report, mut reported) = oneshot::channel();
        let mut term = pin!(election.with_lease(async {
            leading.cancel();
            metrics.set_leader(true);
            // The receiver is alive as long as this future is polled.
            let _ = report.send(work.as_mut().await);
        }));
        let lost = "the lease is lost, so another replica may work: this one must exit";
        // Polled in this order, so that work that began is never dropped for a release or a stop.
        tokio::select! {
            biased;
            kept = &mut term => anyhow::ensure!(kept.is_some(), lost),
            () = leading.cancelled() => {}
            () = stop.cancelled() => {
                // The request for the lease may have been on its way.
                release(election.release()).await;
                return Ok(Outcome::NeverLed);
            }
            // Trying again at once, instead of at the next tick, loses no time in a hand-over.
            () = released(leases.clone()) => continue,
        }
        let result = tokio::select! {
            biased;
            result = &mut reported => result.context("the work ended without a result")?,
            kept = &mut term => {
                anyhow::ensure!(kept.is_some(), lost);
                reported.await.context("the work ended without a result")?
            }
        };
        // What is left of the term is to give the lease back.
        release(term).await;
        return result.map(|()| Outcome::Worked);
    }
}

async fn release<T>(release: impl Future<Output = T>) {
    if tokio::time::timeout(RELEASE, release).await.is_err() {
        tracing::warn!("the lease could not be given back in time; the next replica waits until it expires");
    }
}

/// Returns when the lease, having been held, is held no more.
async fn released(leases: Api<Lease>) {
    let mut held_before = false;
    let mut changes = pin!(watcher::watch_object(leases, LEASE).default_backoff());
    while let Some(change) = changes.next().await {
        match change {
            Ok(lease) => {
                let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
                let held = holder.is_some_and(|holder| !holder.is_empty());
                if held_before && !held {
                    return;
                }
                held_before = held;
            }
            // Without the permission to watch, the candidate still asks every few seconds.
            Err(error) => tracing::debug!(%error, "the lease can't be watched"),
        }
    }
    std::future::pending::<()>().await;
}

/// Names this replica. A pod keeps its name for the lease when its container restarts, so that it can go on at once.
pub fn identity() -> String {
    identity_from(variable, &hostname(), rand::random())
}

fn identity_from(variable: impl Fn(&str) -> Option<String>, hostname: &str, random: u64) -> String {
    match (variable("POD_NAME"), variable("POD_UID")) {
        (Some(name), Some(uid)) => format!("{name}_{uid}"),
        _ => format!("{hostname}_{random:016x}"),
    }
}

fn lease_namespace(
    flag: Option<&str>,
    pod: Option<String>,
    variable: impl Fn(&str) -> Option<String>,
) -> String {
    flag.map(ToOwned::to_owned)
        .or(pod)
        .or_else(|| variable("ACK_SYSTEM_NAMESPACE"))
        .or_else(|| variable("K8S_NAMESPACE"))
        .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

fn pod_namespace() -> Option<String> {
    not_blank(&std::fs::read_to_string(NAMESPACE_FILE).ok()?)
}

fn hostname() -> String {
    variable("HOSTNAME")
        .or_else(|| not_blank(&std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?))
        .unwrap_or_else(|| "emrcontainers-operator".to_owned())
}

fn variable(name: &str) -> Option<String> {
    not_blank(&std::env::var(name).ok()?)
}

fn not_blank(text: &str) -> Option<String> {
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leases_namespace_falls_back_as_upstreams_does() {
        let both = |name: &str| Some(format!("from-{name}"));
        let second = |name: &str| (name == "K8S_NAMESPACE").then(|| "second".to_owned());
        for (flag, pod, variable, expected) in [
            (Some("flag"), Some("pod"), &both as &dyn Fn(&str) -> Option<String>, "flag"),
            (None, Some("pod"), &both, "pod"),
            (None, None, &both, "from-ACK_SYSTEM_NAMESPACE"),
            (None, None, &second, "second"),
            (None, None, &|_| None, "ack-system"),
        ] {
            assert_eq!(lease_namespace(flag, pod.map(ToOwned::to_owned), variable), expected);
        }
    }

    #[test]
    fn a_pod_keeps_its_identity_and_a_process_elsewhere_gets_a_new_one() {
        let pod = |name: &str| Some(if name == "POD_NAME" { "pod-1" } else { "uid" }.to_owned());
        assert_eq!(identity_from(pod, "host", 7), "pod-1_uid");
        let half = |name: &str| (name == "POD_NAME").then(|| "pod-1".to_owned());
        assert_eq!(identity_from(half, "host", 7), "host_0000000000000007");
        assert_ne!(identity(), identity());
    }
}

//! Takes the lease, keeps it, and gives it back: client-go's protocol against the API server.
//!
//! Must not start or end any work. Invariant: every write names the version of the lease that was read, so that of several
//! who take it at once one succeeds; and the end of a term is counted from before the request that began or renewed it.

use std::pin::{Pin, pin};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use kube_runtime::{WatchStreamExt, watcher};
use rand::RngExt;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::LEASE;
use super::record::{self, Sighting};
use super::times::{JITTER, LeaseTimes};
use crate::fence::{Fence, Moment};
use crate::timing;

/// One candidate for the lease.
pub(super) struct Election {
    pub(super) leases: Api<Lease>,
    pub(super) identity: String,
    pub(super) times: LeaseTimes,
    /// Whether to wait for a lease that may not be used.
    pub(super) is_needed: bool,
}

/// How a candidacy ended.
pub(super) enum Candidacy {
    /// The lease is ours.
    Won(Box<Term>),
    /// This replica is to stop.
    Stopped,
    /// The first request was refused, and the lease isn't needed.
    Forbidden(kube::Error),
}

/// The lease as we hold it.
pub(super) struct Term {
    lease: Lease,
    /// When the holder must have stopped, unless it renews the lease.
    pub(super) end: Moment,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Kube(#[from] kube::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl Election {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        identity: &str,
        times: LeaseTimes,
        is_needed: bool,
    ) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity: identity.to_owned(), times, is_needed }
    }

    /// Waits until the lease is ours, or `stop`. No request is given up for that: it could have given us the lease.
    pub(super) async fn win(&self, stop: &CancellationToken) -> Candidacy {
        let mut freed = pin!(self.freed());
        let mut sighting = None;
        let mut may_do_without = !self.is_needed;
        while !stop.is_cancelled() {
            let asked = Moment::now();
            let attempt = in_time(self.times.request(), self.take(&mut sighting)).await;
            let mut pause = self.times.retry_period.mul_f64(1.0 + rand::rng().random_range(0.0..JITTER));
            match attempt {
                Ok(Some(lease)) => return Candidacy::Won(Box::new(self.term(lease, asked))),
                Err(Failure::Kube(error)) if may_do_without && is_forbidden(&error) => {
                    return Candidacy::Forbidden(error);
                }
                Ok(None) => {
                    // Who has seen another hold the lease can't do without it.
                    may_do_without = false;
                    if let Some(seen) = &sighting {
                        pause = pause.min(Moment::now().until(seen.expires(self.times.lease_duration)));
                    }
                }
                Err(error) => tracing::warn!(%error, "the lease could not be asked for; it is tried again"),
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = next(freed.as_mut()) => {}
                () = stop.cancelled() => {}
            }
        }
        Candidacy::Stopped
    }

    /// Waits until the account may use the lease, and leaves it to whoever is elected then.
    pub(super) async fn allowed(&self) {
        let mut sighting = None;
        loop {
            sleep(timing::LEASE_CHECK).await;
            match in_time(self.times.request(), self.take(&mut sighting)).await {
                Ok(None) => return,
                Ok(Some(_)) => {
                    if let Err(error) = self.release().await {
                        tracing::debug!(%error, "the lease could not be given back");
                    }
                    return;
                }
                Err(error) => tracing::trace!(%error, "the lease still can't be used"),
            }
        }
    }

    /// Takes the lease if it is ours, nobody's, or has expired.
    async fn take(&self, sighting: &mut Option<Sighting>) -> Result<Option<Lease>, kube::Error> {
        let Some(lease) = self.leases.get_opt(LEASE).await? else {
            return self.create().await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if record::holder(&spec).is_some_and(|holder| holder != self.identity) {
            let now = Moment::now();
            let seen = Sighting::of(spec, now, sighting.take());
            if now < seen.expires(self.times.lease_duration) {
                *sighting = Some(seen);
                return Ok(None);
            }
            tracing::info!(holder = seen.holder(), "the lease has expired");
        }
        *sighting = None;
        self.hold(lease).await
    }

    async fn create(&self) -> Result<Option<Lease>, kube::Error> {
        let spec = record::held(None, &self.identity, self.times.lease_seconds(), Timestamp::now());
        let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec) };
        unless_conflict(self.leases.create(&PostParams::default(), &lease).await)
    }

    /// Writes that we hold the lease; `None` if somebody wrote it in between.
    async fn hold(&self, mut lease: Lease) -> Result<Option<Lease>, kube::Error> {
        let spec = lease.spec.take();
        let seconds = self.times.lease_seconds();
        lease.spec = Some(record::held(spec.as_ref(), &self.identity, seconds, Timestamp::now()));
        unless_conflict(self.leases.replace(LEASE, &PostParams::default(), &lease).await)
    }

    /// Renews the lease, and with it the fence, until that fails; returns why.
    pub(super) async fn keep(&self, mut term: Term, fence: &Fence) -> String {
        loop {
            let left = Moment::now().until(term.end);
            sleep(self.times.retry_period.min(left)).await;
            let asked = Moment::now();
            // Sleep is counted by another clock: the machine may have slept longer than we did.
            let left = asked.until(term.end);
            if left.is_zero() {
                return format!("it was not renewed within {:?}", self.times.renew_deadline);
            }
            match in_time(left.min(self.times.request()), self.renew(&term.lease)).await {
                Ok(Some(lease)) => {
                    term = self.term(lease, asked);
                    fence.extend(term.end);
                }
                Ok(None) => return "it is not ours any more".to_owned(),
                Err(error) => tracing::warn!(%error, "the lease could not be renewed; it is tried again"),
            }
        }
    }

    /// Renews a lease that was ours; `None` if it is not any more.
    async fn renew(&self, lease: &Lease) -> Result<Option<Lease>, kube::Error> {
        let mut known = lease.clone();
        loop {
            match self.hold(known).await {
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
                Ok(None) => {}
                renewed => return renewed,
            }
            // Somebody wrote it: another one who holds it now, or ourselves, by a request whose answer was lost.
            match self.leases.get_opt(LEASE).await? {
                Some(lease) if self.holds(&lease) => known = lease,
                Some(_) | None => return Ok(None),
            }
        }
    }

    /// Gives the lease back if we hold it, so that the next one need not wait.
    pub(super) async fn release(&self) -> Result<(), kube::Error> {
        loop {
            let Some(mut lease) = self.leases.get_opt(LEASE).await?.filter(|lease| self.holds(lease)) else {
                return Ok(());
            };
            lease.spec = lease.spec.map(|spec| record::released(&spec, Timestamp::now()));
            // Of a conflict our own last renewal may be the cause.
            if unless_conflict(self.leases.replace(LEASE, &PostParams::default(), &lease).await)?.is_some() {
                tracing::info!(identity = self.identity, "the lease is given back");
                return Ok(());
            }
        }
    }

    fn holds(&self, lease: &Lease) -> bool {
        lease.spec.as_ref().and_then(record::holder) == Some(&self.identity)
    }

    fn term(&self, lease: Lease, asked: Moment) -> Term {
        Term { lease, end: asked.after(self.times.renew_deadline) }
    }

    /// An item whenever nobody holds the lease: who waits needs not wait for its next look.
    fn freed(&self) -> impl Stream<Item = ()> + use<> {
        let changes = watcher::watch_object(self.leases.clone(), LEASE).default_backoff();
        changes.filter_map(async |change| match change {
            Ok(lease) => {
                let spec = lease.and_then(|lease| lease.spec);
                spec.as_ref().and_then(record::holder).is_none().then_some(())
            }
            // Without the permission to watch, the candidate still looks every few seconds.
            Err(error) => {
                tracing::debug!(%error, "the lease can't be watched");
                None
            }
        })
    }
}

/// The next item, for ever if there is none.
async fn next(mut items: Pin<&mut impl Stream<Item = ()>>) {
    if items.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Bounds a request: kube's client waits for an answer for ever, and repeats what was answered by 429 or 503 for minutes.
async fn in_time<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    Ok(timeout(limit, request).await.map_err(|_| Failure::Timeout(limit))??)
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

fn unless_conflict(written: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

//! A candidate for a lease by the rules that client-go documents for its leader election, and so upstream's.
//!
//! Must not: share anything with the operator's election, whose mistakes it could repeat then.
//! Invariant: whether a lease is valid is judged by this candidate's own clock, from when it saw the lease change.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// One candidate.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    lease_duration: Duration,
    /// The lease as it was seen last, and when it was first seen like that.
    observed: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// One for a lease, with an identity of the form that controller-runtime gives: `hostname_uuid`.
    pub fn new(client: Client, namespace: &str, name: &str, lease_duration: Duration) -> Self {
        let identity = format!("ack-emrcontainers-controller-7c9f_{:032x}", rand::random::<u128>());
        let leases = Api::namespaced(client, namespace);
        Self { leases, name: name.to_owned(), identity, lease_duration, observed: None }
    }

    /// The name by which it holds the lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether it holds the lease, as far as it has seen.
    pub fn is_leader(&self) -> bool {
        self.observed.as_ref().is_some_and(|(seen, _)| holder(seen) == self.identity)
    }

    /// Tries once to take the lease, or to renew it. One that was written by another in between isn't taken.
    pub async fn try_acquire_or_renew(&mut self) -> Result<bool> {
        let mut record = self.record();
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(record) };
            return self.written(self.leases.create(&PostParams::default(), &lease).await);
        };
        let seen = lease.spec.clone().unwrap_or_default();
        if self.observed.as_ref().is_none_or(|(before, _)| *before != seen) {
            self.observed = Some((seen.clone(), Instant::now()));
        }
        if !holder(&seen).is_empty() && holder(&seen) != self.identity && self.is_valid() {
            return Ok(false);
        }
        let transitions = seen.lease_transitions.unwrap_or_default();
        if self.is_leader() {
            record.acquire_time = seen.acquire_time;
            record.lease_transitions = Some(transitions);
        } else {
            record.lease_transitions = Some(transitions + 1);
        }
        lease.spec = Some(record);
        self.written(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    /// Gives the lease back: nobody holds it, and it is valid for a second only.
    pub async fn release(&mut self) -> Result<bool> {
        if !self.is_leader() {
            return Ok(false);
        }
        let mut lease = self.leases.get(&self.name).await?;
        let seen = lease.spec.take().context("a lease that is held has a spec")?;
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            lease_transitions: seen.lease_transitions,
            ..self.record()
        });
        self.written(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn record(&self) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.lease_duration.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }
    }

    /// Whether the lease that was seen last may still be in use: for the time that it claims.
    fn is_valid(&self) -> bool {
        self.observed.as_ref().is_some_and(|(seen, since)| {
            let claimed = seen.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            since.elapsed() < Duration::from_secs(claimed.unwrap_or_default())
        })
    }

    fn written(&mut self, written: Result<Lease, kube::Error>) -> Result<bool> {
        match written {
            Ok(lease) => {
                self.observed = Some((lease.spec.unwrap_or_default(), Instant::now()));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn holder(spec: &LeaseSpec) -> &str {
    spec.holder_identity.as_deref().unwrap_or_default()
}

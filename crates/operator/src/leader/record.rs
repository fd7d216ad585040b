//! What a lease says and what is to be written into it: client-go's protocol, without I/O.
//!
//! Must not read a clock. Invariant: nobody's wall clock decides anything. Whether a lease is still valid is judged by
//! for how long we have seen it unchanged, and the time that it claims is respected even where ours is another.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::fence::Moment;

/// What client-go claims for a lease that is given back: zero is not allowed.
const RELEASED_SECONDS: i32 = 1;

/// Who holds the lease, if anyone does.
pub(super) fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// The lease when `identity` holds it from now on, or still.
pub(super) fn held(before: Option<&LeaseSpec>, identity: &str, seconds: i32, now: Timestamp) -> LeaseSpec {
    let transitions = before.map_or(0, |before| before.lease_transitions.unwrap_or_default());
    let kept = before.filter(|before| holder(before) == Some(identity));
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(seconds),
        acquire_time: kept.and_then(|kept| kept.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        // How often it changed hands.
        lease_transitions: Some(match (before, kept) {
            (None, _) | (_, Some(_)) => transitions,
            (Some(_), None) => transitions.saturating_add(1),
        }),
        ..LeaseSpec::default()
    }
}

/// The lease when nobody holds it any more.
pub(super) fn released(before: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(RELEASED_SECONDS),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: before.lease_transitions,
        ..LeaseSpec::default()
    }
}

/// Another's lease, and since when we have seen it like this.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sighting {
    spec: LeaseSpec,
    since: Moment,
}

impl Sighting {
    /// The lease was read now.
    pub(super) fn of(spec: LeaseSpec, now: Moment, before: Option<Self>) -> Self {
        before.filter(|before| before.spec == spec).unwrap_or(Self { spec, since: now })
    }

    /// When it may be taken if nobody renews it. `ours` stands in where it claims no time.
    pub(super) fn expires(&self, ours: Duration) -> Moment {
        let claimed = self.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        self.since.after(claimed.map_or(ours, Duration::from_secs))
    }

    /// Who holds it.
    pub(super) fn holder(&self) -> &str {
        holder(&self.spec).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_lease_is_taken_renewed_and_given_back_as_client_go_does_it() {
        let first = held(None, "a", 15, at(1));
        assert_eq!((holder(&first), first.lease_transitions), (Some("a"), Some(0)));
        let renewed = held(Some(&first), "a", 15, at(3));
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_eq!(renewed.renew_time, Some(MicroTime(at(3))));
        assert_eq!(renewed.lease_transitions, Some(0));
        let taken = held(Some(&renewed), "b", 30, at(20));
        assert_eq!(taken.acquire_time, Some(MicroTime(at(20))));
        assert_eq!((taken.lease_transitions, taken.lease_duration_seconds), (Some(1), Some(30)));
        let free = released(&taken, at(21));
        assert_eq!((holder(&free), free.lease_transitions), (None, Some(1)));
        let then = Some(MicroTime(at(21)));
        assert_eq!((free.holder_identity.as_deref(), free.lease_duration_seconds), (Some(""), Some(1)));
        assert_eq!((&free.acquire_time, &free.renew_time), (&then, &then));
        assert_eq!(held(Some(&free), "b", 30, at(22)).lease_transitions, Some(2));
    }

    #[test]
    fn a_lease_is_valid_for_as_long_as_it_claims_since_it_was_seen_to_change() {
        let start = Moment::now();
        let later = |seconds| start.after(Duration::from_secs(seconds));
        let lease = held(None, "a", 60, at(1));
        let first = Sighting::of(lease.clone(), start, None);
        assert_eq!(first.expires(OURS), later(60), "the holder's word counts, not our own setting");
        let again = Sighting::of(lease.clone(), later(30), Some(first.clone()));
        assert_eq!(again, first, "it did not change");
        let renewed = held(Some(&lease), "a", 60, at(2));
        let renewed = Sighting::of(renewed, later(31), Some(again));
        assert_eq!(renewed.expires(OURS), later(91));
        assert_eq!(renewed.holder(), "a");
        let silent = LeaseSpec { lease_duration_seconds: None, ..lease };
        assert_eq!(Sighting::of(silent, start, None).expires(OURS), later(15));
    }
}

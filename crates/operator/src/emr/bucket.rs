//! Token buckets: one for each operation and one for all together, and the brake that a throttle reply pulls.
//!
//! Time is an argument: how long it has been since the buckets were made. Nothing here waits or reads a clock. Invariant:
//! a call is let through only with a token of its operation's bucket and one of the shared bucket.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::operation::Operation;
use crate::quotas::{Bucket, Quotas};

/// The pace that a throttle reply brakes from when there is no quota to start from; AWS's own for all calls together.
const UNLIMITED_PER_SECOND: f64 = 20.0;
/// Bounds that keep arithmetic on rates far from its limits; no quota comes near them.
const SLOWEST_PER_SECOND: f64 = 1.0 / 86_400.0;
const FASTEST_PER_SECOND: f64 = 1e6;
const LARGEST: u32 = 100_000;
/// In this time a brake loses half of its force, so that a single throttle reply is forgotten after it.
const RECOVERY_HALF_LIFE: Duration = Duration::from_secs(20);
/// Throttle replies within this time belong to calls that were under way together: they brake once.
const SAME_INCIDENT: Duration = Duration::from_secs(1);
/// The longest distance between two calls, however often AWS throttles.
const SLOWEST: Duration = Duration::from_secs(30);
/// For how long after a write has been turned away by the shared bucket reads leave the bucket alone. The write comes
/// back as soon as there is a token; this covers that it comes a little late, and ends when it never does.
const WRITES_FIRST: Duration = Duration::from_millis(500);
/// After how long without a read through the shared bucket the next token is a read's, however many writes wait: runs that
/// go are to be seen too.
const READS_WAIT: Duration = Duration::from_secs(1);
/// For how long after that token has come writes leave it to the read. A read that comes later tries the next one.
const READ_FIRST: Duration = Duration::from_millis(50);

/// A clock that is told the time.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn set(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for Told {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

type Governor = RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Duration>>;

/// One token in so many stays unused. Calls reach AWS sooner or later than they are let through here: with buckets of the
/// same size, AWS would find its own empty now and then.
const MARGIN: u32 = 10;

fn margin(bucket: Bucket) -> u32 {
    bucket.bucket.min(LARGEST).div_ceil(MARGIN)
}

/// A bucket that is full at first.
fn governor(bucket: Bucket, clock: &Told) -> Option<Governor> {
    let period = Duration::from_secs_f64(1.0 / bucket.refill_per_second.clamp(SLOWEST_PER_SECOND, 1e9));
    let burst = NonZeroU32::new((bucket.bucket.min(LARGEST) - margin(bucket)).max(1))?;
    Some(RateLimiter::direct_with_clock(Quota::with_period(period)?.allow_burst(burst), clock.clone()))
}

/// The least distance between two calls after a throttle reply.
#[derive(Clone, Copy, Debug)]
struct Brake {
    gap: Duration,
    since: Duration,
    next: Duration,
}

impl Brake {
    /// The distance that is asked for now: it halves with every half-life.
    fn gap_at(&self, now: Duration) -> Duration {
        let lives = now.saturating_sub(self.since).as_secs_f64() / RECOVERY_HALF_LIFE.as_secs_f64();
        self.gap.mul_f64(0.5_f64.powf(lives))
    }
}

struct Lane {
    bucket: Option<Governor>,
    per_second: f64,
    brake: Option<Brake>,
    /// The lane has a token of its own bucket and none yet of the shared one.
    holds_token: bool,
    /// How many tokens may be taken and kept for a call that comes later.
    keep_at_most: Option<usize>,
}

/// All buckets of one account and region.
pub(super) struct Buckets {
    clock: Told,
    lanes: BTreeMap<Operation, Lane>,
    all: Option<Governor>,
    writes_first_until: Duration,
    /// Since when reads have been turned away for writes, and none let through.
    reads_wait_since: Option<Duration>,
    read_first_until: Duration,
}

impl Buckets {
    pub(super) fn new(quotas: &Quotas) -> Self {
        let clock = Told::default();
        let mut lanes = BTreeMap::new();
        let mut shared = None;
        for operation in Operation::ALL {
            let mut lane = Lane {
                bucket: None,
                per_second: UNLIMITED_PER_SECOND,
                brake: None,
                holds_token: false,
                keep_at_most: None,
            };
            if let Quotas::PerOperation { buckets, all } = quotas {
                let bucket = buckets.get(operation.name());
                lane.bucket = bucket.and_then(|bucket| governor(*bucket, &clock));
                lane.per_second =
                    bucket.unwrap_or(all).refill_per_second.clamp(SLOWEST_PER_SECOND, FASTEST_PER_SECOND);
                // Half of the margin: with what the bucket gathers meanwhile it is still less than AWS's, and the other
                // half is left for the network.
                lane.keep_at_most = usize::try_from(margin(*bucket.unwrap_or(all)).div_ceil(2)).ok();
            }
            lanes.insert(operation, lane);
        }
        if let Quotas::PerOperation { all, .. } = quotas {
            shared = governor(*all, &clock);
        }
        Self {
            clock,
            lanes,
            all: shared,
            writes_first_until: Duration::ZERO,
            reads_wait_since: None,
            read_first_until: Duration::ZERO,
        }
    }

    /// Lets one call through, or says after how long to ask again.
    pub(super) fn take(&mut self, operation: Operation, now: Duration) -> Result<(), Duration> {
        self.clock.set(now);
        let Some(lane) = self.lanes.get_mut(&operation) else { return Ok(()) };
        if let Some(brake) = &lane.brake {
            if brake.gap_at(now) < Duration::from_secs_f64(1.0 / lane.per_second) {
                lane.brake = None;
            } else if let Some(wait) = brake.next.checked_sub(now).filter(|wait| !wait.is_zero()) {
                return Err(wait);
            }
        }
        if !lane.holds_token {
            check(lane.bucket.as_ref(), now)?;
            lane.holds_token = true;
        }
        self.take_shared(operation.is_write(), now)?;
        let Some(lane) = self.lanes.get_mut(&operation) else { return Ok(()) };
        lane.holds_token = false;
        if let Some(brake) = &mut lane.brake {
            brake.next = now + brake.gap_at(now);
        }
        Ok(())
    }

    /// Takes a shared token: writes go before reads, but for one read now and then.
    fn take_shared(&mut self, is_write: bool, now: Duration) -> Result<(), Duration> {
        if is_write {
            let read_first = self.read_first_until.saturating_sub(now);
            if !read_first.is_zero() {
                return Err(read_first);
            }
            check(self.all.as_ref(), now).inspect_err(|wait| {
                self.writes_first_until = now + *wait + WRITES_FIRST;
            })?;
            self.writes_first_until = Duration::ZERO;
            return Ok(());
        }
        let writes_first = self.writes_first_until.saturating_sub(now);
        if writes_first.is_zero() {
            check(self.all.as_ref(), now)?;
        } else {
            let waited = now.saturating_sub(*self.reads_wait_since.get_or_insert(now));
            if waited < READS_WAIT {
                return Err(writes_first.min(READS_WAIT.saturating_sub(waited)));
            }
            check(self.all.as_ref(), now).inspect_err(|wait| {
                self.read_first_until = now + *wait + READ_FIRST;
            })?;
        }
        self.reads_wait_since = None;
        self.read_first_until = Duration::ZERO;
        Ok(())
    }

    /// Halves the pace of an operation that AWS has throttled; the pace recovers with time.
    pub(super) fn slow_down(&mut self, operation: Operation, now: Duration) {
        let Some(lane) = self.lanes.get_mut(&operation) else { return };
        let usual = Duration::from_secs_f64((1.0 / lane.per_second).min(SLOWEST.as_secs_f64()));
        let gap = match &lane.brake {
            Some(brake) if now < brake.since + SAME_INCIDENT => return,
            Some(brake) => brake.gap_at(now).max(usual),
            None => usual,
        };
        let gap = (gap * 2).min(SLOWEST.max(usual));
        lane.brake = Some(Brake { gap, since: now, next: now + gap });
    }

    /// How many calls a second an operation may make for long, and whether that is for a throttle reply.
    pub(super) fn pace(&self, operation: Operation, now: Duration) -> Option<(f64, bool)> {
        let lane = self.lanes.get(&operation)?;
        let braked = lane.brake.map(|brake| 1.0 / brake.gap_at(now).as_secs_f64().max(f64::EPSILON));
        let braked = braked.filter(|braked| *braked < lane.per_second).map(|braked| (braked, true));
        braked.or(self.all.is_some().then_some((lane.per_second, false)))
    }

    /// How many tokens of an operation may be taken and kept for a call that comes later, if that is bounded.
    pub(super) fn keep_at_most(&self, operation: Operation) -> Option<usize> {
        self.lanes.get(&operation)?.keep_at_most
    }
}

fn check(bucket: Option<&Governor>, now: Duration) -> Result<(), Duration> {
    let Some(bucket) = bucket else { return Ok(()) };
    // A wait of zero would make a caller spin.
    bucket.check().map_err(|until| until.wait_time_from(now).max(Duration::from_millis(1)))
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;

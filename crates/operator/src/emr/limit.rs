//! The limiter of one account and region: every call passes it first.
//!
//! Two ways in. [`Limiter::acquire`] waits, for calls whose caller has time. [`Limiter::request`] never waits: it grants a
//! call or puts the key into a queue and wakes it through the channel when a token is kept for it, so that a pass over an
//! object doesn't block on quota. The rules are in `bucket` and `queue`; here are the clock, the lock and the task that
//! serves the queue while anyone is in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Mutex as Line, Notify};
use tokio::time::Instant;

use super::bucket::Buckets;
use super::observe::Observer;
use super::operation::Operation;
use super::queue::{Answer, Turns};
use crate::quotas::Quotas;

pub use super::queue::{Priority, RunKey};

/// The calls that are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// StartJobRun.
    Start,
    /// CancelJobRun.
    Cancel,
}

impl Kind {
    /// The call.
    pub const fn operation(self) -> Operation {
        match self {
            Self::Start => Operation::StartJobRun,
            Self::Cancel => Operation::CancelJobRun,
        }
    }
}

/// The answer to a request.
#[derive(Debug)]
#[must_use]
pub enum Turn {
    /// The call may be made now.
    Granted(Grant),
    /// The key waits, and is woken when it may ask again.
    Queued(Place),
}

/// Where a key stands that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many are served before it.
    pub ahead: usize,
    /// How many wait in all, the key among them.
    pub waiting: usize,
}

/// How fast calls of an operation can be made for long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// So many a second.
    pub per_second: f64,
    /// AWS asked for it by a throttle reply: it is slower than the quota.
    pub throttled: bool,
}

/// The right to make one call. One that is dropped without a call goes to the next in the queue.
#[derive(Debug)]
#[must_use]
pub struct Grant {
    kind: Kind,
    limiter: Option<Limiter>,
}

impl Grant {
    /// What it is for.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn used(mut self) {
        self.limiter = None;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(limiter) = self.limiter.take() {
            limiter.core().turns(self.kind).give_back();
            limiter.shared.changed.notify_one();
        }
    }
}

struct Core {
    buckets: Buckets,
    starts: Turns,
    cancels: Turns,
    serving: bool,
}

impl Core {
    fn turns(&mut self, kind: Kind) -> &mut Turns {
        self.split(kind).0
    }

    fn split(&mut self, kind: Kind) -> (&mut Turns, &mut Buckets) {
        match kind {
            Kind::Start => (&mut self.starts, &mut self.buckets),
            Kind::Cancel => (&mut self.cancels, &mut self.buckets),
        }
    }
}

struct Shared {
    core: Mutex<Core>,
    /// Those who wait in [`Limiter::acquire`], in a line for each operation.
    lines: BTreeMap<Operation, Line<()>>,
    changed: Notify,
    wake: UnboundedSender<RunKey>,
    observer: Arc<dyn Observer>,
    origin: Instant,
}

/// A handle; clones share the buckets and the queues.
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

impl Limiter {
    /// A limiter whose buckets are full. Keys whose turn has come are sent to `wake`.
    pub fn new(quotas: &Quotas, wake: UnboundedSender<RunKey>, observer: Arc<dyn Observer>) -> Self {
        let buckets = Buckets::new(quotas);
        let turns = |kind: Kind| Turns::keeping(buckets.keep_at_most(kind.operation()));
        let (starts, cancels) = (turns(Kind::Start), turns(Kind::Cancel));
        let core = Core { buckets, starts, cancels, serving: false };
        let lines = Operation::ALL.iter().map(|operation| (*operation, Line::default())).collect();
        Self {
            shared: Arc::new(Shared {
                core: Mutex::new(core),
                lines,
                changed: Notify::new(),
                wake,
                observer,
                origin: Instant::now(),
            }),
        }
    }

    /// Waits until the call may be made, behind those who asked for the same operation before.
    pub async fn acquire(&self, operation: Operation) {
        let _first = match self.shared.lines.get(&operation) {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        while let Err(wait) = self.take(operation) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a token if there is one and nobody waits for it.
    pub(super) fn try_acquire(&self, operation: Operation) -> bool {
        let now = self.now();
        let mut core = self.core();
        let queued = match operation {
            Operation::StartJobRun => core.starts.waiting(),
            Operation::CancelJobRun => core.cancels.waiting(),
            _ => 0,
        };
        queued == 0 && core.buckets.take(operation, now).is_ok()
    }

    /// Asks for a call without waiting for it. A key has one place in the queue however often it asks; in its namespace
    /// a greater priority goes first.
    pub fn request(&self, kind: Kind, key: &RunKey, priority: Priority) -> Turn {
        let now = self.now();
        let mut guard = self.core();
        let core = &mut *guard;
        let (turns, buckets) = core.split(kind);
        match turns.request(key, priority, || buckets.take(kind.operation(), now)) {
            Answer::Granted => {
                if core.serving {
                    // One less is kept: the next one's turn may have come.
                    self.shared.changed.notify_one();
                }
                Turn::Granted(Grant { kind, limiter: Some(self.clone()) })
            }
            Answer::Queued { position } => {
                let waiting = turns.waiting();
                self.shared.observer.waiting(kind, waiting);
                if core.serving {
                    self.shared.changed.notify_one();
                } else {
                    core.serving = true;
                    tokio::spawn(serve(self.clone()));
                }
                Turn::Queued(Place { ahead: position, waiting })
            }
        }
    }

    /// How many stand before the key, if it waits.
    pub fn position(&self, kind: Kind, uid: &str) -> Option<usize> {
        self.core().turns(kind).position(uid)
    }

    /// Whether a call may be made for the key, and is kept for it until it asks.
    pub fn keeps_for(&self, uid: &str) -> bool {
        let core = self.core();
        core.starts.keeps_for(uid) || core.cancels.keeps_for(uid)
    }

    /// Drops the key from both queues: it needs no call any more. Says whether it was in one.
    pub fn forget(&self, uid: &str) -> bool {
        let mut core = self.core();
        let known = core.starts.forget(uid) | core.cancels.forget(uid);
        drop(core);
        if known {
            self.shared.changed.notify_one();
        }
        known
    }

    /// Halves the pace of an operation after a throttle reply; it recovers with time.
    pub fn slow_down(&self, operation: Operation) {
        let now = self.now();
        self.core().buckets.slow_down(operation, now);
    }

    /// How fast calls of the operation can be made for long; `None` when nothing limits them.
    pub fn pace(&self, operation: Operation) -> Option<Pace> {
        let now = self.now();
        let (per_second, throttled) = self.core().buckets.pace(operation, now)?;
        Some(Pace { per_second, throttled })
    }

    fn take(&self, operation: Operation) -> Result<(), Duration> {
        let now = self.now();
        self.core().buckets.take(operation, now)
    }

    fn now(&self) -> Duration {
        self.shared.origin.elapsed()
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // The core is consistent between statements: a panic of another thread doesn't break it.
        self.shared.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves both queues once, and says when to serve again.
    fn serve_once(&self) -> Option<Duration> {
        let now = self.now();
        let mut guard = self.core();
        let core = &mut *guard;
        let mut again_in = None;
        for kind in [Kind::Cancel, Kind::Start] {
            let (turns, buckets) = core.split(kind);
            let served = turns.serve(now, || buckets.take(kind.operation(), now));
            if !served.woken.is_empty() {
                self.shared.observer.waiting(kind, turns.waiting());
            }
            for key in served.woken {
                // Nobody listens any more when the process ends.
                let _ = self.shared.wake.send(key);
            }
            again_in = [again_in, served.again_in].into_iter().flatten().min();
        }
        core.serving = again_in.is_some();
        again_in
    }
}

/// Serves the queues until nobody waits and nothing is reserved.
async fn serve(limiter: Limiter) {
    while let Some(again_in) = limiter.serve_once() {
        tokio::select! {
            () = tokio::time::sleep(again_in) => {}
            () = limiter.shared.changed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::observe::Unobserved;
    use super::*;

    fn limiter(quotas: &str) -> (Limiter, UnboundedReceiver<RunKey>) {
        let (wake, woken) = unbounded_channel();
        (Limiter::new(&Quotas::parse(quotas).unwrap(), wake, Arc::new(Unobserved)), woken)
    }

    fn key(number: usize) -> RunKey {
        RunKey::new(&number.to_string(), "default", &format!("run{number}"))
    }

    fn granted(turn: Turn) -> Option<Grant> {
        match turn {
            Turn::Granted(grant) => Some(grant),
            Turn::Queued(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_starts_get_the_burst_and_then_one_a_second() {
        let (limiter, mut woken) = limiter("documented");
        let started = Instant::now();
        let mut at_once = 0;
        for number in 0..100 {
            if let Some(grant) = granted(limiter.request(Kind::Start, &key(number), Priority::default())) {
                grant.used();
                at_once += 1;
            }
        }
        assert_eq!(at_once, 22);
        assert_eq!(limiter.position(Kind::Start, "99"), Some(77));
        for number in 22..100 {
            let next = woken.recv().await.unwrap();
            assert_eq!(next, key(number));
            granted(limiter.request(Kind::Start, &next, Priority::default())).unwrap().used();
        }
        let took = started.elapsed().as_secs_f64();
        assert!((78.0..78.5).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_that_is_dropped_goes_to_the_next_at_once() {
        let (limiter, mut woken) = limiter("StartJobRun=0.001:1");
        let grant = granted(limiter.request(Kind::Start, &key(0), Priority::default())).unwrap();
        assert!(granted(limiter.request(Kind::Start, &key(1), Priority::default())).is_none());
        drop(grant);
        assert_eq!(woken.recv().await.unwrap(), key(1));
        assert!(granted(limiter.request(Kind::Start, &key(1), Priority::default())).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_key_is_not_woken_and_cancels_do_not_wait_for_starts() {
        let (limiter, mut woken) = limiter("StartJobRun=1:1,CancelJobRun=1:1");
        granted(limiter.request(Kind::Start, &key(0), Priority::default())).unwrap().used();
        for number in 1..4 {
            assert!(granted(limiter.request(Kind::Start, &key(number), Priority::default())).is_none());
        }
        assert!(granted(limiter.request(Kind::Cancel, &key(9), Priority::default())).is_some());
        limiter.forget("1");
        assert_eq!(woken.recv().await.unwrap(), key(2));
        assert_eq!(woken.recv().await.unwrap(), key(3));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_call_come_in_order() {
        let (limiter, _woken) = limiter("DeleteVirtualCluster=1:1");
        let (done, mut order) = unbounded_channel();
        for number in 0..5 {
            let (limiter, done) = (limiter.clone(), done.clone());
            tokio::spawn(async move {
                limiter.acquire(Operation::DeleteVirtualCluster).await;
                done.send(number).unwrap();
            });
            tokio::task::yield_now().await;
        }
        let started = Instant::now();
        for number in 0..5 {
            assert_eq!(order.recv().await, Some(number));
        }
        assert!(started.elapsed() >= Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_reply_paces_the_queue_even_without_quotas() {
        let (limiter, mut woken) = limiter("off");
        assert!(granted(limiter.request(Kind::Start, &key(0), Priority::default())).is_some());
        assert_eq!(limiter.pace(Operation::StartJobRun), None);
        limiter.slow_down(Operation::StartJobRun);
        assert!(granted(limiter.request(Kind::Start, &key(1), Priority::default())).is_none());
        assert_eq!(woken.recv().await.unwrap(), key(1));
    }

    /// A thousand runs, and an object that asks for its call some time after it was woken.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_starts_of_ten_owners_use_the_documented_quota_in_full_and_fairly() {
        let (limiter, mut woken) = limiter("documented");
        let owners: Vec<(usize, usize)> = (0..901)
            .flat_map(|number| (0..10).map(move |owner| (owner, number)))
            .filter(|(owner, number)| *owner == 0 || *number < 11)
            .collect();
        assert_eq!(owners.len(), 1000);
        let key = |(owner, number): (usize, usize)| {
            RunKey::new(&format!("{owner}-{number}"), &format!("ns{owner}"), &format!("run{number}"))
        };
        let began = Instant::now();
        // Of the service: its bucket, and when it was last looked at.
        let (mut level, mut looked, mut starts) = (25.0_f64, began, 0.0_f64);
        let mut small_took = Duration::ZERO;
        let mut start = |grant: Grant, key: &RunKey| {
            grant.used();
            level = (level + looked.elapsed().as_secs_f64()).min(25.0) - 1.0;
            looked = Instant::now();
            starts += 1.0;
            assert!(level >= 0.0, "{level} after {:?}", began.elapsed());
            if &*key.namespace != "ns0" {
                small_took = began.elapsed();
            }
        };
        let mut waiting = 0;
        for owner in owners {
            match granted(limiter.request(Kind::Start, &key(owner), Priority::default())) {
                Some(grant) => start(grant, &key(owner)),
                None => waiting += 1,
            }
        }
        for number in 0..waiting {
            let key = woken.recv().await.unwrap();
            // Now and then a pass is late by several tokens.
            tokio::time::sleep(Duration::from_millis(if number % 50 == 0 { 15_000 } else { 120 })).await;
            start(granted(limiter.request(Kind::Start, &key, Priority::default())).unwrap(), &key);
        }
        let took = began.elapsed().as_secs_f64();
        let allowed = 25.0 + took;
        assert!(starts >= 0.98 * allowed, "{starts} of {allowed}");
        assert!(small_took.as_secs_f64() <= took / 10.0, "{small_took:?} of {took} s");
    }
}

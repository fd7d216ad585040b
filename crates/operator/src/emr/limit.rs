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
    /// How many wait, for whichever call.
    fn waiting(&self) -> usize {
        self.starts.waiting() + self.cancels.waiting()
    }

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
        let before = core.waiting();
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
                self.tell_waiting(before, core);
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
        let before = core.waiting();
        let known = core.starts.forget(uid) | core.cancels.forget(uid);
        self.tell_waiting(before, &core);
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
        let before = core.waiting();
        let mut again_in = None;
        for kind in [Kind::Cancel, Kind::Start] {
            let (turns, buckets) = core.split(kind);
            let served = turns.serve(now, || buckets.take(kind.operation(), now));
            for key in served.woken {
                // Nobody listens any more when the process ends.
                let _ = self.shared.wake.send(key);
            }
            again_in = [again_in, served.again_in].into_iter().flatten().min();
        }
        self.tell_waiting(before, core);
        core.serving = again_in.is_some();
        again_in
    }

    /// Tells by how much the number of those who wait has changed: others add theirs to it.
    fn tell_waiting(&self, before: usize, core: &Core) {
        let difference = |from: usize, to: usize| i64::try_from(to.saturating_sub(from)).unwrap_or(i64::MAX);
        let now = core.waiting();
        let change = difference(before, now) - difference(now, before);
        if change != 0 {
            self.shared.observer.waiting(change);
        }
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
#[path = "limit_tests.rs"]
mod tests;

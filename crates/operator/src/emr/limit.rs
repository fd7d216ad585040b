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

pub use super::queue::RunKey;

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
    /// The key waits behind so many others, and is woken when it may ask again.
    Queued {
        /// How many are served before it.
        position: usize,
    },
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
        let core = Core {
            buckets: Buckets::new(quotas),
            starts: Turns::default(),
            cancels: Turns::default(),
            serving: false,
        };
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
    pub fn request(&self, kind: Kind, key: &RunKey, priority: i32) -> Turn {
        let now = self.now();
        let mut guard = self.core();
        let core = &mut *guard;
        let (turns, buckets) = core.split(kind);
        match turns.request(key, priority, || buckets.take(kind.operation(), now)) {
            Answer::Granted => Turn::Granted(Grant { kind, limiter: Some(self.clone()) }),
            Answer::Queued { position } => {
                self.shared.observer.waiting(kind, turns.waiting());
                if core.serving {
                    self.shared.changed.notify_one();
                } else {
                    core.serving = true;
                    tokio::spawn(serve(self.clone()));
                }
                Turn::Queued { position }
            }
        }
    }

    /// How many stand before the key, if it waits.
    pub fn position(&self, kind: Kind, uid: &str) -> Option<usize> {
        self.core().turns(kind).position(uid)
    }

    /// Drops the key from both queues: it needs no call any more.
    pub fn forget(&self, uid: &str) {
        let mut core = self.core();
        for kind in [Kind::Start, Kind::Cancel] {
            core.turns(kind).forget(uid);
        }
        drop(core);
        self.shared.changed.notify_one();
    }

    /// Halves the pace of an operation after a throttle reply; it recovers with time.
    pub fn slow_down(&self, operation: Operation) {
        let now = self.now();
        self.core().buckets.slow_down(operation, now);
    }

    /// How many calls a second the operation may make for long; `None` when nothing limits it.
    pub fn per_second(&self, operation: Operation) -> Option<f64> {
        let now = self.now();
        self.core().buckets.per_second(operation, now)
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
            Turn::Queued { .. } => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_starts_get_the_burst_and_then_one_a_second() {
        let (limiter, mut woken) = limiter("documented");
        let started = Instant::now();
        let mut at_once = 0;
        for number in 0..100 {
            if let Some(grant) = granted(limiter.request(Kind::Start, &key(number), 0)) {
                grant.used();
                at_once += 1;
            }
        }
        assert_eq!(at_once, 22);
        assert_eq!(limiter.position(Kind::Start, "99"), Some(77));
        for number in 22..100 {
            let next = woken.recv().await.unwrap();
            assert_eq!(next, key(number));
            granted(limiter.request(Kind::Start, &next, 0)).unwrap().used();
        }
        let took = started.elapsed().as_secs_f64();
        assert!((78.0..78.5).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_that_is_dropped_goes_to_the_next_at_once() {
        let (limiter, mut woken) = limiter("StartJobRun=0.001:1");
        let grant = granted(limiter.request(Kind::Start, &key(0), 0)).unwrap();
        assert!(granted(limiter.request(Kind::Start, &key(1), 0)).is_none());
        drop(grant);
        assert_eq!(woken.recv().await.unwrap(), key(1));
        assert!(granted(limiter.request(Kind::Start, &key(1), 0)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_key_is_not_woken_and_cancels_do_not_wait_for_starts() {
        let (limiter, mut woken) = limiter("StartJobRun=1:1,CancelJobRun=1:1");
        granted(limiter.request(Kind::Start, &key(0), 0)).unwrap().used();
        for number in 1..4 {
            assert!(granted(limiter.request(Kind::Start, &key(number), 0)).is_none());
        }
        assert!(granted(limiter.request(Kind::Cancel, &key(9), 0)).is_some());
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
        assert!(granted(limiter.request(Kind::Start, &key(0), 0)).is_some());
        assert_eq!(limiter.per_second(Operation::StartJobRun), None);
        limiter.slow_down(Operation::StartJobRun);
        assert!(granted(limiter.request(Kind::Start, &key(1), 0)).is_none());
        assert_eq!(woken.recv().await.unwrap(), key(1));
    }
}

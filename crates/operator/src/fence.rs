//! Whether this process may still act: until the time comes at which another may lead.
//!
//! Must not know why that time is when it is: `leader` moves it with every renewal of the lease, and closes it with the end
//! of its term. Invariant: once it has passed, nothing that is done [`within`](Fence::within) the fence goes on, in this
//! process never again.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

/// A clock that nobody sets, and that goes on while this process is stopped and while the machine sleeps. The standard
/// library's `Instant`, and with it every timer, stands still in the sleep of a machine that runs Linux.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere this is the one that goes on.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A point in real time, in nanoseconds of a clock that only this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Later than any other.
    const NEVER: Self = Self(u64::MAX);

    /// Now.
    pub fn now() -> Self {
        // A clock that counts from the start of the machine can't be before it.
        Self(nanoseconds(Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(time)))
    }

    /// How long it is from here to a later one; nothing if that one has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Until when this process may act. Clones are the same fence.
#[derive(Clone, Debug)]
pub struct Fence(Arc<State>);

#[derive(Debug)]
struct State {
    until: AtomicU64,
    /// For those who wait for it, and so that a time that has passed isn't moved any more.
    shut: CancellationToken,
}

impl Fence {
    /// One for a process that needs no lease.
    pub fn open() -> Self {
        Self::until(Moment::NEVER)
    }

    /// One that shuts then, unless it is moved before.
    pub fn until(end: Moment) -> Self {
        Self(Arc::new(State { until: AtomicU64::new(end.0), shut: CancellationToken::new() }))
    }

    /// Moves the end, if it has not come yet.
    pub fn extend(&self, end: Moment) {
        if self.is_open() {
            self.0.until.fetch_max(end.0, Ordering::SeqCst);
        }
    }

    /// Shuts it now: the right to act is given back, or was lost before its time.
    pub fn close(&self) {
        self.0.shut.cancel();
        self.0.until.store(0, Ordering::SeqCst);
    }

    /// Whether one may act now.
    pub fn is_open(&self) -> bool {
        let until = Moment(self.0.until.load(Ordering::SeqCst));
        // Who needs no lease reads no clock.
        let open = until == Moment::NEVER || (!self.0.shut.is_cancelled() && Moment::now() < until);
        if !open {
            self.0.shut.cancel();
        }
        open
    }

    /// Goes on with what is done only while the fence is open, and never returns after that. It is asked again at every
    /// step, so that no repetition that a client makes by itself goes out later, and no late answer is acted on.
    pub async fn within<T>(&self, act: impl Future<Output = T>) -> T {
        let mut act = pin!(act);
        // Nothing wakes it when the fence is shut: the process ends.
        poll_fn(|waker| if self.is_open() { act.as_mut().poll(waker) } else { Poll::Pending }).await
    }

    /// Returns when somebody found the fence shut.
    pub async fn shut(&self) {
        self.0.shut.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn the_clock_goes_on() {
        let before = Moment::now();
        while Moment::now() == before {}
        assert!(Moment::now() > before);
        assert_eq!(before.after(LONG).until(before), Duration::ZERO);
        assert_eq!(before.until(before.after(LONG)), LONG);
    }

    #[test]
    fn nothing_is_done_after_the_end_has_come() {
        let fence = Fence::until(Moment::now().after(LONG));
        assert_eq!(fence.within(ready(7)).now_or_never(), Some(7));
        let fence = Fence::until(Moment::now());
        assert_eq!(fence.within(ready(7)).now_or_never(), None);
        assert_eq!(Fence::open().within(ready(7)).now_or_never(), Some(7));
    }

    #[test]
    fn what_was_begun_before_the_end_does_not_go_on_after_it() {
        let fence = Fence::until(Moment::now().after(LONG));
        let (answer, answered) = tokio::sync::oneshot::channel();
        let mut act = pin!(fence.within(answered));
        assert!(act.as_mut().now_or_never().is_none());
        answer.send(()).unwrap();
        fence.0.until.store(0, Ordering::SeqCst);
        assert!(act.as_mut().now_or_never().is_none(), "a late answer is acted on");
    }

    #[test]
    fn what_is_closed_stays_shut_whatever_its_time_was() {
        for fence in [Fence::open(), Fence::until(Moment::now().after(LONG))] {
            let mut act = pin!(fence.within(std::future::pending::<()>()));
            assert!(act.as_mut().now_or_never().is_none() && fence.is_open());
            fence.clone().close();
            fence.extend(Moment::now().after(LONG));
            assert!(!fence.is_open());
            assert_eq!(fence.within(ready(7)).now_or_never(), None);
            assert!(fence.shut().now_or_never().is_some(), "whoever waits for it is told");
        }
    }

    #[test]
    fn a_renewal_moves_the_end_but_never_revives_it() {
        let fence = Fence::until(Moment::now().after(LONG));
        fence.extend(Moment::now());
        assert!(fence.is_open(), "an older renewal takes nothing away");
        let later = Moment::now().after(2 * LONG);
        fence.extend(later);
        assert_eq!(fence.0.until.load(Ordering::SeqCst), later.0);
        assert!(fence.shut().now_or_never().is_none());
        let fence = Fence::until(Moment::now());
        fence.extend(Moment::now().after(LONG));
        assert!(!fence.is_open(), "it was renewed too late");
        assert!(fence.shut().now_or_never().is_some());
    }
}

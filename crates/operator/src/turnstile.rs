//! Who makes a pass next: first come, first served, and starts before the rest.
//!
//! kube-runtime picks the next object by the order of a hash set, which leaves some objects waiting for as long as others
//! keep coming. So it is given no bound, and passes wait here. Invariant: no more passes run than were allowed, each that
//! waits gets its turn in the order of arrival of its class, and nothing yields to starts for longer than it was told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::timing;

/// The starts that wait or are under way, to which other work yields; cheap to clone.
#[derive(Clone, Debug)]
pub struct Starts(Arc<watch::Sender<usize>>);

impl Default for Starts {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Starts {
    /// Counts a start for as long as the guard is there.
    fn count(&self) -> Counted {
        self.0.send_if_modified(|starts| {
            *starts += 1;
            false
        });
        Counted(self.clone())
    }

    /// Waits until there is none, for a bounded time.
    pub async fn go_first(&self, at_most: Duration) {
        let mut starts = self.0.subscribe();
        // Whether it was none or too long makes no difference.
        let _ = tokio::time::timeout(at_most, starts.wait_for(|starts| *starts == 0)).await;
    }
}

#[derive(Debug)]
struct Counted(Starts);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|starts| {
            *starts -= 1;
            *starts == 0
        });
    }
}

/// Bounds the passes of a kind.
#[derive(Debug)]
pub struct Turnstile {
    starts: Semaphore,
    rest: Option<Rest>,
    pressing: Starts,
}

/// The part for all that isn't a start. Reports come in bursts, and a start that arrives in the midst of one should not
/// find the API server busy with it: so one pass runs at a time, and more only as long as that isn't enough.
#[derive(Debug)]
struct Rest {
    one: Semaphore,
    more: Semaphore,
}

impl Rest {
    async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        let more = async {
            tokio::time::sleep(timing::REST_PATIENCE).await;
            self.more.acquire().await
        };
        tokio::select! {
            biased;
            permit = self.one.acquire() => permit.ok(),
            permit = more => permit.ok(),
        }
    }
}

/// A turn, which ends when it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turnstile: &'a Turnstile,
    /// `None` never happens: the turnstile isn't closed.
    _permit: Option<SemaphorePermit<'a>>,
    counted: Option<Counted>,
}

impl Turnstile {
    /// Lets so many passes run at the same time. Three quarters are kept for starts: a wave of new objects must not wait
    /// behind the reports of the ones before, nor stop them altogether.
    pub fn new(passes: u16, pressing: Starts) -> Self {
        let passes = usize::from(passes.max(1));
        let rest = passes / 4;
        let starts = Semaphore::new(passes - rest);
        let rest = (rest > 0).then(|| Rest { one: Semaphore::new(1), more: Semaphore::new(rest - 1) });
        Self { starts, rest, pressing }
    }

    /// Waits for a turn.
    pub async fn enter(&self, is_start: bool) -> Turn<'_> {
        let counted = is_start.then(|| self.pressing.count());
        let permit = match &self.rest {
            Some(rest) if !is_start => {
                let permit = rest.acquire().await;
                self.pressing.go_first(timing::REST_YIELDS).await;
                permit
            }
            // A turnstile that isn't divided has one order of arrival; who has its turn must use it.
            _ => self.starts.acquire().await.ok(),
        };
        Turn { turnstile: self, _permit: permit, counted }
    }
}

impl<'a> Turn<'a> {
    /// Ends the start: if other starts wait or are under way, gives the turn back and waits for one among the rest.
    pub async fn make_way(mut self) -> Self {
        self.counted = None;
        if *self.turnstile.pressing.0.borrow() == 0 {
            return self;
        }
        let turnstile: &'a Turnstile = self.turnstile;
        drop(self);
        turnstile.enter(false).await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn starts_and_the_rest_do_not_wait_for_each_other_and_their_sum_is_bounded() {
        let turnstile = Turnstile::new(4, Starts::default());
        let rest = turnstile.enter(false).await;
        let starts = [turnstile.enter(true).await, turnstile.enter(true).await, turnstile.enter(true).await];
        assert!(turnstile.enter(false).now_or_never().is_none());
        assert!(turnstile.enter(true).now_or_never().is_none());
        drop((rest, starts));
        let single = Turnstile::new(1, Starts::default());
        let _only = single.enter(false).await;
        assert!(single.enter(true).now_or_never().is_none(), "one pass at a time is one in all");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_goes_one_by_one_until_that_takes_too_long() {
        let turnstile = Turnstile::new(8, Starts::default());
        let begin = Instant::now();
        let one = turnstile.enter(false).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let more = turnstile.enter(false).await;
        assert_eq!(begin.elapsed(), timing::REST_PATIENCE);
        drop((one, turnstile.enter(false).now_or_never(), more));
        drop(turnstile.enter(false).await);
        assert_eq!(begin.elapsed(), timing::REST_PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_yields_to_starts_for_a_bounded_time_and_goes_on_when_they_are_through() {
        let turnstile = Turnstile::new(4, Starts::default());
        let begin = Instant::now();
        let start = turnstile.enter(true).await;
        drop(turnstile.enter(false).await);
        assert_eq!(
            begin.elapsed(),
            timing::REST_YIELDS,
            "a start under way doesn't hold the rest up for ever"
        );
        let second = turnstile.enter(true).await;
        let begin = Instant::now();
        // The start itself goes on among the rest, and isn't in its own way.
        let (_turn, ()) = tokio::join!(start.make_way(), async move { drop(second) });
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

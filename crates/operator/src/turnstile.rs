//! Who makes a pass next: first come, first served, and what waits to be started doesn't wait behind the rest.
//!
//! kube-runtime picks the next object by the order of a hash set, which leaves some objects waiting for as long as others
//! keep coming. So it is given no bound, and passes wait here. Invariant: no more passes run than were allowed, and each
//! that waits gets its turn in the order of arrival of its class.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bounds the passes of a kind.
#[derive(Debug)]
pub struct Turnstile {
    starts: Semaphore,
    rest: Option<Semaphore>,
}

impl Turnstile {
    /// Lets so many passes run at the same time. Three quarters are kept for starts: a wave of new objects must not wait
    /// behind the reports of the ones before, nor stop them altogether.
    pub fn new(passes: u16) -> Self {
        let passes = usize::from(passes.max(1));
        let rest = passes / 4;
        let starts = Semaphore::new(passes - rest);
        Self { starts, rest: (rest > 0).then(|| Semaphore::new(rest)) }
    }

    /// Waits for a turn, which ends when the permit is dropped. `None` never happens: the turnstile isn't closed.
    pub async fn enter(&self, is_start: bool) -> Option<SemaphorePermit<'_>> {
        let class = self.rest.as_ref().filter(|_| !is_start).unwrap_or(&self.starts);
        class.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn starts_and_the_rest_do_not_wait_for_each_other_and_their_sum_is_bounded() {
        let turnstile = Turnstile::new(4);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(turnstile.enter(true).await);
        }
        held.push(turnstile.enter(false).await);
        assert_eq!(
            turnstile.starts.available_permits() + turnstile.rest.as_ref().unwrap().available_permits(),
            0
        );
        let single = Turnstile::new(1);
        let _only = single.enter(false).await;
        assert_eq!(single.starts.available_permits(), 0, "one pass at a time is one in all");
    }
}

//! Whether passes wait or are under way: what is only informational yields to them.
//!
//! Invariant: nothing yields for longer than it said it would.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The kinds that have passes to make; cheap to clone.
#[derive(Clone, Debug)]
pub struct Busy(Arc<watch::Sender<usize>>);

impl Default for Busy {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Busy {
    /// Says so for as long as the guard is there.
    #[must_use]
    pub fn mark(&self) -> Marked {
        self.0.send_modify(|marks| *marks += 1);
        Marked(self.clone())
    }

    /// Waits until no pass waits or is under way, for a bounded time.
    pub async fn let_pass(&self, at_most: Duration) {
        let mut marks = self.0.subscribe();
        // Whether nothing is left or it took too long makes no difference.
        let _ = tokio::time::timeout(at_most, marks.wait_for(|marks| *marks == 0)).await;
    }
}

/// Passes wait or are under way.
#[derive(Debug)]
pub struct Marked(Busy);

impl Drop for Marked {
    fn drop(&mut self) {
        self.0.0.send_modify(|marks| *marks -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_yields_waits_for_the_last_pass_but_not_for_ever() {
        let (busy, begin, at_most) = (Busy::default(), Instant::now(), Duration::from_secs(1));
        busy.let_pass(at_most).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let (one, other) = (busy.mark(), busy.mark());
        drop(one);
        busy.let_pass(at_most).await;
        assert_eq!(begin.elapsed(), at_most);
        tokio::join!(busy.let_pass(at_most), async move { drop(other) });
        assert_eq!(begin.elapsed(), at_most);
    }
}

//! Whether something is to be started: what is only informational yields to that.
//!
//! Invariant: nothing yields for longer than it said it would.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The kinds that have something to start; cheap to clone.
#[derive(Clone, Debug)]
pub struct Starts(Arc<watch::Sender<usize>>);

impl Default for Starts {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Starts {
    /// Says so for as long as the guard is there.
    #[must_use]
    pub fn press(&self) -> Pressing {
        self.0.send_modify(|pressing| *pressing += 1);
        Pressing(self.clone())
    }

    /// Waits until nothing is to be started, for a bounded time.
    pub async fn go_first(&self, at_most: Duration) {
        let mut pressing = self.0.subscribe();
        // Whether nothing presses or it took too long makes no difference.
        let _ = tokio::time::timeout(at_most, pressing.wait_for(|pressing| *pressing == 0)).await;
    }
}

/// Something is to be started.
#[derive(Debug)]
pub struct Pressing(Starts);

impl Drop for Pressing {
    fn drop(&mut self) {
        self.0.0.send_modify(|pressing| *pressing -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_yields_waits_for_the_last_start_but_not_for_ever() {
        let (starts, begin, at_most) = (Starts::default(), Instant::now(), Duration::from_secs(1));
        starts.go_first(at_most).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let (one, other) = (starts.press(), starts.press());
        drop(one);
        starts.go_first(at_most).await;
        assert_eq!(begin.elapsed(), at_most);
        tokio::join!(starts.go_first(at_most), async move { drop(other) });
        assert_eq!(begin.elapsed(), at_most);
    }
}

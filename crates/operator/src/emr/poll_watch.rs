//! The task of a virtual cluster with live runs: when it is looked at, and how long it waits after a failure.
//!
//! Must not read an answer: `poll` does. Invariant: it ends with the last live run, and a failure never makes looks more
//! frequent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::error::Class;
use super::poll::{Home, Poller};
use super::poll_pace::FASTEST;
use crate::health::Work;

/// The first look is so long after the first run, which has hardly moved before.
const FIRST_LOOK: Duration = FASTEST;
/// After a failure the next look is at least so long away, and twice as long after each further one.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest way to the next look while the service fails or throttles, which passes.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// The longest way to the next look while it is refused, which someone has to mend.
const LONGEST_BACKOFF_REFUSED: Duration = Duration::from_mins(1);

/// Looks at one virtual cluster until nothing in it is live.
pub(super) async fn watch(poller: Poller, home: Arc<Home>, changed: Arc<Notify>, looks: Work) {
    let client = poller.shared.pool.client(&home.scope).telling(looks.clone());
    let mut failures = 0_u32;
    let mut last = Instant::now();
    let mut next = last + FIRST_LOOK.mul_f64(1.0 + 0.1 * jitter());
    loop {
        loop {
            let confirmation = poller.next_confirmation(&home).filter(|_| failures == 0);
            tokio::select! {
                () = sleep_until(next) => break,
                () = sleep_until(confirmation.unwrap_or(next)), if confirmation.is_some() => {
                    poller.confirm(&client, &home).await;
                    looks.due_at(next);
                }
                // A new run moves sooner than the old ones that set the pace; it doesn't heal what fails.
                () = changed.notified(), if failures == 0 => {
                    let sooner = (last + poller.interval(&home, 0.0)).max(Instant::now() + FIRST_LOOK);
                    next = next.min(sooner);
                }
            }
        }
        let Some(look) = poller.plan(&home) else { return };
        last = Instant::now();
        let (pages, result) = poller.look(&client, &home, &look).await;
        let pace = poller.interval(&home, jitter()).max(poller.spend(&home, pages));
        next = last + pace;
        match result {
            Ok(()) => {
                failures = 0;
                poller.set_problem(&home, None);
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::debug!(virtual_cluster = home.virtual_cluster_id, %error, failures, "a look at job runs failed");
                let longest = match error.class {
                    // Nothing that the owner of a run can do about.
                    Class::Throttled | Class::Transient => LONGEST_BACKOFF,
                    Class::NotFound
                    | Class::AccessDenied
                    | Class::Retryable
                    | Class::NotCancellable
                    | Class::AlreadyTerminated
                    | Class::NamespaceTaken
                    | Class::Refused => {
                        poller.set_problem(&home, Some(error.to_string()));
                        LONGEST_BACKOFF_REFUSED
                    }
                };
                next = Instant::now() + backoff(failures, longest).max(pace);
            }
        }
        // A look that failed is one too.
        looks.due_at(next);
    }
}

fn backoff(failures: u32, longest: Duration) -> Duration {
    let exponent = failures.saturating_sub(1).min(16);
    (BACKOFF * 2_u32.saturating_pow(exponent)).min(longest).mul_f64(1.0 + 0.25 * jitter())
}

/// Between -1 and 1.
fn jitter() -> f64 {
    2.0 * rand::random::<f64>() - 1.0
}

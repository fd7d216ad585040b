//! What the AWS side reports about itself. The process binds it to its metrics; the default does nothing.

use std::time::Duration;

use super::error::EmrError;
use super::operation::Operation;
use crate::metrics::HintOutcome;

/// Receives what happens; every method is called from hot paths and must be quick.
pub trait Observer: Send + Sync {
    /// An attempt of an operation has been answered, or has failed without an answer.
    fn attempt(&self, operation: Operation, took: Duration, error: Option<&EmrError>) {
        let _ = (operation, took, error);
    }

    /// A call of an operation came to its end, after one attempt or more.
    fn call(&self, operation: Operation, error: Option<&EmrError>) {
        let _ = (operation, error);
    }

    /// The number of starts and cancels that wait for quota in all scopes has changed by this much.
    fn waiting(&self, change: i64) {
        let _ = change;
    }

    /// A poller has looked at a virtual cluster, which took so many pages and woke so many runs.
    fn look(&self, look: &'static str, pages: u32, woken: usize) {
        let _ = (look, pages, woken);
    }

    /// A message of the event queue was taken in.
    fn hint(&self, outcome: HintOutcome) {
        let _ = outcome;
    }

    /// A hint told an end that the service didn't confirm.
    fn refuted(&self) {}

    /// A call of the event queue failed.
    fn hint_queue_failed(&self) {}

    /// The number of runs that all pollers track has changed by this much.
    fn tracked(&self, change: i64) {
        let _ = change;
    }
}

/// Reports to nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

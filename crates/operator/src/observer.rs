//! Binds what the AWS side reports about itself to the metrics.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::emr::error::{Class, EmrError};
use crate::emr::limit::Kind;
use crate::emr::observe::Observer;
use crate::emr::operation::Operation;
use crate::metrics::{HintOutcome, Look, Metrics};

/// Counts in the metrics of this process.
#[derive(Debug)]
pub(crate) struct Counting {
    metrics: Metrics,
    starts: AtomicUsize,
    cancels: AtomicUsize,
    tracked: AtomicI64,
}

impl Counting {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            starts: AtomicUsize::new(0),
            cancels: AtomicUsize::new(0),
            tracked: AtomicI64::new(0),
        }
    }
}

impl Observer for Counting {
    fn attempt(&self, operation: Operation, _: Duration, error: Option<&EmrError>) {
        self.metrics.aws_attempt(operation.name(), error.map_or(Some(200), |error| error.status));
        if error.is_some_and(|error| error.class == Class::Throttled) {
            self.metrics.aws_throttled(operation.name());
        }
    }

    fn call(&self, operation: Operation, error: Option<&EmrError>) {
        self.metrics.aws_request(operation.name());
        if let Some(error) = error {
            self.metrics.aws_request_failed(operation.name(), error.status);
        }
    }

    fn waiting(&self, kind: Kind, waiting: usize) {
        let (own, other) = match kind {
            Kind::Start => (&self.starts, &self.cancels),
            Kind::Cancel => (&self.cancels, &self.starts),
        };
        own.store(waiting, Ordering::Relaxed);
        self.metrics.set_quota_waiting(waiting + other.load(Ordering::Relaxed));
    }

    fn look(&self, look: &'static str, _: u32, woken: usize) {
        let look = match look {
            "live" => Look::Live,
            "moved" => Look::Moved,
            "hinted" => Look::Hinted,
            _ => Look::Ended,
        };
        self.metrics.looked(look, woken);
    }

    fn hint(&self, outcome: HintOutcome) {
        self.metrics.hint(outcome);
    }

    fn refuted(&self) {
        self.metrics.hint_refuted();
    }

    fn hint_queue_failed(&self) {
        self.metrics.hint_queue_failed();
    }

    fn tracked(&self, change: i64) {
        let now = self.tracked.fetch_add(change, Ordering::Relaxed) + change;
        self.metrics.set_tracked_runs(usize::try_from(now).unwrap_or_default());
    }
}

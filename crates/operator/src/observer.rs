//! Binds what the AWS side reports about itself to the metrics.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::emr::error::{Class, EmrError};
use crate::emr::observe::Observer;
use crate::emr::operation::Operation;
use crate::metrics::{HintOutcome, Look, Metrics};

/// Counts in the metrics of this process.
#[derive(Debug)]
pub(crate) struct Counting {
    metrics: Metrics,
    waiting: AtomicI64,
    tracked: AtomicI64,
}

impl Counting {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { metrics, waiting: AtomicI64::new(0), tracked: AtomicI64::new(0) }
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

    fn waiting(&self, change: i64) {
        let now = self.waiting.fetch_add(change, Ordering::Relaxed) + change;
        self.metrics.set_quota_waiting(usize::try_from(now).unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::emr::limit::{Kind, Limiter, Priority, RunKey, Turn};
    use crate::quotas::Quotas;

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_quota_is_counted_over_all_places_and_as_long_as_it_waits() {
        let metrics = Metrics::new();
        let observer = Arc::new(Counting::new(metrics.clone()));
        let waits = |count: usize| {
            let page = metrics.encode().unwrap();
            assert!(page.contains(&format!("emrcontainers_quota_waiting {count}\n")), "not {count}:\n{page}");
        };
        let quotas = Quotas::parse("StartJobRun=1:1,CancelJobRun=1:1").unwrap();
        let (wake, mut woken) = unbounded_channel();
        let places = [(); 2].map(|()| Limiter::new(&quotas, wake.clone(), observer.clone()));
        let key = |number: usize| RunKey::new(&number.to_string(), "default", &format!("run{number}"));
        let mut calls = Vec::new();
        for limiter in &places {
            let ask = |kind, number| limiter.request(kind, &key(number), Priority::default());
            for first in [ask(Kind::Start, 0), ask(Kind::Cancel, 9)] {
                let Turn::Granted(call) = first else { panic!("the buckets are full") };
                calls.push(call);
            }
            for number in [1, 2, 2] {
                assert!(matches!(ask(Kind::Start, number), Turn::Queued(_)));
            }
            assert!(matches!(ask(Kind::Cancel, 3), Turn::Queued(_)));
        }
        waits(6);
        assert!(places[0].forget("2") && !places[0].forget("2"));
        waits(5);
        assert!(places[0].forget("3") && places[0].forget("1"));
        waits(3);
        for _ in 0..3 {
            woken.recv().await.unwrap();
        }
        waits(0);
    }
}

//! What dashboards look for that were made for controllers of controller-runtime, as upstream's is.
//!
//! Invariant: nothing is counted twice. What has a name of ours too is told once more, under the other name, when somebody
//! asks; the rest is counted here.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;

use crate::leader::LEASE;
use crate::metric_label_sets::{KindLabels, PassLabels};
use crate::metric_registration::{Buckets, Described, Registration};
use crate::metrics::{Kind, Outcome, PassCounter, PassSeconds};

/// From an object whose turn it is at once to one that stands behind thousands.
const WAIT_SECONDS: [f64; 8] = [0.0001, 0.001, 0.01, 0.1, 1.0, 5.0, 30.0, 120.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    name: Kind,
    controller: Kind,
}

/// What is counted for nobody else.
#[derive(Clone)]
pub(crate) struct ControllerMetrics {
    workers: Family<ControllerLabels, Gauge>,
    active: Family<ControllerLabels, Gauge>,
    depth: Family<QueueLabels, Gauge>,
    adds: Family<QueueLabels, Counter>,
    waited: Family<QueueLabels, Histogram, Buckets>,
}

/// What the queue of one kind tells.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    /// Objects that wait for a pass.
    pub depth: Gauge,
    /// Passes that run.
    pub active: Gauge,
    /// Objects that were put into the queue.
    pub adds: Counter,
    /// How long they waited, in seconds.
    pub waited: Histogram,
}

impl ControllerMetrics {
    pub(crate) fn new(new: &mut Registration) -> Self {
        Self {
            workers: new.gauge(
                "controller_runtime_max_concurrent_reconciles",
                "Passes that may run at the same time; controller-runtime's name.",
            ),
            active: new
                .gauge("controller_runtime_active_workers", "Passes that run; controller-runtime's name."),
            depth: new.gauge("workqueue_depth", "Objects that wait for a pass; client-go's name."),
            adds: new.counter("workqueue_adds", "Objects that were queued for a pass; client-go's name."),
            waited: new.histogram(
                "workqueue_queue_duration_seconds",
                "How long an object waited for its pass; client-go's name.",
                Family::new_with_constructor(Buckets(&WAIT_SECONDS)),
            ),
        }
    }

    pub(crate) fn queue(&self, kind: Kind, passes: u16) -> QueueMetrics {
        let controller = ControllerLabels { controller: kind };
        let labels = QueueLabels { name: kind, controller: kind };
        self.workers.get_or_create(&controller).set(i64::from(passes));
        QueueMetrics {
            depth: self.depth.get_or_create_owned(&labels),
            active: self.active.get_or_create_owned(&controller),
            adds: self.adds.get_or_create_owned(&labels),
            waited: self.waited.get_or_create_owned(&labels),
        }
    }

    /// The kinds that passes are made over in this process.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let has_passes = |kind: &Kind| self.workers.get(&ControllerLabels { controller: *kind }).is_some();
        Kind::ALL.into_iter().filter(has_passes)
    }
}

/// A counter that is a sum of passes: its name, what it is, and the outcomes that it sums up.
type Sum = (&'static str, &'static str, &'static [Outcome]);

const TOTAL: (&str, &str) =
    ("controller_runtime_reconcile", "Passes, by their result; controller-runtime's name and labels.");

/// The results of passes, as the label has them.
const RESULTS: [(&str, &[Outcome]); 4] = [
    ("error", FAILED),
    ("requeue", &[Outcome::Again]),
    ("requeue_after", &[Outcome::Later]),
    ("success", &[Outcome::Ok]),
];

const FAILED: &[Outcome] = &[Outcome::Error, Outcome::Timeout, Outcome::Panic];

const SUMS: [Sum; 4] = [
    ("controller_runtime_reconcile_errors", "Passes that failed; controller-runtime's name.", FAILED),
    (
        "controller_runtime_reconcile_panics",
        "Passes that ended with a bug; controller-runtime's name.",
        &[Outcome::Panic],
    ),
    (
        "controller_runtime_reconcile_timeouts",
        "Passes that were cut off because they took too long; controller-runtime's name.",
        &[Outcome::Timeout],
    ),
    ("workqueue_retries", "Passes that are made again because they failed; client-go's name.", FAILED),
];

const TIMES: [(&str, &str); 2] = [
    ("controller_runtime_reconcile_time_seconds", "How long a pass took; controller-runtime's name."),
    ("workqueue_work_duration_seconds", "How long a pass took; client-go's name."),
];

const MASTER: (&str, &str) = (
    "leader_election_master_status",
    "1 while this replica holds the lease, or needs none; client-go's name and label.",
);

/// What we count under other names.
pub(crate) struct Derived {
    pub(crate) passes: PassCounter,
    pub(crate) seconds: PassSeconds,
    pub(crate) leader: Gauge,
    pub(crate) controllers: ControllerMetrics,
}

impl fmt::Debug for Derived {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Derived").finish_non_exhaustive()
    }
}

impl Derived {
    /// What there is, in the order in which it is shown.
    pub(crate) fn describe() -> impl Iterator<Item = Described> {
        let counter = |name: &str, help| Described { name: format!("{name}_total"), type_: "counter", help };
        let sums = SUMS.into_iter().map(move |(name, help, _)| counter(name, help));
        let times = TIMES.map(|(name, help)| Described { name: name.to_owned(), type_: "histogram", help });
        let master = Described { name: MASTER.0.to_owned(), type_: "gauge", help: MASTER.1 };
        std::iter::once(counter(TOTAL.0, TOTAL.1)).chain(sums).chain(times).chain([master])
    }

    fn count(&self, kind: Kind, outcomes: &[Outcome]) -> u64 {
        let count = |outcome: &Outcome| {
            let labels = PassLabels { kind, outcome: *outcome };
            self.passes.get(&labels).map_or(0, |passes| passes.get())
        };
        outcomes.iter().map(count).sum()
    }

    fn encode_results(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut total = encoder.encode_descriptor(TOTAL.0, TOTAL.1, None, MetricType::Counter)?;
        for kind in self.controllers.kinds() {
            for (result, outcomes) in RESULTS {
                let labels = [("controller", kind.as_str()), ("result", result)];
                ConstCounter::new(self.count(kind, outcomes)).encode(total.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_sums(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, outcomes) in SUMS {
            let mut sum = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for kind in self.controllers.kinds() {
                let count = ConstCounter::new(self.count(kind, outcomes));
                with_labels(name, kind, |labels| count.encode(sum.encode_family(&labels)?))?;
            }
        }
        Ok(())
    }

    fn encode_times(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help) in TIMES {
            let mut times = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for kind in self.controllers.kinds() {
                let Some(seconds) = self.seconds.get(&KindLabels { kind }) else { continue };
                with_labels(name, kind, |labels| seconds.encode(times.encode_family(&labels)?))?;
            }
        }
        Ok(())
    }
}

/// The labels that a metric of that name has: those of queues have two, with the same value.
fn with_labels<'a>(
    name: &str,
    kind: Kind,
    encode: impl FnOnce(&[(&'a str, &'a str)]) -> fmt::Result,
) -> fmt::Result {
    let labels = [("controller", kind.as_str()), ("name", kind.as_str())];
    let of_queue = name.starts_with("workqueue_");
    encode(if of_queue { &labels } else { labels.split_at(1).0 })
}

impl Collector for Derived {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_results(&mut encoder)?;
        self.encode_sums(&mut encoder)?;
        self.encode_times(&mut encoder)?;
        let status = ConstGauge::new(self.leader.get());
        let mut master = encoder.encode_descriptor(MASTER.0, MASTER.1, None, MetricType::Gauge)?;
        status.encode(master.encode_family(&[("name", LEASE)])?)
    }
}

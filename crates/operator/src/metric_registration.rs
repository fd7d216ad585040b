//! The registry of metrics, which notes what was registered for the table of the documentation.
//!
//! Knows no metric by name but those that every program has. Invariant: what was described is what the registry shows.

use prometheus_client::collector::Collector;
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::process_metrics::ProcessMetrics;

/// A metric, for the table of the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// As Prometheus shows it.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub type_: &'static str,
    /// One sentence.
    pub help: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) struct Buckets(pub(crate) &'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Registers metrics and notes what was registered.
#[derive(Default)]
pub(crate) struct Registration {
    pub(crate) registry: Registry,
    described: Vec<Described>,
}

impl Registration {
    pub(crate) fn counter<M: Metric + Clone + Default>(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> M {
        self.add(name, "_total", "counter", help, M::default())
    }

    pub(crate) fn gauge<M: Metric + Clone + Default>(&mut self, name: &'static str, help: &'static str) -> M {
        self.add(name, "", "gauge", help, M::default())
    }

    pub(crate) fn histogram<M: Metric + Clone>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) -> M {
        self.add(name, "", "histogram", help, metric)
    }

    fn add<M: Metric + Clone>(
        &mut self,
        name: &'static str,
        suffix: &str,
        type_: &'static str,
        help: &'static str,
        metric: M,
    ) -> M {
        self.described.push(Described { name: format!("{name}{suffix}"), type_, help });
        // The registry puts the full stop at the end of the help itself, and the suffix to the name.
        self.registry.register(name, help.trim_end_matches('.'), metric.clone());
        metric
    }

    pub(crate) fn finish(&mut self) -> Vec<Described> {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        let help = "The version of this operator.";
        self.described.push(Described { name: "emrcontainers_build_info".to_owned(), type_: "info", help });
        self.registry.register("emrcontainers_build", help.trim_end_matches('.'), build);
        self.collector(ProcessMetrics, ProcessMetrics::describe());
        std::mem::take(&mut self.described)
    }

    /// Metrics that are worked out at the scrape.
    pub(crate) fn collector(
        &mut self,
        collector: impl Collector,
        described: impl IntoIterator<Item = Described>,
    ) {
        self.described.extend(described);
        self.registry.register_collector(Box::new(collector));
    }
}

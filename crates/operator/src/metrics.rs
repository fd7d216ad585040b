//! What the operator counts, and its text for Prometheus.
//!
//! Label values are closed: kinds, states, operations of the API and HTTP codes, never names of objects, so that the
//! number of series doesn't grow with the number of runs. Invariant: [`describe`] lists exactly what `/metrics` shows.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use crate::controller_metrics::QueueMetrics;
use crate::controller_metrics::{ControllerMetrics, Derived};
use crate::metric_label_sets::{
    ApiRequestLabels, AttemptLabels, CauseLabels, DecisionLabels, HintLabels, KindLabels, LookLabels,
    OperationLabels, PassLabels, RequestErrorLabels, RequestLabels, StateLabels,
};
pub use crate::metric_labels::{Decision, Dropped, HintOutcome, Kind, Look, Outcome, RunState};
pub use crate::metric_registration::Described;
use crate::metric_registration::{Buckets, Registration};

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The service's name in upstream's metrics.
const SERVICE: &str = "emrcontainers";

/// What upstream's metrics have for the status code of a call that wasn't answered.
const NO_ANSWER: i32 = -1;

/// A pass takes milliseconds when the API server answers, and is cut off after tens of seconds.
const PASS_SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// From a submission at once to one that waited behind a thousand others for the documented quota of one a second.
const APPLY_TO_START_SECONDS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 300.0, 1200.0];
/// From the next look of the poller to one that was held up by throttling.
const STATE_LAG_SECONDS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 15.0, 60.0];

/// Every metric that `/metrics` can show, in its order.
pub fn describe() -> Vec<Described> {
    Metrics::new().0.described.clone()
}

/// Passes by kind and outcome.
pub(crate) type PassCounter = Family<PassLabels, Counter>;
/// The times that passes took, by kind.
pub(crate) type PassSeconds = Family<KindLabels, Histogram, Buckets>;

type OnScrape = Box<dyn Fn(&Metrics) + Send + Sync>;

/// The counters of this process; a clone counts in the same place.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    described: Vec<Described>,
    on_scrape: Mutex<Vec<OnScrape>>,
    passes: PassCounter,
    pass_seconds: PassSeconds,
    job_runs: Family<StateLabels, Gauge>,
    shadow_decisions: Family<DecisionLabels, Gauge>,
    submissions: Counter,
    apply_to_start: Histogram,
    state_lag: Histogram,
    status_writes: Family<KindLabels, Counter>,
    events_published: Counter,
    events_dropped: Family<CauseLabels, Counter>,
    looks: Family<LookLabels, Counter>,
    woken: Counter,
    tracked: Gauge,
    hints: Family<HintLabels, Counter>,
    hints_refuted: Counter,
    hint_queue_errors: Counter,
    quota_waiting: Gauge,
    requests: Family<RequestLabels, Counter>,
    request_errors: Family<RequestErrorLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    throttled: Family<OperationLabels, Counter>,
    leader: Gauge,
    watch_errors: Family<KindLabels, Counter>,
    undecodable: Family<KindLabels, Counter>,
    controllers: ControllerMetrics,
    api_requests: Family<ApiRequestLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// A new set, all at zero.
    pub fn new() -> Self {
        let mut new = Registration::default();
        let passes: PassCounter =
            new.counter("emrcontainers_reconcile_passes", "Passes over one object, by how they ended.");
        let pass_seconds = new.histogram(
            "emrcontainers_reconcile_pass_seconds",
            "How long a pass took.",
            PassSeconds::new_with_constructor(Buckets(&PASS_SECONDS)),
        );
        let leader: Gauge =
            new.gauge("emrcontainers_leader", "1 while this replica holds the lease, or needs none.");
        let controllers = ControllerMetrics::new(&mut new);
        let derived = Derived {
            passes: passes.clone(),
            seconds: pass_seconds.clone(),
            leader: leader.clone(),
            controllers: controllers.clone(),
        };
        new.collector(derived, Derived::describe());
        Self(Arc::new(Inner {
            passes,
            pass_seconds,
            leader,
            controllers,
            job_runs: new.gauge("emrcontainers_job_runs", "JobRuns that exist, by state."),
            shadow_decisions: new.gauge(
                "emrcontainers_shadow_decisions",
                "Objects by what would be done for them, with --read-only.",
            ),
            submissions: new.counter("emrcontainers_job_run_submissions", "Runs that AWS accepted."),
            apply_to_start: new.histogram(
                "emrcontainers_apply_to_start_seconds",
                "From the creation of a JobRun to the answer of StartJobRun.",
                Buckets(&APPLY_TO_START_SECONDS).new_metric(),
            ),
            state_lag: new.histogram(
                "emrcontainers_state_lag_seconds",
                "From the end of a run, as AWS dates it, to its status.",
                Buckets(&STATE_LAG_SECONDS).new_metric(),
            ),
            status_writes: new.counter("emrcontainers_status_writes", "Statuses that were written."),
            events_published: new.counter("emrcontainers_events_published", "Kubernetes Events that were sent."),
            events_dropped: new.counter("emrcontainers_events_dropped", "Kubernetes Events that were not sent, by cause."),
            looks: new.counter("emrcontainers_poller_looks", "Looks at the runs of a virtual cluster, by what they asked for."),
            woken: new.counter("emrcontainers_poller_runs_woken", "Runs that a look found changed."),
            tracked: new.gauge("emrcontainers_poller_tracked_runs", "Live runs that are observed."),
            hints: new.counter("emrcontainers_hints", "Messages of the event queue, by what became of them."),
            hints_refuted: new.counter("emrcontainers_hints_refuted", "Ends that hints told and AWS didn't confirm."),
            hint_queue_errors: new.counter("emrcontainers_hint_queue_errors", "Calls of the event queue that failed."),
            quota_waiting: new.gauge("emrcontainers_quota_waiting", "AWS calls that wait for the quota."),
            requests: new.counter("ack_outbound_api_requests", "AWS calls; upstream's name and labels."),
            request_errors: new.counter(
                "ack_outbound_api_requests_error",
                "AWS calls that failed, by HTTP status code, -1 without an answer; upstream's name and labels.",
            ),
            attempts: new.counter(
                "emrcontainers_aws_attempts",
                "HTTP requests to AWS, by operation and HTTP status code, 0 without an answer; a call has one or two.",
            ),
            throttled: new.counter("emrcontainers_aws_throttled", "Replies by which AWS asked to slow down, by operation."),
            watch_errors: new.counter("emrcontainers_watch_errors", "Watches that broke off and were started again."),
            undecodable: new.counter(
                "emrcontainers_undecodable_objects",
                "Objects that were passed over because they couldn't be decoded.",
            ),
            api_requests: new.counter(
                "rest_client_requests",
                "Requests to the API server, by HTTP status code, <error> without an answer; client-go's name and labels.",
            ),
            on_scrape: Mutex::default(),
            described: new.finish(),
            registry: new.registry,
        }))
    }

    /// The text for Prometheus.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        for update in self.0.on_scrape.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            update(self);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }

    /// Has `update` called before each scrape, for gauges that would cost something to keep current in between. It must
    /// not wait, nor call this method.
    pub fn on_scrape(&self, update: impl Fn(&Self) + Send + Sync + 'static) {
        self.0.on_scrape.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(update));
    }

    /// A pass over one object ended.
    pub fn pass(&self, kind: Kind, outcome: Outcome, took: Duration) {
        self.0.passes.get_or_create(&PassLabels { kind, outcome }).inc();
        self.0.pass_seconds.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }

    /// There are `count` JobRuns in `state`.
    pub fn set_job_runs(&self, state: RunState, count: usize) {
        self.0.job_runs.get_or_create(&StateLabels { state }).set(saturating(count));
    }

    /// For `count` objects of a kind that would be done.
    pub fn set_shadow_decisions(&self, kind: Kind, decision: Decision, count: usize) {
        self.0.shadow_decisions.get_or_create(&DecisionLabels { kind, decision }).set(saturating(count));
    }

    /// AWS accepted a run, `after` its object was created.
    pub fn submitted(&self, after: Duration) {
        self.0.submissions.inc();
        self.0.apply_to_start.observe(after.as_secs_f64());
    }

    /// The status tells that a run ended, `lag` after it did.
    pub fn state_lag(&self, lag: Duration) {
        self.0.state_lag.observe(lag.as_secs_f64());
    }

    /// A status was written.
    pub fn status_written(&self, kind: Kind) {
        self.0.status_writes.get_or_create(&KindLabels { kind }).inc();
    }

    /// An event was sent.
    pub fn event_published(&self) {
        self.0.events_published.inc();
    }

    /// An event was not sent.
    pub fn event_dropped(&self, cause: Dropped) {
        self.0.events_dropped.get_or_create(&CauseLabels { cause }).inc();
    }

    /// The poller looked at a virtual cluster and found `woken` runs changed.
    pub fn looked(&self, look: Look, woken: usize) {
        self.0.looks.get_or_create(&LookLabels { look }).inc();
        self.0.woken.inc_by(u64::try_from(woken).unwrap_or(u64::MAX));
    }

    /// The poller observes `count` live runs.
    pub fn set_tracked_runs(&self, count: usize) {
        self.0.tracked.set(saturating(count));
    }

    /// A message of the event queue was taken in.
    pub fn hint(&self, outcome: HintOutcome) {
        self.0.hints.get_or_create(&HintLabels { outcome }).inc();
    }

    /// A hint told an end that AWS didn't confirm.
    pub fn hint_refuted(&self) {
        self.0.hints_refuted.inc();
    }

    /// A call of the event queue failed.
    pub fn hint_queue_failed(&self) {
        self.0.hint_queue_errors.inc();
    }

    /// `count` AWS calls wait for the quota.
    pub fn set_quota_waiting(&self, count: usize) {
        self.0.quota_waiting.set(saturating(count));
    }

    /// An AWS call was made; `operation` is its name in the API.
    pub fn aws_request(&self, operation: &'static str) {
        let labels = RequestLabels { service: SERVICE, op_type: operation_type(operation), op_id: operation };
        self.0.requests.get_or_create(&labels).inc();
    }

    /// An AWS call failed with an HTTP status code, or without an answer.
    pub fn aws_request_failed(&self, operation: &'static str, status_code: Option<u16>) {
        let status_code = status_code.map_or(NO_ANSWER, i32::from);
        let labels = RequestErrorLabels { service: SERVICE, op_id: operation, status_code };
        self.0.request_errors.get_or_create(&labels).inc();
    }

    /// An HTTP request to AWS was answered with a status code, or wasn't answered.
    pub fn aws_attempt(&self, operation: &'static str, status_code: Option<u16>) {
        let labels = AttemptLabels { op: operation, status_code: status_code.unwrap_or_default() };
        self.0.attempts.get_or_create(&labels).inc();
    }

    /// A request to the API server at `host` was answered with a status code, or wasn't answered.
    pub fn api_request(&self, method: &http::Method, host: Arc<String>, status_code: Option<u16>) {
        let code = status_code.map_or(Cow::Borrowed("<error>"), |code| Cow::Owned(code.to_string()));
        let labels = ApiRequestLabels { code, method: method_label(method), host };
        self.0.api_requests.get_or_create(&labels).inc();
    }

    /// What the queue of a kind tells, of whose objects so many passes may run at the same time.
    pub fn queue(&self, kind: Kind, passes: u16) -> QueueMetrics {
        self.0.controllers.queue(kind, passes)
    }

    /// AWS asked to slow down.
    pub fn aws_throttled(&self, operation: &'static str) {
        self.0.throttled.get_or_create(&OperationLabels { op: operation }).inc();
    }

    /// This replica works, or doesn't any more.
    pub fn set_leader(&self, leader: bool) {
        self.0.leader.set(i64::from(leader));
    }

    /// A watch broke off.
    pub fn watch_error(&self, kind: Kind) {
        self.0.watch_errors.get_or_create(&KindLabels { kind }).inc();
    }

    /// An object couldn't be decoded.
    pub fn undecodable_object(&self, kind: Kind) {
        self.0.undecodable.get_or_create(&KindLabels { kind }).inc();
    }
}

/// A count as a gauge has it.
pub(crate) fn saturating(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The set of methods is closed, so that a label can't be what somebody sent.
fn method_label(method: &http::Method) -> &'static str {
    const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("OTHER")
}

/// What upstream calls an operation of this sort.
fn operation_type(operation: &str) -> &'static str {
    const TYPES: [(&str, &str); 7] = [
        ("Create", "CREATE"),
        ("Start", "CREATE"),
        ("Delete", "DELETE"),
        ("Cancel", "DELETE"),
        ("List", "READ_MANY"),
        ("Describe", "READ_ONE"),
        ("Get", "READ_ONE"),
    ];
    TYPES.iter().find(|(prefix, _)| operation.starts_with(prefix)).map_or("UPDATE", |(_, type_)| type_)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

//! Kubernetes Events about our objects: what `kubectl describe` shows beneath one.
//!
//! A pass hands an event over and goes on; one task sends them in order. An event is informational, so when the API
//! server is slow or refuses, events are dropped and counted, never waited for. An equal event (object, reason and note)
//! within ten minutes raises the count of the one that is there; another note is another event. A note must not contain
//! AWS request ids: they would make every repetition a new event. The event recorders of kube and of the k8s-controller
//! crate don't fit: the first leaves the note out of the identity, the second goes through all its events at each one.
//! The ServiceAccount needs `create` and `patch` on `events` of `events.k8s.io`.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
pub use kube_runtime::events::EventType;
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::busy::Busy;
use crate::event_series::{Sent, SeriesMemory};
use crate::metrics::{Dropped, Metrics};
use crate::timing::{EVENT_FAILURE_LOG, EVENT_HOLD, EVENT_PUBLISH};

/// The reasons of our events: a stable interface, by which tools select.
pub mod reason {
    /// StartJobRun was accepted.
    pub const SUBMITTED: &str = "Submitted";
    /// A run that was started for the object before is taken over, and none is started.
    pub const TAKEN_OVER: &str = "TakenOver";
    /// An AWS resource that exists was taken over, as the object asks.
    pub const ADOPTED: &str = "Adopted";
    /// The service holds the run back, because of the scheduler's limits for example.
    pub const PENDING: &str = "Pending";
    /// The service handed the run to the Kubernetes cluster.
    pub const SUBMITTED_TO_CLUSTER: &str = "SubmittedToCluster";
    /// The run is at work.
    pub const RUNNING: &str = "Running";
    /// The run ended well.
    pub const COMPLETED: &str = "Completed";
    /// The run ended badly.
    pub const FAILED: &str = "Failed";
    /// CancelJobRun was accepted.
    pub const CANCEL_REQUESTED: &str = "CancelRequested";
    /// The service is cancelling the run.
    pub const CANCEL_PENDING: &str = "CancelPending";
    /// The run was cancelled.
    pub const CANCELLED: &str = "Cancelled";
    /// The object can't be acted on until it is changed.
    pub const REFUSED: &str = "Refused";
    /// AWS knows the resource no more.
    pub const NOT_FOUND: &str = "NotFound";
    /// The object waits for something that it refers to.
    pub const WAITING_FOR_REFERENCE: &str = "WaitingForReference";
    /// The object waits for its turn within the quota.
    pub const WAITING_FOR_QUOTA: &str = "WaitingForQuota";
    /// A virtual cluster that is to be deleted waits for the runs that refer to it.
    pub const WAITING_FOR_JOB_RUNS: &str = "WaitingForJobRuns";
    /// AWS denies the access; it is tried again.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// No role is known that may act for the object.
    pub const ROLE_NOT_AVAILABLE: &str = "RoleNotAvailable";
    /// A call failed and is tried again.
    pub const RETRYING: &str = "Retrying";
    /// The virtual cluster was created.
    pub const CREATED: &str = "Created";
    /// The virtual cluster or its tags were changed.
    pub const UPDATED: &str = "Updated";
    /// The state of the virtual cluster moved.
    pub const STATE_CHANGED: &str = "StateChanged";
    /// Another virtual cluster has the namespace.
    pub const CONFLICT: &str = "Conflict";
    /// The deletion of the AWS resource was asked for.
    pub const DELETING: &str = "Deleting";
    /// The AWS resource is gone.
    pub const DELETED: &str = "Deleted";
    /// The AWS resource is left as it is, because the deletion policy says so.
    pub const RETAINED: &str = "Retained";
    /// A field was exported.
    pub const EXPORTED: &str = "Exported";
    /// A target may keep the key of an export, because it may not be written.
    pub const KEY_LEFT: &str = "KeyLeft";
}

/// Who reports, in each event.
const CONTROLLER: &str = "emrcontainers-operator";

/// What was being done; the API server wants it, and nothing shows it.
const ACTION: &str = "Reconcile";

/// The API server refuses longer notes.
const MAX_NOTE_BYTES: usize = 1024;

/// Enough for the submission of some thousand runs at once, in about 2 MiB.
const MAX_QUEUED: usize = 4096;

/// Where events about objects without a namespace go.
const CLUSTER_NAMESPACE: &str = "default";

/// Hands events over to be sent; cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Notice>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Notice {
    regarding: ObjectReference,
    type_: EventType,
    reason: &'static str,
    note: String,
    handed_over: Instant,
}

/// Sends the events that are handed over.
pub struct Publisher {
    queue: mpsc::Receiver<Notice>,
    busy: Busy,
    client: Client,
    instance: String,
    metrics: Metrics,
    memory: SeriesMemory,
    last_failure_log: Option<Instant>,
}

/// Makes the two ends; `instance` names this replica, and events yield to what is `busy`.
pub fn channel(client: Client, instance: &str, busy: Busy, metrics: Metrics) -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    let publisher = Publisher {
        queue: receiver,
        busy,
        client,
        instance: truncate(instance, 128).to_owned(),
        metrics: metrics.clone(),
        memory: SeriesMemory::default(),
        last_failure_log: None,
    };
    (Events { queue: sender, metrics }, publisher)
}

impl Events {
    /// Hands over an event about an object, whose reference must contain its uid. Doesn't wait.
    pub fn publish(&self, object: &ObjectReference, type_: EventType, reason: &'static str, note: &str) {
        let note = truncate(note, MAX_NOTE_BYTES).to_owned();
        if self
            .queue
            .try_send(Notice { regarding: object.clone(), type_, reason, note, handed_over: Instant::now() })
            .is_err()
        {
            self.metrics.event_dropped(Dropped::QueueFull);
        }
    }
}

impl Publisher {
    /// Sends until `stop`, and then what is still queued; the caller bounds how long.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                biased;
                notice = self.queue.recv() => notice,
                () = stop.cancelled() => None,
            };
            let Some(notice) = next else {
                return;
            };
            // Events are informational.
            tokio::select! {
                () = self.busy.let_pass(EVENT_HOLD.saturating_sub(notice.handed_over.elapsed())) => {}
                () = stop.cancelled() => {}
            }
            let failure = match tokio::time::timeout(EVENT_PUBLISH, self.send(&notice)).await {
                Ok(Ok(())) => {
                    self.metrics.event_published();
                    continue;
                }
                // The whole status would be a screen of text.
                Ok(Err(kube::Error::Api(status))) => status.message.clone(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", EVENT_PUBLISH.as_secs()),
            };
            self.metrics.event_dropped(Dropped::Failed);
            self.log_failure(&notice, &failure);
        }
    }

    async fn send(&mut self, notice: &Notice) -> Result<(), kube::Error> {
        let uid = notice.regarding.uid.as_deref().unwrap_or_default();
        let key = self.memory.key(uid, notice.reason, &notice.note);
        if let Some(mut sent) = self.memory.find(key, Instant::now()) {
            sent.count = sent.count.saturating_add(1);
            match self.count(&sent).await {
                Ok(()) => {
                    self.memory.remember(key, sent, Instant::now());
                    return Ok(());
                }
                // Someone deleted it.
                Err(kube::Error::Api(status)) if status.code == 404 => self.memory.forget(key),
                Err(error) => return Err(error),
            }
        }
        let sent = self.create(notice).await?;
        self.memory.remember(key, sent, Instant::now());
        Ok(())
    }

    async fn create(&self, notice: &Notice) -> Result<Sent, kube::Error> {
        let now = jiff::Timestamp::now();
        let namespace = notice.regarding.namespace.as_deref().unwrap_or(CLUSTER_NAMESPACE);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(event_name(notice.regarding.name.as_deref().unwrap_or_default(), now)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(ACTION.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(notice.note.clone()),
            reason: Some(notice.reason.to_owned()),
            regarding: Some(notice.regarding.clone()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(
                match notice.type_ {
                    EventType::Normal => "Normal",
                    EventType::Warning => "Warning",
                }
                .to_owned(),
            ),
            ..Event::default()
        };
        let body = serde_json::to_vec(&event).map_err(kube::Error::SerdeError)?;
        self.request(request(namespace).create(&PostParams::default(), body)).await?;
        Ok(Sent { namespace: namespace.to_owned(), name: event.name_any(), count: 1 })
    }

    async fn count(&self, sent: &Sent) -> Result<(), kube::Error> {
        let last_observed = MicroTime(jiff::Timestamp::now());
        let patch = serde_json::json!({"series": {"count": sent.count, "lastObservedTime": last_observed}});
        let patch = Patch::Merge(&patch);
        self.request(request(&sent.namespace).patch(&sent.name, &PatchParams::default(), &patch)).await
    }

    /// Sends a request whose reply says nothing new.
    async fn request(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(), kube::Error> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.client.request::<IgnoredAny>(request).await.map(|_| ())
    }

    /// Says now and then that events can't be sent; each single one is only of interest at debug.
    fn log_failure(&mut self, notice: &Notice, failure: &str) {
        let object = notice.regarding.name.as_deref().unwrap_or_default();
        let namespace = notice.regarding.namespace.as_deref().unwrap_or_default();
        let reason = notice.reason;
        if self.last_failure_log.is_none_or(|last| last.elapsed() >= EVENT_FAILURE_LOG) {
            self.last_failure_log = Some(Instant::now());
            tracing::warn!(
                namespace,
                object,
                reason,
                failure,
                "an event could not be sent; further failures are counted in emrcontainers_events_dropped_total. If it is \
                 forbidden, allow create and patch on events of events.k8s.io"
            );
        } else {
            tracing::debug!(namespace, object, reason, failure, "an event could not be sent");
        }
    }
}

fn request(namespace: &str) -> Request {
    Request::new(Event::url_path(&(), Some(namespace)))
}

/// `name.time`, as client-go names events; the name of one of our objects is always fit for that, but may be too long.
fn event_name(object: &str, time: jiff::Timestamp) -> String {
    let suffix = format!(".{:x}", time.as_nanosecond());
    // A Kubernetes name has at most 253 bytes, and can't end in a dot or a dash before the suffix's dot.
    let object = truncate(object, 253 - suffix.len()).trim_end_matches(['.', '-']);
    format!("{}{suffix}", if object.is_empty() { "event" } else { object })
}

/// The beginning of a text, cut between two characters.
fn truncate(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_cut_between_two_characters() {
        assert_eq!(truncate("short", 1024), "short");
        assert_eq!(truncate("aé", 2), "a");
        assert_eq!(truncate(&"é".repeat(600), 1024).len(), 1024);
        assert_eq!(truncate(&format!("a{}", "é".repeat(600)), 1024).len(), 1023);
    }

    #[test]
    fn the_name_of_an_event_is_valid_for_every_object() {
        let time = "2026-07-22T00:00:00Z".parse().unwrap();
        assert_eq!(event_name("run", time), "run.18c4738c96500000");
        assert_eq!(event_name("", time), "event.18c4738c96500000");
        let long = format!("{}.{}", "a".repeat(235), "b".repeat(17));
        let name = event_name(&long, time);
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
    }

    #[tokio::test]
    async fn an_event_that_finds_the_queue_full_is_counted_and_not_waited_for() {
        // Nothing is sent: no one runs the publisher.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let metrics = Metrics::new();
        let (events, _publisher) = channel(client, "here", Busy::default(), metrics.clone());
        let object = ObjectReference { name: Some("run".to_owned()), ..ObjectReference::default() };
        for _ in 0..MAX_QUEUED + 2 {
            events.publish(&object, EventType::Normal, reason::RUNNING, "note");
        }
        let text = metrics.encode().unwrap();
        assert!(text.contains("emrcontainers_events_dropped_total{cause=\"queue_full\"} 2\n"), "{text}");
    }
}

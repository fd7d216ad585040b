//! What EMR does beside its API: an event on the bus for each state that a run enters, with the faults that events have.
//!
//! Must not: be part of the simulator, which knows no EventBridge. Invariant: without faults, each state that the service
//! documents an event for is sent once, in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use emr_simulator::{JobRunSnapshot, Snapshot};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::moto::EventQueue;

/// How often the simulator is looked at.
const TICK: Duration = Duration::from_millis(20);
/// It is looked at for less than this share of the time, however many runs it has.
const REST: u32 = 5;
/// As many events as EventBridge takes in one call.
const AT_ONCE: usize = 10;
/// The states that have an event.
const TOLD: [&str; 5] = ["SUBMITTED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"];

/// What goes wrong with events; shares are between 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// This share never comes.
    pub lost: f64,
    /// This share comes [`late_by`](Self::late_by).
    pub late: f64,
    /// How late that is.
    pub late_by: Duration,
    /// This share comes twice.
    pub doubled: f64,
    /// Every event is held up by a random time up to this, so that they come in another order.
    pub shuffled_by: Duration,
}

/// Sends events until it is dropped.
pub struct Relay {
    task: JoinHandle<()>,
    sent: Sent,
}

/// When the event of a run's state was sent first: by run id and state.
type Sent = Arc<Mutex<BTreeMap<(String, String), Instant>>>;

/// An event to send.
#[derive(Clone, Debug)]
struct Event {
    key: (String, String),
    at: Timestamp,
    detail: Value,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Watches the simulator at `aws_url` and sends to the bus of `queue`.
    pub fn start(aws_url: &str, queue: &EventQueue, faults: Faults) -> Self {
        let sent = Sent::default();
        let task = tokio::spawn(relay(aws_url.to_owned(), queue.clone(), faults, sent.clone()));
        Self { task, sent }
    }

    /// When the event of a run's state was sent, if it was.
    pub fn sent(&self, run_id: &str, state: &str) -> Option<Instant> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get(&(run_id.to_owned(), state.to_owned())).copied()
    }

    /// How many different events were sent.
    pub fn count(&self) -> usize {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

async fn relay(aws_url: String, queue: EventQueue, faults: Faults, sent: Sent) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let started = Instant::now();
        let snapshot = snapshot(&aws_url).await;
        let taken = started.elapsed();
        let mut at_once = Vec::new();
        match snapshot {
            Ok(snapshot) => {
                for run in snapshot.job_runs {
                    let known = seen.entry(run.id.clone()).or_default();
                    for change in run.history.iter().skip(*known) {
                        *known += 1;
                        let event = Event {
                            key: (run.id.clone(), change.state.clone()),
                            at: change.at,
                            detail: detail(&run, &change.state),
                        };
                        for delay in delays(&change.state, faults) {
                            if delay.is_zero() {
                                at_once.push(event.clone());
                            } else {
                                tokio::spawn(send_later(delay, queue.clone(), event.clone(), sent.clone()));
                            }
                        }
                    }
                }
            }
            Err(error) => tracing::warn!("the relay can't see the simulator: {error:#}"),
        }
        for events in at_once.chunks(AT_ONCE) {
            send(&queue, events, &sent).await;
        }
        sleep(TICK.max(taken * REST)).await;
    }
}

async fn snapshot(aws_url: &str) -> Result<Snapshot> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    Ok(client.get(format!("{aws_url}/_simulator/state")).send().await?.json().await?)
}

/// When the copies of an event are sent.
fn delays(state: &str, faults: Faults) -> Vec<Duration> {
    let strikes = |share: f64| rand::random::<f64>() < share;
    if !TOLD.contains(&state) || strikes(faults.lost) {
        return Vec::new();
    }
    let late = if strikes(faults.late) { faults.late_by } else { Duration::ZERO };
    let copies = if strikes(faults.doubled) { 2 } else { 1 };
    (0..copies).map(|_| late + faults.shuffled_by.mul_f64(rand::random())).collect()
}

async fn send_later(delay: Duration, queue: EventQueue, event: Event, sent: Sent) {
    sleep(delay).await;
    send(&queue, &[event], &sent).await;
}

async fn send(queue: &EventQueue, events: &[Event], sent: &Sent) {
    {
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            sent.entry(event.key.clone()).or_insert_with(Instant::now);
        }
    }
    let events: Vec<_> = events.iter().map(|event| (event.at, event.detail.clone())).collect();
    if let Err(error) = queue.put_events(&events).await {
        tracing::warn!("events could not be sent: {error:#}");
    }
}

/// The detail of an event about a run.
pub fn detail(run: &JobRunSnapshot, state: &str) -> Value {
    let JobRunSnapshot { id, region, account, virtual_cluster_id, name, .. } = run;
    let severity = match state {
        "FAILED" => "ERROR",
        "CANCELLED" => "WARN",
        _ => "INFO",
    };
    json!({
        "severity": severity, "name": name, "id": id, "virtualClusterId": virtual_cluster_id, "state": state,
        "arn": format!("arn:aws:emr-containers:{region}:{account}:/virtualclusters/{virtual_cluster_id}/jobruns/{id}"),
        "releaseLabel": "emr-7.10.0-latest", "message": format!("Job Run {id} ({name}) is {state}."),
    })
}

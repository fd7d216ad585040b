//! The emr-containers API over HTTP, for the demo, tests and benchmarks.
//!
//! Answers the operations on virtual clusters, job runs and tags as the service does: the same
//! URIs, JSON and errors, life cycles that take time, idempotent tokens, quotas, pages. The other
//! operations of the API answer 501 `NotImplementedException`. GetCallerIdentity, AssumeRole and
//! AssumeRoleWithWebIdentity of STS are answered by the same address.
//!
//! It shares no code with the operator and doesn't use the AWS SDK, so that it can't repeat their
//! mistakes; `tests/conformance` drives it with boto3. What AWS doesn't document was decided, and
//! the module that decides says so: `state`, `job_runs`, `virtual_clusters`, `tags`, `paging`,
//! `quota`. Invariant: a token gives one resource, whatever is lost.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use emr_simulator::{Fault, FaultKind, Options, Rule, start};
//!
//! let simulator = start(Options::default()).await?;
//! simulator.add_fault(Fault { count: Some(1), ..Fault::new("StartJobRun", FaultKind::ReplyLost) })?;
//! simulator.add_outcome(Rule {
//!     name: Some("bad-*".to_owned()),
//!     state: Some("FAILED".to_owned()),
//!     ..Rule::default()
//! })?;
//! println!("AWS_ENDPOINT_URL={}", simulator.url());
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Accounts and regions
//!
//! State is apart for each account and region. The region is that of the SigV4 credential scope.
//! The account is that of the access key: from `--access-key KEY=ACCOUNT`, the key itself when it
//! is 12 digits, the role's for credentials from AssumeRole, else `--account`. Signatures aren't
//! checked, but their time is with `--clock-skew-seconds`; unsigned requests belong to the default
//! account and region.
//!
//! # Control endpoint
//!
//! JSON under `/_simulator/`; errors are 400 with `{"error"}`. [`Handle`] has the same as methods.
//! Times are finer there than the API's whole seconds.
//!
//! | request | body | reply |
//! |---|---|---|
//! | `GET state` | | [`Snapshot`] |
//! | `POST reset` | | forgets all but the options; held replies go |
//! | `GET counters` | | operation → [`Counter`] |
//! | `GET requests?since=N` | | [`LoggedRequest`]s with `n` > N |
//! | `POST faults` | [`Fault`] | `{"id"}` |
//! | `GET faults` | | `[[id, fault], …]` |
//! | `DELETE faults`, `DELETE faults/ID` | | |
//! | `POST release` | | `{"released"}`: how many held replies went |
//! | `POST outcomes` | a [`Rule`] or a list of them | the first rule that matches decides |
//! | `GET outcomes`, `DELETE outcomes` | | |
//! | `POST clock` | `{"advance_seconds"}` | `{"now"}` |
//! | `POST virtualclusters/ID` | `{"state"}` | |
//! | `POST jobruns/ID` | `{"state","failureReason","stateDetails"}` | the run stays in that state, known or not |
//! | `POST eksclusters/NAME` | `{"updatingTimes","access"}` | CreateVirtualCluster answers "being updated" so often; without access, deletes end in ARRESTED |

mod caller;
mod clock;
mod constraint;
mod control;
mod error;
mod faults;
mod ids;
mod job_runs;
mod journal;
mod lifecycle;
#[cfg(test)]
mod machine_tests;
mod operation;
mod options;
mod outcome;
mod paging;
mod quota;
mod resource;
mod routes;
mod server;
mod service;
mod snapshot;
mod state;
mod sts;
mod tags;
mod validate;
#[cfg(test)]
mod validate_tests;
mod virtual_clusters;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::clock::ClockMode;
pub use crate::faults::{Fault, FaultKind};
pub use crate::journal::{Counter, LoggedRequest};
pub use crate::lifecycle::CancelRace;
pub use crate::options::{Options, Quotas, ThrottleForm};
pub use crate::outcome::{Refusal, Rule};
pub use crate::snapshot::{JobRunSnapshot, Snapshot, StateChange, VirtualClusterSnapshot};

use crate::service::Service;

/// Starts a simulator on the current tokio runtime.
///
/// # Errors
///
/// Fails when the address can't be listened on.
pub async fn start(options: Options) -> anyhow::Result<Handle> {
    let address = options.listen;
    let listener = TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    let service = Arc::new(Service::new(options));
    let stop = CancellationToken::new();
    let task = tokio::spawn(server::run(listener, Arc::clone(&service), stop.clone()));
    tracing::info!(%url, "simulator is listening");
    Ok(Handle { url, service, stop, task: Some(task) })
}

/// A simulator without a network, for tests that send what no client would: the routes that [`start`] serves, on a state of
/// their own.
pub fn router(options: Options) -> axum::Router {
    server::app(Arc::new(Service::new(options)))
}

/// A running simulator; it stops when this is dropped.
#[derive(Debug)]
pub struct Handle {
    url: String,
    service: Arc<Service>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Handle {
    /// The address, as `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops, and returns once every connection is closed.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "the simulator's task did not end well");
        }
    }

    /// Everything that it holds, brought up to its clock.
    pub fn snapshot(&self) -> Snapshot {
        self.service.snapshot()
    }

    /// Forgets all but the options; held replies go.
    pub fn reset(&self) {
        self.service.reset();
    }

    /// Counters of each operation that was called.
    pub fn counters(&self) -> BTreeMap<String, Counter> {
        self.service.counters()
    }

    /// Requests with a number above `since`.
    pub fn requests_since(&self, since: u64) -> Vec<LoggedRequest> {
        self.service.requests_since(since)
    }

    /// Arms a fault and gives its id.
    ///
    /// # Errors
    ///
    /// Fails when the fault names no operation, or no probability.
    pub fn add_fault(&self, fault: Fault) -> anyhow::Result<u64> {
        self.service.add_fault(fault)
    }

    /// Disarms a fault; false when there is none of that id.
    pub fn remove_fault(&self, id: u64) -> bool {
        self.service.lock().faults.remove(Some(id))
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.service.clear_faults();
    }

    /// Lets held replies go, and says how many there were.
    pub fn release(&self) -> usize {
        self.service.release()
    }

    /// Adds a rule behind those that are there; the first that matches a start decides.
    ///
    /// # Errors
    ///
    /// Fails when the rule names a state or time that can't be.
    pub fn add_outcome(&self, rule: Rule) -> anyhow::Result<()> {
        self.service.add_outcome(rule)
    }

    /// Removes all rules.
    pub fn clear_outcomes(&self) {
        self.service.clear_outcomes();
    }

    /// Moves the clock ahead, and gives its new time.
    pub fn advance_clock(&self, by: Duration) -> Timestamp {
        self.service.advance_clock(by)
    }

    /// Puts a virtual cluster into a state.
    ///
    /// # Errors
    ///
    /// Fails when there is no such virtual cluster or state.
    pub fn force_virtual_cluster(&self, id: &str, state: &str) -> anyhow::Result<()> {
        self.service.force_virtual_cluster(id, state)
    }

    /// Puts a tag on a virtual cluster as AWS itself does, also one whose key starts with `aws:`.
    ///
    /// # Errors
    ///
    /// Fails when there is no such virtual cluster.
    pub fn tag_virtual_cluster(&self, id: &str, key: &str, value: &str) -> anyhow::Result<()> {
        self.service.tag_virtual_cluster(id, key, value)
    }

    /// Puts a run into a state, where it stays until it is cancelled or forced again. A state that
    /// the API doesn't have is shown as it is, and the run counts as running.
    ///
    /// # Errors
    ///
    /// Fails when there is no such run.
    pub fn force_job_run(
        &self,
        id: &str,
        state: &str,
        failure_reason: Option<String>,
        state_details: Option<String>,
    ) -> anyhow::Result<()> {
        self.service.force_job_run(id, state, failure_reason, state_details)
    }

    /// Makes CreateVirtualCluster on an EKS cluster answer `updating_times` times that its
    /// connection is being updated, and grants or withdraws access to it.
    pub fn set_eks_cluster(&self, name: &str, updating_times: Option<u32>, access: Option<bool>) {
        self.service.set_eks_cluster(name, updating_times, access);
    }
}

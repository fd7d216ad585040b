//! One call through the simulator: who calls, quota, fault, the operation, the journal.
//!
//! Decides under one lock and without waiting; delays and lost replies are for `routes` to carry out.
//! Invariant: what a fault of the reply hides has been done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::caller::{Callers, Credential, Identity};
use crate::clock::Clock;
use crate::error::ApiError;
use crate::faults::{Fault, FaultKind, Faults, Target, internal};
use crate::ids::Ids;
use crate::job_runs::not_simulated;
use crate::journal::{Journal, LoggedRequest};
use crate::operation::Operation;
use crate::options::Options;
use crate::outcome::Outcomes;
use crate::paging::Query;
use crate::quota::{Limiter, throttled};
use crate::resource::EksClusters;
use crate::state::Store;
use crate::{sts, wire};

/// The body of a success, or an error.
pub(crate) type Reply = Result<Vec<u8>, ApiError>;

/// The body of a success.
pub(crate) fn reply(body: &impl Serialize) -> Reply {
    serde_json::to_vec(body).map_err(|error| ApiError::new(500, "InternalServerException", error.to_string()))
}

/// A call as it came over the wire.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) credential: Credential,
    /// The virtual cluster in the URI.
    pub(crate) cluster: Option<String>,
    /// The run, or the ARN, in the URI.
    pub(crate) id: Option<String>,
    pub(crate) query: Query,
    pub(crate) uri: String,
    pub(crate) body: Bytes,
    pub(crate) user_agent: Option<String>,
    pub(crate) signed_at: Option<Timestamp>,
}

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Send,
    Hold,
    Lose,
    Hang,
}

/// An answer, and how it goes out.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) request_id: String,
    pub(crate) delivery: Delivery,
    pub(crate) delay: Duration,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) options: Options,
    inner: Mutex<Inner>,
    /// Moves when held replies are released.
    pub(crate) released: watch::Sender<u64>,
    pub(crate) held: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) clock: Clock,
    pub(crate) stores: HashMap<(String, String), Store>,
    pub(crate) callers: Callers,
    pub(crate) limiter: Limiter,
    pub(crate) faults: Faults,
    pub(crate) outcomes: Outcomes,
    pub(crate) journal: Journal,
    /// What new accounts and regions start with.
    pub(crate) eks: EksClusters,
    ids: Ids,
}

impl Inner {
    fn new(options: &Options) -> Self {
        Self {
            clock: Clock::new(options.clock),
            stores: HashMap::new(),
            callers: Callers::new(options),
            limiter: Limiter::new(options.quotas.clone(), options.quota_factor),
            faults: Faults::new(options.seed),
            outcomes: Outcomes::default(),
            journal: Journal::new(options.log_limit),
            eks: EksClusters::default(),
            ids: Ids::new(options.seed),
        }
    }

    /// Brings every account and region up to date.
    pub(crate) fn advance(&mut self) -> Timestamp {
        let now = self.clock.now();
        for store in self.stores.values_mut() {
            store.advance(now);
        }
        now
    }
}

impl Service {
    pub(crate) fn new(options: Options) -> Self {
        let inner = Mutex::new(Inner::new(&options));
        Self { options, inner, released: watch::Sender::new(0), held: AtomicUsize::new(0) }
    }

    /// The state behind the lock. A panic elsewhere leaves nothing half done that matters to a test.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything but the options, and lets held replies go.
    pub(crate) fn reset(&self) {
        *self.lock() = Inner::new(&self.options);
        self.release();
    }

    /// Lets held replies go, and says how many there were.
    pub(crate) fn release(&self) -> usize {
        let held = self.held.load(Ordering::SeqCst);
        self.released.send_modify(|generation| *generation += 1);
        held
    }

    /// Decides a call.
    pub(crate) fn answer(&self, call: &Call) -> Answer {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let now = inner.clock.now();
        let caller = inner.callers.identify(&call.credential);
        let region = inner.callers.region(&call.credential);
        let admitted = inner.limiter.admit(&caller.account, &region, call.operation, now);
        let fault = if admitted { inner.draw(call, &caller, &region) } else { None };
        let request_id = inner.ids.random(32);
        let form = self.options.throttle_form;
        let kind = fault.as_ref().map(|fault| fault.kind);
        let body = call.json();
        let reply = if !admitted {
            Err(throttled(form))
        } else if let Some(error) = call.skewed(now, self.options.clock_skew) {
            Err(error)
        } else if let Some(error) = fault.as_ref().and_then(|fault| fault.error(form)) {
            Err(error)
        } else if kind == Some(FaultKind::Hang) {
            reply(&Value::Null)
        } else {
            inner.execute(call, body.as_ref(), &caller, &region, &self.options, now)
        };
        let reply = if kind == Some(FaultKind::FailsAfter) { reply.and(Err(internal())) } else { reply };
        let delivery = match kind {
            Some(FaultKind::Hang) => Delivery::Hang,
            Some(FaultKind::ReplyLost) => Delivery::Lose,
            Some(FaultKind::HoldReply) => Delivery::Hold,
            _ => Delivery::Send,
        };
        let sent = !matches!(delivery, Delivery::Hang | Delivery::Lose);
        let body = body.unwrap_or(Value::Null);
        let client_token = body.get("clientToken").and_then(Value::as_str).map(str::to_owned);
        let entry = LoggedRequest {
            n: 0,
            at: now,
            account: caller.account,
            region,
            operation: call.operation.name().to_owned(),
            virtual_cluster_id: call.cluster.clone(),
            id: call.id.clone(),
            query: call.query.0.clone(),
            body,
            status: sent.then(|| reply.as_ref().map_or_else(|error| error.status, |_| 200)),
            error_code: reply.as_ref().err().map(ApiError::label),
            client_token,
            user_agent: call.user_agent.clone(),
            access_key: call.credential.access_key.clone(),
            signed_at: call.signed_at,
            fault: kind,
        };
        inner.journal.note(call.operation, entry, !admitted);
        let delay = self.options.latency + Duration::from_millis(fault.map_or(0, |fault| fault.delay_ms));
        Answer { reply, request_id, delivery, delay }
    }
}

impl Call {
    /// The error of a signature that is too old, or from the future.
    fn skewed(&self, now: Timestamp, allowed: Option<Duration>) -> Option<ApiError> {
        let (signed_at, allowed) = (self.signed_at?, allowed?);
        if signed_at.duration_since(now).unsigned_abs() <= allowed {
            return None;
        }
        let fault = if signed_at < now { "expired" } else { "not yet current" };
        let message = format!("Signature {fault}: it is of {signed_at}, and now it is {now}");
        Some(ApiError::new(403, "InvalidSignatureException", message))
    }

    /// The body as JSON: none when there is none, or when it is something else.
    fn json(&self) -> Result<Value, ApiError> {
        if self.operation.is_sts() {
            let pairs = form_urlencoded::parse(&self.body);
            return Ok(pairs.map(|(key, value)| (key.into_owned(), json!(value))).collect());
        }
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| ApiError::serialization(format!("the body is not JSON: {error}")))
    }
}

/// Reads a request body of a known shape; a missing one has no members.
fn shape<'a, T: Deserialize<'a> + Default>(body: Result<&'a Value, &ApiError>) -> Result<T, ApiError> {
    match body {
        Err(error) => Err(error.clone()),
        Ok(Value::Null) => Ok(T::default()),
        Ok(body) => T::deserialize(body).map_err(|error| ApiError::serialization(error.to_string())),
    }
}

impl Inner {
    fn draw(&mut self, call: &Call, caller: &Identity, region: &str) -> Option<Fault> {
        self.faults.draw(Target {
            operation: call.operation,
            account: &caller.account,
            region,
            uri: &call.uri,
            body: &call.body,
        })
    }

    fn execute(
        &mut self,
        call: &Call,
        body: Result<&Value, &ApiError>,
        caller: &Identity,
        region: &str,
        options: &Options,
        now: Timestamp,
    ) -> Reply {
        if call.operation.is_sts() {
            let form = Query(form_urlencoded::parse(&call.body).into_owned().collect());
            return sts::answer(call.operation, &form, caller, &mut self.callers, &mut self.ids);
        }
        let key = (caller.account.clone(), region.to_owned());
        let store = self.stores.entry(key).or_insert_with_key(|(account, region)| {
            Store::new(account, region, options.seed, options.max_concurrent_job_runs, self.eks.clone())
        });
        store.advance(now);
        let cluster = call.cluster.as_deref().unwrap_or_default();
        let id = call.id.as_deref().unwrap_or_default();
        let query = &call.query;
        match call.operation {
            Operation::CreateVirtualCluster => store.create_virtual_cluster(shape(body)?, options, now),
            Operation::DescribeVirtualCluster => store.describe_virtual_cluster(cluster),
            Operation::ListVirtualClusters => store.list_virtual_clusters(query, options),
            Operation::UpdateVirtualCluster => store.update_virtual_cluster(cluster, shape(body)?, now),
            Operation::DeleteVirtualCluster => store.delete_virtual_cluster(cluster, options, now),
            Operation::StartJobRun => {
                let request = shape(body)?;
                store.start_job_run(cluster, request, &mut self.outcomes, options, (&caller.arn, now))
            }
            Operation::DescribeJobRun => store.describe_job_run(cluster, id, now),
            Operation::ListJobRuns => store.list_job_runs(cluster, query, options, now),
            Operation::CancelJobRun => store.cancel_job_run(cluster, id, now),
            Operation::TagResource => store.tag_resource(id, shape::<wire::TagResource>(body)?.tags),
            Operation::UntagResource => store.untag_resource(id, &query.all("tagKeys")),
            Operation::ListTagsForResource => store.list_tags_for_resource(id),
            other => Err(not_simulated(other.name())),
        }
    }
}

//! What was asked: counters for each operation, and every request in order.
//!
//! Invariant: `calls` is the sum of `ok`, `errors` and `lost`.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::FaultKind;
use crate::operation::Operation;

/// How often an operation was called, and how that went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// All calls.
    pub calls: u64,
    /// Calls that succeeded and were answered, held replies among them.
    pub ok: u64,
    /// Calls answered by an error, by its code (`HTTP <status>` when it has none).
    pub errors: BTreeMap<String, u64>,
    /// Calls that never got a reply, whether they were done or not.
    pub lost: u64,
    /// Of the errors, those of a quota.
    pub throttled: u64,
}

/// A request as it came, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedRequest {
    /// Number, from 1.
    pub n: u64,
    /// When it was decided, on the simulator's clock.
    pub at: Timestamp,
    /// The caller's account.
    pub account: String,
    /// The region of the credential's scope.
    pub region: String,
    /// The operation.
    pub operation: String,
    /// The virtual cluster in the URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_cluster_id: Option<String>,
    /// The run, or the ARN, in the URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Query parameters in order.
    pub query: Vec<(String, String)>,
    /// The body, or null.
    pub body: Value,
    /// The status answered; none when there was no reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The error code answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The request's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// The caller's user agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The access key that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// When it was signed, by the caller's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// The fault that struck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultKind>,
}

#[derive(Debug)]
pub(crate) struct Journal {
    limit: usize,
    next: u64,
    requests: VecDeque<LoggedRequest>,
    counters: BTreeMap<Operation, Counter>,
}

impl Journal {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, next: 1, requests: VecDeque::new(), counters: BTreeMap::new() }
    }

    /// Notes a request; its number is given here.
    pub(crate) fn note(&mut self, operation: Operation, mut request: LoggedRequest, throttled: bool) {
        let counter = self.counters.entry(operation).or_default();
        counter.calls += 1;
        match (request.status, &request.error_code) {
            (None, _) => counter.lost += 1,
            (Some(_), Some(code)) => *counter.errors.entry(code.clone()).or_default() += 1,
            (Some(_), None) => counter.ok += 1,
        }
        if throttled {
            counter.throttled += 1;
        }
        request.n = self.next;
        self.next += 1;
        self.requests.push_back(request);
        if self.requests.len() > self.limit {
            self.requests.pop_front();
        }
    }

    pub(crate) fn counters(&self) -> BTreeMap<String, Counter> {
        self.counters
            .iter()
            .map(|(operation, counter)| (operation.name().to_owned(), counter.clone()))
            .collect()
    }

    /// The requests with a number above `since`.
    pub(crate) fn since(&self, since: u64) -> Vec<LoggedRequest> {
        let first = self.requests.partition_point(|request| request.n <= since);
        self.requests.range(first..).cloned().collect()
    }
}

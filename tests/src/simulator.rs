//! The simulated AWS as the suites want it: quick life cycles, and the questions that they ask about its calls.
//!
//! Must not: add behaviour of its own; [`emr_simulator::Handle`] has the rest (faults, outcomes, requests, the clock).

use std::time::Duration;

use anyhow::Result;
use emr_simulator::{Fault, FaultKind, Handle, LoggedRequest, Options, Rule};

use crate::{cluster::PATIENCE, wait};

/// Life cycles that pass through every state in about a second and a half.
pub fn quick() -> Options {
    Options {
        pending_for: Duration::from_millis(200),
        submitted_for: Duration::from_millis(300),
        running_for: Duration::from_secs(1),
        cancel_for: Duration::from_millis(300),
        terminating_for: Duration::from_millis(300),
        ..Options::default()
    }
}

/// Runs of that name (a glob) fail as a Spark program does that ends with an error.
pub fn failing(name: &str, state_details: &str) -> Rule {
    Rule {
        name: Some(name.to_owned()),
        state: Some("FAILED".to_owned()),
        failure_reason: Some("USER_ERROR".to_owned()),
        state_details: Some(state_details.to_owned()),
        ..Rule::default()
    }
}

/// How often an operation was called, however that went.
pub fn calls(simulator: &Handle, operation: &str) -> u64 {
    simulator.counters().get(operation).map_or(0, |counter| counter.calls)
}

/// How often any operation was called.
pub fn all_calls(simulator: &Handle) -> u64 {
    simulator.counters().values().map(|counter| counter.calls).sum()
}

/// Every request of an operation, in order.
pub fn requests(simulator: &Handle, operation: &str) -> Vec<LoggedRequest> {
    simulator.requests_since(0).into_iter().filter(|request| request.operation == operation).collect()
}

/// The next `count` calls of an operation go wrong.
pub fn fail(simulator: &Handle, operation: &str, kind: FaultKind, count: u64) -> Result<u64> {
    simulator.add_fault(fault(operation, kind, count))
}

/// Runs of that name stay RUNNING for as long as a test lasts.
pub fn endless(name: &str) -> Rule {
    Rule {
        name: Some(name.to_owned()),
        pending_seconds: Some(0.1),
        submitted_seconds: Some(0.1),
        running_seconds: Some(3600.0),
        ..Rule::default()
    }
}

/// Waits until the simulator is as it should be.
pub async fn until(simulator: &Handle, what: &str, is: impl Fn(&Handle) -> bool) -> Result<()> {
    wait::eventually(PATIENCE, what, async || Ok(is(simulator).then_some(()))).await
}

/// A fault that strikes so often and then no more.
pub fn fault(operation: &str, kind: FaultKind, count: u64) -> Fault {
    Fault { count: Some(count), ..Fault::new(operation, kind) }
}

//! How a process of the operator may end, and what its log may not say.
//!
//! Must not: end one. Invariant: an end that nobody asked for is a complaint, unless the lease was lost.

use std::time::Duration;

use anyhow::Result;

use super::truth::{Kind, Wrong};
use crate::operator::Operator;
use crate::port;
use crate::process::KILLED;

/// A kubelet kills after 10 s; a busy machine is given a little more.
const TERM_WITHIN: Duration = Duration::from_secs(15);
/// The exit code that a shell reports for a process that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;

/// What is wrong with the end of a process that got SIGTERM.
pub(super) async fn ended_badly(operator: &Operator) -> Result<Option<Wrong>> {
    let code = operator.process().wait_exit(TERM_WITHIN).await?;
    // One that had hardly begun doesn't know the signal yet.
    let allowed = code == 0 || code == TERMINATED || lost_its_lease(operator);
    let what = || format!("SIGTERM gave the code {code}: {}", operator.process().log_tail(10));
    Ok((!allowed).then(|| Wrong { kind: Kind::Process, what: what() }))
}

/// Why a process may not have ended as it did.
pub(super) fn complaint(operator: &Operator) -> Option<Wrong> {
    let code = operator.process().exit_code().unwrap_or(KILLED);
    let allowed = port::was_taken(&operator.log()) || lost_its_lease(operator);
    let what =
        || format!("a process ended by itself with the code {code}: {}", operator.process().log_tail(10));
    (!allowed).then(|| Wrong { kind: Kind::Process, what: what() })
}

fn lost_its_lease(operator: &Operator) -> bool {
    operator.process().exit_code() == Some(1) && operator.log().contains("must exit")
}

/// What a process says of its own bugs.
pub(super) fn panics(operator: &Operator) -> Option<Wrong> {
    let log = operator.log();
    let line = log.lines().find(|line| line.contains("panicked"))?;
    Some(Wrong { kind: Kind::Process, what: format!("a panic: {line}") })
}

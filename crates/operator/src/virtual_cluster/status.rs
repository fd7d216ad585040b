//! Builds the next status of a VirtualCluster from what happened. Pure: the time is an argument.
//!
//! Invariants: an equal input gives an equal status, so that a pass that changes nothing writes nothing; no AWS
//! request id gets in.

use emrcontainers_api::VirtualCluster;
use emrcontainers_api::condition::{
    self, ADVISORY, ConditionStatus, READY, RECONCILING, RECOVERABLE, RESOURCE_SYNCED, STALLED, TERMINAL,
    Wanted,
};
use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::virtual_cluster::{
    ARRESTED, RUNNING, SchedulerStatus, TERMINATED, TERMINATING, VirtualClusterStatus,
};
use jiff::Timestamp;

use super::adoption::SPEC_DIFFERS;
use super::plan;
use crate::event::reason;
use crate::scope::decide::{REGION_DRIFT, Told};

/// What happened to the cluster.
#[derive(Clone, Debug)]
pub enum Situation<'a> {
    /// No role is known that may act for the cluster: the cause.
    NoRole(&'a str),
    /// A call failed and is tried again.
    Trouble(&'a str),
    /// It can't be created as it is described: the service isn't asked for it.
    Unfit(&'a str),
    /// The service has said no.
    Refused(&'a str),
    /// The annotations ask for what can't be done.
    Misasked(&'a str),
    /// The service said something of the cluster.
    Seen(&'a SeenCluster),
    /// The same, and a difference from the spec couldn't be sent.
    Unequal(&'a SeenCluster, &'a str),
    /// The service no longer knows the cluster, or it was terminated by somebody else.
    Gone(&'a str),
    /// A cluster that is gone is created anew.
    Reopened,
    /// The object goes, and live runs refer to the cluster.
    InUse(&'a [String]),
    /// The service was asked to delete the cluster.
    DeleteAsked,
}

/// A cluster as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenCluster {
    /// Id.
    pub id: String,
    /// Where it is.
    pub place: AckResourceMetadata,
    /// State, in AWS's words.
    pub state: String,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// How many runs run and wait.
    pub scheduler: Option<SchedulerStatus>,
    /// What is to be told of a spec that differs.
    pub advice: Option<String>,
    /// Whether an edit may be still to be sent.
    pub unsent: bool,
}

/// How many users a message names before it only counts.
const NAMED_USERS: usize = 5;

/// The next status.
pub fn next(
    cluster: &VirtualCluster,
    situation: &Situation<'_>,
    told: &Told,
    now: Timestamp,
) -> VirtualClusterStatus {
    let before = cluster.status.clone().unwrap_or_default();
    if let Situation::Unfit(message) | Situation::Refused(message) | Situation::Gone(message) = situation
        && plan::settled(cluster)
        && condition::find(&before.conditions, TERMINAL).and_then(|c| c.message.as_deref()) == Some(message)
    {
        return before;
    }
    let mut status = before.clone();
    status.observed_generation = answered(cluster, situation);
    let wanted = Wanted::default();
    let wanted = match situation {
        Situation::NoRole(why) => {
            let message = format!("{}: {why}", condition::NO_ROLE_MESSAGE);
            not_ready(wanted, reason::ROLE_NOT_AVAILABLE, &message).no(
                RESOURCE_SYNCED,
                why,
                condition::NO_ROLE_MESSAGE,
            )
        }
        Situation::Trouble(message) => not_ready(wanted, RECOVERABLE, message)
            .yes(RECOVERABLE, "", message)
            .with(RESOURCE_SYNCED, ConditionStatus::Unknown, message, condition::UNKNOWN_SYNCED_MESSAGE),
        // The token stays: a request of before may be unanswered, and what it made is found by it.
        Situation::Unfit(message) => {
            status.last_handled_retry = plan::retry(cluster).map(str::to_owned);
            stalled(wanted, "Refused", message)
        }
        Situation::Refused(message) => {
            give_up(cluster, &mut status);
            stalled(wanted, "Refused", message)
        }
        Situation::Misasked(message) => stalled(wanted, condition::INVALID_ANNOTATION, message),
        Situation::Gone(message) => {
            give_up(cluster, &mut status);
            status.state = Some(TERMINATED.to_owned());
            status.scheduler_status = None;
            stalled(wanted, TERMINATED, message)
        }
        Situation::Reopened => {
            status = VirtualClusterStatus {
                observed_generation: status.observed_generation,
                refusals: status.refusals,
                ..VirtualClusterStatus::default()
            };
            not_ready(wanted, "Retrying", "the virtual cluster is gone and is created anew")
        }
        Situation::Seen(seen) => {
            see(cluster, &mut status, seen);
            seen_conditions(wanted, &seen.state)
        }
        Situation::Unequal(seen, message) => {
            see(cluster, &mut status, seen);
            not_ready(wanted, RECOVERABLE, message).yes(RECOVERABLE, "", message).no(
                RESOURCE_SYNCED,
                message,
                condition::NOT_SYNCED_MESSAGE,
            )
        }
        Situation::InUse(users) => {
            not_ready(wanted.yes(RESOURCE_SYNCED, "", condition::SYNCED_MESSAGE), "InUse", &in_use(users))
        }
        Situation::DeleteAsked => {
            status.state = Some(TERMINATING.to_owned());
            seen_conditions(wanted, TERMINATING)
        }
    };
    let of_spec = match situation {
        Situation::Seen(seen) | Situation::Unequal(seen, _) => seen.advice.as_deref(),
        _ => None,
    };
    let wanted = match (&told.drift, of_spec) {
        (Some(drift), Some(advice)) => wanted.yes(ADVISORY, REGION_DRIFT, &format!("{drift}; {advice}")),
        (Some(drift), None) => wanted.yes(ADVISORY, REGION_DRIFT, drift),
        (None, Some(advice)) => wanted.yes(ADVISORY, SPEC_DIFFERS, advice),
        (None, None) => wanted,
    };
    status.conditions = told.add_to(wanted).apply(&before.conditions, now);
    status
}

/// The generation that the status speaks of. A cluster that is there answers an edit only when all of it was sent:
/// limits that it takes away are told from those that were never given by nothing else.
fn answered(cluster: &VirtualCluster, situation: &Situation<'_>) -> Option<i64> {
    let before = cluster.status.as_ref();
    let is_known = before.is_some_and(|status| status.id.is_some());
    let is_unsent = match situation {
        Situation::NoRole(_) | Situation::Trouble(_) => is_known,
        Situation::Unequal(..) => true,
        Situation::Seen(seen) => seen.unsent,
        Situation::Unfit(_)
        | Situation::Refused(_)
        | Situation::Misasked(_)
        | Situation::Gone(_)
        | Situation::Reopened
        | Situation::InUse(_)
        | Situation::DeleteAsked => false,
    };
    if is_unsent { before?.observed_generation } else { cluster.metadata.generation }
}

fn see(cluster: &VirtualCluster, status: &mut VirtualClusterStatus, seen: &SeenCluster) {
    status.id = Some(seen.id.clone());
    status.ack_resource_metadata = Some(seen.place.clone());
    status.state = Some(seen.state.clone());
    status.created_at = seen.created_at.or(status.created_at);
    status.scheduler_status.clone_from(&seen.scheduler);
    status.last_handled_retry = plan::retry(cluster).map(str::to_owned);
}

fn give_up(cluster: &VirtualCluster, status: &mut VirtualClusterStatus) {
    status.refusals = Some(status.refusals.unwrap_or_default().saturating_add(1));
    status.last_handled_retry = plan::retry(cluster).map(str::to_owned);
}

/// Names the runs that hold the cluster; a sorted prefix, so that the text changes only when they do.
pub fn in_use(users: &[String]) -> String {
    let named = users.iter().take(NAMED_USERS).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = users.len().saturating_sub(NAMED_USERS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "waiting for job runs that use this virtual cluster: {named}{more}; delete them to cancel them, or let them end"
    )
}

fn seen_conditions(wanted: Wanted, state: &str) -> Wanted {
    match state {
        RUNNING => wanted.yes(RESOURCE_SYNCED, "", condition::SYNCED_MESSAGE).yes(
            READY,
            "",
            condition::SYNCED_MESSAGE,
        ),
        ARRESTED => {
            let message = "the virtual cluster can't be terminated because Amazon EMR has lost its access to the \
                           namespace; give it back (an EKS access entry, or the emr-containers role binding)";
            wanted
                .no(RESOURCE_SYNCED, state, condition::NOT_SYNCED_MESSAGE)
                .no(READY, state, message)
                .yes(STALLED, state, message)
        }
        TERMINATING => {
            let message = "the virtual cluster is being terminated";
            not_ready(wanted.no(RESOURCE_SYNCED, state, condition::NOT_SYNCED_MESSAGE), state, message)
        }
        other => not_ready(wanted.yes(RESOURCE_SYNCED, "", condition::SYNCED_MESSAGE), other, other),
    }
}

fn stalled(wanted: Wanted, reason: &str, message: &str) -> Wanted {
    wanted
        .yes(TERMINAL, "", message)
        .no(RESOURCE_SYNCED, condition::TERMINAL_REASON, condition::NOT_SYNCED_MESSAGE)
        .no(READY, TERMINAL, message)
        .yes(STALLED, reason, message)
}

fn not_ready(wanted: Wanted, reason: &str, message: &str) -> Wanted {
    wanted.no(READY, reason, message).yes(RECONCILING, reason, message)
}

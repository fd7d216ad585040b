//! Builds the next status of a JobRun from what happened. Pure: the time is an argument.
//!
//! Invariants: an equal input gives an equal status, so that a pass that changes nothing writes nothing; a final state
//! is never left; no AWS request id gets in.

use emrcontainers_api::condition::{
    self, ADVISORY, ConditionStatus, READY, RECONCILING, RECOVERABLE, REFERENCES_RESOLVED, RESOURCE_SYNCED,
    STALLED, TERMINAL, Wanted,
};
use emrcontainers_api::job_run::{
    CANCEL_PENDING, CANCELLED, COMPLETED, FAILED, JobRun, JobRunLogs, JobRunStatus, PENDING, RUNNING,
    SUBMITTED, is_final,
};
use emrcontainers_api::overrides::ConfigurationOverrides;
use emrcontainers_api::status::AckResourceMetadata;
use jiff::Timestamp;

use super::{adoption, plan, target, turn};
use crate::emr::poll::Observed;
use crate::event::reason;
use crate::scope::decide::{REGION_DRIFT, Told};
use crate::settings::JobReadyPolicy;

/// The failure reason of a run that was never submitted because the service or its own spec forbids it.
pub const VALIDATION_ERROR: &str = "VALIDATION_ERROR";
/// The failure reason of a run that the service no longer knows.
pub const INTERNAL_ERROR: &str = "INTERNAL_ERROR";
/// Reason of `ACK.Terminal` on a run that ended without success.
pub const JOB_RUN_FAILED: &str = "JobRunFailed";
/// What a user can do about a run that was refused.
pub const REFUSED_REMEDY: &str = "to try again, correct the spec (delete the object first where a field can't be changed), \
     or set the annotation emrcontainers.services.k8s.aws/retry to a new value if the cause was elsewhere";
/// Reason of `ACK.Advisory` on a run that refers to another namespace; upstream's.
const CROSS_NAMESPACE: &str = "CrossNamespaceOptInRequired";
/// Reason while a reference isn't ready.
pub const REFERENCE_NOT_READY: &str = "ReferenceNotReady";

/// What happened to the run.
#[derive(Clone, Debug)]
pub enum Situation<'a> {
    /// A reference isn't ready.
    Reference {
        /// `False` where only a change of the reference or its target helps.
        status: ConditionStatus,
        /// What is missing.
        why: &'a str,
    },
    /// The run waits for something other than a reference.
    Waiting {
        /// Cause in a word, also that of the event.
        reason: &'static str,
        /// What it waits for.
        message: &'a str,
    },
    /// No role is known that may act for the run: the cause.
    NoRole(&'a str),
    /// A call failed and is tried again.
    Trouble(&'a str),
    /// The run can't be submitted as it is described.
    Refused(&'a str),
    /// The annotations ask for what can't be done.
    Misasked(&'a str),
    /// The service has accepted the run, and may have said something of it since.
    Submitted(&'a Submission, Option<&'a Observed>),
    /// The service said something of the run.
    Observed(&'a Observed),
    /// The service was asked to cancel the run.
    CancelAsked,
    /// The service no longer knows the run.
    Lost,
    /// The spec has a new generation, and nothing follows from it.
    Acknowledged,
}

/// A run as the service accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Id of the run.
    pub id: String,
    /// The virtual cluster it is in.
    pub virtual_cluster_id: String,
    /// Where it is.
    pub place: AckResourceMetadata,
    /// What was sent as overrides.
    pub overrides: Option<ConfigurationOverrides>,
    /// What the service says of it, where it was found there and not started now.
    pub found: Option<Observed>,
    /// The generation of the spec whose tags it has.
    pub generation: Option<i64>,
    /// What is to be told of a run that was taken over.
    pub advice: Option<String>,
}

/// Whether a live run has the tags of its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags<'a> {
    /// It has.
    Sent,
    /// The spec was edited, and its tags are still to be sent.
    Due,
    /// They can't be sent, and why.
    Failed(&'a str),
}

/// How statuses are written.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    /// What `Ready` follows.
    pub ready: JobReadyPolicy,
    /// Whether the run has references (they get a condition of their own).
    pub by_reference: bool,
    /// Whether references may lead to other namespaces.
    pub cross_namespace: bool,
    /// Whether a live run has the tags of its spec.
    pub tags: Tags<'a>,
    /// What is told of who acts.
    pub told: &'a Told,
    /// The time of this pass.
    pub now: Timestamp,
}

/// The next status.
pub fn next(run: &JobRun, situation: &Situation<'_>, manner: Manner<'_>) -> JobRunStatus {
    let before = run.status.clone().unwrap_or_default();
    let mut status = before.clone();
    apply(run, &mut status, situation);
    status.observed_generation = answered(run, &status, situation, manner.tags);
    let wanted =
        match situation {
            Situation::Reference { status, why } => not_ready(Wanted::default(), REFERENCE_NOT_READY, why)
                .with(REFERENCES_RESOLVED, *status, why, condition::REFERENCE_MESSAGE),
            Situation::Waiting { reason, message } => {
                not_ready(references(manner), reason, message).no(RESOURCE_SYNCED, reason, message)
            }
            Situation::NoRole(why) => {
                let message = format!("{}: {why}", condition::NO_ROLE_MESSAGE);
                not_ready(references(manner), reason::ROLE_NOT_AVAILABLE, &message).no(
                    RESOURCE_SYNCED,
                    why,
                    condition::NO_ROLE_MESSAGE,
                )
            }
            Situation::Trouble(message) => not_ready(references(manner), RECOVERABLE, message)
                .yes(RECOVERABLE, "", message)
                .with(RESOURCE_SYNCED, ConditionStatus::Unknown, message, condition::UNKNOWN_SYNCED_MESSAGE),
            Situation::Refused(message) => references_if_sound(manner, message)
                .yes(TERMINAL, "", message)
                .no(RESOURCE_SYNCED, condition::TERMINAL_REASON, condition::NOT_SYNCED_MESSAGE)
                .no(READY, TERMINAL, message)
                .yes(STALLED, "Refused", &format!("{message}; {REFUSED_REMEDY}")),
            Situation::Misasked(message) => Wanted::default()
                .yes(TERMINAL, "", message)
                .no(RESOURCE_SYNCED, condition::TERMINAL_REASON, condition::NOT_SYNCED_MESSAGE)
                .no(READY, TERMINAL, message)
                .yes(STALLED, condition::INVALID_ANNOTATION, message),
            Situation::Acknowledged if status.id.is_none() => return status,
            _ => submitted(references(manner), &status, manner),
        };
    let on_spec = match situation {
        Situation::Submitted(submission, _) => submission.advice.as_deref(),
        _ => advice_on_spec(&before),
    };
    let wanted = match advice(run, manner.cross_namespace, manner.told, on_spec) {
        Some((reason, advice)) => wanted.yes(ADVISORY, reason, &advice),
        None => wanted,
    };
    let wanted = manner.told.add_to(wanted);
    status.conditions = wanted.apply(&before.conditions, manner.now);
    status
}

/// The generation that the status speaks of: a live run whose tags are those of an older one answers that one still.
fn answered(run: &JobRun, status: &JobRunStatus, situation: &Situation<'_>, tags: Tags<'_>) -> Option<i64> {
    match situation {
        _ if has_ended(status) => run.metadata.generation,
        Situation::Submitted(submission, _) => submission.generation,
        _ if tags != Tags::Sent => status.observed_generation,
        _ => run.metadata.generation,
    }
}

/// What is worth knowing and stops nothing: the reason of the first that there is, and all of it in words.
pub fn advice(
    run: &JobRun,
    cross_namespace: bool,
    told: &Told,
    on_spec: Option<&str>,
) -> Option<(&'static str, String)> {
    let across = if cross_namespace { target::cross_namespace_advice(run) } else { None };
    let across_or_priority = match (across, turn::advice(run)) {
        (Some(across), Some(priority)) => Some((CROSS_NAMESPACE, format!("{across} {priority}"))),
        (Some(across), None) => Some((CROSS_NAMESPACE, across)),
        (None, Some(priority)) => Some((turn::INVALID_PRIORITY, priority)),
        (None, None) => None,
    };
    let drift = told.drift.clone().map(|drift| (REGION_DRIFT, drift));
    let on_spec = on_spec.map(|advice| (adoption::SPEC_DIFFERS, advice.to_owned()));
    let all = [drift, across_or_priority, on_spec].into_iter().flatten();
    all.reduce(|(reason, words), (_, more)| (reason, format!("{words}; {more}")))
}

/// What was told of a run that isn't what the spec says: from when it was taken over on, since neither can change. It is the
/// last of all that is told.
pub fn advice_on_spec(before: &JobRunStatus) -> Option<&str> {
    let told = condition::find(&before.conditions, ADVISORY)?.message.as_deref()?;
    told.get(told.rfind(adoption::STARTED_WITH_ELSE)?..)
}

/// Everything but the conditions.
fn apply(run: &JobRun, status: &mut JobRunStatus, situation: &Situation<'_>) {
    let fail = |status: &mut JobRunStatus, reason: &str, details: &str| {
        status.state = Some(FAILED.to_owned());
        status.failure_reason = Some(reason.to_owned());
        status.state_details = Some(condition::bounded(details).to_owned());
    };
    match situation {
        Situation::Refused(why) => {
            fail(status, VALIDATION_ERROR, why);
            status.last_handled_retry = plan::retry(run).map(str::to_owned);
            status.refusals = Some(status.refusals.unwrap_or_default().saturating_add(1));
        }
        Situation::Reference { .. }
        | Situation::Waiting { .. }
        | Situation::NoRole(_)
        | Situation::Trouble(_)
        | Situation::Misasked(_)
            if status.id.is_none() =>
        {
            // A run that was refused and is tried again isn't failed any more.
            status.state = None;
            status.failure_reason = None;
            status.state_details = None;
        }
        Situation::Submitted(submission, seen) => {
            status.id = Some(submission.id.clone());
            status.virtual_cluster_id = Some(submission.virtual_cluster_id.clone());
            status.ack_resource_metadata = Some(submission.place.clone());
            status.logs = logs(submission);
            status.state = Some(PENDING.to_owned());
            status.failure_reason = None;
            status.state_details = None;
            if let Some(seen) = seen {
                observe(status, seen);
            }
        }
        Situation::Observed(seen) => observe(status, seen),
        Situation::CancelAsked if !has_ended(status) => status.state = Some(CANCEL_PENDING.to_owned()),
        Situation::Lost if !has_ended(status) => fail(
            status,
            INTERNAL_ERROR,
            "Amazon EMR no longer knows this run: how it ended can't be told. Apply the job under another name to run it again.",
        ),
        Situation::Reference { .. }
        | Situation::Waiting { .. }
        | Situation::NoRole(_)
        | Situation::Trouble(_)
        | Situation::Misasked(_)
        | Situation::CancelAsked
        | Situation::Lost
        | Situation::Acknowledged => {}
    }
}

fn has_ended(status: &JobRunStatus) -> bool {
    status.state.as_deref().is_some_and(is_final)
}

fn observe(status: &mut JobRunStatus, seen: &Observed) {
    if has_ended(status) && !is_final(&seen.state) {
        return;
    }
    // What was seen before a cancel was accepted is out of date: only the end follows CANCEL_PENDING.
    if status.state.as_deref() == Some(CANCEL_PENDING) && comes_before_cancel(&seen.state) {
        return;
    }
    status.state = Some(seen.state.clone());
    status.state_details.clone_from(&seen.state_details);
    status.failure_reason.clone_from(&seen.failure_reason);
    status.created_at = seen.created_at.or(status.created_at);
    status.finished_at = seen.finished_at.or(status.finished_at);
    status.attempts = seen.attempts.or(status.attempts);
}

fn comes_before_cancel(state: &str) -> bool {
    matches!(state, PENDING | SUBMITTED | RUNNING)
}

/// Where the logs of a run are, from what was configured; no call is needed to tell.
fn logs(submission: &Submission) -> Option<JobRunLogs> {
    let monitoring = submission.overrides.as_ref()?.monitoring_configuration.as_ref()?;
    let place = format!("{}/jobs/{}", submission.virtual_cluster_id, submission.id);
    let cloud_watch = monitoring.cloud_watch_monitoring_configuration.as_ref();
    let logs = JobRunLogs {
        cloud_watch_log_group: cloud_watch.map(|c| c.log_group_name.clone()),
        cloud_watch_log_stream_prefix: cloud_watch.map(|c| match &c.log_stream_name_prefix {
            Some(prefix) => format!("{prefix}/{place}"),
            None => place.clone(),
        }),
        s3_uri: monitoring
            .s3_monitoring_configuration
            .as_ref()
            .map(|s3| format!("{}/{place}/", s3.log_uri.trim_end_matches('/'))),
    };
    (logs != JobRunLogs::default()).then_some(logs)
}

fn references(manner: Manner<'_>) -> Wanted {
    if manner.by_reference { Wanted::default().yes(REFERENCES_RESOLVED, "", "") } else { Wanted::default() }
}

/// A run that is refused for its reference hasn't resolved it.
fn references_if_sound(manner: Manner<'_>, why: &str) -> Wanted {
    let of = ["spec.virtualClusterRef: ", "spec.executionRoleRef: "];
    match of.iter().find_map(|field| why.strip_prefix(field)) {
        Some(words) => Wanted::default().with(
            REFERENCES_RESOLVED,
            ConditionStatus::False,
            words,
            condition::REFERENCE_MESSAGE,
        ),
        None => references(manner),
    }
}

fn not_ready(wanted: Wanted, reason: &str, message: &str) -> Wanted {
    wanted.no(READY, reason, message).yes(RECONCILING, reason, message)
}

/// The conditions of a run that the service has accepted.
fn submitted(wanted: Wanted, status: &JobRunStatus, manner: Manner<'_>) -> Wanted {
    let wanted = match manner.tags {
        Tags::Failed(why) if !has_ended(status) => {
            let wanted =
                wanted.yes(RECOVERABLE, "", why).no(RESOURCE_SYNCED, why, condition::NOT_SYNCED_MESSAGE);
            if manner.ready == JobReadyPolicy::Synced {
                return not_ready(wanted, RECOVERABLE, why);
            }
            wanted
        }
        Tags::Sent | Tags::Due | Tags::Failed(_) => {
            wanted.yes(RESOURCE_SYNCED, "", condition::SYNCED_MESSAGE)
        }
    };
    if manner.ready == JobReadyPolicy::Synced {
        return wanted.yes(READY, "", condition::SYNCED_MESSAGE);
    }
    let state = status.state.as_deref().unwrap_or(PENDING);
    let message = message(state, status);
    match state {
        COMPLETED => wanted.yes(READY, state, &message),
        FAILED | CANCELLED => wanted
            .yes(TERMINAL, JOB_RUN_FAILED, &message)
            .no(READY, state, &message)
            .yes(STALLED, state, &message),
        _ => not_ready(wanted, state, &message),
    }
}

/// A sentence for whoever reads `kubectl describe`.
fn message(state: &str, status: &JobRunStatus) -> String {
    let details = status.state_details.as_deref().unwrap_or_default();
    let sentence = match state {
        PENDING => "the run is accepted and is about to be handed to the cluster",
        SUBMITTED => "the run is handed to the cluster and waits for room",
        RUNNING => "the Spark driver is running",
        CANCEL_PENDING => "the run is being cancelled",
        COMPLETED => "the run completed successfully",
        CANCELLED => "the run was cancelled",
        FAILED => "the run failed",
        other => other,
    };
    let mut message = match (status.failure_reason.as_deref(), details) {
        (None, "") => sentence.to_owned(),
        (None, details) => details.to_owned(),
        (Some(reason), "") => format!("{sentence}: {reason}"),
        (Some(reason), details) => format!("{reason}: {details}"),
    };
    if state == FAILED
        && let Some(logs) = &status.logs
    {
        if !message.ends_with('.') {
            message.push('.');
        }
        if let Some(uri) = &logs.s3_uri {
            message.push_str(" Logs: ");
            message.push_str(uri);
        } else if let (Some(group), Some(prefix)) =
            (&logs.cloud_watch_log_group, &logs.cloud_watch_log_stream_prefix)
        {
            message.push_str(" Logs: CloudWatch log group ");
            message.push_str(group);
            message.push_str(", streams ");
            message.push_str(prefix);
        }
    }
    message
}

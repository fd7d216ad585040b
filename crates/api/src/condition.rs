//! Status conditions: upstream's types, kstatus's `Reconciling` and `Stalled`, and their fixed order.
//!
//! Order matters: Argo CD's check walks the list and returns at the first `Ready`, so `ACK.Terminal` has to come
//! before it. Upstream's condition is a plain list item without required reason, hence our own type.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The AWS resource can't be made as described; nothing more is tried until something changes.
pub const TERMINAL: &str = "ACK.Terminal";
/// The last try failed and is repeated.
pub const RECOVERABLE: &str = "ACK.Recoverable";
/// Something that the user should know and that stops nothing.
pub const ADVISORY: &str = "ACK.Advisory";
/// By which selector the role was chosen that acts.
pub const IAM_ROLE_SELECTED: &str = "ACK.IAMRoleSelected";
/// Whether the objects referred to are there and ready.
pub const REFERENCES_RESOLVED: &str = "ACK.ReferencesResolved";
/// Whether the AWS resource agrees with the object's spec.
pub const RESOURCE_SYNCED: &str = "ACK.ResourceSynced";
/// Whether the object has reached what it is for.
pub const READY: &str = "Ready";
/// Work is under way (kstatus: in progress).
pub const RECONCILING: &str = "Reconciling";
/// Nothing more will happen without somebody's doing (kstatus: failed).
pub const STALLED: &str = "Stalled";

/// Reason of a resource for which an annotation asks what can't be done.
pub const INVALID_ANNOTATION: &str = "InvalidAnnotation";

/// The order in which conditions stand in a status.
pub const ORDER: [&str; 9] = [
    TERMINAL,
    RECOVERABLE,
    ADVISORY,
    IAM_ROLE_SELECTED,
    REFERENCES_RESOLVED,
    RESOURCE_SYNCED,
    READY,
    RECONCILING,
    STALLED,
];

/// Upstream's message of a synced resource.
pub const SYNCED_MESSAGE: &str = "Resource synced successfully";
/// Upstream's message of a resource that is not synced.
pub const NOT_SYNCED_MESSAGE: &str = "Resource not synced";
/// Upstream's reason of a resource that is not synced because it is terminal.
pub const TERMINAL_REASON: &str = "resource is in terminal condition";
/// Upstream's message of a resource whose state could not be read.
pub const UNKNOWN_SYNCED_MESSAGE: &str =
    "Unable to determine if desired resource state matches latest observed state";
/// Upstream's message of a resource for which no role is known.
pub const NO_ROLE_MESSAGE: &str = "IAM Role is not available";
/// Upstream's message of a reference that is not resolved.
pub const REFERENCE_MESSAGE: &str = "Reference resolution failed";

/// The longest message: what Kubernetes' own conditions may hold. An object has several, and etcd takes 1.5 MiB.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// As much of a message as a status can hold.
pub fn bounded(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MAX_MESSAGE_BYTES)).unwrap_or(message)
}

/// `True`, `False` or `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// It does not.
    False,
    /// It can't be told.
    Unknown,
}

/// One observation of the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// When the condition's status changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_transition_time: Option<Timestamp>,
    /// What happened and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Cause in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `True`, `False` or `Unknown`.
    #[schemars(with = "String")]
    pub status: ConditionStatus,
    /// Type of the condition.
    #[serde(rename = "type")]
    pub type_: String,
}

/// The conditions that a pass wants to see, without times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted(Vec<Condition>);

impl Wanted {
    /// Adds a condition; the last one of a type wins.
    #[must_use]
    pub fn with(mut self, type_: &str, status: ConditionStatus, reason: &str, message: &str) -> Self {
        self.0.retain(|c| c.type_ != type_);
        self.0.push(Condition {
            last_transition_time: None,
            message: Some(bounded(message).to_owned()).filter(|m| !m.is_empty()),
            reason: Some(bounded(reason).to_owned()).filter(|r| !r.is_empty()),
            status,
            type_: type_.to_owned(),
        });
        self
    }

    /// Adds a condition that is `True`.
    #[must_use]
    pub fn yes(self, type_: &str, reason: &str, message: &str) -> Self {
        self.with(type_, ConditionStatus::True, reason, message)
    }

    /// Adds a condition that is `False`.
    #[must_use]
    pub fn no(self, type_: &str, reason: &str, message: &str) -> Self {
        self.with(type_, ConditionStatus::False, reason, message)
    }

    /// The next list, in the fixed order: `lastTransitionTime` is kept where the status of a type is what it was.
    ///
    /// Whole seconds only, since the API server's time has no more and an equal list must stay equal.
    pub fn apply(mut self, before: &[Condition], now: Timestamp) -> Vec<Condition> {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        for condition in &mut self.0 {
            let kept = before
                .iter()
                .find(|old| old.type_ == condition.type_ && old.status == condition.status)
                .and_then(|old| old.last_transition_time);
            condition.last_transition_time = Some(kept.unwrap_or(now));
        }
        self.0.sort_by_key(|c| ORDER.iter().position(|t| *t == c.type_).unwrap_or(ORDER.len()));
        self.0
    }
}

/// The condition of a type, if there.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition of a type is there and `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == ConditionStatus::True)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn terminal_stands_before_ready_whatever_the_order_of_writing() {
        let list = Wanted::default().no(READY, "x", "").yes(STALLED, "x", "").yes(TERMINAL, "x", "why");
        let types: Vec<_> = list.apply(&[], at(1)).into_iter().map(|c| c.type_).collect();
        assert_eq!(types, [TERMINAL, READY, STALLED]);
    }

    #[test]
    fn a_message_of_any_length_leaves_room_for_the_rest_of_the_object() {
        let long = "é".repeat(1_000_000);
        let list = Wanted::default().no(READY, &long, &long).apply(&[], at(1));
        assert_eq!(list[0].message.as_deref(), Some("é".repeat(MAX_MESSAGE_BYTES / 2).as_str()));
        assert_eq!(list[0].reason, list[0].message);
    }

    #[test]
    fn a_condition_is_true_only_if_it_is_there_and_says_so() {
        let list = Wanted::default().no(READY, "x", "").yes(STALLED, "y", "").apply(&[], at(1));
        assert_eq!(find(&list, STALLED).and_then(|c| c.reason.as_deref()), Some("y"));
        assert_eq!(find(&list, TERMINAL), None);
        assert!(is_true(&list, STALLED) && !is_true(&list, READY) && !is_true(&list, TERMINAL));
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let first = Wanted::default().no(READY, "PENDING", "").apply(&[], at(10));
        let second = Wanted::default().no(READY, "RUNNING", "").apply(&first, at(20));
        assert_eq!(second[0].last_transition_time, Some(at(10)));
        assert_eq!(second[0].reason.as_deref(), Some("RUNNING"));
        let third = Wanted::default().yes(READY, "COMPLETED", "").apply(&second, at(30));
        assert_eq!(third[0].last_transition_time, Some(at(30)));
    }

    #[test]
    fn an_equal_pass_gives_an_equal_list() {
        let wanted = || Wanted::default().yes(RESOURCE_SYNCED, "", SYNCED_MESSAGE).no(READY, "RUNNING", "");
        let first = wanted().apply(&[], "2026-01-02T03:04:05.678Z".parse().unwrap());
        let read_back: Vec<Condition> =
            serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
        assert_eq!(wanted().apply(&read_back, at(99)), first);
    }
}

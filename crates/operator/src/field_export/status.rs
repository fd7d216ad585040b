//! Builds the next status of a FieldExport from what happened. Pure: the time is an argument.
//!
//! Upstream's status is an empty list when all is well, and `ACK.Recoverable` or `ACK.Terminal` otherwise; here the
//! conditions that every kind has stand beside them. Invariants: an equal input gives an equal status; no exported
//! value gets in.

use emrcontainers_api::FieldExport;
use emrcontainers_api::condition::{
    self, ADVISORY, ConditionStatus, READY, RECONCILING, RECOVERABLE, RESOURCE_SYNCED, STALLED, TERMINAL,
    Wanted,
};
use emrcontainers_api::field_export::FieldExportStatus;
use jiff::Timestamp;
use kube::ResourceExt;

use super::target::Target;

/// Upstream's message while the source isn't synced.
pub const NOT_SYNCED: &str = "the source resource is not synced yet";
/// Reason while the source isn't there, or not synced.
pub const SOURCE_NOT_READY: &str = "SourceNotReady";
/// Upstream's reason of the notice about other namespaces.
const CROSS_NAMESPACE: &str = "CrossNamespaceOptInRequired";

/// What happened to the export.
#[derive(Clone, Copy, Debug)]
pub enum Situation<'a> {
    /// The target has the value.
    Exported,
    /// The source isn't there, or not synced.
    Waiting(&'a str),
    /// The source has no such value, or the target can't be written; it is tried again.
    Trouble(&'a str),
    /// It can't be exported as it is described.
    Refused(&'a str),
}

/// The next status.
pub fn next(export: &FieldExport, situation: Situation<'_>, now: Timestamp) -> FieldExportStatus {
    let wanted = Wanted::default();
    let wanted = match situation {
        Situation::Exported => wanted.yes(RESOURCE_SYNCED, "", condition::SYNCED_MESSAGE).yes(
            READY,
            "",
            condition::SYNCED_MESSAGE,
        ),
        Situation::Waiting(message) => {
            not_ready(wanted.no(RESOURCE_SYNCED, SOURCE_NOT_READY, message), SOURCE_NOT_READY, message)
        }
        Situation::Trouble(message) => not_ready(wanted, RECOVERABLE, message)
            .yes(RECOVERABLE, "", message)
            .with(RESOURCE_SYNCED, ConditionStatus::Unknown, message, condition::UNKNOWN_SYNCED_MESSAGE),
        Situation::Refused(message) => wanted
            .yes(TERMINAL, "", message)
            .no(RESOURCE_SYNCED, condition::TERMINAL_REASON, condition::NOT_SYNCED_MESSAGE)
            .no(READY, TERMINAL, message)
            .yes(STALLED, "Refused", message),
    };
    let wanted = match notice(export) {
        Some(notice) if !matches!(situation, Situation::Refused(_)) => {
            wanted.yes(ADVISORY, CROSS_NAMESPACE, &notice)
        }
        Some(_) | None => wanted,
    };
    let before = export.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    FieldExportStatus { conditions: wanted.apply(before, now) }
}

/// Upstream's notice where the target is in another namespace.
fn notice(export: &FieldExport) -> Option<String> {
    let (home, away) = (export.namespace().unwrap_or_default(), Target::of(export).namespace);
    (home != away).then(|| {
        format!(
            "Cross-namespace field export detected: FieldExport in namespace \"{home}\" targets namespace \"{away}\". \
             Cross-namespace behavior will require explicit opt-in in a future release. Set --enable-cross-namespace=true to \
             preserve this behavior."
        )
    })
}

fn not_ready(wanted: Wanted, reason: &str, message: &str) -> Wanted {
    wanted.no(READY, reason, message).yes(RECONCILING, reason, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn export(target: Option<&str>) -> FieldExport {
        serde_json::from_value(json!({
            "metadata": {"name": "out", "namespace": "ns"},
            "spec": {
                "from": {"path": ".status.id", "resource": {"group": emrcontainers_api::GROUP, "kind": "JobRun", "name": "run"}},
                "to": {"kind": "configmap", "name": "target", "namespace": target},
            },
        }))
        .unwrap()
    }

    /// Type and status of each condition that isn't about the target's namespace, and whether that is told of.
    fn told(target: Option<&str>, situation: Situation<'_>) -> (String, bool) {
        let next = next(&export(target), situation, Timestamp::UNIX_EPOCH);
        let (notices, others): (Vec<_>, Vec<_>) =
            next.conditions.into_iter().partition(|condition| condition.type_ == ADVISORY);
        let mut others: Vec<_> =
            others.iter().map(|condition| format!("{}={:?}", condition.type_, condition.status)).collect();
        others.sort();
        let is_told = notices.iter().any(|notice| {
            let message = notice.message.as_deref().unwrap_or_default();
            message.contains("in namespace \"ns\" targets namespace \"there\"")
        });
        (others.join(" "), is_told)
    }

    #[test]
    fn conditions_tell_what_became_of_the_export_and_a_target_elsewhere_is_told_of() {
        for (situation, conditions, is_worked_on) in [
            (Situation::Exported, "ACK.ResourceSynced=True Ready=True", true),
            (Situation::Waiting("not there"), "ACK.ResourceSynced=False Ready=False Reconciling=True", true),
            (
                Situation::Trouble("no value"),
                "ACK.Recoverable=True ACK.ResourceSynced=Unknown Ready=False Reconciling=True",
                true,
            ),
            (
                Situation::Refused("no path"),
                "ACK.ResourceSynced=False ACK.Terminal=True Ready=False Stalled=True",
                false,
            ),
        ] {
            for (target, is_elsewhere) in [(None, false), (Some("ns"), false), (Some("there"), true)] {
                let expected = (conditions.to_owned(), is_elsewhere && is_worked_on);
                assert_eq!(told(target, situation), expected, "{situation:?} {target:?}");
            }
        }
    }
}

//! What others read from an object's status: kstatus (Flux, Helm, kpt), Argo CD's stock check for ACK, Argo Workflows.
//!
//! Pure. Each is their rule as they have it, not what we would like it to be.

use kube::api::DynamicObject;
use serde_json::Value;

/// What kstatus makes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    /// It is being deleted.
    Terminating,
    /// Work is under way.
    InProgress,
    /// Nothing more will happen without somebody's doing.
    Failed,
    /// It is as it should be.
    Current,
}

/// What Argo CD makes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is as it should be.
    Healthy,
    /// It is on the way.
    Progressing,
    /// It has failed.
    Degraded,
}

fn conditions(object: &DynamicObject) -> impl Iterator<Item = (&str, &str)> {
    let list =
        object.data.get("status").and_then(|status| status.get("conditions")).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|condition| Some((condition.get("type")?.as_str()?, condition.get("status")?.as_str()?)))
}

/// The generic rules of kstatus, in their order.
pub fn kstatus(object: &DynamicObject) -> Kstatus {
    if object.metadata.deletion_timestamp.is_some() {
        return Kstatus::Terminating;
    }
    let observed = object.data.get("status").and_then(|status| status.get("observedGeneration"));
    if observed.is_some_and(|observed| observed.as_i64() != object.metadata.generation) {
        return Kstatus::InProgress;
    }
    for condition in conditions(object) {
        match condition {
            ("Reconciling", "True") => return Kstatus::InProgress,
            ("Stalled", "True") => return Kstatus::Failed,
            _ => {}
        }
    }
    match conditions(object).find(|(type_, _)| *type_ == "Ready") {
        Some((_, "False" | "Unknown")) => Kstatus::InProgress,
        _ => Kstatus::Current,
    }
}

/// Argo CD's check for every kind of `*.services.k8s.aws`.
pub fn argo_cd(object: &DynamicObject) -> Health {
    for condition in conditions(object) {
        match condition {
            ("ACK.Terminal", "True") => return Health::Degraded,
            ("Ready", "True") => return Health::Healthy,
            ("Ready", "False") => return Health::Progressing,
            _ => {}
        }
    }
    Health::Progressing
}

/// A requirement of Argo Workflows, in the positive forms that work before there is a status:
/// `path == value` and `path in (a, b)`.
pub fn argo_workflows(object: &DynamicObject, requirement: &str) -> bool {
    let (path, wanted) = match requirement.split_once("==") {
        Some((path, value)) => (path, vec![value.trim()]),
        None => match requirement.split_once(" in ") {
            Some((path, list)) => {
                (path, list.trim().trim_matches(['(', ')']).split(',').map(str::trim).collect())
            }
            None => return false,
        },
    };
    let found = path.trim().split('.').try_fold(&object.data, |value, key| value.get(key));
    found.and_then(Value::as_str).is_some_and(|found| wanted.contains(&found))
}

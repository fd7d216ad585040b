//! What must be true once all is calm: what the API server shows is what AWS did, and AWS did each thing once. Pure.
//!
//! Must not: wait, or ask anybody. Invariant: an empty list means that nothing is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use emr_simulator::{JobRunSnapshot, LoggedRequest, Snapshot};
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::objects::status;

/// What users did: the runs by name, with their UIDs, and which of them were deleted.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Name and UID of every run that was created.
    pub created: BTreeMap<String, String>,
    /// Names of those that were deleted.
    pub deleted: BTreeSet<String>,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A run was started, or a virtual cluster created, more than once, or with more than one token.
    Duplicate,
    /// A run was never started, or never ended.
    Lost,
    /// The status is not what AWS says.
    WrongStatus,
    /// The object should be gone.
    Undeleted,
    /// The object is gone and the job lives.
    Orphan,
    /// The process ended or panicked without a reason.
    Process,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What kind of thing.
    pub kind: Kind,
    /// Which, and how.
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// Everything that is wrong.
pub fn judge(asked: &Asked, runs: &[DynamicObject], aws: &Snapshot, starts: &[LoggedRequest]) -> Vec<Wrong> {
    let objects: BTreeMap<String, &DynamicObject> = runs.iter().map(|run| (run.name_any(), run)).collect();
    let mut jobs: BTreeMap<&str, Vec<&JobRunSnapshot>> = BTreeMap::new();
    for job in &aws.job_runs {
        jobs.entry(&job.name).or_default().push(job);
    }
    let mut tokens: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for start in starts {
        let name = start.body.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        tokens.entry(name).or_default().insert(start.client_token.as_deref().unwrap_or_default());
    }
    let mut wrong = Vec::new();
    let mut say = |kind, what: String| wrong.push(Wrong { kind, what });
    for (name, uid) in &asked.created {
        let jobs = jobs.remove(name.as_str()).unwrap_or_default();
        let tokens = tokens.remove(name.as_str()).unwrap_or_default();
        if jobs.len() > 1 || tokens.len() > 1 || tokens.iter().any(|token| !token.starts_with(uid.as_str())) {
            say(Kind::Duplicate, format!("{name} ({uid}) has {} jobs, tokens {tokens:?}", jobs.len()));
        }
        let (object, job) = (objects.get(name), jobs.first());
        if asked.deleted.contains(name) {
            if let Some(object) = object {
                let state = status(object, "state");
                say(Kind::Undeleted, format!("{name} is still there, {state:?}, its job {}", shown(job)));
            } else if let Some(job) = job.filter(|job| job.finished_at.is_none()) {
                say(Kind::Orphan, format!("{name} is gone, and its job {} is {}", job.id, job.state));
            }
            continue;
        }
        let Some(object) = object.filter(|object| object.uid().as_ref() == Some(uid)) else {
            say(Kind::Lost, format!("{name} ({uid}) is gone, and nobody deleted it"));
            continue;
        };
        let Some(job) = job.filter(|job| job.finished_at.is_some()) else {
            say(Kind::Lost, format!("{name} has not come to its end: its job {}", shown(job)));
            continue;
        };
        let told = ["id", "state", "failureReason"].map(|field| status(object, field));
        let is = [Some(job.id.as_str()), Some(job.state.as_str()), job.failure_reason.as_deref()];
        if told != is {
            say(Kind::WrongStatus, format!("{name} says {told:?}, AWS says {is:?}"));
        }
    }
    for (name, jobs) in jobs {
        say(Kind::Duplicate, format!("{} jobs {name:?} belong to no object", jobs.len()));
    }
    let mut clusters: BTreeMap<&str, usize> = BTreeMap::new();
    for cluster in &aws.virtual_clusters {
        *clusters.entry(&cluster.name).or_default() += 1;
    }
    for (name, count) in clusters.into_iter().filter(|(_, count)| *count > 1) {
        say(Kind::Duplicate, format!("there are {count} virtual clusters {name}"));
    }
    wrong
}

fn shown(job: Option<&&JobRunSnapshot>) -> String {
    job.map_or_else(|| "does not exist".to_owned(), |job| format!("{} is {}", job.id, job.state))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn asked(deleted: bool) -> Asked {
        let created = BTreeMap::from([("a".to_owned(), "u".to_owned())]);
        Asked { created, deleted: deleted.then(|| "a".to_owned()).into_iter().collect() }
    }

    fn object(state: &str) -> DynamicObject {
        let object = json!({"metadata": {"name": "a", "uid": "u"}, "status": {"id": "j1", "state": state}});
        serde_json::from_value(object).unwrap()
    }

    fn job(id: &str, state: &str) -> JobRunSnapshot {
        let job = json!({
            "id": id, "account": "1", "region": "r", "virtualClusterId": "v", "name": "a", "clientToken": "u-1", "state": state,
            "tags": {}, "createdAt": Timestamp::UNIX_EPOCH, "history": [],
        });
        let mut job: JobRunSnapshot = serde_json::from_value(job).unwrap();
        job.finished_at = (state != "RUNNING").then_some(Timestamp::UNIX_EPOCH);
        job
    }

    fn kinds(asked: &Asked, objects: &[DynamicObject], jobs: Vec<JobRunSnapshot>) -> Vec<Kind> {
        let aws = Snapshot {
            now: Timestamp::UNIX_EPOCH,
            virtual_clusters: Vec::new(),
            job_runs: jobs,
            held_replies: 0,
        };
        judge(asked, objects, &aws, &[]).iter().map(|wrong| wrong.kind).collect()
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_found() {
        let (kept, deleted, done) = (asked(false), asked(true), object("COMPLETED"));
        let fine = vec![job("j1", "COMPLETED")];
        assert_eq!(kinds(&kept, std::slice::from_ref(&done), fine.clone()), []);
        assert_eq!(kinds(&deleted, &[], fine.clone()), []);
        assert_eq!(kinds(&deleted, &[], Vec::new()), []);
        let twice = vec![job("j1", "COMPLETED"), job("j2", "COMPLETED")];
        assert_eq!(kinds(&kept, std::slice::from_ref(&done), twice), [Kind::Duplicate]);
        assert_eq!(kinds(&Asked::default(), &[], fine.clone()), [Kind::Duplicate]);
        assert_eq!(kinds(&kept, std::slice::from_ref(&done), Vec::new()), [Kind::Lost]);
        assert_eq!(kinds(&kept, &[], fine.clone()), [Kind::Lost]);
        assert_eq!(kinds(&kept, &[object("RUNNING")], fine.clone()), [Kind::WrongStatus]);
        assert_eq!(
            kinds(&kept, std::slice::from_ref(&done), vec![job("j2", "COMPLETED")]),
            [Kind::WrongStatus]
        );
        assert_eq!(kinds(&deleted, &[done], fine), [Kind::Undeleted]);
        assert_eq!(kinds(&deleted, &[], vec![job("j1", "RUNNING")]), [Kind::Orphan]);
    }
}

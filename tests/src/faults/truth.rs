//! What must be true once all is calm: what the API server shows is what AWS did, and AWS did each thing once. Pure.
//!
//! Must not: wait, or ask anybody. Invariant: an empty list means that nothing is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use emr_simulator::{JobRunSnapshot, LoggedRequest, Snapshot, VirtualClusterSnapshot};
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::objects::status;

/// What users did.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// With JobRuns.
    pub runs: Made,
    /// With VirtualClusters.
    pub clusters: Made,
}

/// What users did with objects of a kind.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Name and UID of every one that was created.
    pub created: BTreeMap<String, String>,
    /// Names of those that were deleted.
    pub deleted: BTreeSet<String>,
}

/// What there is when all is calm.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The JobRuns.
    pub runs: Vec<DynamicObject>,
    /// The VirtualClusters.
    pub clusters: Vec<DynamicObject>,
    /// AWS.
    pub aws: Snapshot,
    /// Every call that AWS got.
    pub calls: Vec<LoggedRequest>,
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
    /// The operator's metrics aren't what AWS and the API server have.
    Counter,
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

impl Wrong {
    /// The name of the object with which it is wrong.
    pub fn name(&self) -> Option<&str> {
        self.what.split_whitespace().next()
    }
}

/// A job or a virtual cluster of AWS.
struct Resource<'a> {
    id: &'a str,
    state: &'a str,
    failure_reason: Option<&'a str>,
    has_ended: bool,
}

impl<'a> Resource<'a> {
    fn job(job: &'a JobRunSnapshot) -> (&'a str, Self) {
        let has_ended = job.finished_at.is_some();
        let failure_reason = job.failure_reason.as_deref();
        (&job.name, Self { id: &job.id, state: &job.state, failure_reason, has_ended })
    }

    fn cluster(cluster: &'a VirtualClusterSnapshot) -> (&'a str, Self) {
        let has_ended = cluster.state == "TERMINATED";
        (&cluster.name, Self { id: &cluster.id, state: &cluster.state, failure_reason: None, has_ended })
    }
}

/// Everything that is wrong with what users asked for.
pub fn judge(asked: &Asked, seen: &Seen) -> Vec<Wrong> {
    let jobs = seen.aws.job_runs.iter().map(Resource::job);
    let mut wrong = judge_kind(&asked.runs, &seen.runs, jobs, tokens(&seen.calls, "StartJobRun"), true);
    let clusters = seen.aws.virtual_clusters.iter().map(Resource::cluster);
    let tokens = tokens(&seen.calls, "CreateVirtualCluster");
    wrong.extend(judge_kind(&asked.clusters, &seen.clusters, clusters, tokens, false));
    wrong
}

/// The tokens that an operation was called with, by the name of what it makes.
fn tokens<'a>(calls: &'a [LoggedRequest], operation: &str) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut tokens: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.operation == operation) {
        let name = call.body.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        tokens.entry(name).or_default().insert(call.client_token.as_deref().unwrap_or_default());
    }
    tokens
}

/// The same for one kind; `ends` says whether what isn't deleted comes to an end too.
fn judge_kind<'a>(
    made: &Made,
    objects: &[DynamicObject],
    resources: impl Iterator<Item = (&'a str, Resource<'a>)>,
    mut tokens: BTreeMap<&str, BTreeSet<&str>>,
    ends: bool,
) -> Vec<Wrong> {
    let objects: BTreeMap<String, &DynamicObject> =
        objects.iter().map(|object| (object.name_any(), object)).collect();
    let mut all: BTreeMap<&str, Vec<Resource<'a>>> = BTreeMap::new();
    for (name, resource) in resources {
        all.entry(name).or_default().push(resource);
    }
    let mut wrong = Vec::new();
    for (name, uid) in &made.created {
        let resources = all.remove(name.as_str()).unwrap_or_default();
        let tokens = tokens.remove(name.as_str()).unwrap_or_default();
        if resources.len() > 1
            || tokens.len() > 1
            || tokens.iter().any(|token| !token.starts_with(uid.as_str()))
        {
            let what = format!("{name} ({uid}) was made {} times, tokens {tokens:?}", resources.len());
            wrong.push(Wrong { kind: Kind::Duplicate, what });
        }
        let (object, resource) = (objects.get(name).copied(), resources.first());
        let found = if made.deleted.contains(name) {
            judge_deleted(object, resource)
        } else {
            judge_kept(object.filter(|object| object.uid().as_ref() == Some(uid)), resource, ends)
        };
        wrong.extend(found.map(|(kind, what)| Wrong { kind, what: format!("{name} ({uid}) {what}") }));
    }
    for (name, resources) in all {
        let what = format!("{} of the name {name:?} belong to no object", resources.len());
        wrong.push(Wrong { kind: Kind::Duplicate, what });
    }
    wrong
}

/// Runs that live at AWS though their objects were gone when `objects` were listed, which was before AWS was asked.
pub fn orphans(created: &BTreeSet<String>, objects: &[DynamicObject], aws: &Snapshot) -> Vec<Wrong> {
    let there: BTreeSet<String> = objects.iter().map(ResourceExt::name_any).collect();
    let live = aws.job_runs.iter().filter(|job| job.finished_at.is_none());
    let orphans = live.filter(|job| created.contains(&job.name) && !there.contains(&job.name));
    let what = |job: &JobRunSnapshot| format!("{} went while its job {} was {}", job.name, job.id, job.state);
    orphans.map(|job| Wrong { kind: Kind::Orphan, what: what(job) }).collect()
}

fn judge_deleted(object: Option<&DynamicObject>, resource: Option<&Resource<'_>>) -> Option<(Kind, String)> {
    if let Some(object) = object {
        let state = status(object, "state");
        return Some((Kind::Undeleted, format!("is still there, {state:?}, at AWS {}", shown(resource))));
    }
    let alive = resource.filter(|resource| !resource.has_ended)?;
    Some((Kind::Orphan, format!("is gone, and at AWS {} is {}", alive.id, alive.state)))
}

fn judge_kept(
    object: Option<&DynamicObject>,
    resource: Option<&Resource<'_>>,
    ends: bool,
) -> Option<(Kind, String)> {
    let Some(object) = object else { return Some((Kind::Lost, "is gone, and nobody deleted it".to_owned())) };
    let Some(resource) = resource.filter(|resource| resource.has_ended == ends) else {
        return Some((Kind::Lost, format!("isn't there as it should be: at AWS {}", shown(resource))));
    };
    let told = ["id", "state", "failureReason"].map(|field| status(object, field));
    let is = [Some(resource.id), Some(resource.state), resource.failure_reason];
    (told != is).then(|| (Kind::WrongStatus, format!("says {told:?}, AWS says {is:?}")))
}

fn shown(resource: Option<&Resource<'_>>) -> String {
    resource
        .map_or_else(|| "it does not exist".to_owned(), |found| format!("{} is {}", found.id, found.state))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn made(deleted: bool) -> Made {
        let created = BTreeMap::from([("a".to_owned(), "u".to_owned())]);
        Made { created, deleted: deleted.then(|| "a".to_owned()).into_iter().collect() }
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

    fn cluster(id: &str, state: &str) -> VirtualClusterSnapshot {
        let cluster = json!({
            "id": id, "account": "1", "region": "r", "name": "a", "state": state, "eksCluster": "e", "namespace": "n",
            "clientToken": "u-1", "tags": {}, "history": [],
        });
        serde_json::from_value(cluster).unwrap()
    }

    fn call(operation: &str, token: &str) -> LoggedRequest {
        let call = json!({
            "n": 1, "at": Timestamp::UNIX_EPOCH, "account": "1", "region": "r", "operation": operation, "query": [],
            "body": {"name": "a"}, "clientToken": token,
        });
        serde_json::from_value(call).unwrap()
    }

    fn seen() -> Seen {
        let aws = Snapshot {
            now: Timestamp::UNIX_EPOCH,
            virtual_clusters: Vec::new(),
            job_runs: Vec::new(),
            held_replies: 0,
        };
        Seen { runs: Vec::new(), clusters: Vec::new(), aws, calls: Vec::new() }
    }

    fn kinds(asked: &Asked, seen: &Seen) -> Vec<Kind> {
        judge(asked, seen).iter().map(|wrong| wrong.kind).collect()
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_a_run_is_found() {
        let done = || vec![object("COMPLETED")];
        let fine = || vec![job("j1", "COMPLETED")];
        for (deleted, runs, job_runs, expected) in [
            (false, done(), fine(), &[][..]),
            (true, vec![], fine(), &[]),
            (true, vec![], vec![], &[]),
            (false, done(), vec![job("j1", "COMPLETED"), job("j2", "COMPLETED")], &[Kind::Duplicate]),
            (false, done(), vec![], &[Kind::Lost]),
            (false, done(), vec![job("j1", "RUNNING")], &[Kind::Lost]),
            (false, vec![], fine(), &[Kind::Lost]),
            (false, vec![object("RUNNING")], fine(), &[Kind::WrongStatus]),
            (false, done(), vec![job("j2", "COMPLETED")], &[Kind::WrongStatus]),
            (true, done(), fine(), &[Kind::Undeleted]),
            (true, vec![], vec![job("j1", "RUNNING")], &[Kind::Orphan]),
        ] {
            let asked = Asked { runs: made(deleted), ..Asked::default() };
            let aws = Snapshot { job_runs, ..seen().aws };
            let seen = Seen { runs, aws, ..seen() };
            assert_eq!(kinds(&asked, &seen), expected, "deleted: {deleted}, {seen:?}");
        }
        let stray = Seen { aws: Snapshot { job_runs: fine(), ..seen().aws }, ..seen() };
        assert_eq!(kinds(&Asked::default(), &stray), [Kind::Duplicate]);
        let asked = Asked { runs: made(false), ..Asked::default() };
        for tokens in [&["u-1", "u-2"][..], &["w-1"]] {
            let calls = tokens.iter().map(|token| call("StartJobRun", token)).collect();
            let seen = Seen { runs: done(), calls, ..stray.clone() };
            assert_eq!(kinds(&asked, &seen), [Kind::Duplicate], "{tokens:?}");
        }
    }

    #[test]
    fn an_object_that_goes_before_its_job_is_found() {
        let created = BTreeSet::from(["a".to_owned()]);
        for (objects, state, expected) in
            [(vec![], "RUNNING", 1), (vec![], "CANCELLED", 0), (vec![object("RUNNING")], "RUNNING", 0)]
        {
            let aws = Snapshot { job_runs: vec![job("j1", state)], ..seen().aws };
            assert_eq!(orphans(&created, &objects, &aws).len(), expected, "{objects:?}, {state}");
        }
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_a_virtual_cluster_is_found() {
        let there = || vec![object("RUNNING")];
        for (deleted, clusters, virtual_clusters, expected) in [
            (false, there(), vec![cluster("j1", "RUNNING")], &[][..]),
            (true, vec![], vec![cluster("j1", "TERMINATED")], &[]),
            (true, vec![], vec![], &[]),
            (false, there(), vec![cluster("j1", "RUNNING"), cluster("j2", "RUNNING")], &[Kind::Duplicate]),
            (false, there(), vec![cluster("j2", "RUNNING")], &[Kind::WrongStatus]),
            (false, there(), vec![cluster("j1", "TERMINATED")], &[Kind::Lost]),
            (false, there(), vec![], &[Kind::Lost]),
            (true, there(), vec![cluster("j1", "TERMINATED")], &[Kind::Undeleted]),
            (true, vec![], vec![cluster("j1", "RUNNING")], &[Kind::Orphan]),
        ] {
            let asked = Asked { clusters: made(deleted), ..Asked::default() };
            let aws = Snapshot { virtual_clusters, ..seen().aws };
            let seen = Seen { clusters, aws, ..seen() };
            assert_eq!(kinds(&asked, &seen), expected, "deleted: {deleted}, {seen:?}");
        }
    }
}

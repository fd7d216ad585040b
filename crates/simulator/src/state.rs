//! What one account has in one region, and how it moves with time.
//!
//! Pure: time is an argument, every step is computed when somebody looks. Due steps wait in a heap,
//! so looking costs what has happened since the last look and not what exists.
//! Invariant: runs move along [`JobState::may_become`] unless they are forced.
//!
//! Decisions where AWS documents nothing:
//! - a run that the concurrency limit holds back waits in SUBMITTED, without a time limit, and
//!   starts in the order of waiting;
//! - a run that is being cancelled gives its place to the next one;
//! - deleting a virtual cluster leaves its runs alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;

use crate::clock::later;
use crate::ids::Ids;
use crate::lifecycle::{CancelRace, JobState};
use crate::operation::Operation;
use crate::outcome::{FAILED_DETAILS, Script};
use crate::resource::{ClusterState, EksClusters, JobRun, VirtualCluster};
use crate::wire::StartJobRun;

/// A step that is due at a time. The epoch outdates steps planned before a run was forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Timestamp,
    order: u64,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The run leaves the state if it is still in it.
    Leave { run: usize, state: JobState, epoch: u32 },
    /// The virtual cluster is gone, or can't be.
    Terminated { cluster: usize, epoch: u32 },
}

/// One account in one region.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) clusters: Vec<VirtualCluster>,
    pub(crate) cluster_index: HashMap<String, usize>,
    /// The live virtual cluster of an EKS cluster and namespace.
    pub(crate) live: HashMap<(String, String), usize>,
    pub(crate) runs: Vec<JobRun>,
    pub(crate) run_index: HashMap<String, usize>,
    pub(crate) tokens: HashMap<(Operation, String), usize>,
    pub(crate) eks: EksClusters,
    pub(crate) ids: Ids,
    pub(crate) default_limit: usize,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
}

impl Store {
    pub(crate) fn new(
        account: &str,
        region: &str,
        seed: u64,
        default_limit: usize,
        eks: EksClusters,
    ) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            clusters: Vec::new(),
            cluster_index: HashMap::new(),
            live: HashMap::new(),
            runs: Vec::new(),
            run_index: HashMap::new(),
            tokens: HashMap::new(),
            eks,
            // Ids differ between accounts and regions, as they do at AWS.
            ids: Ids::new(seed_of(seed, account, region)),
            default_limit,
            queue: BinaryHeap::new(),
            order: 0,
        }
    }

    pub(crate) fn arn(&self, resource: &str) -> String {
        let partition = partition(&self.region);
        format!("arn:{partition}:emr-containers:{}:{}:/virtualclusters/{resource}", self.region, self.account)
    }

    /// Takes every step that is due by `now`, in order of time.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some(Reverse(due)) = self.queue.peek().copied() {
            if due.at > now {
                return;
            }
            self.queue.pop();
            match due.step {
                Step::Leave { run, state, epoch } => self.leave(run, state, epoch, due.at),
                Step::Terminated { cluster, epoch } => self.terminated(cluster, epoch, due.at),
            }
        }
    }

    fn push(&mut self, at: Timestamp, step: Step) {
        self.order += 1;
        self.queue.push(Reverse(Due { at, order: self.order, step }));
    }

    /// Adds a run that was accepted.
    pub(crate) fn accept(
        &mut self,
        request: StartJobRun,
        script: Script,
        cluster: usize,
        by: &str,
        now: Timestamp,
    ) -> usize {
        let index = self.runs.len();
        let id = self.ids.job_run(now);
        self.run_index.insert(id.clone(), index);
        let tags = request.tags.clone().unwrap_or_default();
        self.runs.push(JobRun {
            id,
            cluster,
            listed_from: later(now, script.list_delay),
            request,
            script,
            state: JobState::Pending,
            unknown_state: None,
            created_at: now,
            created_by: by.to_owned(),
            running_since: None,
            finished_at: None,
            failure_reason: None,
            state_details: None,
            tags,
            history: Vec::new(),
            epoch: 0,
        });
        self.enter(index, JobState::Pending, now);
        index
    }

    /// Puts a run into a state, and plans when it leaves it.
    fn enter(&mut self, index: usize, state: JobState, at: Timestamp) {
        let Some(run) = self.runs.get_mut(index) else { return };
        let old = run.state;
        run.state = state;
        run.unknown_state = None;
        let reported = run.reported().to_owned();
        run.history.push((reported, at));
        match state {
            JobState::Running => run.running_since = Some(at),
            JobState::Completed | JobState::Failed => {
                run.finished_at = Some(at);
                run.failure_reason = run.script.plan.failure_reason.clone();
                run.state_details = run.script.plan.state_details.clone();
            }
            JobState::Cancelled => {
                run.finished_at = Some(at);
                run.state_details = Some("JobRun CANCELLED successfully.".to_owned());
            }
            JobState::Pending | JobState::Submitted | JobState::CancelPending => {}
        }
        let (cluster, epoch, stay) = (run.cluster, run.epoch, run.script.plan.stay(state));
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            if let Some(runs) = cluster.runs.get_mut(&old) {
                runs.remove(&index);
            }
            cluster.runs.entry(state).or_default().insert(index);
        }
        if let Some(stay) = stay {
            self.push(later(at, stay), Step::Leave { run: index, state, epoch });
        }
        if old == JobState::Running && state != JobState::Running {
            self.start_waiting(cluster, at);
        }
    }

    /// A run's time in a state is up.
    fn leave(&mut self, index: usize, state: JobState, epoch: u32, at: Timestamp) {
        let Some(run) = self.runs.get(index) else { return };
        if run.epoch != epoch || run.state.is_final() {
            return;
        }
        let plan = &run.script.plan;
        let Some(next) = plan.next(state) else { return };
        let next = match (run.state, state) {
            // The run's own end comes while it is being cancelled.
            (JobState::CancelPending, JobState::Running) if plan.race != CancelRace::Cancel => next,
            (JobState::CancelPending, JobState::CancelPending)
                if plan.race == CancelRace::Completion && run.running_since.is_some() =>
            {
                return;
            }
            (current, left) if current == left => next,
            _ => return,
        };
        if !run.state.may_become(next) {
            return;
        }
        if next == JobState::Running && !self.has_room(run.cluster) {
            let cluster = run.cluster;
            if let Some(cluster) = self.clusters.get_mut(cluster) {
                cluster.waiting.push_back(index);
            }
            return;
        }
        self.enter(index, next, at);
    }

    fn has_room(&self, cluster: usize) -> bool {
        self.clusters.get(cluster).is_some_and(|cluster| {
            let limit = cluster.scheduler.as_ref().and_then(|scheduler| scheduler.max_concurrent_job_runs);
            let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(self.default_limit);
            cluster.count(JobState::Running) < limit
        })
    }

    /// Starts runs that wait for a place while there is one.
    pub(crate) fn start_waiting(&mut self, cluster: usize, at: Timestamp) {
        while self.has_room(cluster) {
            let waiting = self.clusters.get_mut(cluster).and_then(|cluster| cluster.waiting.pop_front());
            let Some(index) = waiting else { return };
            if self.runs.get(index).is_some_and(|run| run.state == JobState::Submitted) {
                self.enter(index, JobState::Running, at);
            }
        }
    }

    /// Begins to cancel a run; false when its state doesn't allow it.
    pub(crate) fn cancel(&mut self, index: usize, now: Timestamp) -> bool {
        let cancellable = self.runs.get(index).is_some_and(|run| run.state.is_cancellable());
        if cancellable {
            self.enter(index, JobState::CancelPending, now);
        }
        cancellable
    }

    /// Puts a run into any state, also one that doesn't exist, and forgets what was planned for it.
    pub(crate) fn force(
        &mut self,
        index: usize,
        state: &str,
        reason: Option<String>,
        details: Option<String>,
        now: Timestamp,
    ) {
        let known = JobState::parse(state);
        if let Some(run) = self.runs.get_mut(index) {
            run.epoch += 1;
            run.finished_at = None;
            run.failure_reason = None;
            run.state_details = None;
        }
        self.enter(index, known.unwrap_or(JobState::Running), now);
        let Some(run) = self.runs.get_mut(index) else { return };
        // Nothing of the plan happens any more: a forced state stays.
        run.epoch += 1;
        if known.is_none() {
            run.unknown_state = Some(state.to_owned());
            run.history.pop();
            run.history.push((state.to_owned(), now));
        }
        let failed = known == Some(JobState::Failed);
        run.failure_reason = reason.or_else(|| failed.then(|| "USER_ERROR".to_owned()));
        if details.is_some() || failed || known == Some(JobState::Completed) {
            run.state_details = details.or_else(|| failed.then(|| FAILED_DETAILS.to_owned()));
        }
    }

    /// Adds a virtual cluster, which is RUNNING at once.
    pub(crate) fn add_cluster(&mut self, mut cluster: VirtualCluster, now: Timestamp) -> usize {
        let index = self.clusters.len();
        cluster.history.push((cluster.state.name(), now));
        self.live.insert((cluster.eks_cluster().to_owned(), cluster.namespace().to_owned()), index);
        self.cluster_index.insert(cluster.id.clone(), index);
        self.clusters.push(cluster);
        index
    }

    /// Puts a virtual cluster into a state; what was planned for it is forgotten.
    pub(crate) fn set_cluster(&mut self, index: usize, state: ClusterState, now: Timestamp) {
        let Some(cluster) = self.clusters.get_mut(index) else { return };
        cluster.epoch = cluster.epoch.wrapping_add(1);
        cluster.state = state;
        cluster.history.push((state.name(), now));
        let place = (cluster.eks_cluster().to_owned(), cluster.namespace().to_owned());
        if state == ClusterState::Terminated {
            cluster.tags.clear();
            if self.live.get(&place) == Some(&index) {
                self.live.remove(&place);
            }
        } else {
            self.live.entry(place).or_insert(index);
        }
    }

    /// Begins to delete a virtual cluster.
    pub(crate) fn terminate(&mut self, index: usize, gone_at: Timestamp, now: Timestamp) {
        self.set_cluster(index, ClusterState::Terminating, now);
        if let Some(cluster) = self.clusters.get(index) {
            let epoch = cluster.epoch;
            self.push(gone_at, Step::Terminated { cluster: index, epoch });
        }
    }

    fn terminated(&mut self, index: usize, epoch: u32, at: Timestamp) {
        let Some(cluster) = self.clusters.get(index) else { return };
        if cluster.epoch != epoch || cluster.state != ClusterState::Terminating {
            return;
        }
        let arrested = self.eks.withdrawn.contains(cluster.eks_cluster());
        let state = if arrested { ClusterState::Arrested } else { ClusterState::Terminated };
        self.set_cluster(index, state, at);
    }
}

fn seed_of(seed: u64, account: &str, region: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, account, region).hash(&mut hasher);
    hasher.finish()
}

/// The partition that a region belongs to.
pub(crate) fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

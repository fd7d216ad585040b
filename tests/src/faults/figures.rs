//! What happened in rounds of faults, counted.
//!
//! Must not: judge. Invariant: sums over rounds are the sums of the rounds' figures.

use std::fmt;

use emr_simulator::FaultKind;

use super::plan::{OutageKind, Plan};
use super::truth::{Kind, Wrong};
use super::world::World;

/// The figures of a round, or of several.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Rounds.
    pub rounds: usize,
    /// JobRuns that users created.
    pub runs: usize,
    /// JobRuns that users deleted.
    pub deleted: usize,
    /// SIGKILLs.
    pub kills: usize,
    /// SIGTERMs.
    pub terms: usize,
    /// Leaders that stood still until their lease was gone.
    pub pauses: usize,
    /// Processes that ended because their lease was gone.
    pub deposed: usize,
    /// Processes that were struck between the start of a run and its answer.
    pub in_start: usize,
    /// AWS calls.
    pub calls: usize,
    /// Replies that were lost after the call was carried out.
    pub lost_replies: usize,
    /// AWS calls answered by 500, 503 or 429.
    pub errors: usize,
    /// AWS calls that hung, or were answered late.
    pub hangs: usize,
    /// Times that the API server stood still or was lost.
    pub outages: usize,
    /// Of these, those with a compaction of etcd.
    pub compactions: usize,
    /// Times that the operator had no rights.
    pub rights: usize,
    /// Times that statuses could not be written.
    pub status_writes: usize,
    /// What is wrong.
    pub wrong: Vec<Wrong>,
    /// Seeds of rounds in which something is wrong.
    pub failing: Vec<u64>,
    /// The end of the operator's log when something is wrong.
    pub words: String,
}

impl Figures {
    /// The figures of a round that is over.
    pub async fn of(seed: u64, plan: &Plan, world: &World<'_>, wrong: Vec<Wrong>) -> Self {
        let asked = world.asked();
        let requests = world.simulator.requests_since(0);
        let struck = |kinds: &[FaultKind]| {
            requests
                .iter()
                .filter(|request| request.fault.is_some_and(|fault| kinds.contains(&fault)))
                .count()
        };
        let befell =
            |kinds: &[OutageKind]| plan.api.iter().filter(|timed| kinds.contains(&timed.what.kind)).count();
        let blows = world.replicas.blows().await;
        let is_wrong = !wrong.is_empty();
        Self {
            rounds: 1,
            runs: asked.created.len(),
            deleted: asked.deleted.len(),
            kills: blows.kills,
            terms: blows.terms,
            pauses: blows.pauses,
            deposed: blows.deposed,
            in_start: blows.in_start,
            calls: requests.len(),
            lost_replies: struck(&[FaultKind::ReplyLost]),
            errors: struck(&[FaultKind::Status500, FaultKind::Status503, FaultKind::Throttle]),
            hangs: struck(&[FaultKind::Hang, FaultKind::Delay]),
            outages: befell(&[OutageKind::Freeze, OutageKind::Crash, OutageKind::Compact]),
            compactions: befell(&[OutageKind::Compact]),
            rights: befell(&[OutageKind::Rights]),
            status_writes: befell(&[OutageKind::StatusWrites]),
            failing: is_wrong.then_some(seed).into_iter().collect(),
            words: if is_wrong { world.replicas.words().await } else { String::new() },
            wrong,
        }
    }

    /// Adds the figures of other rounds.
    pub fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.runs += other.runs;
        self.deleted += other.deleted;
        self.kills += other.kills;
        self.terms += other.terms;
        self.pauses += other.pauses;
        self.deposed += other.deposed;
        self.in_start += other.in_start;
        self.calls += other.calls;
        self.lost_replies += other.lost_replies;
        self.errors += other.errors;
        self.hangs += other.hangs;
        self.outages += other.outages;
        self.compactions += other.compactions;
        self.rights += other.rights;
        self.status_writes += other.status_writes;
        self.wrong.extend(other.wrong);
        self.failing.extend(other.failing);
        self.words = other.words;
    }

    /// How often something of that kind is wrong.
    pub fn count(&self, kind: Kind) -> usize {
        self.wrong.iter().filter(|wrong| wrong.kind == kind).count()
    }

    fn rows(&self) -> [(&'static str, usize); 22] {
        [
            ("rounds", self.rounds),
            ("JobRuns created", self.runs),
            ("JobRuns deleted", self.deleted),
            ("SIGKILL", self.kills),
            ("SIGTERM", self.terms),
            ("leaders that stood still", self.pauses),
            ("processes that lost their lease", self.deposed),
            ("blows between start and answer", self.in_start),
            ("AWS calls", self.calls),
            ("replies lost after the call", self.lost_replies),
            ("AWS errors (500, 503, 429)", self.errors),
            ("AWS calls that hung", self.hangs),
            ("outages of the API server", self.outages),
            ("compactions of etcd", self.compactions),
            ("times without rights", self.rights),
            ("times without status writes", self.status_writes),
            ("duplicates", self.count(Kind::Duplicate)),
            ("lost", self.count(Kind::Lost)),
            ("wrong statuses", self.count(Kind::WrongStatus)),
            ("deletions that did not end", self.count(Kind::Undeleted)),
            ("live jobs without an object", self.count(Kind::Orphan)),
            ("ends of the process without a reason", self.count(Kind::Process)),
        ]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, number) in self.rows() {
            writeln!(f, "| {what:<38} | {number:>8} |")?;
        }
        write!(f, "failing seeds: {:?}", self.failing)
    }
}

//! What happened in rounds of faults, counted.
//!
//! Must not: judge. Invariant: sums over rounds are the sums of the rounds' figures.

use std::fmt;

use emr_simulator::FaultKind;

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
    /// Processes that were struck between the start of a run and its answer.
    pub in_start: usize,
    /// AWS calls.
    pub calls: usize,
    /// Replies that were lost after the call was carried out.
    pub lost_replies: usize,
    /// What is wrong.
    pub wrong: Vec<Wrong>,
    /// Seeds of rounds in which something is wrong.
    pub failing: Vec<u64>,
    /// The end of the operator's log when something is wrong.
    pub words: String,
}

impl Figures {
    /// The figures of a round that is over.
    pub async fn of(seed: u64, world: &World<'_>, wrong: Vec<Wrong>) -> Self {
        let asked = world.asked();
        let requests = world.simulator.requests_since(0);
        let struck = |kind| requests.iter().filter(|request| request.fault == Some(kind)).count();
        let blows = world.replicas.blows().await;
        let is_wrong = !wrong.is_empty();
        Self {
            rounds: 1,
            runs: asked.created.len(),
            deleted: asked.deleted.len(),
            kills: blows.kills,
            in_start: blows.in_start,
            calls: requests.len(),
            lost_replies: struck(FaultKind::ReplyLost),
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
        self.in_start += other.in_start;
        self.calls += other.calls;
        self.lost_replies += other.lost_replies;
        self.wrong.extend(other.wrong);
        self.failing.extend(other.failing);
        self.words = other.words;
    }

    /// How often something of that kind is wrong.
    pub fn count(&self, kind: Kind) -> usize {
        self.wrong.iter().filter(|wrong| wrong.kind == kind).count()
    }

    fn rows(&self) -> [(&'static str, usize); 13] {
        [
            ("rounds", self.rounds),
            ("JobRuns created", self.runs),
            ("JobRuns deleted", self.deleted),
            ("SIGKILL", self.kills),
            ("blows between start and answer", self.in_start),
            ("AWS calls", self.calls),
            ("replies lost after the call", self.lost_replies),
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

//! What happened in rounds of faults, counted, and as tables.
//!
//! Must not: judge. Invariant: sums over rounds are the sums of the rounds' figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use emr_simulator::{FaultKind, JobRunSnapshot, LoggedRequest};

use super::family::Family;
use super::tally::Count;
use super::truth::{Kind, Wrong};
use super::world::World;

/// The figures of a round, or of several.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Rounds.
    pub rounds: usize,
    /// JobRuns that users created.
    pub runs: usize,
    /// VirtualClusters that users created.
    pub clusters: usize,
    /// Of both, those that they deleted.
    pub deleted: usize,
    /// Of these, those that the API server deleted past the finalizer.
    pub vanished: usize,
    /// Processes of the operator.
    pub processes: usize,
    /// AWS calls.
    pub calls: usize,
    /// Of these, those that were struck by a fault.
    pub struck_calls: usize,
    /// How often each family struck, and was felt.
    pub faults: BTreeMap<Family, Count>,
    /// What is wrong.
    pub wrong: Vec<Wrong>,
    /// Seeds of rounds in which something is wrong.
    pub failing: Vec<u64>,
    /// The end of the operator's log when something is wrong.
    pub words: String,
}

/// What logs and AWS's journal have of the first object with which something is wrong.
async fn story(world: &World<'_>, wrong: &[Wrong]) -> String {
    let Some(name) = wrong.first().and_then(Wrong::name) else { return String::new() };
    let mut lines = vec![format!("\nof {name}:")];
    let snapshot = world.simulator.snapshot();
    let jobs = snapshot.job_runs.iter().filter(|job| job.name == name);
    let ids: Vec<String> = jobs.map(|job| job.id.clone()).collect();
    let is_of_it = |request: &LoggedRequest| {
        let is_named = request.body.get("name").and_then(|name| name.as_str()) == Some(name);
        is_named || request.id.as_ref().is_some_and(|id| ids.contains(id))
    };
    for request in world.simulator.requests_since(0).iter().filter(|request| is_of_it(request)) {
        let LoggedRequest { at, operation, status, error_code, access_key, fault, .. } = request;
        lines.push(format!("{at} {operation} {status:?} {error_code:?} {fault:?} by {access_key:?}"));
    }
    lines.extend(world.replicas.said_of(name).await);
    lines.join("\n")
}

/// Whether a list of a virtual cluster was read while it lacked one of the runs there.
fn a_list_lacked_a_run(requests: &[LoggedRequest], jobs: &[JobRunSnapshot], delay: Duration) -> bool {
    let lacks = |list: &LoggedRequest, job: &JobRunSnapshot| {
        let age = list.at.duration_since(job.created_at);
        let is_new = !age.is_negative() && age.unsigned_abs() < delay;
        is_new && list.virtual_cluster_id.as_ref() == Some(&job.virtual_cluster_id)
    };
    let is_list =
        |request: &&LoggedRequest| request.operation == "ListJobRuns" && request.status == Some(200);
    requests.iter().filter(is_list).any(|list| jobs.iter().any(|job| lacks(list, job)))
}

impl Figures {
    /// The figures of a round that is over.
    pub async fn of(seed: u64, world: &World<'_>, wrong: Vec<Wrong>) -> Self {
        let asked = world.asked();
        for _ in asked.runs.deleted.iter().chain(&asked.clusters.deleted) {
            world.tally.note(Family::Deletions, true);
        }
        let requests = world.simulator.requests_since(0);
        if !world.list_delay.is_zero() {
            let felt = a_list_lacked_a_run(&requests, &world.simulator.snapshot().job_runs, world.list_delay);
            world.tally.note(Family::LateLists, felt);
        }
        // A reply that is held is only late.
        let is_struck = |fault: FaultKind| fault != FaultKind::HoldReply;
        let is_wrong = !wrong.is_empty();
        Self {
            rounds: 1,
            runs: asked.runs.created.len(),
            clusters: asked.clusters.created.len(),
            deleted: asked.runs.deleted.len() + asked.clusters.deleted.len(),
            vanished: world.vanished().await.len(),
            processes: world.replicas.started().await,
            calls: requests.len(),
            struck_calls: requests.iter().filter(|request| request.fault.is_some_and(is_struck)).count(),
            faults: world.tally.counts(),
            failing: is_wrong.then_some(seed).into_iter().collect(),
            words: if is_wrong {
                world.replicas.words().await + &story(world, &wrong).await
            } else {
                String::new()
            },
            wrong,
        }
    }

    /// Adds the figures of other rounds.
    pub fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.runs += other.runs;
        self.clusters += other.clusters;
        self.deleted += other.deleted;
        self.vanished += other.vanished;
        self.processes += other.processes;
        self.calls += other.calls;
        self.struck_calls += other.struck_calls;
        for (family, count) in other.faults {
            let sum = self.faults.entry(family).or_default();
            sum.struck += count.struck;
            sum.felt += count.felt;
        }
        self.wrong.extend(other.wrong);
        self.failing.extend(other.failing);
        self.words = other.words;
    }

    /// How often a family struck, and was felt.
    pub fn fault(&self, family: Family) -> Count {
        self.faults.get(&family).copied().unwrap_or_default()
    }

    /// Of the families, those that were never felt.
    pub fn unfelt(&self, families: &BTreeSet<Family>) -> Vec<Family> {
        families.iter().copied().filter(|family| self.fault(*family).felt == 0).collect()
    }

    /// How often something of that kind is wrong.
    pub fn count(&self, kind: Kind) -> usize {
        self.wrong.iter().filter(|wrong| wrong.kind == kind).count()
    }

    fn totals(&self) -> [(&'static str, usize); 15] {
        [
            ("rounds", self.rounds),
            ("processes of the operator", self.processes),
            ("JobRuns", self.runs),
            ("VirtualClusters", self.clusters),
            ("of both, deleted", self.deleted),
            ("of these, by the API server past the finalizer", self.vanished),
            ("AWS calls", self.calls),
            ("of these, struck by a fault", self.struck_calls),
            ("**duplicates**", self.count(Kind::Duplicate)),
            ("**lost**", self.count(Kind::Lost)),
            ("**wrong statuses**", self.count(Kind::WrongStatus)),
            ("**deletions that did not end**", self.count(Kind::Undeleted)),
            ("**live in AWS without an object**", self.count(Kind::Orphan)),
            ("**ends of the process without a reason**", self.count(Kind::Process)),
            ("**counters that do not add up**", self.count(Kind::Counter)),
        ]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | struck | felt | by which that is known |\n|---|---|---|---|")?;
        for family in Family::value_variants() {
            let Some(Count { struck, felt }) = self.faults.get(family) else { continue };
            let (what, known_by) = family.describe();
            writeln!(f, "| {what} | {struck} | {felt} | {known_by} |")?;
        }
        writeln!(f, "\n| | |\n|---|---|")?;
        for (what, number) in self.totals() {
            writeln!(f, "| {what} | {number} |")?;
        }
        if !self.failing.is_empty() {
            writeln!(f, "\nfailing seeds: {:?}", self.failing)?;
        }
        Ok(())
    }
}

//! What happens in a round, and when; [`super::draw`] draws it from a seed. Pure.
//!
//! There are five lanes, side by side: users, operator, clock, AWS, API server. Within a lane one thing comes after the
//! other, so no two faults of a lane overlap, and those of different lanes do.
//! Must not: strike. Invariant: equal plans make the same happen in the same order in each lane.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use emr_simulator::FaultKind;
use jiff::SignedDuration;

use super::family::Family;

/// How big a round is, and what may go wrong in it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// JobRuns.
    pub runs: usize,
    /// How long faults strike, at least.
    pub length: Duration,
    /// How long a long outage of the API server lasts.
    pub long_outage: Duration,
    /// What may go wrong.
    pub families: BTreeSet<Family>,
}

/// Something, and how long to wait before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed<T> {
    /// Since the end of the one before.
    pub wait: Duration,
    /// What happens then.
    pub what: T,
}

/// What happens one after the other.
pub type Lane<T> = Vec<Timed<T>>;

/// What users do. Runs and virtual clusters are known by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// They create runs.
    Apply(Range<usize>),
    /// They delete runs.
    Delete(Vec<usize>),
    /// They create a virtual cluster in which nothing runs.
    ApplyCluster(usize),
    /// They delete it.
    DeleteCluster(usize),
    /// They delete the virtual cluster of the endless runs.
    DeleteEndlessCluster,
}

/// What befalls a replica of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blow {
    /// Which one.
    pub replica: usize,
    /// What befalls it.
    pub kind: BlowKind,
    /// Whether it is struck while AWS has started a run and keeps the answer.
    pub in_start: bool,
}

/// How a process is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlowKind {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
    /// SIGSTOP for the one that leads, whichever that is, and SIGCONT so much later.
    PauseLeader(Duration),
    /// Another holder for the lease of the one that leads.
    TakeLease,
}

/// The wall clock is wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// By how much.
    pub offset: SignedDuration,
    /// For how long.
    pub lasting: Duration,
}

/// What AWS does wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// Whose it is.
    pub family: Family,
    /// What is wrong.
    pub kind: FaultKind,
    /// With which operation, or all.
    pub operation: &'static str,
    /// With how many of its calls.
    pub share: f64,
    /// How long the answer takes.
    pub delay: Duration,
    /// For how long.
    pub lasting: Duration,
}

/// What befalls the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What befalls it.
    pub kind: OutageKind,
    /// For how long, at least.
    pub lasting: Duration,
}

/// How the API server fails the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// SIGSTOP, later SIGCONT.
    Freeze,
    /// SIGKILL, later a new process.
    Crash,
    /// The same for longer.
    LongCrash,
    /// The same, and etcd is compacted meanwhile.
    Compact,
    /// The operator has no rights.
    Rights,
    /// A policy refuses writes of the status.
    StatusWrites,
}

impl OutageKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Freeze, Self::Crash, Self::LongCrash, Self::Compact, Self::Rights, Self::StatusWrites];

    /// What it counts as.
    pub fn family(self) -> Family {
        match self {
            Self::Freeze => Family::Freezes,
            Self::Crash => Family::Outages,
            Self::LongCrash => Family::LongOutages,
            Self::Compact => Family::Compactions,
            Self::Rights => Family::Rights,
            Self::StatusWrites => Family::StatusWrites,
        }
    }
}

/// A round.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Processes of the operator.
    pub replicas: usize,
    /// For how long AWS's lists lack a run that was started.
    pub list_delay: Duration,
    /// What users do.
    pub users: Lane<Deed>,
    /// What befalls the operator.
    pub operator: Lane<Blow>,
    /// What befalls the wall clock.
    pub clock: Lane<Jump>,
    /// What befalls AWS.
    pub aws: Lane<Trouble>,
    /// What befalls the API server.
    pub api: Lane<Outage>,
}

/// What becomes of a run in AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is COMPLETED soon.
    Completes,
    /// It is FAILED soon.
    Fails,
    /// It is RUNNING until it is cancelled: if nobody does, that shows.
    Endless,
}

/// The fate of a run.
pub fn fate(run: usize) -> Fate {
    match run % 8 {
        3 => Fate::Fails,
        6 => Fate::Endless,
        _ => Fate::Completes,
    }
}

/// The name of a run, which says its fate.
pub fn name(run: usize) -> String {
    let fate = match fate(run) {
        Fate::Completes => "completes",
        Fate::Fails => "fails",
        Fate::Endless => "endless",
    };
    format!("{fate}-{run}")
}

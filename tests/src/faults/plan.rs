//! What happens in a round, and when. Pure: drawn from a seed.
//!
//! There are four lanes, side by side: users, operator, AWS, API server. Within a lane one thing comes after the other,
//! so no two faults of a lane overlap, and those of different lanes do.
//! Invariant: the same seed and shape give the same plan; every endless run is deleted in the end.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use clap::ValueEnum;
use emr_simulator::FaultKind;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// How long a lease is valid that nobody renews; client-go's default, which the operator has too.
const LEASE: Duration = Duration::from_secs(15);

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Family {
    /// SIGKILL at any moment, and between the answer of StartJobRun and the status.
    Kills,
    /// SIGTERM, and a new process.
    Terms,
    /// Replies that are lost after the call was carried out.
    LostReplies,
    /// 500, 503 and 429 on about half of the answers.
    AwsErrors,
    /// Answers that take seconds, or never come.
    Hangs,
    /// The API server stands still, or is lost and comes back.
    Outages,
    /// The API server comes back, and etcd has forgotten what was before: watches begin anew.
    Compactions,
    /// The operator's rights are withdrawn for a while.
    Rights,
    /// A policy refuses every write of a status for a while.
    StatusWrites,
    /// Of two replicas, the leader stands still until its lease is gone, and wakes when the other one leads.
    PausedLeader,
    /// Users delete runs that are under way.
    Deletions,
}

impl Family {
    /// Some of all, by seed: rounds in which everything goes wrong at once get little done. Kills are always among them.
    pub fn some(seed: u64) -> BTreeSet<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let chance = |family: &Self| match family {
            Self::Kills => 1.0,
            // It takes longer than all the rest.
            Self::PausedLeader => 0.15,
            Self::Terms
            | Self::LostReplies
            | Self::AwsErrors
            | Self::Hangs
            | Self::Outages
            | Self::Compactions
            | Self::Rights
            | Self::StatusWrites
            | Self::Deletions => 0.5,
        };
        Self::value_variants().iter().copied().filter(|family| dice.random_bool(chance(family))).collect()
    }
}

/// How big a round is, and what may go wrong in it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// JobRuns.
    pub runs: usize,
    /// How long faults strike.
    pub length: Duration,
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

/// What users do. Runs are known by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// They create runs.
    Apply(Range<usize>),
    /// They delete runs.
    Delete(Vec<usize>),
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
}

/// What AWS does wrong for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
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
    /// The same, and etcd is compacted meanwhile.
    Compact,
    /// The operator has no rights.
    Rights,
    /// A policy refuses writes of the status.
    StatusWrites,
}

/// A round.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Processes of the operator.
    pub replicas: usize,
    /// What users do.
    pub users: Lane<Deed>,
    /// What befalls the operator.
    pub operator: Lane<Blow>,
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

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, shape: &Shape) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let dice = &mut dice;
        let pause = shape
            .families
            .contains(&Family::PausedLeader)
            .then(|| between(dice, LEASE * 6 / 5, LEASE * 3 / 2));
        // Users and all others go on while the leader stands still.
        let shape = &Shape { length: shape.length + pause.unwrap_or_default(), ..shape.clone() };
        let replicas = if pause.is_some() { 2 } else { 1 };
        Self {
            replicas,
            users: users(dice, shape),
            operator: operator(dice, shape, replicas, pause),
            aws: aws(dice, shape),
            api: api(dice, shape),
        }
    }
}

/// Waves of new runs over the whole length; the endless ones are deleted at the end.
fn users(dice: &mut StdRng, shape: &Shape) -> Lane<Deed> {
    let mut lane = Vec::new();
    let mut from = 0;
    let waves = dice.random_range(3..=8_u32);
    while from < shape.runs {
        let most = (shape.runs / usize::try_from(waves).unwrap_or(1)).max(1);
        let to = (from + dice.random_range(1..=most * 2)).min(shape.runs);
        lane.push(Timed {
            wait: between(dice, Duration::ZERO, shape.length * 2 / waves),
            what: Deed::Apply(from..to),
        });
        from = to;
        if shape.families.contains(&Family::Deletions) && dice.random_bool(0.5) {
            // One in eight of those that there are: some haven't begun, others have ended.
            let some = (0..to).filter(|_| dice.random_bool(0.12)).collect();
            let wait = between(dice, Duration::ZERO, Duration::from_secs(1));
            lane.push(Timed { wait, what: Deed::Delete(some) });
        }
    }
    let endless = (0..shape.runs).filter(|run| fate(*run) == Fate::Endless).collect();
    lane.push(Timed { wait: between(dice, Duration::ZERO, shape.length / 4), what: Deed::Delete(endless) });
    lane
}

fn operator(dice: &mut StdRng, shape: &Shape, replicas: usize, pause: Option<Duration>) -> Lane<Blow> {
    let mut kinds = Vec::new();
    if shape.families.contains(&Family::Kills) {
        kinds.push(BlowKind::Kill);
    }
    if shape.families.contains(&Family::Terms) {
        kinds.push(BlowKind::Terminate);
    }
    let length = shape.length.saturating_sub(pause.unwrap_or_default());
    // A process needs some 100 ms to its first call: many are struck before they are of any use, others long after.
    let longest = between(dice, Duration::from_millis(400), Duration::from_millis(2500));
    let gap = Duration::from_millis(50)..longest;
    let mut blows = lane(dice, length, gap, |dice| {
        let kind = *kinds.choose(dice)?;
        let replica = dice.random_range(0..replicas);
        Some((Blow { replica, kind, in_start: dice.random_bool(0.3) }, Duration::ZERO))
    });
    if let Some(pause) = pause {
        let what = Blow { replica: 0, kind: BlowKind::PauseLeader(pause), in_start: dice.random_bool(0.7) };
        blows.insert(dice.random_range(0..=blows.len()), Timed { wait: Duration::from_secs(1), what });
    }
    blows
}

fn aws(dice: &mut StdRng, shape: &Shape) -> Lane<Trouble> {
    let families = [
        (Family::LostReplies, &[FaultKind::ReplyLost][..]),
        (Family::AwsErrors, &[FaultKind::Status500, FaultKind::Status503, FaultKind::Throttle]),
        (Family::Hangs, &[FaultKind::Hang, FaultKind::Delay]),
    ];
    let families: Vec<_> = families.iter().filter(|(family, _)| shape.families.contains(family)).collect();
    let gap = Duration::ZERO..Duration::from_secs(1);
    lane(dice, shape.length, gap, |dice| {
        let (family, kinds) = families.choose(dice)?;
        let kind = *kinds.choose(dice)?;
        let operation = *["StartJobRun", "StartJobRun", "CancelJobRun", "*", "*"].choose(dice)?;
        let fraction = if *family == Family::AwsErrors { 0.5 } else { dice.random_range(0.3..1.0) };
        let delay = between(dice, Duration::from_millis(100), Duration::from_secs(3));
        let delay = if *family == Family::Hangs { delay } else { Duration::ZERO };
        let lasting = between(dice, Duration::from_millis(500), Duration::from_secs(3));
        Some((Trouble { kind, operation, share: fraction, delay, lasting }, lasting))
    })
}

fn api(dice: &mut StdRng, shape: &Shape) -> Lane<Outage> {
    let kinds = [
        (Family::Outages, OutageKind::Freeze),
        (Family::Outages, OutageKind::Crash),
        (Family::Compactions, OutageKind::Compact),
        (Family::Rights, OutageKind::Rights),
        (Family::StatusWrites, OutageKind::StatusWrites),
    ];
    let kinds: Vec<_> = kinds.iter().filter(|(family, _)| shape.families.contains(family)).collect();
    let gap = Duration::from_millis(500)..Duration::from_secs(3);
    lane(dice, shape.length, gap, |dice| {
        let (_, kind) = **kinds.choose(dice)?;
        let lasting = between(dice, Duration::from_millis(500), Duration::from_secs(4));
        Some((Outage { kind, lasting }, lasting))
    })
}

/// Draws what happens and how long it takes, until the time is over or there is nothing to draw.
fn lane<T>(
    dice: &mut StdRng,
    length: Duration,
    gap: Range<Duration>,
    mut draw: impl FnMut(&mut StdRng) -> Option<(T, Duration)>,
) -> Lane<T> {
    let mut lane = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        let wait = between(dice, gap.start, gap.end);
        let Some((what, lasting)) = draw(dice).filter(|_| at + wait < length) else { return lane };
        at += wait + lasting;
        lane.push(Timed { wait, what });
    }
}

fn between(dice: &mut StdRng, from: Duration, to: Duration) -> Duration {
    from + to.saturating_sub(from).mul_f64(dice.random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            runs: 100,
            length: Duration::from_secs(10),
            families: Family::value_variants().iter().copied().collect(),
        }
    }

    #[test]
    fn a_seed_gives_the_same_plan_again_and_another_one_another() {
        assert_eq!(Plan::draw(7, &shape()), Plan::draw(7, &shape()));
        assert_ne!(Plan::draw(7, &shape()), Plan::draw(8, &shape()));
    }

    #[test]
    fn every_run_is_created_once_and_every_endless_one_deleted() {
        for seed in 0..100 {
            let plan = Plan::draw(seed, &shape());
            let (mut created, mut deleted) = (Vec::new(), BTreeSet::new());
            for deed in plan.users {
                match deed.what {
                    Deed::Apply(runs) => created.extend(runs),
                    Deed::Delete(runs) => {
                        assert!(runs.iter().all(|run| created.contains(run)), "seed {seed}");
                        deleted.extend(runs);
                    }
                }
            }
            assert_eq!(created, (0..100).collect::<Vec<_>>(), "seed {seed}");
            assert!((0..100).all(|run| fate(run) != Fate::Endless || deleted.contains(&run)), "seed {seed}");
        }
    }

    #[test]
    fn nothing_goes_wrong_that_was_not_asked_for() {
        let plan = Plan::draw(1, &Shape { families: BTreeSet::new(), ..shape() });
        assert!(plan.operator.is_empty() && plan.aws.is_empty() && plan.api.is_empty());
        assert_eq!(plan.replicas, 1);
    }

    #[test]
    fn a_leader_stands_still_once_and_for_longer_than_its_lease_is_valid() {
        for seed in 0..100 {
            let plan = Plan::draw(seed, &shape());
            let pauses: Vec<_> = plan
                .operator
                .iter()
                .filter_map(|blow| match blow.what.kind {
                    BlowKind::PauseLeader(pause) => Some(pause),
                    BlowKind::Kill | BlowKind::Terminate => None,
                })
                .collect();
            assert!(matches!(pauses[..], [pause] if pause >= LEASE), "seed {seed}: {pauses:?}");
            assert!(plan.operator.iter().all(|blow| blow.what.replica < plan.replicas), "seed {seed}");
        }
    }
}

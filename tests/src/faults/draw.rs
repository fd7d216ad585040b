//! Draws the plan of a round from a seed. Pure.
//!
//! Invariant: the same seed and shape give the same plan; every family that is asked for strikes at least once; every
//! endless run is deleted in the end.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use emr_simulator::FaultKind;
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::family::Family;
use super::plan::{
    Blow, BlowKind, Deed, Fate, Jump, Lane, Outage, OutageKind, Plan, Shape, Timed, Trouble, fate,
};

/// How long a lease is valid that nobody renews; client-go's default, which the operator has too.
const LEASE: Duration = Duration::from_secs(15);
/// Longer than the operator waits for an answer of AWS.
const BEYOND_TIMEOUTS: Duration = Duration::from_secs(12);
/// What AWS lets pass is a difference of up to five minutes.
const SMALL_JUMP_SECONDS: i64 = 4 * 60;
const GREAT_JUMP_SECONDS: i64 = 20 * 3600;
/// The operator believes lists after 15 s.
const LIST_DELAY: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));
/// Virtual clusters beside those that have runs.
const SPARE_CLUSTERS: usize = 4;

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, shape: &Shape) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let dice = &mut dice;
        let has = |family| shape.families.contains(&family);
        let pause = has(Family::PausedLeader).then(|| between(dice, LEASE * 6 / 5, LEASE * 3 / 2));
        let long = [(Family::LongOutages, shape.long_outage), (Family::Timeouts, BEYOND_TIMEOUTS)];
        let long = long.into_iter().filter(|(family, _)| has(*family)).map(|(_, long)| long).max();
        let blows = shape.length + long.unwrap_or_default();
        // Users and all others go on while the leader stands still.
        let shape = &Shape { length: blows + pause.unwrap_or_default(), ..shape.clone() };
        let replicas = if pause.is_some() || has(Family::LostLease) { 2 } else { 1 };
        Self {
            replicas,
            list_delay: if has(Family::LateLists) {
                between(dice, LIST_DELAY.0, LIST_DELAY.1)
            } else {
                Duration::ZERO
            },
            users: users(dice, shape),
            operator: operator(dice, shape, blows, replicas, pause),
            clock: clock(dice, shape),
            aws: aws(dice, shape),
            api: api(dice, shape),
        }
    }
}

/// Waves of new runs over the whole length; the endless ones are deleted at the end.
fn users(dice: &mut StdRng, shape: &Shape) -> Lane<Deed> {
    let mut lane = Vec::new();
    let (mut from, mut cluster) = (0, 0);
    let waves = dice.random_range(3..=8_u32);
    let most = (shape.runs / usize::try_from(waves).unwrap_or(1)).max(1);
    let soon =
        |dice: &mut StdRng, what| Timed { wait: between(dice, Duration::ZERO, Duration::from_secs(1)), what };
    while from < shape.runs {
        let to = (from + dice.random_range(1..=most * 2)).min(shape.runs);
        let wait = between(dice, Duration::ZERO, shape.length * 2 / waves);
        lane.push(Timed { wait, what: Deed::Apply(from..to) });
        from = to;
        let deletes = shape.families.contains(&Family::Deletions);
        if cluster < SPARE_CLUSTERS {
            lane.push(soon(dice, Deed::ApplyCluster(cluster)));
            if deletes && (cluster == 0 || dice.random_bool(0.5)) {
                lane.push(soon(dice, Deed::DeleteCluster(cluster)));
            }
            cluster += 1;
        }
        if deletes && dice.random_bool(0.5) {
            // One in eight of those that there are: some haven't begun, others have ended.
            let some = (0..to).filter(|_| dice.random_bool(0.12)).collect();
            lane.push(soon(dice, Deed::Delete(some)));
        }
    }
    let endless = (0..shape.runs).filter(|run| fate(*run) == Fate::Endless).collect();
    let mut end =
        vec![Timed { wait: between(dice, Duration::ZERO, shape.length / 4), what: Deed::Delete(endless) }];
    if shape.families.contains(&Family::Deletions) {
        // Either waits for the other, whichever goes first.
        let place = usize::from(dice.random_bool(0.5));
        end.insert(place, soon(dice, Deed::DeleteEndlessCluster));
    }
    lane.extend(end);
    lane
}

fn operator(
    dice: &mut StdRng,
    shape: &Shape,
    length: Duration,
    replicas: usize,
    pause: Option<Duration>,
) -> Lane<Blow> {
    // A process needs some 100 ms to its first call: many are struck before they are of any use, others long after.
    let longest = between(dice, Duration::from_millis(400), Duration::from_millis(2500));
    let gap = Duration::from_millis(50)..longest;
    let kinds = [(Family::Kills, BlowKind::Kill), (Family::Terms, BlowKind::Terminate)];
    let mut first = true;
    let mut blows = lane(dice, length, gap, &asked(shape, &kinds), &[], |dice, kind| {
        let replica = dice.random_range(0..replicas);
        let in_start = std::mem::take(&mut first) || dice.random_bool(0.3);
        let in_start = in_start && shape.families.contains(&Family::InStart);
        (Blow { replica, kind, in_start }, Duration::ZERO)
    });
    let mut insert = |dice: &mut StdRng, kind, in_start| {
        let what = Blow { replica: 0, kind, in_start };
        blows.insert(dice.random_range(0..=blows.len()), Timed { wait: Duration::from_secs(1), what });
    };
    if shape.families.contains(&Family::LostLease) {
        insert(dice, BlowKind::TakeLease, true);
    }
    if let Some(pause) = pause {
        let in_start = dice.random_bool(0.7);
        insert(dice, BlowKind::PauseLeader(pause), in_start);
    }
    blows
}

/// Some jumps are so small that AWS lets the calls pass, others so great that it refuses them all.
fn clock(dice: &mut StdRng, shape: &Shape) -> Lane<Jump> {
    let families = asked(shape, &[(Family::ClockJumps, ())]);
    let gap = Duration::ZERO..Duration::from_secs(4);
    lane(dice, shape.length, gap, &families, &[], |dice, ()| {
        let most = if dice.random_bool(0.5) { SMALL_JUMP_SECONDS } else { GREAT_JUMP_SECONDS };
        let seconds = dice.random_range(most / 4..=most);
        let offset = SignedDuration::from_secs(if dice.random_bool(0.5) { seconds } else { -seconds });
        let lasting = between(dice, Duration::from_millis(500), Duration::from_secs(4));
        (Jump { offset, lasting }, lasting)
    })
}

fn aws(dice: &mut StdRng, shape: &Shape) -> Lane<Trouble> {
    let kinds = [
        (Family::LostReplies, Family::LostReplies),
        (Family::AwsErrors, Family::AwsErrors),
        (Family::Hangs, Family::Hangs),
    ];
    let gap = Duration::ZERO..Duration::from_secs(1);
    let once = asked(shape, &[(Family::Timeouts, Family::Timeouts)]);
    let mut struck = BTreeSet::new();
    lane(dice, shape.length, gap, &asked(shape, &kinds), &once, |dice, family| {
        let kinds = match family {
            Family::LostReplies => &[FaultKind::ReplyLost][..],
            Family::AwsErrors => {
                &[FaultKind::Status500, FaultKind::FailsAfter, FaultKind::Status503, FaultKind::Throttle]
            }
            Family::Timeouts => &[FaultKind::Hang],
            _ => &[FaultKind::Hang, FaultKind::Delay],
        };
        let kind = kinds.choose(dice).copied().unwrap_or(FaultKind::Delay);
        let operation = ["StartJobRun", "StartJobRun", "CancelJobRun", "*", "*"].choose(dice).copied();
        let delay = between(dice, Duration::from_millis(100), Duration::from_secs(3));
        let fraction = dice.random_range(0.3..1.0);
        let lasting = between(dice, Duration::from_millis(500), Duration::from_secs(3));
        // The first time any call will do: there may be none of the one that is drawn.
        let operation = operation.filter(|_| !struck.insert(family)).unwrap_or("*");
        let trouble = Trouble { family, kind, operation, share: fraction, delay: Duration::ZERO, lasting };
        let trouble = match family {
            Family::AwsErrors => Trouble { share: 0.5, ..trouble },
            Family::Hangs => Trouble { delay, ..trouble },
            // Calls that there always are; without an answer of STS, nothing else would begin.
            Family::Timeouts => Trouble { operation: "StartJobRun", lasting: BEYOND_TIMEOUTS, ..trouble },
            _ => trouble,
        };
        let lasting = trouble.lasting;
        (trouble, lasting)
    })
}

fn api(dice: &mut StdRng, shape: &Shape) -> Lane<Outage> {
    let kinds = OutageKind::ALL.map(|kind| (kind.family(), kind));
    let (once, often): (Vec<_>, Vec<_>) =
        asked(shape, &kinds).into_iter().partition(|kind| *kind == OutageKind::LongCrash);
    let gap = Duration::from_millis(500)..Duration::from_secs(3);
    lane(dice, shape.length, gap, &often, &once, |dice, kind| {
        let short = between(dice, Duration::from_secs(1), Duration::from_secs(4));
        let lasting = if kind == OutageKind::LongCrash { shape.long_outage } else { short };
        (Outage { kind, lasting }, lasting)
    })
}

/// Those whose family is asked for.
fn asked<K: Copy>(shape: &Shape, kinds: &[(Family, K)]) -> Vec<K> {
    kinds.iter().filter(|(family, _)| shape.families.contains(family)).map(|(_, kind)| *kind).collect()
}

/// Draws what happens and how long it takes: each kind once, however long that is, then any of `often` until the time is
/// over.
fn lane<K: Copy, T>(
    dice: &mut StdRng,
    length: Duration,
    gap: Range<Duration>,
    often: &[K],
    once: &[K],
    mut draw: impl FnMut(&mut StdRng, K) -> (T, Duration),
) -> Lane<T> {
    let mut due: Vec<K> = often.iter().chain(once).copied().collect();
    due.shuffle(dice);
    let (mut lane, mut at) = (Vec::new(), Duration::ZERO);
    loop {
        let wait = between(dice, gap.start, gap.end);
        let next = due.pop().or_else(|| often.choose(dice).copied().filter(|_| at + wait < length));
        let Some(kind) = next else { return lane };
        let (what, lasting) = draw(dice, kind);
        at += wait + lasting;
        lane.push(Timed { wait, what });
    }
}

fn between(dice: &mut StdRng, from: Duration, to: Duration) -> Duration {
    from + to.saturating_sub(from).mul_f64(dice.random::<f64>())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn shape() -> Shape {
        Shape {
            runs: 100,
            length: Duration::from_secs(10),
            long_outage: Duration::from_mins(1),
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
            let (mut clusters, mut gone) = (BTreeSet::new(), BTreeSet::new());
            let mut endless_gone = 0;
            for deed in plan.users {
                match deed.what {
                    Deed::Apply(runs) => created.extend(runs),
                    Deed::Delete(runs) => {
                        assert!(runs.iter().all(|run| created.contains(run)), "seed {seed}");
                        deleted.extend(runs);
                    }
                    Deed::ApplyCluster(cluster) => assert!(clusters.insert(cluster), "seed {seed}"),
                    Deed::DeleteCluster(cluster) => {
                        assert!(clusters.contains(&cluster) && gone.insert(cluster), "seed {seed}");
                    }
                    Deed::DeleteEndlessCluster => endless_gone += 1,
                }
            }
            assert_eq!(created, (0..100).collect::<Vec<_>>(), "seed {seed}");
            assert!((0..100).all(|run| fate(run) != Fate::Endless || deleted.contains(&run)), "seed {seed}");
            assert!(!gone.is_empty() && endless_gone == 1, "seed {seed}");
        }
    }

    #[test]
    fn nothing_goes_wrong_that_was_not_asked_for() {
        let plan = Plan::draw(1, &Shape { families: BTreeSet::new(), ..shape() });
        assert!(
            plan.operator.is_empty() && plan.aws.is_empty() && plan.api.is_empty() && plan.clock.is_empty()
        );
        assert_eq!((plan.replicas, plan.list_delay), (1, Duration::ZERO));
    }

    #[test]
    fn every_family_strikes_even_in_a_short_round() {
        for seed in 0..100 {
            let plan = Plan::draw(seed, &Shape { length: Duration::from_secs(1), ..shape() });
            let blow = |is: fn(&Blow) -> bool| plan.operator.iter().any(|blow| is(&blow.what));
            assert!(blow(|blow| blow.kind == BlowKind::Kill), "seed {seed}");
            assert!(blow(|blow| blow.kind == BlowKind::Terminate), "seed {seed}");
            assert!(blow(|blow| blow.kind == BlowKind::TakeLease && blow.in_start), "seed {seed}");
            let in_start =
                |blow: &Blow| blow.in_start && matches!(blow.kind, BlowKind::Kill | BlowKind::Terminate);
            assert!(blow(in_start), "seed {seed}");
            for kind in OutageKind::ALL {
                assert!(plan.api.iter().any(|outage| outage.what.kind == kind), "seed {seed}: {kind:?}");
            }
            for family in [Family::LostReplies, Family::AwsErrors, Family::Hangs, Family::Timeouts] {
                assert!(
                    plan.aws.iter().any(|trouble| trouble.what.family == family),
                    "seed {seed}: {family:?}"
                );
            }
            assert!(!plan.clock.is_empty() && plan.list_delay >= LIST_DELAY.0, "seed {seed}");
        }
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
                    BlowKind::Kill | BlowKind::Terminate | BlowKind::TakeLease => None,
                })
                .collect();
            assert!(matches!(pauses[..], [pause] if pause >= LEASE), "seed {seed}: {pauses:?}");
            assert!(plan.operator.iter().all(|blow| blow.what.replica < plan.replicas), "seed {seed}");
        }
    }
}

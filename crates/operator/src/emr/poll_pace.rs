//! When a poller looks again. Pure: ages and counts in, a duration out.

use std::time::Duration;

use jiff::Timestamp;

use crate::quotas::Bucket;

/// The shortest distance between two looks: the end of a run is seen after half of it at the median.
pub(super) const FASTEST: Duration = Duration::from_secs(1);
/// The longest one, for runs that haven't moved for minutes.
pub(super) const SLOWEST: Duration = Duration::from_secs(9);
/// The distance while hints tell all that happens: a look is only to prove it.
const TOLD: Duration = Duration::from_mins(1);
/// From this time without a change on, looks get rarer.
const QUIET: Duration = Duration::from_secs(20);
/// How much of the quiet time is added to the distance: what is late by a tenth of its age is hardly late.
const SHARE_OF_QUIET: f64 = 0.1;
/// The time over which ends are counted to tell a flow of runs from a few.
pub(super) const FLOW_WINDOW: Duration = Duration::from_secs(20);
/// So many ends in the window are a flow.
const FLOW_ENDS: usize = 10;
/// In a flow this many pages for each run are enough. Pages times median delay is constant for a flow, so this buys
/// few calls with a delay that stays under a second, see [`SLOWEST_IN_FLOW`].
const PAGES_PER_RUN: f64 = 0.22;
/// Half of it is the median delay of a flow.
const SLOWEST_IN_FLOW: Duration = Duration::from_millis(1_800);
/// By how much a distance is varied, so that pollers don't march in step.
const JITTER: f64 = 0.1;
/// The part of the quota for lists that pollers use; the rest is for others in the account.
const SHARE_OF_QUOTA: f64 = 0.6;

/// What decides how soon to look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activity {
    /// Since any run changed.
    pub(super) quiet: Duration,
    /// Some run is young and hasn't begun to run, or is being cancelled: it moves soon.
    pub(super) about_to_move: bool,
    /// How many runs have ended in the window.
    pub(super) ends: usize,
    /// How many pages the last look took.
    pub(super) pages: u32,
    /// Hints are relied upon to tell what moves.
    pub(super) told: bool,
}

impl Activity {
    /// Whether so many runs end that the calls for each count more than the moment.
    pub(super) fn is_flow(&self) -> bool {
        self.ends >= FLOW_ENDS
    }
}

/// The distance from one look to the next. `jitter` is between -1 and 1.
pub(super) fn interval(activity: &Activity, jitter: f64) -> Duration {
    let by_age = if activity.told {
        TOLD
    } else if activity.about_to_move {
        FASTEST
    } else {
        activity.quiet.saturating_sub(QUIET).mul_f64(SHARE_OF_QUIET).clamp(FASTEST, SLOWEST)
    };
    let by_flow = if activity.is_flow() {
        let ends = u32::try_from(activity.ends).unwrap_or(u32::MAX);
        let pages = f64::from(activity.pages.max(1));
        FLOW_WINDOW.mul_f64(pages / (PAGES_PER_RUN * f64::from(ends))).clamp(FASTEST, SLOWEST_IN_FLOW)
    } else {
        FASTEST
    };
    by_age.max(by_flow).mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0))
}

/// The pages that all pollers of a scope may ask for. It is overdrawn by a look and then makes the next ones wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    per_second: f64,
    size: f64,
    level: f64,
    at: Timestamp,
}

impl Budget {
    /// A part of the quota of ListJobRuns.
    pub(super) fn of(quota: Bucket, now: Timestamp) -> Self {
        let size = f64::from(quota.bucket) * SHARE_OF_QUOTA;
        Self { per_second: quota.refill_per_second * SHARE_OF_QUOTA, size, level: size, at: now }
    }

    /// Spends pages, and says how long to wait before the next ones.
    pub(super) fn spend(&mut self, pages: u32, now: Timestamp) -> Duration {
        let passed = since(self.at, now).as_secs_f64();
        self.at = now;
        self.level = (self.level + passed * self.per_second).min(self.size) - f64::from(pages);
        Duration::try_from_secs_f64((-self.level / self.per_second).max(0.0)).unwrap_or(SLOWEST)
    }
}

/// How long it is from one time to another; zero when the clock went back.
pub(super) fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(activity: Activity) -> f64 {
        interval(&activity, 0.0).as_secs_f64()
    }

    fn quiet(quiet: u64) -> Activity {
        Activity { quiet: Duration::from_secs(quiet), pages: 1, ..Activity::default() }
    }

    #[test]
    fn looks_get_rarer_as_nothing_moves() {
        for (age, expected) in [(0, 1.0), (30, 1.0), (50, 3.0), (80, 6.0), (110, 9.0), (86_400, 9.0)] {
            assert!((seconds(quiet(age)) - expected).abs() < 1e-9, "{age}");
        }
        assert!((seconds(Activity { about_to_move: true, ..quiet(600) }) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn while_hints_tell_what_moves_a_look_a_minute_is_enough() {
        for activity in [quiet(0), quiet(600), Activity { about_to_move: true, ends: 50, ..quiet(0) }] {
            assert!((seconds(Activity { told: true, ..activity }) - 60.0).abs() < 1e-9, "{activity:?}");
        }
    }

    #[test]
    fn a_flow_costs_about_a_fifth_of_a_call_for_each_run() {
        // 2.5 runs a second on each of four clusters.
        let steady = seconds(Activity { ends: 50, about_to_move: true, ..quiet(0) });
        assert!((1.0 / (2.5 * steady) - 0.22).abs() < 0.01, "{steady}");
        // Hundreds that end together are worth a look a second although it takes some pages.
        let burst = seconds(Activity { ends: 250, pages: 2, ..quiet(0) });
        assert!((burst - 1.0).abs() < 1e-9, "{burst}");
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        for jitter in [-5.0, -1.0, 0.0, 0.5, 1.0, 5.0] {
            let varied = interval(&quiet(110), jitter).as_secs_f64();
            assert!((8.1 - 1e-9..=9.9 + 1e-9).contains(&varied), "{varied}");
        }
    }

    #[test]
    fn many_pollers_stay_inside_their_part_of_the_quota() {
        let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut budget = Budget::of(Bucket { refill_per_second: 5.0, bucket: 100 }, start);
        let mut next = [start; 20];
        let (mut pages, end) = (0, start + Duration::from_mins(10));
        while let Some(first) = next.iter_mut().min().filter(|time| **time < end) {
            pages += 2;
            let wait = budget.spend(2, *first);
            *first += wait.max(FASTEST);
        }
        assert!((1_700..=60 + 3 * 600 + 40).contains(&pages), "{pages}");
    }

    #[test]
    fn what_was_spent_too_much_is_waited_for() {
        let at: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut budget = Budget { per_second: 2.0, size: 10.0, level: 10.0, at };
        assert_eq!(budget.spend(10, at), Duration::ZERO);
        assert_eq!(budget.spend(3, at), Duration::from_millis(1_500));
        assert_eq!(budget.spend(1, at + Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(budget.spend(10, at + Duration::from_mins(1)), Duration::ZERO, "it was full again");
    }
}

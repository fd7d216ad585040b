//! Whether the hints of a virtual cluster tell all that happens there, so that looks may be rare. Pure.
//!
//! Trust is earned by changes that were told in time, one after the other, and lost at once: by a hint that is late, and by
//! a change that a look found and no hint told. Each time it was misplaced it takes longer, for there may be a sort of
//! change that is never told. Invariant: while a change that nobody told is open, there is no trust.

use std::time::Duration;

use jiff::Timestamp;

use super::poll_pace::since;

/// So many changes in a row must be told: with a tenth of the events lost, one row in three is as long.
const EARNED_BY: u32 = 10;
/// And so many at most.
const EARNED_BY_AT_MOST: u32 = 1280;
/// An older hint is late. Events are dated to the second, and usually take less than one.
const IN_TIME: Duration = Duration::from_secs(5);
/// For so long a look may be ahead of the hint. It must be more than [`IN_TIME`].
const AHEAD_FOR: Duration = Duration::from_secs(10);

/// A change that was found by a look.
#[derive(Debug)]
struct Found {
    run_id: String,
    ended: bool,
    at: Timestamp,
}

/// How far the hints of one virtual cluster can be relied upon.
#[derive(Debug)]
pub(super) struct Trust {
    told: u32,
    needed: u32,
    found: Vec<Found>,
}

impl Default for Trust {
    fn default() -> Self {
        Self { told: 0, needed: EARNED_BY, found: Vec::new() }
    }
}

impl Trust {
    /// Whether nothing is expected to happen untold.
    pub(super) fn is_earned(&self) -> bool {
        self.told >= self.needed && self.found.is_empty()
    }

    /// A look found a change that no hint has told yet: that a run runs, or has ended.
    pub(super) fn found(&mut self, run_id: String, ended: bool, now: Timestamp) {
        self.settle(now);
        self.found.push(Found { run_id, ended, at: now });
    }

    /// A hint came that told something new, or what a look had found just before.
    pub(super) fn hinted(&mut self, run_id: &str, ended: bool, is_news: bool, at: Timestamp, now: Timestamp) {
        self.settle(now);
        let open = self.found.len();
        self.found.retain(|found| found.run_id != run_id || found.ended != ended);
        if since(at, now) > IN_TIME {
            self.lose();
        } else if is_news || self.found.len() < open {
            self.told = self.told.saturating_add(1);
        }
    }

    /// What a hint said wasn't so.
    pub(super) fn lose(&mut self) {
        if self.told >= self.needed {
            self.needed = (self.needed * 2).min(EARNED_BY_AT_MOST);
        }
        self.told = 0;
    }

    /// A look is over: if it found nothing that wasn't told, trust was right.
    pub(super) fn looked(&mut self) {
        if self.is_earned() {
            self.needed = (self.needed / 2).max(EARNED_BY);
        }
    }

    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.found.iter_mut().for_each(|found| found.at = now.min(found.at));
    }

    /// Gives up on what nobody has told in time.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let open = self.found.len();
        self.found.retain(|found| since(found.at, now) <= AHEAD_FOR);
        if self.found.len() < open {
            self.lose();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + Duration::from_secs(seconds)
    }

    fn earned() -> Trust {
        let mut trust = Trust::default();
        for n in 0..EARNED_BY {
            assert!(!trust.is_earned(), "{n}");
            trust.hinted(&format!("r{n}"), false, true, at(0), at(1));
        }
        assert!(trust.is_earned());
        trust
    }

    #[test]
    fn hints_that_say_nothing_new_earn_nothing() {
        let mut trust = Trust::default();
        for _ in 0..100 {
            trust.hinted("r", false, false, at(0), at(0));
        }
        assert!(!trust.is_earned());
    }

    #[test]
    fn a_look_that_is_ahead_of_its_hint_suspends_trust_and_one_without_a_hint_ends_it() {
        let mut trust = earned();
        trust.found("r".to_owned(), true, at(10));
        assert!(!trust.is_earned(), "as long as it is open");
        trust.hinted("r", false, false, at(10), at(11));
        assert!(!trust.is_earned(), "another change of the same run");
        trust.hinted("r", true, false, at(10), at(12));
        assert!(trust.is_earned());
        trust.found("s".to_owned(), true, at(20));
        trust.settle(at(30));
        assert!(!trust.is_earned());
        trust.settle(at(31));
        assert!(!trust.is_earned());
        trust.hinted("t", true, true, at(31), at(31));
        assert!(!trust.is_earned(), "it begins anew");
    }

    #[test]
    fn what_a_look_found_first_is_told_in_time_for_ten_seconds_and_counts_then() {
        let mut trust = Trust::default();
        for n in 0..EARNED_BY {
            assert!(!trust.is_earned());
            trust.found(format!("r{n}"), true, at(0));
            trust.hinted(&format!("r{n}"), true, false, at(10), at(10));
        }
        assert!(trust.is_earned());
        trust.found("s".to_owned(), true, at(20));
        trust.hinted("s", true, false, at(31), at(31));
        assert!(!trust.is_earned(), "nobody told it in time");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_wait_for_a_hint_for_long() {
        let mut trust = earned();
        trust.found("r".to_owned(), true, at(1_000));
        trust.set_back(at(0));
        trust.hinted("r", true, false, at(11), at(11));
        assert!(!trust.is_earned());
    }

    #[test]
    fn a_late_hint_and_a_false_one_end_trust() {
        let mut trust = earned();
        trust.hinted("r", false, true, at(10), at(15));
        assert!(trust.is_earned(), "not late yet");
        trust.hinted("r", true, true, at(10), at(16));
        assert!(!trust.is_earned());
        let mut trust = earned();
        trust.lose();
        assert!(!trust.is_earned());
    }

    #[test]
    fn trust_that_was_misplaced_takes_twice_as_long_until_looks_prove_it() {
        let mut trust = earned();
        let earn = |trust: &mut Trust| {
            (1..=EARNED_BY_AT_MOST).find(|n| {
                trust.hinted(&format!("r{n}"), true, true, at(0), at(0));
                trust.is_earned()
            })
        };
        trust.lose();
        trust.lose();
        assert_eq!(earn(&mut trust), Some(20), "what wasn't earned can't be misplaced");
        trust.lose();
        assert_eq!(earn(&mut trust), Some(40));
        trust.looked();
        trust.lose();
        assert_eq!(earn(&mut trust), Some(40), "a look proves half of it");
        trust.looked();
        trust.looked();
        trust.looked();
        trust.lose();
        assert_eq!(earn(&mut trust), Some(20));
    }
}

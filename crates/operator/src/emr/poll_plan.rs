//! What a poller knows of the live runs of one virtual cluster, what it asks next, and what an answer means. Pure.
//!
//! Two looks tell where runs are. The *live* look lists runs that wait, run or are being cancelled: a tracked run that is
//! missing has ended. The *moved* look lists all but the running ones: a tracked run that is missing is running. Both
//! list only what was created since the oldest tracked run, and the one with fewer pages is asked: hundreds of old running
//! jobs cost one page of the second, one old job among thousands of finished ones costs one page of the first. The live
//! look comes first and now and then, since it alone proves that a run is alive.
//!
//! Invariant: a tracked run is live until it is reported as ended or gone, which happens once. A run is ended by an item
//! that says so or by DescribeJobRun, never by an absence.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::model::JobRun;
use super::poll_hint::{Hinted, is_behind};
use super::poll_look::{Kind, Listed, Look, SLACK, Sizes};
use super::poll_pace::{Activity, FLOW_WINDOW, since};
use super::poll_run::{LIVE, LOST_AFTER, Observed, RUNNING, Run, Tracked, back};
use super::queue::RunKey;

/// Lists may lag: from this age on, a run that no list has shown is taken as running when it neither waits nor has ended.
const RUNNING_AFTER: Duration = Duration::from_secs(5);
/// By how much the clocks of AWS and ours may differ, until the first run has shown it. It only matters for runs whose
/// time of creation isn't known yet.
const CLOCK_SLACK: Duration = Duration::from_mins(2);
/// For how long a run that waits or is being cancelled is expected to move any second.
const MOVES_SOON_FOR: Duration = Duration::from_mins(1);
/// A live look is due after so many looks or so long.
const CONFIRM_AFTER_LOOKS: u32 = 60;
const CONFIRM_AFTER: Duration = Duration::from_mins(10);
/// How many runs are described after a look at most; the others are after the next.
const MOST_DESCRIBED: usize = 50;

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Live runs with something new.
    pub(super) changed: Vec<RunKey>,
    /// Runs that have ended, or are gone, and are tracked no more.
    pub(super) ended: Vec<(RunKey, Option<Observed>)>,
    /// Ids of the runs that were found to run, or to have ended, and of which no hint had told it.
    pub(super) found: Vec<(String, bool)>,
}

/// What to ask after a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FollowUp {
    pub(super) list: Option<Look>,
    pub(super) describe: Vec<String>,
}

/// The live runs of one virtual cluster.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) runs: HashMap<String, Run>,
    looks: u64,
    confirmed: Option<(u64, Timestamp)>,
    pub(super) sizes: Sizes,
    ends: VecDeque<Timestamp>,
    /// How late runs are tracked by AWS's clock: the time of the call and what the clocks differ by.
    lateness: Option<Duration>,
    /// Ended by a list that doesn't say why.
    unexplained: Vec<String>,
}

impl Book {
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &RunKey> {
        self.runs.values().map(|run| &run.key)
    }

    /// Whether a run is tracked.
    pub(super) fn tracks(&self, run_id: &str) -> bool {
        self.runs.contains_key(run_id)
    }

    /// What AWS has said of a run since it is tracked.
    pub(super) fn observed(&self, run_id: &str) -> Option<&Observed> {
        self.runs.get(run_id).filter(|run| !run.seeded).map(|run| &run.last)
    }

    /// For how long a run is tracked.
    pub(super) fn tracked_for(&self, run_id: &str, now: Timestamp) -> Option<Duration> {
        self.runs.get(run_id).map(|run| since(run.tracked_at, now))
    }

    /// Adds a run; one that is there already stays as it is.
    pub(super) fn track(&mut self, tracked: Tracked, now: Timestamp) -> bool {
        if self.runs.contains_key(&tracked.run_id) {
            return false;
        }
        let seen = !tracked.just_started;
        let created_at = tracked.created_at.filter(|_| seen);
        let started = || back(now, self.lateness.unwrap_or(CLOCK_SLACK));
        let run = Run {
            key: tracked.key,
            born: created_at.unwrap_or_else(started),
            last: Observed { state: tracked.state.unwrap_or_default(), created_at, ..Observed::default() },
            tracked_at: now,
            changed_at: now,
            seen,
            seeded: true,
            added_in: self.looks,
            seen_in: 0,
            described_at: None,
            hinted: Hinted::default(),
        };
        self.runs.insert(tracked.run_id, run);
        true
    }

    pub(super) fn untrack(&mut self, run_id: &str) -> bool {
        self.runs.remove(run_id).is_some()
    }

    /// The next list, if anything is tracked.
    pub(super) fn plan(&mut self, now: Timestamp) -> Option<Look> {
        let oldest = self.runs.values().map(|run| run.born).min()?;
        let live_pages = self.sizes.live_pages();
        let (kind, max_pages) = if self.wants_live(now) {
            (Kind::Live, u32::MAX)
        } else {
            match self.sizes.moved_pages(oldest, now) {
                // Unknown: worth as many pages as the other look takes, and a bit.
                None => (Kind::Moved, live_pages.saturating_add(2)),
                Some(pages) => {
                    // A live look that misses runs takes another list.
                    let follow_up = u32::from(self.activity(now).ends > 0);
                    if pages <= live_pages.saturating_add(follow_up) {
                        (Kind::Moved, pages.saturating_mul(2).saturating_add(2))
                    } else {
                        (Kind::Live, u32::MAX)
                    }
                }
            }
        };
        self.looks += 1;
        Some(Look { kind, created_after: back(oldest, SLACK), max_pages, number: self.looks, started: now })
    }

    fn wants_live(&self, now: Timestamp) -> bool {
        let Some((look, at)) = self.confirmed else { return true };
        if self.looks - look >= u64::from(CONFIRM_AFTER_LOOKS) || since(at, now) >= CONFIRM_AFTER {
            return true;
        }
        // Only a live look shows a run that started to run before any list had it. In a flow there always is one.
        let mut unseen = self.runs.values().filter(|run| !run.seen).peekable();
        if unseen.peek().is_none() {
            return false;
        }
        let is_lost = |run: &Run| since(run.tracked_at, now) >= LOST_AFTER;
        (!self.activity(now).is_flow() && self.sizes.live_pages() == 1)
            || (since(at, now) >= LOST_AFTER && unseen.any(is_lost))
    }

    /// Takes in one item of a list.
    pub(super) fn absorb(&mut self, look: &Look, item: &JobRun, effects: &mut Effects, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&item.id) else { return };
        run.seen_in = look.number;
        let observed = Observed::of(item);
        self.locate(&item.id, &observed, now);
        if observed.lacks_reason() {
            self.unexplained.push(item.id.clone());
            return;
        }
        self.learn(&item.id, observed, effects, now);
    }

    /// Takes in the answer of DescribeJobRun; `None` when the service doesn't know the run.
    pub(super) fn described(
        &mut self,
        run_id: &str,
        run: Option<&JobRun>,
        effects: &mut Effects,
        now: Timestamp,
    ) {
        if let Some(item) = run {
            if let Some(run) = self.runs.get_mut(run_id) {
                run.described_at = Some(now);
            }
            let observed = Observed::of(item);
            self.locate(run_id, &observed, now);
            self.learn(run_id, observed, effects, now);
        } else if let Some(run) = self.runs.remove(run_id) {
            effects.ended.push((run.key, None));
        }
    }

    /// Takes over when a run was created, and what that says of the clocks.
    fn locate(&mut self, run_id: &str, observed: &Observed, now: Timestamp) {
        let Some(run) = self.runs.get_mut(run_id) else { return };
        if let Some(created_at) = observed.created_at {
            run.born = created_at;
            // A run that is known for long, or was taken over, says nothing of how late runs are tracked.
            if !run.seen && run.last.created_at.is_none() && since(run.tracked_at, now) < LOST_AFTER {
                let late = since(created_at, run.tracked_at);
                let before = self.lateness.unwrap_or_default().mul_f64(0.9);
                self.lateness = Some(late.max(before).min(CLOCK_SLACK));
            }
        }
        run.seen = true;
    }

    fn learn(&mut self, run_id: &str, mut observed: Observed, effects: &mut Effects, now: Timestamp) {
        if observed.has_ended() {
            if let Some(run) = self.runs.remove(run_id) {
                self.ends.push_back(now);
                if !run.hinted.is_ending() {
                    effects.found.push((run_id.to_owned(), true));
                }
                effects.ended.push((run.key, Some(observed)));
            }
            return;
        }
        let Some(run) = self.runs.get_mut(run_id).filter(|run| !is_behind(run, &observed, now)) else {
            return;
        };
        if observed.state == RUNNING && run.last.state != RUNNING {
            effects.found.push((run_id.to_owned(), false));
        }
        observed.created_at = observed.created_at.or(run.last.created_at);
        let silent = run.seeded
            && run.last.state == observed.state
            && observed.state_details.is_none()
            && observed.attempts.is_none();
        run.seeded = false;
        if run.last != observed {
            run.last = observed;
            if !silent {
                run.changed_at = now;
                effects.changed.push(run.key.clone());
            }
        }
    }

    /// Ends a list: draws the conclusions from what it didn't show, and says what to ask next.
    pub(super) fn finish(
        &mut self,
        look: &Look,
        listed: Listed,
        effects: &mut Effects,
        now: Timestamp,
    ) -> FollowUp {
        self.sizes.count(look, listed, now);
        if look.kind == Kind::Live {
            self.confirmed = Some((look.number, now));
        }
        while self.ends.front().is_some_and(|at| since(*at, now) > FLOW_WINDOW) {
            self.ends.pop_front();
        }
        let mut follow_up = FollowUp { list: None, describe: std::mem::take(&mut self.unexplained) };
        match look.kind {
            Kind::Live if listed.complete => self.follow_missing(look, &mut follow_up, now),
            Kind::Moved if listed.complete => self.infer_running(look, &mut follow_up, effects, now),
            // What it doesn't show, or would have shown further on, is asked for by itself.
            Kind::Ended => self.describe_missing(look, &mut follow_up, now),
            Kind::Live | Kind::Moved | Kind::Hinted => {}
        }
        follow_up.describe.truncate(MOST_DESCRIBED);
        follow_up
    }

    /// Tracked runs that were there when the list was asked for and that it didn't show.
    fn missing<'a>(&'a self, look: &'a Look) -> impl Iterator<Item = (&'a String, &'a Run)> {
        self.runs.iter().filter(|(_, run)| run.added_in < look.number && run.seen_in != look.number)
    }

    /// After a live look: what is missing has ended, or is so new that lists don't have it yet.
    fn follow_missing(&self, look: &Look, follow_up: &mut FollowUp, now: Timestamp) {
        // Those for whom the list is too long are described, also after a list for the others.
        let missing: Vec<_> = self
            .missing(look)
            .filter(|(_, run)| !run.seen || run.may_be_described(now))
            .filter(|(_, run)| !self.sizes.is_too_long(run.born, now))
            .collect();
        let Some(oldest) = missing.iter().map(|(_, run)| run.born).min() else {
            return self.describe_missing(look, follow_up, now);
        };
        if self.sizes.are_few(missing.len(), oldest, now)
            && missing.iter().all(|(_, run)| run.may_be_described(now))
        {
            return self.describe_missing(look, follow_up, now);
        }
        let max_pages = self.sizes.pages_worth_a_try(missing.len(), oldest, now);
        // The same number: what the live look has shown isn't missing in this one.
        let created_after = back(oldest, SLACK);
        follow_up.list = Some(Look { kind: Kind::Ended, created_after, max_pages, ..look.clone() });
    }

    /// Asks for what a list didn't show, the oldest first: the list of what is left gets shorter with each.
    fn describe_missing(&self, look: &Look, follow_up: &mut FollowUp, now: Timestamp) {
        let mut missing: Vec<_> = self.missing(look).filter(|(_, run)| run.may_be_described(now)).collect();
        missing.sort_unstable_by_key(|(_, run)| run.born);
        follow_up.describe.extend(missing.into_iter().map(|(id, _)| id.clone()));
    }

    /// After a moved look: what is missing runs.
    fn infer_running(
        &mut self,
        look: &Look,
        follow_up: &mut FollowUp,
        effects: &mut Effects,
        now: Timestamp,
    ) {
        let mut running = Vec::new();
        for (id, run) in self.missing(look) {
            let is_odd = !run.last.state.is_empty() && !LIVE.contains(&run.last.state.as_str());
            if is_odd && run.may_be_described(now) {
                follow_up.describe.push(id.clone());
            } else if !is_odd && (run.seen || since(run.tracked_at, look.started) >= RUNNING_AFTER) {
                running.push(id.clone());
            }
        }
        for id in running {
            let Some(run) = self.runs.get(&id) else { continue };
            if run.last.state != RUNNING {
                let observed = Observed {
                    state: RUNNING.to_owned(),
                    created_at: run.last.created_at,
                    attempts: run.last.attempts,
                    ..Observed::default()
                };
                self.learn(&id, observed, effects, now);
            }
        }
    }

    /// What decides when to look again.
    pub(super) fn activity(&self, now: Timestamp) -> Activity {
        let youngest = self.runs.values().map(|run| run.changed_at).max();
        let soon = |run: &Run| run.last.state != RUNNING && since(run.changed_at, now) < MOVES_SOON_FOR;
        Activity {
            quiet: youngest.map(|at| since(at, now)).unwrap_or_default(),
            about_to_move: self.runs.values().any(soon),
            ends: self.ends.iter().filter(|at| since(**at, now) <= FLOW_WINDOW).count(),
            pages: self.sizes.last_pages(),
            told: false,
        }
    }

    /// The clock was set back: what was noted by it before is as of now, since waits would else last until it is there
    /// again.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.runs.values_mut().for_each(|run| run.set_back(now));
        self.ends
            .iter_mut()
            .chain(self.confirmed.as_mut().map(|(_, at)| at))
            .for_each(|at| *at = now.min(*at));
        self.sizes.set_back(now);
    }

    /// The runs to ask for one by one when lists are refused because the virtual cluster isn't known.
    pub(super) fn some(&self, now: Timestamp) -> Vec<String> {
        let due = self.runs.iter().filter(|(_, run)| run.may_be_described(now));
        due.map(|(id, _)| id.clone()).take(MOST_DESCRIBED).collect()
    }
}

#[cfg(test)]
#[path = "poll_tests.rs"]
mod tests;

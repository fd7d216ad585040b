//! What a hint means for the runs of a virtual cluster, and how an end that was hinted at is confirmed. Pure.
//!
//! A hint moves a live run forward at once: to SUBMITTED or RUNNING, never back, and a list may contradict it a little
//! later. An end is never taken from a hint: the service is asked, and only its answer ends the run. Invariant: what a
//! hint says that isn't so is corrected by the next look, and costs a few calls at most.

use std::time::Duration;

use jiff::Timestamp;

use super::model::JobRun;
use super::poll_look::{Kind, Look, SLACK};
use super::poll_pace::since;
use super::poll_plan::{Book, Effects};
use super::poll_run::{CANCEL_PENDING, ENDED, Observed, PENDING, RUNNING, Run, SUBMITTED, back};

/// For so long after a hint a list that shows an earlier state is behind, and not right.
const LISTS_BEHIND_FOR: Duration = Duration::from_secs(15);
/// When an end that the service doesn't confirm is asked for again: it may be behind its own event.
const ASK_AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// For so long no hint of an end is followed after one wasn't confirmed.
const DEAF_FOR: Duration = Duration::from_mins(1);
/// Up to so many ends are asked for one by one; a list tells more of them at once.
const FEW: usize = 3;
/// Not more than this after one another, so that a look isn't held up.
const MOST: usize = 20;

/// What became of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A live run has moved.
    Moved,
    /// A run is said to have ended: the service is to be asked.
    Ending,
    /// It says nothing new.
    Known,
    /// There is no such run that lives.
    Untracked,
}

/// An end that a hint told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    due: Timestamp,
    asked: usize,
}

/// What hints have said of a run.
#[derive(Debug, Default)]
pub(super) struct Hinted {
    /// When it was moved by a hint.
    moved_at: Option<Timestamp>,
    ending: Option<Ending>,
    deaf_since: Option<Timestamp>,
}

impl Hinted {
    /// Whether a hint has told that the run has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn set_back(&mut self, now: Timestamp) {
        let due = self.ending.as_mut().map(|ending| &mut ending.due);
        let noted = [self.moved_at.as_mut(), self.deaf_since.as_mut(), due];
        noted.into_iter().flatten().for_each(|at| *at = now.min(*at));
    }
}

/// How ends are confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Confirm {
    /// By DescribeJobRun.
    Describe(Vec<String>),
    /// By a list, and then by DescribeJobRun for those that it doesn't show.
    List(Look),
}

/// How far a run in this state has come; nothing for a state that we don't know.
fn progress(state: &str) -> Option<u8> {
    let order = ["", PENDING, SUBMITTED, RUNNING, CANCEL_PENDING];
    order.iter().position(|known| *known == state).and_then(|at| u8::try_from(at).ok())
}

/// Whether a live state can't be right, because a hint has just told a later one.
pub(super) fn is_behind(run: &Run, observed: &Observed, now: Timestamp) -> bool {
    run.hinted.moved_at.is_some_and(|at| since(at, now) < LISTS_BEHIND_FOR)
        && progress(&observed.state).is_some_and(|seen| Some(seen) < progress(&run.last.state))
}

impl Book {
    /// Takes in what a hint says of a run.
    pub(super) fn hear(&mut self, run_id: &str, state: &str, effects: &mut Effects, now: Timestamp) -> Heard {
        let Some(run) = self.runs.get_mut(run_id) else { return Heard::Untracked };
        if ENDED.contains(&state) {
            let deaf = run.hinted.deaf_since.is_some_and(|at| since(at, now) < DEAF_FOR);
            if deaf || run.hinted.is_ending() {
                return Heard::Known;
            }
            run.hinted.ending = Some(Ending { due: now, asked: 0 });
            return Heard::Ending;
        }
        let is_ahead = progress(state) > progress(&run.last.state) && progress(&run.last.state).is_some();
        if !is_ahead || !matches!(state, SUBMITTED | RUNNING) {
            return Heard::Known;
        }
        run.last = Observed {
            state: state.to_owned(),
            created_at: run.last.created_at,
            attempts: run.last.attempts,
            ..Observed::default()
        };
        run.seeded = false;
        run.changed_at = now;
        run.hinted.moved_at = Some(now);
        effects.changed.push(run.key.clone());
        Heard::Moved
    }

    /// When an end is to be confirmed next.
    pub(super) fn next_confirmation(&self) -> Option<Timestamp> {
        self.runs.values().filter_map(|run| run.hinted.ending).map(|ending| ending.due).min()
    }

    /// Which ends to confirm now, and how.
    pub(super) fn confirm(&mut self, now: Timestamp) -> Confirm {
        let mut due: Vec<_> = self
            .runs
            .iter()
            .filter_map(|(id, run)| Some((run.hinted.ending?, id, run.born)))
            .filter(|(ending, ..)| ending.due <= now)
            .collect();
        // What was asked for already isn't in the list, or the list is behind.
        let fresh: Vec<_> = due.iter().filter(|(ending, ..)| ending.asked == 0).collect();
        if fresh.len() > FEW
            && let Some(oldest) = fresh.iter().map(|(.., born)| *born).min()
            && let Some(pages) = self.sizes.moved_pages(oldest, now)
            && (pages as usize) < fresh.len()
        {
            let created_after = back(oldest, SLACK);
            // It ends no look, so its number doesn't count.
            return Confirm::List(Look {
                kind: Kind::Hinted,
                created_after,
                max_pages: pages.saturating_mul(2),
                number: 0,
                started: now,
            });
        }
        due.sort_by_key(|(ending, ..)| ending.due);
        Confirm::Describe(due.into_iter().take(MOST).map(|(_, id, _)| id.clone()).collect())
    }

    /// Takes in one item of the list by which ends are confirmed. A failure without its reason is left to DescribeJobRun.
    pub(super) fn listed_as_ended(&mut self, item: &JobRun, effects: &mut Effects, now: Timestamp) {
        if !Observed::of(item).lacks_reason() {
            self.described(&item.id, Some(item), effects, now);
        }
    }

    /// Ends that list: those that it didn't show are asked for one by one.
    pub(super) fn unlisted(&self, now: Timestamp) -> Vec<String> {
        let left =
            self.runs.iter().filter(|(_, run)| run.hinted.ending.is_some_and(|ending| ending.due <= now));
        left.map(|(id, _)| id.clone()).take(MOST).collect()
    }

    /// Takes in what the service says of a run that is said to have ended; nothing when it gave no answer or doesn't know
    /// the run, which looks judge. Returns false when the hint is given up.
    pub(super) fn confirmed(
        &mut self,
        run_id: &str,
        answer: Option<&JobRun>,
        effects: &mut Effects,
        now: Timestamp,
    ) -> bool {
        if answer.is_some() {
            self.described(run_id, answer, effects, now);
        }
        let Some(run) = self.runs.get_mut(run_id) else { return true };
        let Some(ending) = &mut run.hinted.ending else { return true };
        if let Some(wait) = ASK_AGAIN.get(ending.asked) {
            ending.due = now + *wait;
            ending.asked += 1;
            return true;
        }
        run.hinted.ending = None;
        run.hinted.deaf_since = Some(now);
        false
    }
}

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
use super::poll_pace::{Activity, FLOW_WINDOW, since};
use super::queue::RunKey;

/// The states of a run that hasn't ended.
pub(super) const LIVE: [&str; 4] = ["PENDING", "SUBMITTED", "RUNNING", "CANCEL_PENDING"];
/// The states of a run that has ended.
pub(super) const ENDED: [&str; 3] = ["COMPLETED", "FAILED", "CANCELLED"];
/// All states but RUNNING.
const MOVED: [&str; 6] = ["PENDING", "SUBMITTED", "CANCEL_PENDING", "COMPLETED", "FAILED", "CANCELLED"];
const RUNNING: &str = "RUNNING";
const FAILED: &str = "FAILED";

/// Times in lists have whole seconds, and filters may or may not include their bound.
const SLACK: Duration = Duration::from_secs(2);
/// By how much the clocks of AWS and ours may differ. It only matters for a run whose time of creation isn't known yet.
const CLOCK_SLACK: Duration = Duration::from_secs(120);
/// Lists may lag: from this age on, a run that no list has shown and that hasn't ended or waited is taken as running.
const RUNNING_AFTER: Duration = Duration::from_secs(5);
/// From this age on, a run that no list has shown is asked for by itself.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// How long an answer of DescribeJobRun about a live run holds, when lists keep leaving the run out.
const DESCRIBED_FOR: Duration = Duration::from_secs(15);
/// For how long a run that waits or is being cancelled is expected to move any second.
const MOVES_SOON_FOR: Duration = Duration::from_secs(60);
/// A live look is due after so many looks or so long.
const CONFIRM_AFTER_LOOKS: u32 = 60;
const CONFIRM_AFTER: Duration = Duration::from_secs(600);
/// A guess at the page size of lists until a list has had two pages.
const PAGE: usize = 100;
/// How many runs are described after a look at most; the others are after the next.
const MOST_DESCRIBED: usize = 50;
/// Up to so many missing runs are described when it isn't known how long the list of ended ones is.
const FEW: usize = 3;

/// A run to track.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The object that is woken.
    pub key: RunKey,
    /// The id of the run.
    pub run_id: String,
    /// The state that its status shows; none when it was started just now.
    pub state: Option<String>,
    /// When the service created it, if the service has said so.
    pub created_at: Option<Timestamp>,
}

/// What the service last said of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The state, verbatim.
    pub state: String,
    /// The state in words.
    pub state_details: Option<String>,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How often its driver has been tried.
    pub attempts: Option<i32>,
}

impl Observed {
    /// Whether the run has ended.
    pub fn has_ended(&self) -> bool {
        ENDED.contains(&self.state.as_str())
    }

    fn of(run: &JobRun) -> Self {
        Self {
            state: run.state.clone(),
            state_details: run.state_details.clone(),
            failure_reason: run.failure_reason.clone(),
            created_at: run.created_at,
            finished_at: run.finished_at,
            attempts: run.attempts,
        }
    }
}

#[derive(Debug)]
struct Run {
    key: RunKey,
    last: Observed,
    /// Created then at the earliest.
    born: Timestamp,
    tracked_at: Timestamp,
    changed_at: Timestamp,
    /// A list or its status has shown it.
    seen: bool,
    /// What is known comes from its status alone, which has no details of a live run.
    seeded: bool,
    /// The look during or after which it was added.
    added_in: u64,
    seen_in: u64,
    described_at: Option<Timestamp>,
}

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Live runs.
    Live,
    /// All but running ones.
    Moved,
    /// Ended ones, after a live look that missed some.
    Ended,
}

/// One list to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) kind: Kind,
    pub(super) created_after: Timestamp,
    pub(super) max_pages: u32,
    number: u64,
    started: Timestamp,
}

impl Look {
    pub(super) fn states(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Live => &LIVE,
            Kind::Moved => &MOVED,
            Kind::Ended => &ENDED,
        }
    }
}

/// How a list went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    pub(super) items: usize,
    pub(super) pages: u32,
    pub(super) complete: bool,
}

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Live runs with something new.
    pub(super) changed: Vec<RunKey>,
    /// Runs that have ended, or are gone, and are tracked no more.
    pub(super) ended: Vec<(RunKey, Option<Observed>)>,
}

/// What to ask after a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FollowUp {
    pub(super) list: Option<Look>,
    pub(super) describe: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    items: usize,
    since: Timestamp,
    complete: bool,
    at: Timestamp,
}

/// The live runs of one virtual cluster.
#[derive(Debug, Default)]
pub(super) struct Book {
    runs: HashMap<String, Run>,
    looks: u64,
    confirmed: Option<(u64, Timestamp)>,
    live_items: usize,
    moved_items: Option<Estimate>,
    page: usize,
    ends: VecDeque<Timestamp>,
    last_pages: u32,
    /// Ended by a list that doesn't say why.
    unexplained: Vec<String>,
}

impl Book {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &RunKey> {
        self.runs.values().map(|run| &run.key)
    }

    /// What AWS has said of a run since it is tracked.
    pub(super) fn observed(&self, run_id: &str) -> Option<&Observed> {
        self.runs.get(run_id).filter(|run| !run.seeded).map(|run| &run.last)
    }

    /// Adds a run; one that is there already stays as it is.
    pub(super) fn track(&mut self, tracked: Tracked, now: Timestamp) -> bool {
        if self.runs.contains_key(&tracked.run_id) {
            return false;
        }
        let seen = tracked.state.is_some();
        let last = Observed {
            state: tracked.state.unwrap_or_default(),
            created_at: tracked.created_at,
            ..Observed::default()
        };
        let run = Run {
            key: tracked.key,
            last,
            born: tracked.created_at.unwrap_or_else(|| back(now, CLOCK_SLACK)),
            tracked_at: now,
            changed_at: now,
            seen,
            seeded: true,
            added_in: self.looks,
            seen_in: 0,
            described_at: None,
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
        let live_pages = self.pages(self.live_items.max(1));
        let (kind, max_pages) = if self.wants_live(now) {
            (Kind::Live, u32::MAX)
        } else {
            match self.moved_estimate(oldest, now) {
                // Unknown: worth as many pages as the other look takes, and a bit.
                None => (Kind::Moved, live_pages.saturating_add(2)),
                Some(items) => {
                    let pages = self.pages(items);
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
        !self.activity(now).is_flow()
            && self.live_items <= self.page()
            && self.runs.values().any(|run| !run.seen)
    }

    /// How many items a moved look would have; `None` when that is anyone's guess.
    fn moved_estimate(&self, oldest: Timestamp, now: Timestamp) -> Option<usize> {
        let estimate = self.moved_items?;
        if !estimate.complete {
            let holds = oldest <= estimate.since && since(estimate.at, now) < CONFIRM_AFTER;
            return holds.then_some(estimate.items);
        }
        let then = since(estimate.since, now).as_millis().max(1);
        let span = since(oldest, now).as_millis().min(then);
        let scaled = estimate.items as u128 * span / then;
        usize::try_from(scaled).ok()
    }

    fn page(&self) -> usize {
        if self.page == 0 { PAGE } else { self.page }
    }

    fn pages(&self, items: usize) -> u32 {
        u32::try_from(items.div_ceil(self.page()).max(1)).unwrap_or(u32::MAX)
    }

    /// Takes in one item of a list.
    pub(super) fn absorb(&mut self, look: &Look, item: &JobRun, effects: &mut Effects, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&item.id) else { return };
        run.seen_in = look.number;
        let observed = Observed::of(item);
        if observed.state == FAILED && observed.failure_reason.is_none() {
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
            self.learn(run_id, Observed::of(item), effects, now);
        } else if let Some(run) = self.runs.remove(run_id) {
            effects.ended.push((run.key, None));
        }
    }

    fn learn(&mut self, run_id: &str, mut observed: Observed, effects: &mut Effects, now: Timestamp) {
        if observed.has_ended() {
            if let Some(run) = self.runs.remove(run_id) {
                self.ends.push_back(now);
                effects.ended.push((run.key, Some(observed)));
            }
            return;
        }
        let Some(run) = self.runs.get_mut(run_id) else { return };
        observed.created_at = observed.created_at.or(run.last.created_at);
        run.born = observed.created_at.unwrap_or(run.born);
        run.seen = true;
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
        self.count(look, listed, now);
        let mut follow_up = FollowUp { list: None, describe: std::mem::take(&mut self.unexplained) };
        if listed.complete {
            match look.kind {
                Kind::Live => self.follow_missing(look, &mut follow_up, now),
                Kind::Moved => self.infer_running(look, &mut follow_up, effects, now),
                Kind::Ended => {
                    let lost = self.missing(look).filter(|(_, run)| run.may_be_described(now));
                    follow_up.describe.extend(lost.map(|(id, _)| id.clone()));
                }
            }
        }
        follow_up.describe.truncate(MOST_DESCRIBED);
        follow_up
    }

    fn count(&mut self, look: &Look, listed: Listed, now: Timestamp) {
        if listed.pages > 1 && listed.complete {
            self.page = listed.items.div_ceil(listed.pages as usize).max(1);
        } else if listed.pages == 1 {
            self.page = self.page().max(listed.items);
        }
        match look.kind {
            Kind::Live => {
                self.live_items = listed.items;
                self.last_pages = listed.pages;
                self.confirmed = Some((look.number, now));
            }
            Kind::Moved => {
                self.last_pages = listed.pages;
                // A list that was left before its end has more than was read.
                let at_least = if listed.complete { 0 } else { self.page() * listed.pages as usize };
                self.moved_items = Some(Estimate {
                    items: listed.items.max(at_least),
                    since: look.created_after,
                    complete: listed.complete,
                    at: now,
                });
            }
            Kind::Ended => self.last_pages += listed.pages,
        }
        while self.ends.front().is_some_and(|at| since(*at, now) > FLOW_WINDOW) {
            self.ends.pop_front();
        }
    }

    /// Tracked runs that were there when the list was asked for and that it didn't show.
    fn missing<'a>(&'a self, look: &'a Look) -> impl Iterator<Item = (&'a String, &'a Run)> {
        self.runs.iter().filter(|(_, run)| run.added_in < look.number && run.seen_in != look.number)
    }

    /// After a live look: what is missing has ended, or is so new that lists don't have it yet.
    fn follow_missing(&self, look: &Look, follow_up: &mut FollowUp, now: Timestamp) {
        let missing: Vec<_> =
            self.missing(look).filter(|(_, run)| !run.seen || run.may_be_described(now)).collect();
        let Some(oldest) = missing.iter().map(|(_, run)| run.born).min() else { return };
        let few = self.moved_estimate(oldest, now).map_or(FEW, |items| self.pages(items) as usize - 1);
        if missing.len() <= few && missing.iter().all(|(_, run)| run.may_be_described(now)) {
            follow_up.describe.extend(missing.into_iter().map(|(id, _)| id.clone()));
            return;
        }
        // The same number: what the live look has shown isn't missing in this one.
        let created_after = back(oldest, SLACK);
        follow_up.list = Some(Look { kind: Kind::Ended, created_after, max_pages: u32::MAX, ..look.clone() });
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
            pages: self.last_pages,
        }
    }

    /// The runs to ask for one by one when lists are refused because the virtual cluster isn't known.
    pub(super) fn some(&self, now: Timestamp) -> Vec<String> {
        let due = self.runs.iter().filter(|(_, run)| run.may_be_described(now));
        due.map(|(id, _)| id.clone()).take(MOST_DESCRIBED).collect()
    }
}

impl Run {
    /// Whether a list would have shown it by now, and DescribeJobRun hasn't just been asked.
    fn may_be_described(&self, now: Timestamp) -> bool {
        (self.seen || since(self.tracked_at, now) >= LOST_AFTER)
            && self.described_at.is_none_or(|at| since(at, now) >= DESCRIBED_FOR)
    }
}

fn back(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::UNIX_EPOCH)
}

//! The lists that can be asked for, and how many pages each would take.

use std::time::Duration;

use jiff::Timestamp;

use super::poll_pace::since;
use super::poll_run::{ENDED, LIVE, back};

/// All states but RUNNING.
const MOVED: [&str; 6] = ["PENDING", "SUBMITTED", "CANCEL_PENDING", "COMPLETED", "FAILED", "CANCELLED"];
/// Times in lists have whole seconds, and filters may or may not include their bound.
pub(super) const SLACK: Duration = Duration::from_secs(2);
/// A guess at the page size of lists until a list has had two pages.
const PAGE: usize = 100;
/// A list of what was created in so long is worth a try, even if a longer one was too long.
const SHORT: Duration = Duration::from_mins(10);
/// For how long it holds that a list was too long to be read to its end.
pub(super) const TOO_LONG_FOR: Duration = Duration::from_mins(10);

/// Up to so many missing runs are described when it isn't known how long the list of ended ones is.
const FEW: usize = 3;
/// How many pages of a list of unknown length are worth a try: at least what takes two seconds of its quota, for many
/// missing runs what takes as long as to describe them, which has four times the quota; at most what its bucket holds.
const PAGES_WORTH_A_TRY: (u32, u32) = (10, 100);
const DESCRIBED_IN_THE_TIME_OF_A_PAGE: usize = 4;

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Live runs.
    Live,
    /// All but running ones.
    Moved,
    /// Ended ones, after a live look that missed some.
    Ended,
    /// Ended ones, after hints that they have ended. It is no look of its own: it shows nothing but that.
    Hinted,
}

impl Kind {
    /// Its name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Moved => "moved",
            Self::Ended => "ended",
            Self::Hinted => "hinted",
        }
    }
}

/// One list to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) kind: Kind,
    pub(super) created_after: Timestamp,
    pub(super) max_pages: u32,
    pub(super) number: u64,
    pub(super) started: Timestamp,
}

impl Look {
    pub(super) const fn states(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Live => &LIVE,
            Kind::Moved => &MOVED,
            Kind::Ended | Kind::Hinted => &ENDED,
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

#[derive(Clone, Copy, Debug)]
struct Estimate {
    items: usize,
    since: Timestamp,
    complete: bool,
    at: Timestamp,
}

/// What former lists say of the length of the next ones.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    live: usize,
    moved: Option<Estimate>,
    page: Option<usize>,
    last_pages: u32,
}

impl Sizes {
    /// How many pages so many items take.
    pub(super) fn pages(&self, items: usize) -> u32 {
        u32::try_from(items.div_ceil(self.page()).max(1)).unwrap_or(u32::MAX)
    }

    /// How many pages a live look takes.
    pub(super) fn live_pages(&self) -> u32 {
        self.pages(self.live)
    }

    /// How many pages the last look took, with what followed.
    pub(super) const fn last_pages(&self) -> u32 {
        self.last_pages
    }

    /// How many pages a moved look takes; `None` when that is anyone's guess.
    pub(super) fn moved_pages(&self, oldest: Timestamp, now: Timestamp) -> Option<u32> {
        let estimate = self.moved.filter(|estimate| oldest >= estimate.since || !estimate.complete)?;
        if !estimate.complete {
            let holds = oldest <= estimate.since && since(estimate.at, now) < TOO_LONG_FOR;
            return holds.then(|| self.pages(estimate.items));
        }
        // As if runs had been created evenly since then.
        let then = since(estimate.since, now).as_millis().max(1);
        let span = since(oldest, now).as_millis().min(then);
        usize::try_from(estimate.items as u128 * span / then).ok().map(|items| self.pages(items))
    }

    /// Whether the list of what has ended since then was too long to be read to its end, some time ago.
    pub(super) fn is_too_long(&self, oldest: Timestamp, now: Timestamp) -> bool {
        self.moved.is_some_and(|estimate| !estimate.complete) && self.moved_pages(oldest, now).is_some()
    }

    /// Whether to describe so many runs, the oldest of which was created then, costs less than to list what has ended.
    pub(super) fn are_few(&self, runs: usize, oldest: Timestamp, now: Timestamp) -> bool {
        let few = match self.moved_pages(oldest, now) {
            Some(pages) => pages as usize - 1,
            None if since(oldest, now) < SHORT => 0,
            None => FEW,
        };
        runs <= few
    }

    /// How many pages of the list of what has ended are worth a try for so many runs; the rest of them is described then.
    pub(super) fn pages_worth_a_try(&self, runs: usize, oldest: Timestamp, now: Timestamp) -> u32 {
        let (least, most) = PAGES_WORTH_A_TRY;
        let in_their_time = u32::try_from(runs / DESCRIBED_IN_THE_TIME_OF_A_PAGE).unwrap_or(most);
        let known = self.moved_pages(oldest, now).unwrap_or_default().saturating_mul(2);
        in_their_time.clamp(least, most).max(known)
    }

    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.moved = self.moved.filter(|estimate| estimate.at <= now);
    }

    /// Learns from a list.
    pub(super) fn count(&mut self, look: &Look, listed: Listed, now: Timestamp) {
        let pages = listed.pages as usize;
        if let Some(full) = pages.checked_sub(1).filter(|full| *full > 0 && listed.complete) {
            // All pages but the last are full.
            let (least, most) = (listed.items.div_ceil(pages), listed.items / full);
            self.page = Some(self.page().clamp(least, most.max(least)).max(1));
        } else if pages == 1 {
            self.page = Some(self.page().max(listed.items));
        }
        let since = look.created_after + SLACK;
        match look.kind {
            Kind::Hinted => {}
            Kind::Live => {
                self.live = listed.items;
                self.last_pages = listed.pages;
            }
            Kind::Moved => {
                self.last_pages = listed.pages;
                // A list that was left before its end has more than was read.
                let at_least = if listed.complete { 0 } else { self.page() * pages };
                let items = listed.items.max(at_least);
                self.moved = Some(Estimate { items, since, complete: listed.complete, at: now });
            }
            Kind::Ended => {
                self.last_pages += listed.pages;
                if !listed.complete {
                    // Of the last minutes it may still be read.
                    let since = since.max(back(now, SHORT));
                    let items = listed.items.max(self.page() * pages);
                    self.moved = Some(Estimate { items, since, complete: false, at: now });
                } else if self.moved.is_none_or(|known| known.since >= since) {
                    // Nearly a moved look, as far as there is nothing better.
                    self.moved = Some(Estimate { items: listed.items, since, complete: true, at: now });
                }
            }
        }
    }

    fn page(&self) -> usize {
        self.page.unwrap_or(PAGE)
    }
}

#[cfg(test)]
#[path = "poll_look_tests.rs"]
mod tests;

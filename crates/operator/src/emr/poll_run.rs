//! A run that is tracked, and what is known of it.

use std::time::Duration;

use jiff::Timestamp;

use super::model::JobRun;
use super::poll_hint::Hinted;
use super::poll_pace::since;
use super::queue::RunKey;

/// The states of a run that hasn't ended.
pub(super) const LIVE: [&str; 4] = [PENDING, SUBMITTED, RUNNING, CANCEL_PENDING];
/// The states of a run that has ended.
pub(super) const ENDED: [&str; 3] = ["COMPLETED", "FAILED", "CANCELLED"];
pub(super) const PENDING: &str = "PENDING";
pub(super) const SUBMITTED: &str = "SUBMITTED";
pub(super) const RUNNING: &str = "RUNNING";
pub(super) const CANCEL_PENDING: &str = "CANCEL_PENDING";
pub(super) const FAILED: &str = "FAILED";
/// From this age on, a run that no list has shown is looked for, and asked for by itself if it isn't found. Its time of
/// creation may be another than we think: a repeated StartJobRun gives the run of the first one.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(10);
/// How long an answer of DescribeJobRun about a live run holds, when lists keep leaving the run out.
const DESCRIBED_FOR: Duration = Duration::from_secs(15);

/// A run to track.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// The object that is woken.
    pub key: RunKey,
    /// The id of the run.
    pub run_id: String,
    /// The state that its status shows; an equal one wakes nobody.
    pub state: Option<String>,
    /// Whether it was started just now: then lists may not show it yet, and its state is a guess.
    pub just_started: bool,
    /// When the service created it, as far as known. It doesn't count for a run that was started just now.
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

    /// Whether it says that the run failed and not why, as lists may.
    pub(super) fn lacks_reason(&self) -> bool {
        self.state == FAILED && self.failure_reason.is_none()
    }

    /// What a list or DescribeJobRun says of a run.
    pub fn of(run: &JobRun) -> Self {
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
pub(super) struct Run {
    pub(super) key: RunKey,
    pub(super) last: Observed,
    /// Created then at the earliest.
    pub(super) born: Timestamp,
    pub(super) tracked_at: Timestamp,
    pub(super) changed_at: Timestamp,
    /// An answer or its status has shown it, so that it is known when it was created.
    pub(super) seen: bool,
    /// What is known comes from its status alone, which has no details of a live run.
    pub(super) seeded: bool,
    /// The look during or after which it was added.
    pub(super) added_in: u64,
    pub(super) seen_in: u64,
    pub(super) described_at: Option<Timestamp>,
    pub(super) hinted: Hinted,
}

impl Run {
    /// Whether a list would have shown it by now, and DescribeJobRun hasn't just been asked.
    pub(super) fn may_be_described(&self, now: Timestamp) -> bool {
        (self.seen || since(self.tracked_at, now) >= LOST_AFTER)
            && self.described_at.is_none_or(|at| since(at, now) >= DESCRIBED_FOR)
    }

    pub(super) fn set_back(&mut self, now: Timestamp) {
        let noted =
            [&mut self.tracked_at, &mut self.changed_at].into_iter().chain(self.described_at.as_mut());
        noted.chain((!self.seen).then_some(&mut self.born)).for_each(|at| *at = now.min(*at));
        self.hinted.set_back(now);
    }
}

pub(super) fn back(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::UNIX_EPOCH)
}

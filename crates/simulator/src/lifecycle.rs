//! The life cycle of one job run: its states, and which follow which.
//!
//! Pure: no clock, no I/O, no other run. Invariant: a final state is never left.

use std::time::Duration;

/// A job run's state, as the service model names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum JobState {
    Pending,
    Submitted,
    Running,
    CancelPending,
    Completed,
    Failed,
    Cancelled,
}

impl JobState {
    pub(crate) const ALL: [Self; 7] = [
        Self::Pending,
        Self::Submitted,
        Self::Running,
        Self::CancelPending,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    pub(crate) const NAMES: [&str; 7] =
        ["PENDING", "SUBMITTED", "RUNNING", "CANCEL_PENDING", "COMPLETED", "FAILED", "CANCELLED"];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Submitted => "SUBMITTED",
            Self::Running => "RUNNING",
            Self::CancelPending => "CANCEL_PENDING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    pub(crate) fn is_cancellable(self) -> bool {
        matches!(self, Self::Pending | Self::Submitted | Self::Running)
    }

    /// Whether the service moves a run from this state to `next`.
    pub(crate) fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => {
                matches!(next, Self::Submitted | Self::Failed | Self::CancelPending)
            }
            Self::Submitted => matches!(next, Self::Running | Self::Failed | Self::CancelPending),
            Self::Running => matches!(next, Self::Completed | Self::Failed | Self::CancelPending),
            Self::CancelPending => matches!(next, Self::Completed | Self::Failed | Self::Cancelled),
            Self::Completed | Self::Failed | Self::Cancelled => false,
        }
    }
}

/// Who wins when a run that is being cancelled reaches its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelRace {
    /// Whichever is due first.
    #[default]
    First,
    /// The cancellation, also when the run would have ended before it.
    Cancel,
    /// The run, however long it still takes.
    Completion,
}

/// How a run will go, fixed when it is accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) pending_for: Duration,
    pub(crate) submitted_for: Duration,
    pub(crate) running_for: Duration,
    pub(crate) cancel_for: Duration,
    /// The state that the run fails in; otherwise it goes through all of them.
    pub(crate) fails_in: Option<JobState>,
    pub(crate) end: JobState,
    pub(crate) failure_reason: Option<String>,
    pub(crate) state_details: Option<String>,
    pub(crate) race: CancelRace,
}

impl Plan {
    /// How long the run stays in `state` if nothing interferes.
    pub(crate) fn stay(&self, state: JobState) -> Option<Duration> {
        match state {
            JobState::Pending => Some(self.pending_for),
            JobState::Submitted => Some(self.submitted_for),
            JobState::Running => Some(self.running_for),
            JobState::CancelPending => Some(self.cancel_for),
            JobState::Completed | JobState::Failed | JobState::Cancelled => None,
        }
    }

    /// What follows `state` when its time is up.
    pub(crate) fn next(&self, state: JobState) -> Option<JobState> {
        if self.fails_in == Some(state) {
            return Some(JobState::Failed);
        }
        match state {
            JobState::Pending => Some(JobState::Submitted),
            JobState::Submitted => Some(JobState::Running),
            JobState::Running => Some(self.end),
            JobState::CancelPending => Some(JobState::Cancelled),
            JobState::Completed | JobState::Failed | JobState::Cancelled => None,
        }
    }
}

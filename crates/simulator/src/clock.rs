//! The simulator's time: the wall clock, or one that moves only when told to.
//!
//! Must not sleep or start timers: state follows from the time at which it is asked for.
//! Invariant: `now` never goes back, so resources sorted by creation stay sorted.

use std::time::Duration;

use jiff::Timestamp;

/// Which clock drives life cycles and quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClockMode {
    /// The wall clock, plus what was advanced.
    Real,
    /// Starts at the wall clock's time and stands still until it is advanced.
    Virtual,
}

#[derive(Debug)]
pub(crate) struct Clock {
    mode: ClockMode,
    started: Timestamp,
    advanced: Duration,
    latest: Timestamp,
}

impl Clock {
    pub(crate) fn new(mode: ClockMode) -> Self {
        let started = Timestamp::now();
        Self { mode, started, advanced: Duration::ZERO, latest: started }
    }

    pub(crate) fn now(&mut self) -> Timestamp {
        let base = match self.mode {
            ClockMode::Real => Timestamp::now(),
            ClockMode::Virtual => self.started,
        };
        self.latest = self.latest.max(later(base, self.advanced));
        self.latest
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.advanced = self.advanced.saturating_add(by);
    }
}

/// `at` plus `by`; a time beyond the calendar is the calendar's end, which is as good as never.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The API's dates have second precision.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// A duration from seconds as they come in options and rules; negative or absurd ones are refused.
pub(crate) fn seconds(value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|error| anyhow::anyhow!("{value} s is not a duration: {error}"))
}

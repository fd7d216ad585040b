//! The wait before a watch that failed is tried again: kube's, with a shorter bound.
//!
//! kube's grows up to a minute with its jitter, and it goes on growing when the API server is back and only the version
//! to watch from is too old. Nothing is started in that time. Must not wait longer than [`timing::WATCH_RETRY`].

use std::time::Duration;

use kube_runtime::utils::Backoff;
use kube_runtime::watcher::DefaultBackoff;

use crate::timing;

/// kube's wait, cut off.
#[derive(Default)]
pub struct WatchBackoff(DefaultBackoff);

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|wait| wait.min(timing::WATCH_RETRY))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_bound_and_begins_anew_after_a_success() {
        let mut backoff = WatchBackoff::default();
        let waits: Vec<_> = backoff.by_ref().take(20).collect();
        assert!(waits[0] < Duration::from_secs(2), "{waits:?}");
        assert_eq!(waits[5..], [timing::WATCH_RETRY; 15]);
        backoff.reset();
        assert!(backoff.next().is_some_and(|wait| wait < Duration::from_secs(2)));
    }
}

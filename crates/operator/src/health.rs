//! Whether this process is ready and alive, as its parts tell.
//!
//! Readiness is a set of named gates, each open or closed for a reason; liveness is a set of named heartbeats, each with
//! the longest pause that is still healthy. Asks nothing itself: a part that isn't named here doesn't count. Clones
//! share their state. Invariant: a process is ready when every gate is open, and alive when every heart beat in time.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

/// Whether all is well, and the reasons, a line each as Kubernetes' own components write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether every line is good.
    pub good: bool,
    /// `[+]name ok` or `[-]name …` for each part.
    pub text: String,
}

impl Report {
    fn of(lines: impl Iterator<Item = (&'static str, Result<(), String>)>) -> Self {
        let mut report = Self { good: true, text: String::new() };
        for (name, result) in lines {
            // Writing to a String doesn't fail.
            let _ = match result {
                Ok(()) => writeln!(report.text, "[+]{name} ok"),
                Err(reason) => {
                    report.good = false;
                    writeln!(report.text, "[-]{name} {reason}")
                }
            };
        }
        report.text.push_str(if report.good { "ok\n" } else { "failed\n" });
        report
    }
}

type Gates = Arc<Mutex<Vec<(&'static str, Result<(), String>)>>>;

/// The gates that must be open before this replica counts as ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Gates,
}

/// One of the gates; it stays as it was left when the handle is dropped.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    gates: Gates,
}

impl Readiness {
    /// Adds a gate, closed with `reason`; a gate of that name that is there already is closed again.
    pub fn gate(&self, name: &'static str, reason: impl Into<String>) -> Gate {
        let gate = Gate { name, gates: Arc::clone(&self.gates) };
        gate.close(reason);
        gate
    }

    /// Which gates are open.
    pub fn report(&self) -> Report {
        Report::of(lock(&self.gates).iter().cloned())
    }
}

impl Gate {
    /// This part is ready.
    pub fn open(&self) {
        self.set(Ok(()));
    }

    /// This part is not ready; the reason says why and what would help.
    pub fn close(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    fn set(&self, state: Result<(), String>) {
        let mut gates = lock(&self.gates);
        match gates.iter_mut().find(|(name, _)| *name == self.name) {
            Some((_, current)) => *current = state,
            None => gates.push((self.name, state)),
        }
    }
}

/// The heartbeats that must go on while this process is healthy.
#[derive(Clone, Debug)]
pub struct Liveness {
    started: Instant,
    pulses: Arc<Mutex<Vec<Weak<Pulse>>>>,
}

/// A sign of life of one part; the part counts as long as a handle exists.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    started: Instant,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
struct Pulse {
    name: &'static str,
    bound: Duration,
    last_millis: AtomicU64,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { started: Instant::now(), pulses: Arc::default() }
    }
}

impl Liveness {
    /// Adds a heartbeat that just beat and may pause for `bound`.
    pub fn heartbeat(&self, name: &'static str, bound: Duration) -> Heartbeat {
        let pulse = Arc::new(Pulse { name, bound, last_millis: AtomicU64::new(0) });
        let heartbeat = Heartbeat { started: self.started, pulse: Arc::clone(&pulse) };
        heartbeat.beat();
        let mut pulses = lock(&self.pulses);
        pulses.retain(|pulse| pulse.strong_count() > 0);
        pulses.push(Arc::downgrade(&pulse));
        heartbeat
    }

    /// Which hearts beat in time.
    pub fn report(&self) -> Report {
        let now = millis(self.started.elapsed());
        let pulses: Vec<_> = lock(&self.pulses).iter().filter_map(Weak::upgrade).collect();
        Report::of(pulses.iter().map(|pulse| {
            let pause = Duration::from_millis(now.saturating_sub(pulse.last_millis.load(Ordering::Relaxed)));
            let late = format!(
                "has not moved for {} s, at most {} s are healthy",
                pause.as_secs(),
                pulse.bound.as_secs()
            );
            (pulse.name, if pause <= pulse.bound { Ok(()) } else { Err(late) })
        }))
    }
}

impl Heartbeat {
    /// This part is alive now.
    pub fn beat(&self) {
        self.pulse.last_millis.store(millis(self.started.elapsed()), Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_gate_is_open() {
        let readiness = Readiness::default();
        assert!(readiness.report().good, "nothing is waited for");
        let crds = readiness.gate("crds", "JobRun is not installed: apply manifests/crds");
        let stores = readiness.gate("stores", "the first list is not read yet");
        crds.open();
        assert_eq!(
            readiness.report(),
            Report {
                good: false,
                text: "[+]crds ok\n[-]stores the first list is not read yet\nfailed\n".to_owned()
            }
        );
        stores.open();
        assert_eq!(
            readiness.report(),
            Report { good: true, text: "[+]crds ok\n[+]stores ok\nok\n".to_owned() }
        );
        readiness.clone().gate("crds", "gone again");
        assert!(!readiness.report().good);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heart_that_stops_beating_is_named() {
        let liveness = Liveness::default();
        let poller = liveness.heartbeat("poller", Duration::from_mins(1));
        let watch = liveness.heartbeat("watch", Duration::from_mins(10));
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(liveness.report().good);
        tokio::time::advance(Duration::from_secs(1)).await;
        let report = liveness.report();
        assert!(!report.good);
        assert_eq!(
            report.text,
            "[-]poller has not moved for 61 s, at most 60 s are healthy\n[+]watch ok\nfailed\n"
        );
        poller.beat();
        assert!(liveness.report().good);
        drop(watch);
        assert_eq!(
            liveness.report().text,
            "[+]poller ok\nok\n",
            "a part that ended on purpose doesn't count"
        );
    }
}

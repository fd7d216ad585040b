//! Whether this process is ready and alive, as its parts tell.
//!
//! Readiness is a set of named gates, each open or closed for a reason; liveness is a set of parts, each of which says
//! since when it has work and when some of it is done. Not a heartbeat: a task that beats says that it runs, not that
//! anything comes of it. Asks nothing itself: a part that isn't named here doesn't count. Clones share their state.
//! Invariant: a process is ready when every gate is open, and alive when no part leaves its work lying for too long.

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

/// The parts that must get on with their work while this process is healthy.
#[derive(Clone, Debug)]
pub struct Liveness {
    started: Instant,
    parts: Arc<Mutex<Vec<Weak<Part>>>>,
}

/// Where a part says what it has to do and when it has done some of it; it counts as long as a handle exists.
#[derive(Clone, Debug)]
pub struct Work {
    started: Instant,
    part: Arc<Part>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    of: String,
    bound: Duration,
    /// Since when its next piece of work is due, or from when on; [`NOTHING`] if none is.
    due_millis: AtomicU64,
}

/// No work, so nothing has to move.
const NOTHING: u64 = u64::MAX;

impl Default for Liveness {
    fn default() -> Self {
        Self { started: Instant::now(), parts: Arc::default() }
    }
}

impl Liveness {
    /// Adds a part, which has nothing to do yet. Work that is due must move within `bound`. Parts of the same name share a
    /// line; `of` tells them apart.
    pub fn part(&self, name: &'static str, of: impl Into<String>, bound: Duration) -> Work {
        let part = Arc::new(Part { name, of: of.into(), bound, due_millis: AtomicU64::new(NOTHING) });
        let mut parts = lock(&self.parts);
        parts.retain(|part| part.strong_count() > 0);
        parts.push(Arc::downgrade(&part));
        Work { started: self.started, part }
    }

    /// Which parts move.
    pub fn report(&self) -> Report {
        let now = millis(self.started.elapsed());
        let mut lines: Vec<(&'static str, Result<(), String>)> = Vec::new();
        for part in lock(&self.parts).iter().filter_map(Weak::upgrade) {
            let result = part.check(now);
            match lines.iter_mut().find(|(name, _)| *name == part.name) {
                // One that is stuck speaks for all of its name.
                Some((_, line)) if line.is_ok() => *line = result,
                Some(_) => {}
                None => lines.push((part.name, result)),
            }
        }
        Report::of(lines.into_iter())
    }
}

impl Part {
    fn check(&self, now: u64) -> Result<(), String> {
        let late = Duration::from_millis(now.saturating_sub(self.due_millis.load(Ordering::Relaxed)));
        if late <= self.bound {
            return Ok(());
        }
        let (of, late, bound) = (&self.of, late.as_secs(), self.bound.as_secs());
        Err(format!("of {of} have had work for {late} s and have not moved, at most {bound} s are healthy"))
    }
}

impl Work {
    /// There is work to do. If there was some before, this moves nothing.
    pub fn due(&self) {
        self.part.due_millis.fetch_min(self.now(), Ordering::Relaxed);
    }

    /// All is done until then.
    pub fn due_at(&self, next: Instant) {
        let next = millis(next.saturating_duration_since(self.started));
        self.part.due_millis.store(next, Ordering::Relaxed);
    }

    /// Some of the work is done, and there is more.
    pub fn moved(&self) {
        self.part.due_millis.store(self.now(), Ordering::Relaxed);
    }

    /// All is done.
    pub fn done(&self) {
        self.part.due_millis.store(NOTHING, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
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
    async fn work_that_does_not_move_is_named_and_where_there_is_none_nothing_has_to() {
        let liveness = Liveness::default();
        let polls = ["vc1", "vc2"].map(|of| liveness.part("polls", of, Duration::from_mins(1)));
        let passes = liveness.part("passes", "JobRuns", Duration::from_mins(10));
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(liveness.report().good, "nothing is to be done");
        for part in polls.iter().chain([&passes]) {
            part.due();
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(liveness.report().good);
        polls[0].moved();
        polls[1].due();
        tokio::time::advance(Duration::from_secs(1)).await;
        let report = liveness.report();
        assert_eq!(
            report.text,
            "[-]polls of vc2 have had work for 61 s and have not moved, at most 60 s are healthy\n\
             [+]passes ok\nfailed\n",
            "more work moves nothing"
        );
        assert!(!report.good);
        polls[1].due_at(Instant::now() + Duration::from_mins(5));
        polls[0].done();
        tokio::time::advance(Duration::from_mins(6)).await;
        assert!(liveness.report().good);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!liveness.report().good, "what is due at a time is late after it");
        polls[0].due_at(Instant::now() - Duration::from_mins(2));
        polls[1].done();
        assert!(!liveness.report().good, "one that moves doesn't speak for one that is stuck");
        drop(polls);
        assert_eq!(
            liveness.report().text,
            "[+]passes ok\nok\n",
            "a part that ended on purpose doesn't count"
        );
        let _access = liveness.part("access", "", Duration::from_mins(1));
        assert_eq!(lock(&liveness.parts).len(), 2, "nothing is kept of it");
    }
}

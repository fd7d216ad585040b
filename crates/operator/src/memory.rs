//! What this process knows of an object and the API server's watch may not have told it yet.
//!
//! Must not be needed for correctness across processes: everything here can be lost in a crash, and the next process
//! comes to the same end. It saves calls (a pass that runs on a stale object would repeat StartJobRun, and be given
//! the same id). Entries go when the object leaves the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use kube::Resource;

use crate::job_run::status::Submission;

/// What this process did for one object.
#[derive(Debug)]
pub struct Memory<K> {
    /// The object as our last write returned it, until the watch has caught up.
    pub fresh: Option<Arc<K>>,
    /// The run that the service accepted, until the status says so.
    pub submission: Option<Box<Submission>>,
    /// Whether this process put the finalizer on and has not asked the service for anything since.
    pub never_started: bool,
    /// Whether this process has looked for a run that was started for the object before, or asked for it itself.
    pub sought: bool,
    /// Whether this process asked the service to cancel the run or delete the cluster.
    pub cancel_asked: bool,
    /// When this process asked the service for it last.
    pub asked_at: Option<Timestamp>,
    /// Of a run: since when a StartJobRun may have been made that had no answer which says what became of it, by this
    /// process, or by the one before if lists may lack its run. Of a cluster: when this process tried to create it last.
    pub unanswered: Option<Instant>,
    /// Of a run: since when such starts are repeated by their token without a look at lists.
    pub repeated_since: Option<Instant>,
    /// How many stood before the object in the queue for quota when its status was told.
    pub told_ahead: Option<usize>,
    /// Passes that failed in a row.
    pub failures: u32,
}

impl<K> Memory<K> {
    /// Whether it is certain that the service has started nothing for the object.
    pub fn is_unstarted(&self) -> bool {
        self.never_started || self.sought && self.unanswered.is_none()
    }

    /// Whether it says nothing beyond the defaults.
    fn is_plain(&self) -> bool {
        self.fresh.is_none()
            && self.submission.is_none()
            && !self.never_started
            && !self.sought
            && !self.cancel_asked
            && self.asked_at.is_none()
            && self.unanswered.is_none()
            && self.repeated_since.is_none()
            && self.told_ahead.is_none()
            && self.failures == 0
    }
}

impl<K> Clone for Memory<K> {
    fn clone(&self) -> Self {
        Self {
            fresh: self.fresh.clone(),
            submission: self.submission.clone(),
            never_started: self.never_started,
            sought: self.sought,
            cancel_asked: self.cancel_asked,
            asked_at: self.asked_at,
            unanswered: self.unanswered,
            repeated_since: self.repeated_since,
            told_ahead: self.told_ahead,
            failures: self.failures,
        }
    }
}

impl<K> Default for Memory<K> {
    fn default() -> Self {
        Self {
            fresh: None,
            submission: None,
            never_started: false,
            sought: false,
            cancel_asked: false,
            asked_at: None,
            unanswered: None,
            repeated_since: None,
            told_ahead: None,
            failures: 0,
        }
    }
}

/// The memory of all objects of a kind, by UID.
#[derive(Debug)]
pub struct Memories<K>(Mutex<HashMap<String, Memory<K>>>);

impl<K> Default for Memories<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Resource> Memories<K> {
    fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Memory<K>) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(uid.to_owned()).or_default())
    }

    /// What is known of an object.
    pub fn get(&self, uid: &str) -> Memory<K> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).cloned().unwrap_or_default()
    }

    /// Changes what is known of an object.
    pub fn update(&self, uid: &str, change: impl FnOnce(&mut Memory<K>)) {
        self.with(uid, change);
    }

    /// The newer of the object that the watch gave and the one that our last write returned.
    pub fn freshest(&self, seen: Arc<K>) -> Arc<K> {
        let Some(uid) = seen.meta().uid.clone() else { return seen };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(memory) = all.get_mut(&uid) else { return seen };
        match &memory.fresh {
            Some(fresh) if version(&**fresh) > version(&*seen) => Arc::clone(fresh),
            _ => {
                memory.fresh = None;
                seen
            }
        }
    }

    /// Remembers the object as a write returned it.
    pub fn wrote(&self, object: &Arc<K>) {
        if let Some(uid) = &object.meta().uid {
            self.with(uid, |memory| memory.fresh = Some(Arc::clone(object)));
        }
    }

    /// Notes that the watch has an object: what it has caught up with needn't be remembered.
    pub fn caught_up(&self, seen: &K) {
        let Some(uid) = &seen.meta().uid else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(memory) = all.get_mut(uid) else { return };
        if memory.fresh.as_ref().is_some_and(|fresh| version(&**fresh) <= version(seen)) {
            memory.fresh = None;
        }
        if memory.is_plain() {
            all.remove(uid);
        }
    }

    /// Whether the service accepted a run of which the status doesn't say so yet.
    pub fn has_submission(&self, uid: &str) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).is_some_and(|memory| memory.submission.is_some())
    }

    /// Counts a failed pass; says how many there were in a row.
    pub fn failed(&self, uid: &str) -> u32 {
        self.with(uid, |memory| {
            memory.failures = memory.failures.saturating_add(1);
            memory.failures
        })
    }

    /// Forgets an object that left the store.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Notes that a pass did what it wanted, and drops the entry once it says nothing beyond the defaults.
    pub fn succeeded(&self, uid: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = all.get_mut(uid) {
            memory.failures = 0;
            if memory.is_plain() {
                all.remove(uid);
            }
        }
    }
}

/// The resource version as a number; the API guarantees that versions of one resource can be compared that way.
pub fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;

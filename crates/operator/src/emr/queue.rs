//! Who is next when starts or cancels wait for quota: namespaces in turn, and in each namespace the greatest priority,
//! then first come, first served.
//!
//! Pure: time and tokens are arguments, nothing here waits. Invariants: a token that is taken is granted, passed on or
//! dropped, never doubled; no more of them are kept for keys than was allowed; a key that waits is served after at most
//! one key of every other namespace for each key that stands before it in its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Names an object without knowing what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunKey {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl RunKey {
    /// Names the object `namespace/name` that has this UID.
    pub fn new(uid: &str, namespace: &str, name: &str) -> Self {
        Self { uid: uid.into(), namespace: namespace.into(), name: name.into() }
    }
}

/// For how long a token is kept for a key that has been woken. A pass begins within milliseconds of its wake-up, and gives
/// back what it has no use for; this bounds what an object that vanished meanwhile can hold up.
pub(super) const RESERVED_FOR: Duration = Duration::from_secs(30);

/// Who goes first in a namespace: the greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// The call may have been made before: its object lacks nothing but the answer.
    pub repeats: bool,
    /// What the user has asked for.
    pub asked: i32,
}

/// The place in the queue of a namespace: greater priorities first, then first come, first served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<Priority>,
    arrival: u64,
}

/// The keys that wait.
#[derive(Debug, Default)]
struct FairQueue {
    namespaces: HashMap<Arc<str>, BTreeMap<Place, RunKey>>,
    turns: VecDeque<Arc<str>>,
    places: HashMap<Arc<str>, (Arc<str>, Place)>,
    arrivals: u64,
}

impl FairQueue {
    fn push(&mut self, key: RunKey, priority: Priority) {
        if let Some((namespace, place)) = self.places.get_mut(&key.uid) {
            // It came when it came: another priority is no new arrival.
            let before = std::mem::replace(&mut place.priority, Reverse(priority));
            if before != Reverse(priority)
                && let Some(keys) = self.namespaces.get_mut(namespace)
                && let Some(key) = keys.remove(&Place { priority: before, ..*place })
            {
                keys.insert(*place, key);
            }
            return;
        }
        self.arrivals += 1;
        let place = Place { priority: Reverse(priority), arrival: self.arrivals };
        self.places.insert(key.uid.clone(), (key.namespace.clone(), place));
        if !self.namespaces.contains_key(&key.namespace) {
            self.turns.push_back(key.namespace.clone());
        }
        self.namespaces.entry(key.namespace.clone()).or_default().insert(place, key);
    }

    fn pop(&mut self) -> Option<RunKey> {
        let namespace = self.turns.pop_front()?;
        let keys = self.namespaces.get_mut(&namespace)?;
        let (_, key) = keys.pop_first()?;
        if keys.is_empty() {
            self.namespaces.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        self.places.remove(&key.uid);
        Some(key)
    }

    fn remove(&mut self, uid: &str) -> bool {
        let Some((namespace, place)) = self.places.remove(uid) else { return false };
        let Some(keys) = self.namespaces.get_mut(&namespace) else { return false };
        keys.remove(&place);
        if keys.is_empty() {
            self.namespaces.remove(&namespace);
            self.turns.retain(|turn| *turn != namespace);
        }
        true
    }

    /// How many keys are served before this one if nothing else arrives, up to the order of namespaces in this round.
    fn position(&self, uid: &str) -> Option<usize> {
        let (own, place) = self.places.get(uid)?;
        let before = self.namespaces.get(own)?.range(..place).count();
        let others = self.namespaces.iter().filter(|(namespace, _)| *namespace != own);
        Some(before + others.map(|(_, keys)| keys.len().min(before + 1)).sum::<usize>())
    }
}

/// The answer to a key that wants a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted,
    Queued { position: usize },
}

/// What a round of serving has brought.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// These have a token reserved.
    pub(super) woken: Vec<RunKey>,
    /// When to serve again, at the latest; `None` when nobody waits and nothing is reserved.
    pub(super) again_in: Option<Duration>,
}

/// Those who wait for a token of one kind, and those for whom one is kept.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: FairQueue,
    /// By UID: until when.
    reserved: HashMap<Arc<str>, Duration>,
    /// So many are kept at most, if that is bounded. Who is slow to come for its token must not gather them: used all at
    /// once they would be more than a full bucket.
    keep_at_most: Option<usize>,
    /// Tokens that were taken and not used.
    returned: usize,
}

impl Turns {
    /// Keeps at most so many tokens for those whose turn has come.
    pub(super) fn keeping(at_most: Option<usize>) -> Self {
        Self { keep_at_most: at_most, ..Self::default() }
    }

    /// Grants a token that is reserved for the key, or a free one when nobody waits; else the key waits, once.
    pub(super) fn request(
        &mut self,
        key: &RunKey,
        priority: Priority,
        mut take: impl FnMut() -> Result<(), Duration>,
    ) -> Answer {
        if self.reserved.remove(&key.uid).is_some() {
            return Answer::Granted;
        }
        if self.waiting.places.is_empty() && take().is_ok() {
            return Answer::Granted;
        }
        self.waiting.push(key.clone(), priority);
        Answer::Queued { position: self.waiting.position(&key.uid).unwrap_or_default() }
    }

    /// Reserves tokens for those whose turn it is, as long as there are tokens.
    pub(super) fn serve(&mut self, now: Duration, mut take: impl FnMut() -> Result<(), Duration>) -> Served {
        let before = self.reserved.len();
        self.reserved.retain(|_, until| now < *until);
        self.returned += before - self.reserved.len();
        let mut served = Served::default();
        let most = self.keep_at_most.unwrap_or(usize::MAX);
        while !self.waiting.places.is_empty() && self.reserved.len() < most {
            if self.returned > 0 {
                self.returned -= 1;
            } else if let Err(wait) = take() {
                served.again_in = Some(wait);
                break;
            }
            let Some(key) = self.waiting.pop() else { break };
            self.reserved.insert(key.uid.clone(), now + RESERVED_FOR);
            served.woken.push(key);
        }
        if self.waiting.places.is_empty() {
            // Kept for later it would come on top of a full bucket.
            self.returned = 0;
        }
        let expiry = self.reserved.values().map(|until| until.saturating_sub(now)).min();
        served.again_in = [served.again_in, expiry].into_iter().flatten().min();
        served
    }

    /// Takes back a token that was granted and not used.
    pub(super) fn give_back(&mut self) {
        if !self.waiting.places.is_empty() {
            self.returned += 1;
        }
    }

    /// Drops a key that needs no token any more; says whether it was known.
    pub(super) fn forget(&mut self, uid: &str) -> bool {
        let waited = self.waiting.remove(uid);
        let reserved = self.reserved.remove(uid).is_some();
        if reserved {
            self.give_back();
        }
        waited || reserved
    }

    /// Whether a token is kept for the key.
    pub(super) fn keeps_for(&self, uid: &str) -> bool {
        self.reserved.contains_key(uid)
    }

    /// How many keys wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.places.len()
    }

    /// How many keys stand before this one; `None` when it doesn't wait.
    pub(super) fn position(&self, uid: &str) -> Option<usize> {
        self.waiting.position(uid)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

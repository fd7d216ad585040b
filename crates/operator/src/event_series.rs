//! Which events were sent lately, so that an equal one is counted instead of sent anew.
//!
//! Pure: time is an argument. Bounded in number as well as in age; what was forgotten is sent as a new event. Each call
//! costs the same however many events are remembered. Invariant: every entry has its latest use in `order`.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use tokio::time::Instant;

use crate::timing::EVENT_SERIES;

/// How many events are remembered: at ten runs a second and five events a run, those of the last minute and a half; an
/// entry takes about 200 bytes.
const MAX_REMEMBERED: usize = 4096;

/// What makes two events equal, as a hash: a collision would only count an event to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

/// An event that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) count: i32,
}

#[derive(Debug, Default)]
pub(crate) struct SeriesMemory {
    hasher: RandomState,
    sent: HashMap<Key, (Sent, Instant)>,
    /// Every use of an entry, oldest first; all but the latest use of a key are stale.
    order: VecDeque<(Key, Instant)>,
}

impl SeriesMemory {
    pub(crate) fn key(&self, uid: &str, reason: &str, note: &str) -> Key {
        Key(self.hasher.hash_one((uid, reason, note)))
    }

    /// The equal event that was sent within the window.
    pub(crate) fn find(&mut self, key: Key, now: Instant) -> Option<Sent> {
        self.evict(now);
        self.sent.get(&key).map(|(sent, _)| sent.clone())
    }

    pub(crate) fn remember(&mut self, key: Key, sent: Sent, now: Instant) {
        self.sent.insert(key, (sent, now));
        self.order.push_back((key, now));
        self.evict(now);
    }

    pub(crate) fn forget(&mut self, key: Key) {
        self.sent.remove(&key);
    }

    fn evict(&mut self, now: Instant) {
        while let Some((key, used)) = self.order.front().copied() {
            let stale = self.sent.get(&key).is_none_or(|(_, latest)| *latest != used);
            let surplus = self.order.len() > MAX_REMEMBERED;
            if !stale && !surplus && now.duration_since(used) < EVENT_SERIES {
                return;
            }
            self.order.pop_front();
            if !stale {
                self.sent.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sent(name: &str) -> Sent {
        Sent { namespace: "ns".to_owned(), name: name.to_owned(), count: 1 }
    }

    #[test]
    fn an_equal_event_is_found_for_ten_minutes_after_its_last_use() {
        let mut memory = SeriesMemory::default();
        let start = Instant::now();
        let key = memory.key("uid", "Failed", "note");
        memory.remember(key, sent("first"), start);
        assert_eq!(memory.find(key, start + EVENT_SERIES / 2), Some(sent("first")));
        assert_eq!(memory.find(memory.key("uid", "Failed", "other note"), start), None);
        assert_eq!(memory.find(memory.key("other uid", "Failed", "note"), start), None);

        memory.remember(key, sent("first"), start + EVENT_SERIES / 2);
        assert!(memory.find(key, start + EVENT_SERIES).is_some(), "a use starts the window anew");
        assert_eq!(memory.find(key, start + EVENT_SERIES * 2), None);
        assert_eq!((memory.sent.len(), memory.order.len()), (0, 0), "nothing is kept of it");

        memory.remember(key, sent("second"), start);
        assert_eq!(memory.find(key, start + EVENT_SERIES), None, "ten minutes are over");
        memory.remember(key, sent("third"), start);
        memory.forget(key);
        assert_eq!(memory.find(key, start), None);
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let mut memory = SeriesMemory::default();
        let start = Instant::now();
        for number in 0..3 * MAX_REMEMBERED {
            let key = memory.key(&number.to_string(), "Failed", "note");
            memory.remember(key, sent("x"), start + Duration::from_micros(number.try_into().unwrap()));
        }
        assert_eq!((memory.sent.len(), memory.order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        let latest = memory.key(&(3 * MAX_REMEMBERED - 1).to_string(), "Failed", "note");
        assert!(memory.find(latest, start + Duration::from_secs(1)).is_some());
    }
}

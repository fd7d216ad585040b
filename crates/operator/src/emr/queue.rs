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
mod tests {
    use proptest::prelude::*;

    use super::super::bucket::Buckets;
    use super::super::operation::Operation;
    use super::*;
    use crate::quotas::Quotas;

    fn key(namespace: usize, number: usize) -> RunKey {
        RunKey::new(&format!("{namespace}-{number}"), &format!("ns{namespace}"), &format!("run{number}"))
    }

    fn uids(keys: &[RunKey]) -> Vec<&str> {
        keys.iter().map(|key| &*key.uid).collect()
    }

    const USUAL: Priority = Priority { repeats: false, asked: 0 };
    const NONE: fn() -> Result<(), Duration> = || Err(Duration::from_secs(1));

    /// Lets through as many as it says.
    fn tokens(mut left: usize) -> impl FnMut() -> Result<(), Duration> {
        move || {
            left = left.checked_sub(1).ok_or(Duration::from_secs(1))?;
            Ok(())
        }
    }

    #[test]
    fn a_namespace_with_one_run_does_not_wait_for_one_with_a_thousand() {
        let mut turns = Turns::default();
        for number in 0..1000 {
            turns.request(&key(0, number), USUAL, NONE);
        }
        assert_eq!(turns.request(&key(1, 0), USUAL, NONE), Answer::Queued { position: 1 });
        assert_eq!(turns.request(&key(0, 1000), USUAL, NONE), Answer::Queued { position: 1001 });
        assert_eq!(turns.position("0-2"), Some(3));
        assert_eq!(uids(&turns.serve(Duration::ZERO, tokens(3)).woken), ["0-0", "1-0", "0-1"]);
        assert_eq!(turns.waiting(), 999);
    }

    #[test]
    fn a_priority_goes_first_in_its_own_namespace_only() {
        let mut turns = Turns::default();
        for (namespace, number, priority) in
            [(0, 0, 0), (0, 1, 0), (0, 2, 5), (1, 0, 0), (1, 1, -1), (1, 2, 0)]
        {
            turns.request(&key(namespace, number), Priority { asked: priority, ..USUAL }, NONE);
        }
        let woken = turns.serve(Duration::ZERO, tokens(6)).woken;
        assert_eq!(uids(&woken), ["0-2", "1-0", "0-0", "1-2", "0-1", "1-1"]);
    }

    #[test]
    fn a_call_that_may_have_been_made_goes_before_every_priority() {
        let mut turns = Turns::default();
        turns.request(&key(0, 0), Priority { asked: i32::MAX, ..USUAL }, NONE);
        turns.request(&key(0, 1), Priority { repeats: true, asked: i32::MIN }, NONE);
        turns.request(&key(0, 2), Priority { repeats: true, asked: 3 }, NONE);
        assert_eq!(uids(&turns.serve(Duration::ZERO, tokens(3)).woken), ["0-2", "0-1", "0-0"]);
    }

    #[test]
    fn another_priority_moves_a_key_and_keeps_the_time_of_its_arrival() {
        let mut turns = Turns::default();
        let asked = |asked| Priority { asked, ..USUAL };
        for number in 0..4 {
            turns.request(&key(0, number), asked(0), NONE);
        }
        turns.request(&key(1, 0), asked(0), NONE);
        assert_eq!(turns.request(&key(0, 3), asked(7), NONE), Answer::Queued { position: 1 });
        assert_eq!(turns.request(&key(0, 0), asked(-7), NONE), Answer::Queued { position: 4 });
        assert_eq!(turns.request(&key(0, 0), asked(0), NONE), Answer::Queued { position: 2 });
        assert_eq!(turns.waiting(), 5);
        let woken = turns.serve(Duration::ZERO, tokens(9)).woken;
        assert_eq!(uids(&woken), ["0-3", "1-0", "0-0", "0-1", "0-2"]);
    }

    #[test]
    fn tokens_are_kept_for_so_many_keys_at_a_time_and_the_rest_stay_in_the_bucket() {
        let mut turns = Turns::keeping(Some(2));
        for number in 0..4 {
            turns.request(&key(0, number), USUAL, NONE);
        }
        let mut taken = 0;
        let mut take = || {
            taken += 1;
            Ok(())
        };
        let served = turns.serve(Duration::ZERO, &mut take);
        assert_eq!((uids(&served.woken), served.again_in), (vec!["0-0", "0-1"], Some(RESERVED_FOR)));
        assert!(turns.keeps_for("0-0") && !turns.keeps_for("0-2"));
        assert_eq!(turns.request(&key(0, 1), USUAL, NONE), Answer::Granted);
        assert_eq!(uids(&turns.serve(Duration::ZERO, &mut take).woken), ["0-2"]);
        assert!(turns.forget("0-0") && !turns.forget("0-0"));
        assert_eq!(uids(&turns.serve(Duration::ZERO, &mut take).woken), ["0-3"]);
        assert_eq!(taken, 3, "what the forgotten one had goes on");
    }

    #[test]
    fn asking_again_neither_loses_nor_doubles_the_place() {
        let mut turns = Turns::default();
        for number in [0, 1, 0, 0] {
            turns.request(&key(0, number), USUAL, NONE);
        }
        assert_eq!(turns.waiting(), 2);
        assert_eq!(uids(&turns.serve(Duration::ZERO, tokens(9)).woken), ["0-0", "0-1"]);
        assert_eq!(turns.request(&key(0, 0), USUAL, NONE), Answer::Granted);
        assert_eq!(turns.request(&key(0, 0), USUAL, NONE), Answer::Queued { position: 0 });
    }

    #[test]
    fn a_reservation_that_nobody_takes_goes_to_the_next() {
        let mut turns = Turns::default();
        turns.request(&key(0, 0), USUAL, NONE);
        turns.request(&key(0, 1), USUAL, NONE);
        let served = turns.serve(Duration::ZERO, tokens(1));
        assert_eq!((uids(&served.woken), served.again_in), (vec!["0-0"], Some(Duration::from_secs(1))));
        assert!(turns.serve(RESERVED_FOR / 2, NONE).woken.is_empty());
        assert_eq!(uids(&turns.serve(RESERVED_FOR, NONE).woken), ["0-1"]);
        // One that is forgotten or comes back unused does so too; without anyone to take it, it is gone.
        turns.request(&key(0, 2), USUAL, NONE);
        turns.forget("0-1");
        assert_eq!(uids(&turns.serve(RESERVED_FOR, NONE).woken), ["0-2"]);
        assert_eq!(turns.request(&key(0, 2), USUAL, NONE), Answer::Granted);
        turns.give_back();
        assert_eq!(turns.serve(RESERVED_FOR, NONE).again_in, None);
        assert_eq!(turns.request(&key(0, 3), USUAL, NONE), Answer::Queued { position: 0 });
    }

    #[derive(Clone, Debug)]
    enum Act {
        Request(usize, usize),
        Pass(u64),
        Forget(usize, usize),
        GiveBack,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            8 => (0_usize..4, 0_usize..12).prop_map(|(namespace, number)| Act::Request(namespace, number)),
            4 => (0_u64..4_000).prop_map(Act::Pass),
            1 => (0_usize..4, 0_usize..12).prop_map(|(namespace, number)| Act::Forget(namespace, number)),
            1 => Just(Act::GiveBack),
        ]
    }

    proptest! {
        #[test]
        fn however_late_they_come_for_their_tokens_the_service_finds_its_bucket_filled(
            size in 2_u32..60,
            steps in prop::collection::vec((0_u64..40_000, 0_usize..8), 1..300),
        ) {
            let mut buckets = Buckets::new(&Quotas::parse(&format!("StartJobRun=1:{size}")).unwrap());
            let mut turns = Turns::keeping(buckets.keep_at_most(Operation::StartJobRun));
            let (mut now, mut number) = (Duration::ZERO, 0);
            // Of the service: its bucket, and when it was last looked at.
            let (mut level, mut looked) = (f64::from(size), Duration::ZERO);
            let mut woken: Vec<RunKey> = Vec::new();
            for (millis, arrivals) in steps {
                now += Duration::from_millis(millis);
                let late = std::mem::take(&mut woken);
                let fresh = (0..arrivals).map(|_| { number += 1; key(number % 3, number) });
                for key in late.into_iter().chain(fresh) {
                    let asked = turns.request(&key, USUAL, || buckets.take(Operation::StartJobRun, now));
                    if asked == Answer::Granted {
                        level = (level + now.saturating_sub(looked).as_secs_f64()).min(f64::from(size)) - 1.0;
                        looked = now;
                        prop_assert!(level > -1e-6, "{level} at {now:?}");
                    }
                }
                woken.extend(turns.serve(now, || buckets.take(Operation::StartJobRun, now)).woken);
            }
        }

        #[test]
        fn grants_are_bounded_in_order_and_reach_everyone(acts in prop::collection::vec(act(), 1..200)) {
            let mut buckets = Buckets::new(&Quotas::parse("StartJobRun=1:5").unwrap());
            let mut turns = Turns::default();
            let mut now = Duration::ZERO;
            // Who waits, in the order of arrival; how many tokens have gone out and not come back.
            let mut line: Vec<RunKey> = Vec::new();
            let mut granted = 0.0_f64;
            let mut unused = 0_usize;
            for act in acts {
                let mut take = || buckets.take(Operation::StartJobRun, now);
                match act {
                    Act::Request(namespace, number) => {
                        let key = key(namespace, number);
                        let reserved = turns.reserved.contains_key(&key.uid);
                        match turns.request(&key, USUAL, &mut take) {
                            Answer::Granted if reserved => unused += 1,
                            Answer::Granted => {
                                prop_assert!(line.is_empty());
                                granted += 1.0;
                                unused += 1;
                            }
                            Answer::Queued { .. } if line.contains(&key) => {}
                            Answer::Queued { .. } => line.push(key),
                        }
                    }
                    Act::Pass(millis) => now += Duration::from_millis(millis),
                    Act::Forget(namespace, number) => {
                        let key = key(namespace, number);
                        granted -= f64::from(u8::from(turns.reserved.contains_key(&key.uid)));
                        turns.forget(&key.uid);
                        line.retain(|waiting| *waiting != key);
                    }
                    Act::GiveBack if unused > 0 => {
                        unused -= 1;
                        granted -= 1.0;
                        turns.give_back();
                    }
                    Act::GiveBack => {}
                }
                let held = turns.reserved.len();
                let served = turns.serve(now, || buckets.take(Operation::StartJobRun, now));
                let expired = held + served.woken.len() - turns.reserved.len();
                for key in served.woken {
                    let first = line.iter().position(|waiting| waiting.namespace == key.namespace);
                    let first = first.map(|at| line.remove(at));
                    prop_assert_eq!(first.as_ref(), Some(&key));
                    granted += 1.0;
                }
                granted -= f64::from(u32::try_from(expired).unwrap());
                prop_assert!(granted <= 5.0 + now.as_secs_f64() + 1e-6, "{} at {:?}", granted, now);
                prop_assert_eq!(turns.waiting(), line.len());
            }
            // Nobody starves: each waits at most as long as its position says.
            for key in &line {
                let Answer::Queued { position } = turns.request(key, USUAL, NONE) else { panic!("not queued") };
                prop_assert!(position < line.len());
            }
            let end = now + Duration::from_secs(line.len() as u64 + 1);
            let woken = turns.serve(end, || buckets.take(Operation::StartJobRun, end)).woken.len();
            prop_assert!(woken >= line.len().min(4));
        }
    }
}

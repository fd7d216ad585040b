//! Who is next, in tables and against AWS's own bucket.

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
    for (namespace, number, priority) in [(0, 0, 0), (0, 1, 0), (0, 2, 5), (1, 0, 0), (1, 1, -1), (1, 2, 0)] {
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

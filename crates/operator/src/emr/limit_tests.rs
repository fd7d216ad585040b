//! The limiter on a clock that stands still.

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::observe::Unobserved;
use super::*;

fn limiter(quotas: &str) -> (Limiter, UnboundedReceiver<RunKey>) {
    let (wake, woken) = unbounded_channel();
    (Limiter::new(&Quotas::parse(quotas).unwrap(), wake, Arc::new(Unobserved)), woken)
}

fn key(number: usize) -> RunKey {
    RunKey::new(&number.to_string(), "default", &format!("run{number}"))
}

fn granted(turn: Turn) -> Option<Grant> {
    match turn {
        Turn::Granted(grant) => Some(grant),
        Turn::Queued(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_starts_get_the_burst_and_then_one_a_second() {
    let (limiter, mut woken) = limiter("documented");
    let started = Instant::now();
    let mut at_once = 0;
    for number in 0..100 {
        if let Some(grant) = granted(limiter.request(Kind::Start, &key(number), Priority::default())) {
            grant.used();
            at_once += 1;
        }
    }
    assert_eq!(at_once, 22);
    assert_eq!(limiter.position(Kind::Start, "99"), Some(77));
    for number in 22..100 {
        let next = woken.recv().await.unwrap();
        assert_eq!(next, key(number));
        granted(limiter.request(Kind::Start, &next, Priority::default())).unwrap().used();
    }
    let took = started.elapsed().as_secs_f64();
    assert!((78.0..78.5).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_dropped_goes_to_the_next_at_once() {
    let (limiter, mut woken) = limiter("StartJobRun=0.001:1");
    let grant = granted(limiter.request(Kind::Start, &key(0), Priority::default())).unwrap();
    assert!(granted(limiter.request(Kind::Start, &key(1), Priority::default())).is_none());
    drop(grant);
    assert_eq!(woken.recv().await.unwrap(), key(1));
    assert!(granted(limiter.request(Kind::Start, &key(1), Priority::default())).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_key_is_not_woken_and_cancels_do_not_wait_for_starts() {
    let (limiter, mut woken) = limiter("StartJobRun=1:1,CancelJobRun=1:1");
    granted(limiter.request(Kind::Start, &key(0), Priority::default())).unwrap().used();
    for number in 1..4 {
        assert!(granted(limiter.request(Kind::Start, &key(number), Priority::default())).is_none());
    }
    assert!(granted(limiter.request(Kind::Cancel, &key(9), Priority::default())).is_some());
    limiter.forget("1");
    assert_eq!(woken.recv().await.unwrap(), key(2));
    assert_eq!(woken.recv().await.unwrap(), key(3));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_call_come_in_order() {
    let (limiter, _woken) = limiter("DeleteVirtualCluster=1:1");
    let (done, mut order) = unbounded_channel();
    for number in 0..5 {
        let (limiter, done) = (limiter.clone(), done.clone());
        tokio::spawn(async move {
            limiter.acquire(Operation::DeleteVirtualCluster).await;
            done.send(number).unwrap();
        });
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    for number in 0..5 {
        assert_eq!(order.recv().await, Some(number));
    }
    assert!(started.elapsed() >= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_reply_paces_the_queue_even_without_quotas() {
    let (limiter, mut woken) = limiter("off");
    assert!(granted(limiter.request(Kind::Start, &key(0), Priority::default())).is_some());
    assert_eq!(limiter.pace(Operation::StartJobRun), None);
    limiter.slow_down(Operation::StartJobRun);
    assert!(granted(limiter.request(Kind::Start, &key(1), Priority::default())).is_none());
    assert_eq!(woken.recv().await.unwrap(), key(1));
}

/// A thousand runs, and an object that asks for its call some time after it was woken.
#[tokio::test(start_paused = true)]
async fn a_thousand_starts_of_ten_owners_use_the_documented_quota_in_full_and_fairly() {
    let (limiter, mut woken) = limiter("documented");
    let owners: Vec<(usize, usize)> = (0..901)
        .flat_map(|number| (0..10).map(move |owner| (owner, number)))
        .filter(|(owner, number)| *owner == 0 || *number < 11)
        .collect();
    assert_eq!(owners.len(), 1000);
    let key = |(owner, number): (usize, usize)| {
        RunKey::new(&format!("{owner}-{number}"), &format!("ns{owner}"), &format!("run{number}"))
    };
    let began = Instant::now();
    // Of the service: its bucket, and when it was last looked at.
    let (mut level, mut looked, mut starts) = (25.0_f64, began, 0.0_f64);
    let mut small_took = Duration::ZERO;
    let mut start = |grant: Grant, key: &RunKey| {
        grant.used();
        level = (level + looked.elapsed().as_secs_f64()).min(25.0) - 1.0;
        looked = Instant::now();
        starts += 1.0;
        assert!(level >= 0.0, "{level} after {:?}", began.elapsed());
        if &*key.namespace != "ns0" {
            small_took = began.elapsed();
        }
    };
    let mut waiting = 0;
    for owner in owners {
        match granted(limiter.request(Kind::Start, &key(owner), Priority::default())) {
            Some(grant) => start(grant, &key(owner)),
            None => waiting += 1,
        }
    }
    for number in 0..waiting {
        let key = woken.recv().await.unwrap();
        // Now and then a pass is late by several tokens.
        tokio::time::sleep(Duration::from_millis(if number % 50 == 0 { 15_000 } else { 120 })).await;
        start(granted(limiter.request(Kind::Start, &key, Priority::default())).unwrap(), &key);
    }
    let took = began.elapsed().as_secs_f64();
    let allowed = 25.0 + took;
    assert!(starts >= 0.98 * allowed, "{starts} of {allowed}");
    assert!(small_took.as_secs_f64() <= took / 10.0, "{small_took:?} of {took} s");
}

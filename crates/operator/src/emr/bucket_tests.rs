//! The buckets on a clock that is told the time.

use proptest::prelude::*;

use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn taken(buckets: &mut Buckets, operation: Operation, now: Duration) -> usize {
    (0..1000).take_while(|_| buckets.take(operation, now).is_ok()).count()
}

#[test]
fn a_burst_takes_the_bucket_and_then_the_refill() {
    let mut buckets = Buckets::new(&Quotas::documented());
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, Duration::ZERO), 22);
    assert_eq!(buckets.take(Operation::StartJobRun, Duration::ZERO), Err(seconds(1.0)));
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, seconds(0.99)), 0);
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, seconds(10.0)), 10);
}

#[test]
fn all_operations_draw_from_the_shared_bucket() {
    let mut buckets = Buckets::new(&Quotas::parse("all=1:34").unwrap());
    assert_eq!(taken(&mut buckets, Operation::ListJobRuns, Duration::ZERO), 30);
    assert_eq!(taken(&mut buckets, Operation::TagResource, Duration::ZERO), 0);
    assert_eq!(taken(&mut buckets, Operation::TagResource, seconds(1.0)), 1);
}

#[test]
fn a_write_that_waits_for_the_shared_bucket_goes_before_a_read() {
    let mut buckets = Buckets::new(&Quotas::parse("all=1:3").unwrap());
    assert_eq!(taken(&mut buckets, Operation::ListJobRuns, Duration::ZERO), 2);
    assert!(buckets.take(Operation::StartJobRun, seconds(0.5)).is_err());
    assert!(buckets.take(Operation::ListJobRuns, seconds(1.0)).is_err());
    assert_eq!(buckets.take(Operation::StartJobRun, seconds(1.0)), Ok(()));
    assert_eq!(buckets.take(Operation::ListJobRuns, seconds(2.0)), Ok(()));
    // A write that never comes back doesn't hold up reads for ever.
    assert!(buckets.take(Operation::CancelJobRun, seconds(2.5)).is_err());
    assert!(buckets.take(Operation::ListJobRuns, seconds(3.0)).is_err());
    assert_eq!(buckets.take(Operation::ListJobRuns, seconds(4.0)), Ok(()));
}

/// Whoever is let through at once, or asks again when it was told to.
struct Caller {
    operation: Operation,
    next: Duration,
    calls: Vec<Duration>,
}

#[test]
fn reads_go_on_while_more_writes_wait_than_the_shared_bucket_lets_through() {
    let mut buckets = Buckets::new(&Quotas::parse("StartJobRun=30:300,all=20:100").unwrap());
    let caller = |operation| Caller { operation, next: Duration::ZERO, calls: Vec::new() };
    let mut callers = [Operation::StartJobRun, Operation::ListJobRuns].map(caller);
    while let Some(caller) =
        callers.iter_mut().min_by_key(|caller| caller.next).filter(|caller| caller.next < seconds(60.0))
    {
        let now = caller.next;
        match buckets.take(caller.operation, now) {
            // The next look is a second after the one before; starts never end.
            Ok(()) => {
                let is_read = !caller.operation.is_write();
                caller.next = now + if is_read { seconds(1.0) } else { Duration::ZERO };
                caller.calls.push(now);
            }
            Err(wait) => caller.next = now + wait,
        }
    }
    let [starts, reads] = callers.map(|caller| caller.calls);
    let longest = reads.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
    assert!(longest < seconds(3.5), "{longest:?}");
    assert!(*reads.last().unwrap() > seconds(56.0), "{reads:?}");
    assert!(
        starts.len() + reads.len() >= 90 + 20 * 59,
        "the bucket is used: {} {}",
        starts.len(),
        reads.len()
    );
    assert!(reads.len() < 60, "and starts go before: {}", reads.len());
}

#[test]
fn without_quotas_nothing_waits_until_aws_throttles() {
    let mut buckets = Buckets::new(&Quotas::Off);
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, Duration::ZERO), 1000);
    buckets.slow_down(Operation::StartJobRun, seconds(1.0));
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, seconds(1.0)), 0);
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, seconds(1.1)), 1);
    assert_eq!(taken(&mut buckets, Operation::CancelJobRun, seconds(1.1)), 1000);
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, seconds(22.0)), 1000);
}

#[test]
fn throttle_replies_halve_the_pace_each_time_but_once_an_incident() {
    let mut buckets = Buckets::new(&Quotas::documented());
    for _ in 0..10 {
        buckets.slow_down(Operation::StartJobRun, Duration::ZERO);
    }
    assert_eq!(buckets.take(Operation::StartJobRun, Duration::ZERO), Err(seconds(2.0)));
    assert_eq!(buckets.take(Operation::StartJobRun, seconds(2.0)), Ok(()));
    buckets.slow_down(Operation::StartJobRun, seconds(2.0));
    let wait = buckets.take(Operation::StartJobRun, seconds(2.0)).unwrap_err();
    assert!(wait > seconds(3.5) && wait <= seconds(4.0), "{wait:?}");
    for second in 1..100 {
        buckets.slow_down(Operation::StartJobRun, seconds(f64::from(second) * 2.0));
    }
    assert!(buckets.take(Operation::StartJobRun, seconds(200.0)).unwrap_err() <= SLOWEST);
    assert_eq!(taken(&mut buckets, Operation::StartJobRun, seconds(400.0)), 22);
}

#[test]
fn the_pace_is_the_quotas_or_the_brakes_and_few_tokens_are_kept() {
    let mut buckets = Buckets::new(&Quotas::documented());
    assert_eq!(buckets.pace(Operation::StartJobRun, Duration::ZERO), Some((1.0, false)));
    buckets.slow_down(Operation::StartJobRun, Duration::ZERO);
    let (braked, is_braked) = buckets.pace(Operation::StartJobRun, Duration::ZERO).unwrap();
    assert!((braked - 0.5).abs() < 1e-6 && is_braked, "{braked}");
    let (braked, is_braked) = buckets.pace(Operation::StartJobRun, seconds(10.0)).unwrap();
    assert!(braked > 0.7 && braked < 0.72 && is_braked, "half of the force is gone in 20 s: {braked}");
    assert_eq!(buckets.pace(Operation::StartJobRun, seconds(20.0)), Some((1.0, false)));
    buckets.slow_down(Operation::StartJobRun, SAME_INCIDENT);
    let (braked, _) = buckets.pace(Operation::StartJobRun, SAME_INCIDENT).unwrap();
    assert!(braked < 0.3, "another incident: {braked}");
    assert_eq!(buckets.pace(Operation::ListJobRuns, Duration::ZERO), Some((5.0, false)));
    assert_eq!(buckets.keep_at_most(Operation::StartJobRun), Some(2), "half of the tenth that is left");
    assert_eq!(buckets.keep_at_most(Operation::ListJobRuns), Some(5));

    let mut unlimited = Buckets::new(&Quotas::Off);
    assert_eq!(unlimited.pace(Operation::StartJobRun, Duration::ZERO), None);
    assert_eq!(unlimited.keep_at_most(Operation::StartJobRun), None);
    unlimited.slow_down(Operation::StartJobRun, Duration::ZERO);
    let (braked, is_braked) = unlimited.pace(Operation::StartJobRun, Duration::ZERO).unwrap();
    assert!((braked - 10.0).abs() < 1e-6 && is_braked, "{braked}");
}

#[test]
fn odd_quotas_are_taken_as_they_can_be() {
    for text in ["StartJobRun=1e-300:4294967295", "StartJobRun=1e300:1", "all=1e-9:1,StartJobRun=1e-9:1"] {
        let mut buckets = Buckets::new(&Quotas::parse(text).unwrap());
        assert!(taken(&mut buckets, Operation::StartJobRun, Duration::ZERO) >= 1, "{text}");
        let (pace, _) = buckets.pace(Operation::StartJobRun, Duration::ZERO).unwrap();
        assert!((1.0 / 86_401.0..=1e6).contains(&pace), "{text}: {pace}");
        assert!(text.contains("1e300") || pace < 1.0 / 86_399.0, "{text}: {pace}");
        buckets.slow_down(Operation::StartJobRun, Duration::ZERO);
        let _ = buckets.take(Operation::StartJobRun, seconds(1e6));
    }
}

proptest! {
    #[test]
    fn no_schedule_gets_more_than_bucket_and_refill(
        refill in 0.1_f64..50.0,
        size in 1_u32..60,
        steps in prop::collection::vec((0_u64..3000, 0_usize..2), 1..300),
    ) {
        let quotas = Quotas::parse(&format!("StartJobRun={refill}:{size},all={}:{}", refill * 1.5, size)).unwrap();
        let mut buckets = Buckets::new(&quotas);
        let mut now = Duration::ZERO;
        let (mut starts, mut all) = (0.0, 0.0);
        for (millis, which) in steps {
            now += Duration::from_millis(millis);
            let operation = [Operation::StartJobRun, Operation::TagResource][which];
            if buckets.take(operation, now).is_ok() {
                all += 1.0;
                starts += if which == 0 { 1.0 } else { 0.0 };
            }
            let most = |refill: f64| f64::from(size) + refill * now.as_secs_f64() + 1e-3;
            prop_assert!(starts <= most(refill) && all <= most(refill * 1.5), "{starts} {all} {now:?}");
        }
    }
}

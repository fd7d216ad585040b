//! Which object gets a pass next, and in which lane.

use super::*;

fn taken(queue: &mut WorkQueue<u32>, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| queue.pop(now)).map(|(object, _)| object).collect()
}

#[test]
fn starts_go_in_the_order_of_arrival_and_the_rest_goes_one_by_one_beside_them() {
    let (mut queue, now) = (WorkQueue::new(4), Instant::now());
    for start in 1..=5 {
        queue.push(start, Class::Start, now);
    }
    for report in 11..=13 {
        queue.push(report, Class::Rest, now);
    }
    assert_eq!(taken(&mut queue, now), [11, 1, 2, 3]);
    queue.done(&2, now);
    assert_eq!(
        taken(&mut queue, now + timing::REST_PATIENCE),
        [4],
        "a pass of the rest is enough while starts press"
    );
    queue.done(&11, now);
    assert_eq!(taken(&mut queue, now), [12]);
}

#[test]
fn a_call_whose_turn_has_come_goes_before_all_others_as_soon_as_a_pass_is_free() {
    let (mut queue, now) = (WorkQueue::new(2), Instant::now());
    for start in 1..=4 {
        queue.push(start, Class::Start, now);
    }
    queue.push(11, Class::Rest, now);
    assert_eq!(taken(&mut queue, now), [11, 1]);
    queue.push(21, Class::Turn, now);
    assert_eq!(queue.pop(now), None);
    queue.done(&1, now);
    assert_eq!(taken(&mut queue, now), [21]);
    queue.done(&21, now);
    assert_eq!(taken(&mut queue, now), [2]);
}

#[test]
fn an_object_that_waits_already_goes_first_as_well_once_its_turn_has_come() {
    for before in [Class::Start, Class::Rest] {
        let (mut queue, now) = (WorkQueue::new(2), Instant::now());
        for start in 1..=3 {
            queue.push(start, Class::Start, now);
        }
        assert_eq!(queue.pop(now), Some((1, now)));
        queue.push(21, before, now);
        let later = now + Duration::from_millis(1);
        assert!(!queue.push(21, Class::Turn, later), "it was asked for before");
        assert_eq!(queue.pop(later), Some((21, now)), "first of all, and it has waited for so long");
        queue.push(21, Class::Rest, later);
        queue.done(&1, later);
        queue.done(&21, later);
        assert_eq!(taken(&mut queue, later), [21, 2], "once for what it was pushed for meanwhile");
        queue.done(&2, later);
        queue.done(&21, later);
        assert_eq!((taken(&mut queue, later), queue.lengths()), (vec![3], (0, 1)));
    }
}

#[test]
fn an_object_that_is_asked_for_again_keeps_its_place() {
    for class in [Class::Start, Class::Rest, Class::Save] {
        let (mut queue, now) = (WorkQueue::new(1), Instant::now());
        assert!(queue.push(1, class, now) && queue.push(2, class, now));
        assert!(!queue.push(2, class, now) && !queue.push(2, Class::Rest, now));
        assert_eq!(queue.lengths(), (2, 0));
        assert_eq!((taken(&mut queue, now), queue.lengths()), (vec![1], (1, 1)), "{class:?}");
    }
    let (mut queue, now) = (WorkQueue::new(1), Instant::now());
    for turn in [1, 2, 1] {
        queue.push(turn, Class::Turn, now);
    }
    assert_eq!(taken(&mut queue, now), [1]);
}

#[test]
fn the_rest_takes_more_passes_when_one_is_too_slow_and_nothing_is_to_be_started() {
    let (mut queue, now) = (WorkQueue::new(8), Instant::now());
    for report in 1..=9 {
        queue.push(report, Class::Rest, now);
    }
    assert_eq!(taken(&mut queue, now), [1]);
    assert_eq!(queue.patience(now), Some(timing::REST_PATIENCE));
    assert_eq!(taken(&mut queue, now + timing::REST_PATIENCE), [2], "a quarter of the passes");
    let many = timing::REST_PATIENCE_WITH_MANY;
    assert_eq!(queue.patience(now + timing::REST_PATIENCE), Some(many.saturating_sub(timing::REST_PATIENCE)));
    assert_eq!(taken(&mut queue, now + many), [3, 4, 5, 6], "three quarters");
    assert_eq!(queue.patience(now + many), None);
    queue.push(11, Class::Start, now + many);
    assert_eq!(taken(&mut queue, now + many), [11], "room is left for a start");
}

#[test]
fn one_of_the_rest_that_hangs_does_not_hold_up_the_others_for_ever() {
    let (mut queue, now) = (WorkQueue::new(8), Instant::now());
    queue.push(1, Class::Rest, now);
    queue.push(2, Class::Rest, now);
    queue.push(11, Class::Start, now);
    assert_eq!(taken(&mut queue, now), [1, 11]);
    assert_eq!(queue.pop(now + timing::REST_PATIENCE), None);
    assert_eq!(taken(&mut queue, now + timing::REST_PATIENCE_WITH_STARTS), [2]);
}

#[test]
fn no_class_takes_the_quarter_of_the_passes_that_is_kept_for_the_rest() {
    let (mut queue, now) = (WorkQueue::new(8), Instant::now());
    for start in 1..=8 {
        queue.push(start, Class::Start, now);
    }
    assert_eq!(taken(&mut queue, now), [1, 2, 3, 4, 5, 6]);
    let mut queue = WorkQueue::new(8);
    for save in 1..=8 {
        queue.push(save, Class::Save, now);
    }
    assert_eq!(taken(&mut queue, now).len(), 7, "six at once, and one in the turn of the rest");
}

#[test]
fn a_lone_pass_is_the_rest_s_when_nothing_is_to_be_started() {
    let (mut queue, now) = (WorkQueue::new(1), Instant::now());
    for report in [1, 2] {
        queue.push(report, Class::Rest, now);
        assert!(!queue.is_idle());
        assert_eq!(queue.pop(now), Some((report, now)));
        queue.done(&report, now);
    }
    assert!(queue.is_idle());
}

#[test]
fn with_one_pass_at_a_time_neither_class_is_shut_out() {
    let (mut queue, now) = (WorkQueue::new(1), Instant::now());
    queue.push(1, Class::Start, now);
    queue.push(2, Class::Start, now);
    queue.push(3, Class::Rest, now);
    let mut order = Vec::new();
    while let Some((object, _)) = queue.pop(now) {
        assert_eq!(queue.pop(now), None);
        queue.done(&object, now);
        order.push(object);
    }
    assert_eq!(order, [1, 3, 2]);
    assert!(queue.is_idle() && !queue.presses());
}

#[test]
fn what_an_object_is_pushed_for_during_its_pass_follows_it_once() {
    let (mut queue, now) = (WorkQueue::new(4), Instant::now());
    queue.push(1, Class::Start, now);
    assert_eq!(queue.pop(now), Some((1, now)));
    assert!(queue.push(1, Class::Rest, now) && !queue.push(1, Class::Rest, now));
    assert_eq!((queue.pop(now), queue.lengths()), (None, (0, 1)), "never twice at the same time");
    queue.done(&1, now);
    assert_eq!(taken(&mut queue, now), [1]);
    queue.done(&1, now);
    assert!(queue.is_idle());
}

#[test]
fn what_a_start_gave_is_saved_at_once_unless_others_are_to_be_started() {
    let (mut queue, now) = (WorkQueue::new(8), Instant::now());
    for report in 1..=3 {
        queue.push(report, Class::Rest, now);
    }
    assert_eq!(taken(&mut queue, now), [1]);
    queue.push(11, Class::Save, now);
    queue.push(12, Class::Save, now);
    assert_eq!(taken(&mut queue, now), [11, 12]);
    queue.push(13, Class::Save, now);
    queue.push(21, Class::Start, now);
    assert_eq!(taken(&mut queue, now), [21]);
    queue.done(&21, now);
    assert_eq!(taken(&mut queue, now), [13]);
}

#[test]
fn what_a_start_gave_is_saved_even_at_the_end() {
    let (mut queue, now) = (WorkQueue::new(2), Instant::now());
    for object in [1, 2] {
        queue.push(object, Class::Start, now);
    }
    queue.push(3, Class::Rest, now);
    assert_eq!(taken(&mut queue, now), [3, 1]);
    queue.push(1, Class::Start, now);
    queue.push(1, Class::Save, now);
    queue.leave();
    queue.done(&3, now);
    queue.done(&1, now);
    assert_eq!(taken(&mut queue, now), [1]);
    queue.done(&1, now);
    assert!(queue.is_idle());
}

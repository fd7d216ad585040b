//! Which object gets a pass next: first come, first served within a class, and starts before the rest. Pure.
//!
//! Invariants: an object is never worked on twice at the same time, and what it is pushed for meanwhile is not lost; no
//! more passes run than were allowed; the rest always has a way forward (what goes before all is as rare as the quota
//! makes it).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::timing;

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// To report, to cancel, to clean up.
    Rest,
    /// To make an AWS resource.
    Start,
    /// To make an AWS call whose turn within the quota has come: nobody else can use it meanwhile.
    Turn,
    /// To write down what a start gave; not left undone at the end.
    Save,
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the lane that it was first asked for in, unless its turn has come since.
    Waiting {
        lane: Class,
        class: Class,
    },
    Running {
        lane: Class,
        again: Option<Class>,
    },
}

/// The objects that wait for a pass or have one.
#[derive(Debug)]
pub struct WorkQueue<T> {
    places: HashMap<T, Place>,
    lanes: Lanes<T>,
    passes: usize,
    last: Class,
}

/// The objects of one class.
#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<(T, Instant)>,
    running: usize,
}

#[derive(Debug)]
struct Lanes<T> {
    rest: Lane<T>,
    start: Lane<T>,
    turn: Lane<T>,
    save: Lane<T>,
}

impl<T> Lane<T> {
    const EMPTY: Self = Self { waiting: VecDeque::new(), running: 0 };

    /// Since when the first one waits.
    fn since(&self) -> Option<Instant> {
        self.waiting.front().map(|(_, since)| *since)
    }
}

impl<T: PartialEq> Lane<T> {
    /// Takes an object out, and says since when it has waited. It is searched for: that is as rare as a call is granted to
    /// an object that waits for something else.
    fn take(&mut self, object: &T) -> Option<Instant> {
        let place = self.waiting.iter().position(|(waiting, _)| waiting == object)?;
        self.waiting.remove(place).map(|(_, since)| since)
    }
}

impl<T> Lanes<T> {
    fn all(&mut self) -> [&mut Lane<T>; 4] {
        [&mut self.rest, &mut self.start, &mut self.turn, &mut self.save]
    }

    fn running(&self) -> usize {
        self.rest.running + self.start.running + self.turn.running + self.save.running
    }

    fn of(&mut self, class: Class) -> &mut Lane<T> {
        match class {
            Class::Rest => &mut self.rest,
            Class::Start => &mut self.start,
            Class::Turn => &mut self.turn,
            Class::Save => &mut self.save,
        }
    }
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    /// Allows so many passes at the same time.
    pub fn new(passes: u16) -> Self {
        Self {
            places: HashMap::new(),
            lanes: Lanes { rest: Lane::EMPTY, start: Lane::EMPTY, turn: Lane::EMPTY, save: Lane::EMPTY },
            passes: usize::from(passes.max(1)),
            last: Class::Rest,
        }
    }

    /// Asks for a pass; another one follows if one is under way. Says whether it wasn't asked for yet.
    pub fn push(&mut self, object: T, class: Class, now: Instant) -> bool {
        match self.places.get_mut(&object) {
            Some(Place::Waiting { lane, class: highest }) => {
                *highest = (*highest).max(class);
                if class == Class::Turn && *lane != Class::Turn {
                    let before = std::mem::replace(lane, Class::Turn);
                    let since = self.lanes.of(before).take(&object).unwrap_or(now);
                    self.lanes.turn.waiting.push_back((object, since));
                }
                false
            }
            Some(Place::Running { again, .. }) => {
                let is_new = again.is_none();
                *again = (*again).max(Some(class));
                is_new
            }
            None => {
                self.places.insert(object.clone(), Place::Waiting { lane: class, class });
                self.lanes.of(class).waiting.push_back((object, now));
                true
            }
        }
    }

    /// The next object to make a pass over, if one may begin, and since when it has waited.
    pub fn pop(&mut self, now: Instant) -> Option<(T, Instant)> {
        let (from, lane) = self.next(now)?;
        let (object, since) = self.lanes.of(from).waiting.pop_front()?;
        self.lanes.of(lane).running += 1;
        self.last = lane;
        self.places.insert(object.clone(), Place::Running { lane, again: None });
        Some((object, since))
    }

    /// How many objects wait, and over how many a pass is made.
    pub fn lengths(&self) -> (usize, usize) {
        let running = self.lanes.running();
        (self.places.len().saturating_sub(running), running)
    }

    /// From which class the next object comes, and in which lane it goes.
    ///
    /// Reports come in bursts, and a start that arrives in the midst of one should not find the API server busy with it: so
    /// one goes at a time, and more only when that has been too slow. What a start gave is saved at once if nothing
    /// else is to be started, and as one of the reports otherwise.
    fn next(&self, now: Instant) -> Option<(Class, Class)> {
        let Lanes { rest, start, turn, save } = &self.lanes;
        if self.lanes.running() >= self.passes {
            return None;
        }
        if turn.since().is_some() {
            return Some((Class::Turn, Class::Turn));
        }
        let most = self.most();
        let may_start = start.since().is_some() && start.running < most;
        // A single pass at a time is shared in turns.
        if may_start && self.passes == 1 && self.last != Class::Start {
            return Some((Class::Start, Class::Start));
        }
        if !self.presses() && save.since().is_some() && save.running < most {
            return Some((Class::Save, Class::Save));
        }
        if let Some((since, class)) = self.oldest()
            && rest.running < self.width_of_rest(now.saturating_duration_since(since))
        {
            return Some((class, Class::Rest));
        }
        may_start.then_some((Class::Start, Class::Start))
    }

    fn quarter(&self) -> usize {
        (self.passes / 4).max(1)
    }

    fn most(&self) -> usize {
        (self.passes - self.quarter()).max(1)
    }

    /// How many passes are for the rest when the first of it has waited for so long.
    fn width_of_rest(&self, waited: Duration) -> usize {
        let widths = self.widths_of_rest().into_iter().take_while(|(patience, _)| waited >= *patience);
        widths.last().map_or(1, |(_, width)| width)
    }

    /// After how long the rest gets how many passes.
    fn widths_of_rest(&self) -> [(Duration, usize); 2] {
        if self.presses() {
            [(timing::REST_PATIENCE_WITH_STARTS, self.quarter()); 2]
        } else {
            [(timing::REST_PATIENCE, self.quarter()), (timing::REST_PATIENCE_WITH_MANY, self.most())]
        }
    }

    /// The first of all that isn't a start.
    fn oldest(&self) -> Option<(Instant, Class)> {
        let save = self.lanes.save.since().map(|since| (since, Class::Save));
        let rest = self.lanes.rest.since().map(|since| (since, Class::Rest));
        save.into_iter().chain(rest).min_by_key(|(since, _)| *since)
    }

    /// Ends the pass over an object.
    pub fn done(&mut self, object: &T, now: Instant) {
        if let Some(Place::Running { lane, again }) = self.places.remove(object) {
            self.lanes.of(lane).running -= 1;
            if let Some(class) = again {
                self.push(object.clone(), class, now);
            }
        }
    }

    /// Drops everything that waits and may be left to the next process.
    pub fn leave(&mut self) {
        self.places.retain(|_, place| match place {
            Place::Waiting { class, .. } => *class == Class::Save,
            Place::Running { again, .. } => {
                *again = again.filter(|class| *class == Class::Save);
                true
            }
        });
        for lane in self.lanes.all() {
            lane.waiting.retain(|(object, _)| self.places.contains_key(object));
        }
    }

    /// Whether starts wait or are under way.
    pub fn presses(&self) -> bool {
        self.lanes.start.running > 0 || !self.lanes.start.waiting.is_empty()
    }

    /// Whether nothing waits or is under way.
    pub fn is_idle(&self) -> bool {
        self.places.is_empty()
    }

    /// How long until [`Self::pop`] may give something that it doesn't give now, if time alone can tell.
    pub fn patience(&self, now: Instant) -> Option<Duration> {
        let (since, _) = self.oldest()?;
        let waited = now.saturating_duration_since(since);
        let next = self.widths_of_rest().into_iter().find(|(patience, _)| *patience > waited);
        next.map(|(patience, _)| patience.saturating_sub(waited))
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            queue.patience(now + timing::REST_PATIENCE),
            Some(many.saturating_sub(timing::REST_PATIENCE))
        );
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
}

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
#[path = "work_queue_tests.rs"]
mod tests;

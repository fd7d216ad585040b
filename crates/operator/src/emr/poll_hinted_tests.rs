//! The book with hints that may be lost, late, doubled, out of order and false: it is never wrong about an end, and looks
//! are rare only while hints are good.

use super::super::super::poll_hint::{Confirm, Heard};
use super::super::super::poll_trust::Trust;
use super::*;

/// What the queue does to events. Fates are drawn from a list, so that proptest can shrink them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// After so many milliseconds.
    Comes(u64),
    Twice(u64, u64),
    Lost,
}

/// An event that says what isn't so, of a run by its number.
#[derive(Clone, Debug)]
struct Lie {
    run: usize,
    at: u64,
    state: &'static str,
}

struct Hinted<'a> {
    world: &'a World,
    book: Book,
    trust: Trust,
    bill: Bill,
    /// What came of it, by its run: when a live state was shown.
    shown: BTreeMap<(String, String), Timestamp>,
    confirmations: u32,
}

impl Hinted<'_> {
    fn settle(&mut self, effects: &mut Effects, now: Timestamp) {
        for (run_id, ended) in effects.found.drain(..) {
            self.trust.found(run_id, ended, now);
        }
        for key in &effects.changed {
            let state = self.book.observed(&key.uid).unwrap().state.clone();
            self.shown.entry((key.uid.to_string(), state)).or_insert(now);
        }
        self.world.settle(&mut self.book, effects, &mut self.bill, now);
    }

    fn hear(&mut self, run_id: &str, state: &str, at: Timestamp, now: Timestamp) {
        let mut effects = Effects::default();
        let heard = self.book.hear(run_id, state, &mut effects, now);
        let is_news = matches!(heard, Heard::Moved | Heard::Ending);
        self.trust.hinted(run_id, ENDED.contains(&state), is_news, at, now);
        self.settle(&mut effects, now);
    }

    fn confirm(&mut self, now: Timestamp) {
        let mut effects = Effects::default();
        let ids = match self.book.confirm(now) {
            Confirm::Describe(ids) => ids,
            Confirm::List(look) => {
                let (items, listed) = self.world.list(&look, now);
                self.confirmations += listed.pages;
                for item in &items {
                    self.book.listed_as_ended(item, &mut effects, now);
                }
                self.book.unlisted(now)
            }
        };
        for id in ids {
            self.confirmations += 1;
            let run = self.world.runs.iter().find(|run| run.id == id).unwrap();
            if !self.book.confirmed(&id, run.item(now, false).as_ref(), &mut effects, now) {
                self.trust.lose();
            }
        }
        self.settle(&mut effects, now);
    }

    fn look(&mut self, now: Timestamp) -> bool {
        let found = self.world.look(&mut self.book, &mut self.bill, now);
        let going = found.is_some();
        for (run_id, ended) in found.into_iter().flatten() {
            self.trust.found(run_id, ended, now);
        }
        self.trust.looked();
        going
    }

    fn interval(&mut self, now: Timestamp) -> Duration {
        self.trust.settle(now);
        let told = self.trust.is_earned();
        interval(&Activity { told, ..self.book.activity(now) }, 0.3)
    }
}

/// Events of every run, each with the next fate, and lies; then the book as its task drives it.
fn drive<'a>(world: &'a World, fates: &[Fate], lies: &[Lie], lasting: Duration) -> Hinted<'a> {
    let mut events: Vec<(Timestamp, Timestamp, String, String)> = Vec::new();
    let mut fates = fates.iter().cycle();
    for run in &world.runs {
        for (at, state) in &run.states {
            let at = run.created + *at;
            let silent = matches!(*state, "PENDING" | "CANCEL_PENDING") || at < start();
            let mut event = |late| events.push((at + millis(late), at, run.id.clone(), (*state).to_owned()));
            match fates.next() {
                Some(Fate::Comes(late)) if !silent => event(*late),
                Some(Fate::Twice(one, other)) if !silent => {
                    event(*one);
                    event(*other);
                }
                _ => {}
            }
        }
    }
    for lie in lies {
        let at = start() + millis(lie.at);
        events.push((at, at, world.runs[lie.run % world.runs.len()].id.clone(), lie.state.to_owned()));
    }
    events.sort();
    let mut events = events.into_iter().peekable();
    let mut hinted = Hinted {
        world,
        book: Book::default(),
        trust: Trust::default(),
        bill: Bill::default(),
        shown: BTreeMap::new(),
        confirmations: 0,
    };
    let mut waiting: Vec<_> = world.runs.iter().collect();
    waiting.sort_by_key(|run| std::cmp::Reverse(run.created));
    let (mut now, mut last, mut next) = (start(), start(), None);
    while now < start() + lasting {
        while waiting.last().is_some_and(|run| run.created + millis(20) <= now) {
            World::track(waiting.pop().unwrap(), &mut hinted.book, now);
            let sooner = (last + hinted.interval(now)).max(now + millis(1_000));
            next = Some(next.unwrap_or(now + millis(1_000)).min(sooner));
        }
        while let Some((_, at, run, state)) = events.next_if(|(due, ..)| *due <= now) {
            let told = hinted.trust.is_earned();
            hinted.hear(&run, &state, at, now);
            if told && !hinted.trust.is_earned() {
                let sooner = (last + hinted.interval(now)).max(now + millis(1_000));
                next = next.map(|next| next.min(sooner));
            }
        }
        if hinted.book.next_confirmation().is_some_and(|due| due <= now) {
            hinted.confirm(now);
        }
        if next.is_some_and(|at| at <= now) {
            last = now;
            next = hinted.look(now).then(|| now + hinted.interval(now));
        }
        let arrival = waiting.last().map(|run| run.created + millis(20));
        let event = events.peek().map(|(due, ..)| *due);
        let due = hinted.book.next_confirmation();
        let Some(first) = next.into_iter().chain(arrival).chain(event).chain(due).min() else { break };
        now = first.max(now);
    }
    hinted
}

fn flow(count: usize, every: u64, lasting: u64) -> World {
    World::new((0..count).map(|id| SimRun::short(id, start() + millis(every * id as u64), lasting)).collect())
}

#[test]
fn while_all_is_told_in_time_ends_are_seen_at_once_and_looks_are_rare() {
    let world = flow(300, 1_000, 60_000);
    let plain = world.drive(|_| true, millis(400_000));
    let hinted = drive(&world, &[Fate::Comes(100)], &[], millis(400_000));
    assert_eq!(hinted.bill.delays.len(), 300);
    assert!(hinted.bill.delay(90) <= millis(100), "{:?}", hinted.bill.delay(90));
    assert!(hinted.bill.looks < 40 && plain.looks > 200, "{} {}", hinted.bill.looks, plain.looks);
    assert!(hinted.confirmations <= 300, "an end takes a call: {}", hinted.confirmations);
}

#[test]
fn a_burst_of_ends_is_confirmed_by_a_list() {
    let runs = (0..200).map(|id| {
        SimRun::new(id, start() + millis(id as u64 / 100), &[(0, "RUNNING"), (90_000, "COMPLETED")])
    });
    let world = World::new(runs.collect());
    let hinted = drive(&world, &[Fate::Comes(50)], &[], millis(120_000));
    assert_eq!(hinted.bill.delays.len(), 200);
    assert!(hinted.bill.delay(100) <= millis(1_100), "{:?}", hinted.bill.delay(100));
    assert!(hinted.confirmations <= 10, "{}", hinted.confirmations);
}

/// A quarter of 2,000 live runs of an hour, as many beginning as end.
#[test]
fn hour_long_runs_cost_a_call_for_each_end_and_a_look_a_minute() {
    let states = [(0, "PENDING"), (500, "SUBMITTED"), (1_500, "RUNNING"), (3_600_000, "COMPLETED")];
    let born = |id: usize| start() - millis(3_600_000) + millis(7_200 * id as u64);
    let world = World::new((0..1_000).map(|id| SimRun::new(id, born(id), &states)).collect());
    let plain = world.drive(|_| true, millis(1_200_000));
    let hinted = drive(&world, &[Fate::Comes(100)], &[], millis(1_200_000));
    let per_second = |calls: u32| f64::from(calls) / 1_200.0;
    let without = per_second(plain.pages + plain.describes);
    let with = per_second(hinted.bill.pages + hinted.bill.describes + hinted.confirmations);
    println!("{without:.2} calls a second without hints, {with:.2} with them, for a virtual cluster");
    println!("ends seen after {:?} and {:?} (p50)", plain.delay(50), hinted.bill.delay(50));
    assert!(with < 0.25 && with < without / 2.0, "{with} {without}");
    assert!(hinted.bill.delay(99) <= millis(1_000), "{:?}", hinted.bill.delay(99));
}

#[test]
fn when_events_stop_one_end_is_late_by_a_minute_and_lists_take_over() {
    let world = flow(300, 1_000, 60_000);
    // The first two minutes are told, and nothing after them.
    let mut fates = vec![Fate::Comes(100); 4 * 120];
    fates.extend(vec![Fate::Lost; 4 * 180]);
    let hinted = drive(&world, &fates, &[], millis(500_000));
    assert_eq!(hinted.bill.delays.len(), 300);
    assert!(hinted.bill.delay(100) <= millis(70_000), "{:?}", hinted.bill.delay(100));
    let late = hinted.bill.delays.iter().filter(|delay| **delay > millis(5_000)).count();
    assert!(late < 75, "{late} ends were late: only those of the minute before the look that found them");
}

#[test]
fn where_only_ends_are_never_told_trust_doesnt_come_again_and_again() {
    let world = flow(600, 1_000, 60_000);
    let fates = [Fate::Comes(100), Fate::Comes(100), Fate::Comes(100), Fate::Lost];
    let hinted = drive(&world, &fates, &[], millis(800_000));
    assert_eq!(hinted.bill.delays.len(), 600);
    let late = hinted.bill.delays.iter().filter(|delay| **delay > millis(5_000)).count();
    assert!(late < 90, "{late} ends were late");
}

#[test]
fn late_events_leave_looks_as_they_are_without_any() {
    let world = flow(100, 1_000, 30_000);
    let plain = world.drive(|_| true, millis(200_000));
    let hinted = drive(&world, &[Fate::Comes(10_000)], &[], millis(200_000));
    assert!(hinted.bill.looks + 5 >= plain.looks, "{} {}", hinted.bill.looks, plain.looks);
    assert!(
        hinted.bill.delay(99) <= plain.delay(99) + millis(500),
        "{:?} {:?}",
        hinted.bill.delay(99),
        plain.delay(99)
    );
}

#[test]
fn a_list_that_is_behind_doesnt_turn_a_run_back_and_a_false_hint_is_turned_back_by_a_look() {
    let states = [(0, "PENDING"), (60_000, "SUBMITTED"), (61_000, "RUNNING"), (90_000, "COMPLETED")];
    let mut world = World::new(vec![SimRun::new(0, start(), &states)]);
    world.lag = millis(3_000);
    let hinted = drive(&world, &[Fate::Comes(10)], &[], millis(120_000));
    assert_eq!(hinted.bill.reports["r0"], ["PENDING", "SUBMITTED", "RUNNING", "COMPLETED"]);
    assert_eq!(hinted.shown[&("r0".to_owned(), "RUNNING".to_owned())], start() + millis(61_010));
    let lie = Lie { run: 0, at: 20_000, state: "RUNNING" };
    let hinted = drive(&world, &[Fate::Comes(10)], &[lie], millis(120_000));
    let reports = &hinted.bill.reports["r0"];
    assert_eq!(reports[..3], ["PENDING", "RUNNING", "PENDING"], "{reports:?}");
    assert_eq!(reports.last().unwrap(), "COMPLETED");
}

#[test]
fn a_false_end_costs_four_calls_a_minute_and_is_never_believed() {
    let world = World::new(vec![SimRun::new(0, start(), &[(0, "RUNNING")])]);
    let lies: Vec<_> = (0..600).map(|n| Lie { run: 0, at: 1_000 + 100 * n, state: "FAILED" }).collect();
    let hinted = drive(&world, &[], &lies, millis(62_000));
    assert_eq!(hinted.confirmations, 4);
    assert!(hinted.bill.delays.is_empty() && !hinted.trust.is_earned());
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => (0_u64..2_000).prop_map(Fate::Comes),
        1 => (0_u64..20_000).prop_map(Fate::Comes),
        1 => (0_u64..2_000, 0_u64..40_000).prop_map(|(one, other)| Fate::Twice(one, other)),
        2 => Just(Fate::Lost),
    ]
}

fn lie() -> impl Strategy<Value = Lie> {
    let states = prop::sample::select(vec![
        "PENDING",
        "SUBMITTED",
        "RUNNING",
        "CANCEL_PENDING",
        "COMPLETED",
        "FAILED",
        "ODD",
    ]);
    (any::<usize>(), 0_u64..160_000, states).prop_map(|(run, at, state)| Lie { run, at, state })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Premature and wrong ends are caught by the model itself.
    #[test]
    fn whatever_the_queue_does_every_run_is_reported_as_ended_once_and_truly(
        specs in prop::collection::vec(sim_run(), 1..40),
        fates in prop::collection::vec(fate(), 1..40),
        lies in prop::collection::vec(lie(), 0..40),
        lag in 0_u64..4_000,
    ) {
        let runs = specs.iter().enumerate().map(|(id, (at, spans, outcome, _, has_reason))| {
            let (a, b, c) = (spans[0], spans[0] + spans[1], spans[0] + spans[1] + spans[2]);
            let created = start() + millis(*at) - millis(40_000);
            let mut run = SimRun::new(id, created, match outcome {
                0 | 3 => vec![(0, "PENDING"), (a, "SUBMITTED"), (b, "RUNNING"), (c + 1, "COMPLETED")],
                1 => vec![(0, "PENDING"), (a, "RUNNING"), (b, "CANCEL_PENDING"), (c + 1, "CANCELLED")],
                _ => vec![(0, "PENDING"), (c + 1, "FAILED")],
            }.as_slice());
            run.has_reason = *has_reason;
            run
        });
        let world = World { runs: runs.collect(), page: 20, lag: millis(lag) };
        let hinted = drive(&world, &fates, &lies, millis(600_000));
        for run in &world.runs {
            let reports = hinted.bill.reports.get(&run.id).cloned().unwrap_or_default();
            let ends = reports.iter().filter(|state| ENDED.contains(&state.as_str())).count();
            prop_assert_eq!(ends, 1, "{:?} {:?}", run, reports);
            prop_assert_eq!(reports.last().map(String::as_str), run.ended().map(|(state, _)| state));
        }
        let latest = hinted.bill.delay(100);
        prop_assert!(latest <= millis(75_000), "an end was seen after {:?}", latest);
    }
}

//! The book against a small model of the service: what it costs, how late it is, and that it is never wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::poll_pace::interval;
use super::super::poll_run::ENDED;
use super::*;

#[path = "poll_book_tests.rs"]
mod book;
#[path = "poll_downtime_tests.rs"]
mod downtime;
#[path = "poll_hint_tests.rs"]
mod hint;
#[path = "poll_hinted_tests.rs"]
mod hinted;

fn start() -> Timestamp {
    "2026-11-21T10:00:00.4Z".parse().unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A run of the model: when it was created, and which state it is in from then on.
#[derive(Clone, Debug)]
struct SimRun {
    id: String,
    created: Timestamp,
    states: Vec<(Duration, &'static str)>,
    has_reason: bool,
    /// Since when the service knows it no more.
    gone: Option<Timestamp>,
}

impl SimRun {
    fn new(id: usize, created: Timestamp, states: &[(u64, &'static str)]) -> Self {
        let states = states.iter().map(|(at, state)| (millis(*at), *state)).collect();
        Self { id: format!("r{id}"), created, states, has_reason: true, gone: None }
    }

    /// Waits for a second and runs for some time.
    fn short(id: usize, created: Timestamp, ms: u64) -> Self {
        let states = [(0, "PENDING"), (500, "SUBMITTED"), (1000, "RUNNING"), (1000 + ms, "COMPLETED")];
        Self::new(id, created, &states)
    }

    fn at(&self, now: Timestamp) -> Option<(&'static str, Timestamp)> {
        let age = (now >= self.created).then(|| since(self.created, now))?;
        let (at, state) = self.states.iter().rev().find(|(at, _)| *at <= age)?;
        Some((state, self.created + *at))
    }

    fn ended(&self) -> Option<(&'static str, Timestamp)> {
        let (at, state) = self.states.last()?;
        ENDED.contains(state).then(|| (*state, self.created + *at))
    }

    fn item(&self, now: Timestamp, in_list: bool) -> Option<JobRun> {
        let (state, _) = self.at(now).filter(|_| self.gone.is_none_or(|gone| now < gone))?;
        let reason = state == "FAILED" && (self.has_reason || !in_list);
        Some(JobRun {
            id: self.id.clone(),
            state: state.to_owned(),
            failure_reason: reason.then(|| "USER_ERROR".to_owned()),
            created_at: Timestamp::from_second(self.created.as_second()).ok(),
            ..JobRun::default()
        })
    }
}

struct World {
    runs: Vec<SimRun>,
    page: usize,
    /// For so long a list doesn't show a new run or a new state.
    lag: Duration,
}

#[derive(Debug, Default)]
struct Bill {
    looks: u32,
    pages: u32,
    describes: u32,
    /// How late each end was seen.
    delays: Vec<Duration>,
    reports: BTreeMap<String, Vec<String>>,
}

impl Bill {
    fn delay(&self, percent: usize) -> Duration {
        let mut delays = self.delays.clone();
        delays.sort();
        delays[(delays.len() - 1) * percent / 100]
    }
}

impl World {
    fn new(runs: Vec<SimRun>) -> Self {
        Self { runs, page: 100, lag: Duration::ZERO }
    }

    fn list(&self, look: &Look, now: Timestamp) -> (Vec<JobRun>, Listed) {
        let shown = back(now, self.lag);
        let all = self.runs.iter().filter_map(|run| run.item(shown, true));
        let hits = |run: &JobRun| {
            look.states().contains(&run.state.as_str())
                && run.created_at.is_some_and(|at| at > look.created_after)
        };
        let mut items: Vec<_> = all.filter(hits).collect();
        let pages = u32::try_from(items.len().div_ceil(self.page).max(1)).unwrap();
        let complete = pages <= look.max_pages;
        items.truncate(self.page * look.max_pages.min(pages) as usize);
        let listed = Listed { items: items.len(), pages: pages.min(look.max_pages), complete };
        (items, listed)
    }

    fn settle(&self, book: &mut Book, effects: &mut Effects, bill: &mut Bill, now: Timestamp) {
        for key in effects.changed.drain(..) {
            let state = book.observed(&key.uid).unwrap().state.clone();
            bill.reports.entry(key.uid.to_string()).or_default().push(state);
        }
        for (key, observed) in effects.ended.drain(..) {
            let run = self.runs.iter().find(|run| *run.id == *key.uid).unwrap();
            let reports = bill.reports.entry(key.uid.to_string()).or_default();
            let Some(observed) = observed else {
                assert!(run.gone.is_some_and(|gone| gone <= now), "{run:?}");
                reports.push("GONE".to_owned());
                continue;
            };
            let (state, at) = run.ended().unwrap();
            assert!(at <= now && observed.state == state, "{observed:?} at {now}: {run:?}");
            assert_eq!(observed.failure_reason.is_some(), state == "FAILED");
            bill.delays.push(since(at, now));
            reports.push(observed.state);
        }
    }

    /// Looks once, if anything is tracked; gives what was found without a hint.
    fn look(&self, book: &mut Book, bill: &mut Bill, now: Timestamp) -> Option<Vec<(String, bool)>> {
        let mut look = book.plan(now)?;
        bill.looks += 1;
        let mut effects = Effects::default();
        loop {
            let (items, listed) = self.list(&look, now);
            for item in &items {
                book.absorb(&look, item, &mut effects, now);
            }
            let follow_up = book.finish(&look, listed, &mut effects, now);
            bill.pages += listed.pages;
            for id in follow_up.describe {
                bill.describes += 1;
                let run = self.runs.iter().find(|run| run.id == id).unwrap();
                book.described(&id, run.item(now, false).as_ref(), &mut effects, now);
            }
            match follow_up.list {
                Some(next) => look = next,
                None => break,
            }
        }
        self.settle(book, &mut effects, bill, now);
        Some(effects.found)
    }

    fn track(run: &SimRun, book: &mut Book, now: Timestamp) {
        let key = RunKey::new(&run.id, "default", &run.id);
        let known = run.created + millis(1_500) < now;
        let state = run.at(now).filter(|_| known).map(|(state, _)| state.to_owned());
        let created_at = known.then_some(run.created);
        let just_started = state.is_none();
        book.track(Tracked { key, run_id: run.id.clone(), state, just_started, created_at }, now);
    }

    /// Tracks each run that is `ours` 20 ms after its creation, or at once when it is older, and looks as a poller does.
    fn drive(&self, ours: impl Fn(&SimRun) -> bool, lasting: Duration) -> Bill {
        let (mut book, mut bill) = (Book::default(), Bill::default());
        let mut waiting: Vec<_> = self.runs.iter().filter(|run| ours(run)).collect();
        waiting.sort_by_key(|run| std::cmp::Reverse(run.created));
        let mut now = start();
        let mut next = None;
        while now < start() + lasting {
            while waiting.last().is_some_and(|run| run.created + millis(20) <= now) {
                Self::track(waiting.pop().unwrap(), &mut book, now);
                next = Some(next.unwrap_or(now + millis(1000)));
            }
            if next.is_some_and(|at| at <= now) {
                let found = self.look(&mut book, &mut bill, now);
                next = found.map(|_| now + interval(&book.activity(now), 0.3));
            }
            let arrival = waiting.last().map(|run| run.created + millis(20));
            let Some(event) = next.into_iter().chain(arrival).min() else { break };
            now = event.max(now);
        }
        bill
    }
}

fn per_run(count: u32, runs: u32) -> f64 {
    f64::from(count) / f64::from(runs)
}

#[test]
fn a_burst_of_runs_costs_a_seventh_of_a_list_each() {
    let runs = (0..250).map(|id| SimRun::short(id, start() + millis(10 * id as u64), 7_000)).collect();
    let bill = World::new(runs).drive(|_| true, millis(30_000));
    assert_eq!(bill.delays.len(), 250);
    assert!(per_run(bill.pages, 250) <= 0.15 && bill.describes == 0, "{} {}", bill.pages, bill.describes);
    assert!(bill.delay(50) < millis(1_000), "{:?}", bill.delay(50));
}

#[test]
fn a_flow_of_runs_costs_about_a_fifth_of_a_list_each() {
    let runs: Vec<_> =
        (0..750).map(|id| SimRun::short(id, start() + millis(400 * id as u64), 7_000)).collect();
    let bill = World::new(runs).drive(|_| true, millis(400_000));
    assert_eq!(bill.delays.len(), 750);
    assert!(per_run(bill.pages, 750) <= 0.25 && bill.describes == 0, "{} {}", bill.pages, bill.describes);
    assert!(bill.delay(50) < millis(1_000), "{:?}", bill.delay(50));
    assert!(bill.delay(99) < millis(3_000), "{:?}", bill.delay(99));
    let shown = bill.reports.values().filter(|states| states.iter().any(|state| state == RUNNING)).count();
    assert!(shown >= 700, "only {shown} were seen running");
}

#[test]
fn hundreds_of_old_running_jobs_cost_a_page_a_look() {
    let old = |id: usize| SimRun::new(id, start() - millis(3_600_000), &[(0, "RUNNING")]);
    let bill = World::new((0..500).map(old).collect()).drive(|_| true, millis(3_600_000));
    assert!(bill.reports.is_empty() && bill.describes == 0, "{:?}", bill.reports);
    assert!(f64::from(bill.pages) <= 1.15 * f64::from(bill.looks), "{} {}", bill.pages, bill.looks);
    assert!(bill.looks <= 480, "{}", bill.looks);
}

#[test]
fn one_old_job_among_thousands_of_finished_ones_costs_a_page_a_look() {
    let month = millis(30 * 86_400_000);
    let mut runs = vec![SimRun::new(0, start() - month, &[(0, "RUNNING")])];
    runs.extend((1..5_000).map(|id| SimRun::short(id, start() - millis(500_000 * id as u64), 7_000)));
    let bill = World::new(runs).drive(|run| run.id == "r0", millis(3_600_000));
    assert!(bill.reports.is_empty() && bill.describes == 0);
    assert!(f64::from(bill.pages) <= 1.1 * f64::from(bill.looks), "{} {}", bill.pages, bill.looks);
}

#[test]
fn an_old_job_with_a_flow_of_short_ones_costs_as_a_flow_does() {
    let mut runs = vec![SimRun::new(0, start() - millis(86_400_000), &[(0, "RUNNING")])];
    runs.extend((1..750).map(|id| SimRun::short(id, start() + millis(400 * id as u64), 7_000)));
    runs.extend(
        (1_000..4_000).map(|id| SimRun::short(id, start() - millis(20_000 * (id as u64 - 999)), 7_000)),
    );
    let bill = World::new(runs).drive(|run| run.created >= start() || run.id == "r0", millis(300_000));
    assert!(bill.delays.len() > 700);
    // Two lists a look: what lives, and what of the missing ones has ended.
    assert!(per_run(bill.pages, 750) <= 0.5, "{} {}", bill.pages, bill.describes);
}

#[test]
fn a_lone_run_is_seen_in_every_state_within_a_second_or_so() {
    let run = SimRun::new(
        0,
        start(),
        &[(0, "PENDING"), (2_000, "SUBMITTED"), (4_000, "RUNNING"), (9_000, "COMPLETED")],
    );
    let bill = World::new(vec![run]).drive(|_| true, millis(20_000));
    assert_eq!(bill.reports["r0"], ["PENDING", "SUBMITTED", "RUNNING", "COMPLETED"]);
    assert!(bill.delay(100) <= millis(1_200), "{bill:?}");
    // One that fails before anything was listed is seen as soon.
    let run = SimRun::new(0, start(), &[(0, "PENDING"), (300, "FAILED")]);
    let bill = World::new(vec![run]).drive(|_| true, millis(20_000));
    assert_eq!(bill.reports["r0"], ["FAILED"]);
    assert!(bill.delay(100) <= millis(1_200), "{bill:?}");
}

#[test]
fn a_list_without_the_reason_of_a_failure_is_completed_by_one_describe() {
    let mut run = SimRun::new(0, start(), &[(0, "PENDING"), (3_000, "RUNNING"), (6_000, "FAILED")]);
    run.has_reason = false;
    let bill = World::new(vec![run]).drive(|_| true, millis(20_000));
    assert_eq!(bill.reports["r0"].last().unwrap(), "FAILED");
    assert_eq!(bill.describes, 1);
}

#[test]
fn a_run_that_aws_forgot_is_gone_and_an_unknown_state_is_live() {
    let mut forgotten = SimRun::new(0, start() - millis(600_000), &[(0, "RUNNING")]);
    forgotten.gone = Some(start() + millis(5_000));
    let odd = SimRun::new(
        1,
        start() - millis(600_000),
        &[(0, "RUNNING"), (605_000, "HIBERNATING"), (900_000, "RUNNING"), (1_800_000, "COMPLETED")],
    );
    let bill = World::new(vec![forgotten, odd]).drive(|_| true, millis(2_400_000));
    assert_eq!(bill.reports["r0"], ["GONE"]);
    assert_eq!(bill.reports["r1"], ["HIBERNATING", "RUNNING", "COMPLETED"]);
    assert!(bill.describes < 60, "{}", bill.describes);
}

#[test]
fn tracking_twice_or_untracking_while_a_list_is_under_way_does_no_harm() {
    let world = World::new(vec![SimRun::short(0, start(), 7_000), SimRun::short(1, start(), 7_000)]);
    let mut book = Book::default();
    World::track(&world.runs[0], &mut book, start());
    World::track(&world.runs[0], &mut book, start());
    assert_eq!(book.len(), 1);
    let look = book.plan(start() + millis(5_000)).unwrap();
    // Added meanwhile: its absence says nothing. Removed meanwhile: its item is nobody's.
    World::track(&world.runs[1], &mut book, start() + millis(5_000));
    assert!(book.untrack("r0") && !book.untrack("r0"));
    let mut effects = Effects::default();
    let now = start() + millis(5_100);
    book.absorb(&look, &world.runs[0].item(now, true).unwrap(), &mut effects, now);
    let listed = Listed { items: 1, pages: 1, complete: true };
    assert_eq!(book.finish(&look, listed, &mut effects, now), FollowUp::default());
    assert!(effects.changed.is_empty() && effects.ended.is_empty());
    book.untrack("r1");
    assert_eq!(book.plan(now), None);
}

fn sim_run() -> impl Strategy<Value = (u64, Vec<u64>, usize, bool, bool)> {
    (0_u64..120_000, prop::collection::vec(0_u64..30_000, 3), 0_usize..4, any::<bool>(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Premature and wrong ends are caught by the model itself.
    #[test]
    fn every_run_is_reported_as_ended_once_and_truly(
        specs in prop::collection::vec(sim_run(), 1..60),
        page in 1_usize..40,
        lag in 0_u64..4_000,
    ) {
        let runs = specs.iter().enumerate().map(|(id, (at, spans, outcome, foreign, has_reason))| {
            let (a, b, c) = (spans[0], spans[0] + spans[1], spans[0] + spans[1] + spans[2]);
            let created = start() + millis(*at) - millis(40_000);
            let mut run = SimRun::new(id, created, match outcome {
                0 => vec![(0, "PENDING"), (a, "SUBMITTED"), (b, "RUNNING"), (c + 1, "COMPLETED")],
                1 => vec![(0, "PENDING"), (a, "RUNNING"), (b, "CANCEL_PENDING"), (c + 1, "CANCELLED")],
                2 => vec![(0, "PENDING"), (c + 1, "FAILED")],
                _ => vec![(0, "SUBMITTED"), (a, "ASLEEP"), (b, "RUNNING"), (c + 1, "FAILED")],
            }.as_slice());
            run.has_reason = *has_reason;
            if *foreign && id % 2 == 0 {
                run.id = format!("foreign{id}");
            }
            run
        });
        let world = World { runs: runs.collect(), page, lag: millis(lag) };
        let bill = world.drive(|run| run.id.starts_with('r'), millis(400_000));
        for run in world.runs.iter().filter(|run| run.id.starts_with('r')) {
            let reports = bill.reports.get(&run.id).cloned().unwrap_or_default();
            let ends = reports.iter().filter(|state| ENDED.contains(&state.as_str())).count();
            prop_assert_eq!(ends, 1, "{:?} {:?}", run, reports);
            prop_assert_eq!(reports.last().map(String::as_str), run.ended().map(|(state, _)| state));
        }
    }
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off() {
    let later = start() + millis(3_600_000);
    let world = World::new(vec![SimRun::new(0, start() - millis(7_200_000), &[(0, "RUNNING")])]);
    let (mut book, mut bill) = (Book::default(), Bill::default());
    World::track(&world.runs[0], &mut book, later);
    world.look(&mut book, &mut bill, later).unwrap();
    book.hear("r0", "COMPLETED", &mut Effects::default(), later);
    assert!(book.next_confirmation().is_some_and(|due| due >= later));
    book.set_back(start());
    assert_eq!(book.next_confirmation(), Some(start()), "the end that was told is asked for now");
    let quiet = millis(60_000);
    assert_eq!(book.activity(start() + quiet).quiet, quiet, "looks get rare as time goes on");
}

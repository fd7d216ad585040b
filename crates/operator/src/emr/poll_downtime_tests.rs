//! Runs that have ended while nobody looked, in histories short and long.

use super::*;

/// A history of a hundred thousand runs over a month, of which some were ours and live when we last looked.
fn long_history(ours: &[usize]) -> World {
    let runs = (0..100_000).map(|id| {
        let mut run = SimRun::short(id, start() - millis(26_000 * (id as u64 + 10)), 7_000);
        if ours.contains(&id) {
            run.id = format!("ours{id}");
        }
        run
    });
    World::new(runs.collect())
}

/// Tracks runs as a new process does: by what their statuses say.
fn after_downtime(world: &World) -> Book {
    let mut book = Book::default();
    for run in world.runs.iter().filter(|run| run.id.starts_with("ours")) {
        let tracked = Tracked {
            key: RunKey::new(&run.id, "default", &run.id),
            run_id: run.id.clone(),
            state: Some(RUNNING.to_owned()),
            just_started: false,
            created_at: Some(run.created),
        };
        book.track(tracked, start());
    }
    book
}

#[test]
fn some_old_runs_that_ended_meanwhile_cost_a_call_each_and_not_the_whole_history() {
    let ours: Vec<usize> = (0..10).map(|n| 99_999 - 10_000 * n).collect();
    let world = long_history(&ours);
    let (mut book, mut bill) = (after_downtime(&world), Bill::default());
    world.look(&mut book, &mut bill, start()).unwrap();
    assert_eq!(bill.reports.len(), 10, "all are reported after a look");
    assert!(bill.pages + bill.describes <= 25, "{} {}", bill.pages, bill.describes);
}

#[test]
fn many_old_runs_that_ended_meanwhile_hold_up_no_look_for_long() {
    let ours: Vec<usize> = (0..400).map(|n| 99_999 - 250 * n).collect();
    let mut world = long_history(&ours);
    let (mut book, mut bill, mut now) = (after_downtime(&world), Bill::default(), start());
    let young = SimRun { id: "young".to_owned(), ..SimRun::short(0, start() + millis(1_000), 7_000) };
    world.runs.push(young.clone());
    while bill.reports.len() < 401 {
        if now == start() + millis(5_000) {
            World::track(&young, &mut book, now);
        }
        let before = (bill.pages, bill.describes);
        assert!(world.look(&mut book, &mut bill, now).is_some(), "{}", bill.reports.len());
        let (pages, describes) = (bill.pages - before.0, bill.describes - before.1);
        assert!(pages <= 102 && describes <= 50, "{pages} {describes}");
        let has_ended = bill
            .reports
            .get("young")
            .and_then(|reports| reports.last())
            .is_some_and(|last| last == "COMPLETED");
        assert!(has_ended || now < start() + millis(15_000), "one that ends meanwhile isn't behind them");
        now += millis(5_000);
    }
    assert!(bill.looks <= 10 && bill.pages <= 250, "{} {}", bill.looks, bill.pages);
}

#[test]
fn many_runs_that_ended_meanwhile_cost_a_list_where_it_is_short() {
    let runs = (0..3_000).map(|id| {
        let mut run = SimRun::short(id, start() - millis(26_000 * (id as u64 + 10)), 7_000);
        run.id = format!("ours{id}");
        run
    });
    let world = World::new(runs.collect());
    let (mut book, mut bill) = (after_downtime(&world), Bill::default());
    world.look(&mut book, &mut bill, start()).unwrap();
    assert_eq!((bill.reports.len(), bill.describes), (3_000, 0));
    assert!(bill.pages <= 31, "{}", bill.pages);
}

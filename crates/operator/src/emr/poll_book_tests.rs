//! What the book concludes from one list, and which list it asks for next.

use super::*;

fn track(book: &mut Book, id: &str, state: Option<&str>, now: Timestamp) {
    let (key, run_id) = (RunKey::new(id, "default", id), id.to_owned());
    let (state, just_started) = (state.map(str::to_owned), state.is_none());
    assert!(book.track(Tracked { key, run_id, state, just_started, created_at: None }, now));
}

/// A book with one run, `r0`: one that was taken over in a state, or one that was started just now.
fn with_one(state: Option<&str>) -> Book {
    let mut book = Book::default();
    track(&mut book, "r0", state, start());
    book
}

fn look(kind: Kind, started: Timestamp) -> Look {
    Look { kind, created_after: start(), max_pages: 10, number: 1, started }
}

fn listed(items: usize, pages: u32, complete: bool) -> Listed {
    Listed { items, pages, complete }
}

/// What follows from a list that shows nothing: what is asked for, and the runs that are taken as running.
fn absence(book: &mut Book, look: &Look, complete: bool) -> (Vec<String>, Vec<String>) {
    let mut effects = Effects::default();
    let follow_up = book.finish(look, listed(0, 1, complete), &mut effects, look.started);
    assert!(effects.ended.is_empty(), "no absence ends a run");
    let running = effects.changed.iter().map(|key| key.uid.to_string());
    (follow_up.describe, running.filter(|id| book.runs[id].last.state == RUNNING).collect())
}

fn ids<const N: usize>(ids: [&str; N]) -> Vec<String> {
    ids.map(str::to_owned).to_vec()
}

#[test]
fn a_run_that_neither_waits_nor_has_ended_runs() {
    let none = || ids([]);
    for (state, after, complete, expected) in [
        (Some("PENDING"), 0, true, (none(), ids(["r0"]))),
        (Some("PENDING"), 0, false, (none(), none())),
        (None, 4_999, true, (none(), none())),
        (None, 5_000, true, (none(), ids(["r0"]))),
        (None, 5_000, false, (none(), none())),
        (Some("HIBERNATING"), 0, true, (ids(["r0"]), none())),
        (Some("HIBERNATING"), 0, false, (none(), none())),
    ] {
        let now = start() + millis(after);
        let came = absence(&mut with_one(state), &look(Kind::Moved, now), complete);
        assert_eq!(came, expected, "{state:?} after {after} ms, complete: {complete}");
    }
    // One in a state that we don't know was asked for just now.
    let mut odd = with_one(Some("HIBERNATING"));
    let item = JobRun { id: "r0".to_owned(), state: "HIBERNATING".to_owned(), ..JobRun::default() };
    odd.described("r0", Some(&item), &mut Effects::default(), start());
    assert_eq!(absence(&mut odd, &look(Kind::Moved, start()), true), (none(), none()));
}

#[test]
fn a_run_that_waits_is_about_to_move_for_a_minute() {
    for (state, after, expected) in [
        ("PENDING", 0, true),
        ("CANCEL_PENDING", 59_999, true),
        ("PENDING", 60_000, false),
        ("PENDING", 61_000, false),
        ("RUNNING", 0, false),
    ] {
        let activity = with_one(Some(state)).activity(start() + millis(after));
        assert_eq!(activity.about_to_move, expected, "{state} after {after} ms");
    }
}

#[test]
fn what_is_tracked_can_be_asked_for() {
    let mut book = with_one(Some("RUNNING"));
    track(&mut book, "r1", None, start() + millis(1_000));
    assert_eq!((book.len(), book.tracks("r1"), book.tracks("r2")), (2, true, false));
    let now = start() + millis(3_000);
    assert_eq!(
        ["r0", "r1", "r2"].map(|id| book.tracked_for(id, now)),
        [Some(millis(3_000)), Some(millis(2_000)), None]
    );
    assert_eq!(book.some(now), ids(["r0"]), "lists may not have the other one yet");
    for id in 2..100 {
        track(&mut book, &format!("r{id}"), Some("RUNNING"), start());
    }
    assert_eq!(book.some(now).len(), MOST_DESCRIBED);
}

/// The next list, so long after the live one that had so many pages.
fn next_after(book: &mut Book, live_pages: u32, after: u64) -> Kind {
    let mut effects = Effects::default();
    let items = 100 * live_pages as usize;
    book.looks = 1;
    let list = listed(items, live_pages, false);
    let follow_up = book.finish(&look(Kind::Live, start()), list, &mut effects, start());
    assert_eq!(follow_up, FollowUp::default(), "what it didn't show may have been on another page");
    book.plan(start() + millis(after)).unwrap().kind
}

#[test]
fn a_live_look_is_due_after_sixty_looks_or_ten_minutes() {
    let mut book = with_one(Some("RUNNING"));
    assert_eq!(book.plan(start()).unwrap().kind, Kind::Live, "nothing is known");
    assert_eq!(next_after(&mut book, 1, 599_999), Kind::Moved);
    assert_eq!(next_after(&mut book, 1, 600_000), Kind::Live);
    for (looks, expected) in [(64, Kind::Moved), (65, Kind::Live)] {
        (book.confirmed, book.looks) = (Some((5, start())), looks);
        assert_eq!(book.plan(start()).unwrap().kind, expected, "{looks}");
    }
}

#[test]
fn a_run_that_no_list_has_shown_is_looked_for_among_the_live_ones() {
    assert_eq!(next_after(&mut with_one(None), 1, 0), Kind::Live, "that is a page");
    assert_eq!(next_after(&mut with_one(None), 2, 9_999), Kind::Moved, "that is more, and there is time");
    assert_eq!(next_after(&mut with_one(None), 2, 10_000), Kind::Live, "it may be lost");
    assert_eq!(next_after(&mut with_one(Some("PENDING")), 1, 0), Kind::Moved);
    let mut seen = with_one(Some("RUNNING"));
    track(&mut seen, "r1", None, start() + millis(5_000));
    assert_eq!(next_after(&mut seen, 2, 14_999), Kind::Moved, "the new one isn't lost yet");
    assert_eq!(next_after(&mut seen, 2, 15_000), Kind::Live);
}

#[test]
fn the_shorter_list_is_asked_for_and_where_runs_end_a_live_one_takes_another() {
    for (ends, pages, expected) in
        [(0, 1, Kind::Moved), (0, 2, Kind::Live), (1, 2, Kind::Moved), (1, 3, Kind::Live)]
    {
        let mut book = with_one(Some("RUNNING"));
        book.runs.get_mut("r0").unwrap().born = start() + SLACK;
        next_after(&mut book, 1, 0);
        let items = 100 * pages as usize;
        book.sizes.count(&look(Kind::Moved, start()), listed(items, pages, true), start() + millis(9_000));
        book.ends.extend(vec![start(); ends]);
        let kind = book.plan(start() + millis(9_000)).unwrap().kind;
        assert_eq!(kind, expected, "{ends} ends, {pages} pages");
    }
}

#[test]
fn ends_count_for_as_long_as_a_flow_is_looked_at_and_are_forgotten_then() {
    for (over, expected) in [(0, 1), (1, 0)] {
        let mut book = with_one(Some("RUNNING"));
        book.ends.push_back(start());
        let now = start() + FLOW_WINDOW + Duration::from_nanos(over);
        absence(&mut book, &look(Kind::Hinted, now), true);
        assert_eq!((book.ends.len(), book.activity(now).ends), (expected, expected));
    }
}

#[test]
fn a_run_that_was_just_started_shows_by_how_much_the_clocks_differ() {
    let late = start() - millis(3_000);
    let born = |book: &mut Book| {
        track(book, "new", None, start());
        since(book.runs["new"].born, start())
    };
    for (known, after, created_before, expected) in [
        (None, 0, None, millis(3_000)),
        (None, 9_999, None, millis(3_000)),
        (None, 10_000, None, CLOCK_SLACK),
        (Some("PENDING"), 0, None, CLOCK_SLACK),
        (Some("PENDING"), 0, Some(late), CLOCK_SLACK),
        (Some("PENDING"), 10_000, Some(late), CLOCK_SLACK),
    ] {
        let mut book = with_one(known);
        book.runs.get_mut("r0").unwrap().last.created_at = created_before;
        let item = JobRun {
            id: "r0".to_owned(),
            state: "PENDING".to_owned(),
            created_at: Some(late),
            ..JobRun::default()
        };
        let now = start() + millis(after);
        book.absorb(&look(Kind::Live, now), &item, &mut Effects::default(), now);
        assert_eq!(book.runs["r0"].born, late);
        assert_eq!(born(&mut book), expected, "{known:?} after {after} ms, {created_before:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_moves_only_a_birth_that_was_guessed() {
    let later = start() + millis(3_600_000);
    let mut book = Book::default();
    track(&mut book, "guessed", None, later);
    track(&mut book, "known", Some("PENDING"), later);
    book.runs.get_mut("known").unwrap().born = later;
    book.set_back(start());
    assert_eq!(["guessed", "known"].map(|id| book.runs[id].born), [start(), later]);
}

//! What a single hint means, and when ends are asked for, and how.

use super::super::super::poll_hint::{Confirm, Heard, is_behind};
use super::*;

/// Runs `r0`, `r1`, … that were last seen in this state.
fn seen_in(state: &str, runs: usize) -> (World, Book) {
    let world = World::new((0..runs).map(|id| SimRun::new(id, start(), &[(0, "RUNNING")])).collect());
    let mut book = Book::default();
    for run in &world.runs {
        let key = RunKey::new(&run.id, "default", &run.id);
        let (state, created_at) = (Some(state.to_owned()), Some(start()));
        let tracked = Tracked { key, run_id: run.id.clone(), state, just_started: false, created_at };
        book.track(tracked, start());
    }
    (world, book)
}

/// What becomes of a hint, and whether it changes what is known.
fn hear(book: &mut Book, run: &str, state: &str, now: Timestamp) -> (Heard, bool) {
    let mut effects = Effects::default();
    (book.hear(run, state, &mut effects, now), !effects.changed.is_empty())
}

#[test]
fn a_hint_counts_when_it_tells_a_later_state_that_we_know() {
    for (seen, told, expected) in [
        ("PENDING", "SUBMITTED", Heard::Moved),
        ("PENDING", "RUNNING", Heard::Moved),
        ("SUBMITTED", "RUNNING", Heard::Moved),
        ("RUNNING", "FAILED", Heard::Ending),
        ("PENDING", "PENDING", Heard::Known),
        ("RUNNING", "RUNNING", Heard::Known),
        ("RUNNING", "SUBMITTED", Heard::Known),
        ("PENDING", "CANCEL_PENDING", Heard::Known),
        ("CANCEL_PENDING", "RUNNING", Heard::Known),
        ("PENDING", "FROZEN", Heard::Known),
        ("FROZEN", "RUNNING", Heard::Known),
    ] {
        let (_, mut book) = seen_in(seen, 1);
        let heard = hear(&mut book, "r0", told, start());
        assert_eq!(heard, (expected, expected == Heard::Moved), "{told} of one that is {seen}");
        assert_eq!(hear(&mut book, "r1", told, start()), (Heard::Untracked, false));
    }
}

#[test]
fn what_was_known_besides_the_state_stays_known() {
    let (_, mut book) = seen_in("PENDING", 1);
    assert_eq!(book.runs["r0"].last.created_at, Some(start()));
    book.runs.get_mut("r0").unwrap().last.attempts = Some(2);
    hear(&mut book, "r0", "RUNNING", start());
    let known = (RUNNING.to_owned(), Some(start()), Some(2));
    let last = &book.runs["r0"].last;
    assert_eq!((last.state.clone(), last.created_at, last.attempts), known);
}

#[test]
fn a_list_is_behind_for_a_while_when_it_shows_less_than_a_hint_told() {
    let (_, mut book) = seen_in("PENDING", 1);
    let behind = |book: &Book, state: &str, after: u64| {
        let observed = Observed { state: state.to_owned(), ..Observed::default() };
        is_behind(&book.runs["r0"], &observed, start() + millis(after))
    };
    assert!(!behind(&book, "PENDING", 0), "nothing was told");
    hear(&mut book, "r0", "RUNNING", start());
    for (state, after, expected) in [
        ("PENDING", 14_999, true),
        ("SUBMITTED", 14_999, true),
        ("RUNNING", 0, false),
        ("CANCEL_PENDING", 0, false),
        ("FROZEN", 0, false),
        ("PENDING", 15_000, false),
    ] {
        assert_eq!(behind(&book, state, after), expected, "{state} after {after} ms");
    }
}

#[test]
fn an_end_that_is_not_confirmed_is_asked_for_three_times_more_and_then_not_for_a_minute() {
    let (_, mut book) = seen_in("RUNNING", 1);
    let mut now = start();
    assert_eq!(hear(&mut book, "r0", "COMPLETED", now).0, Heard::Ending);
    for wait in [500, 1_000, 2_000] {
        assert_eq!(hear(&mut book, "r0", "COMPLETED", now).0, Heard::Known, "it is asked for already");
        assert!(book.confirmed("r0", None, &mut Effects::default(), now));
        assert_eq!(book.unlisted(now), [""; 0]);
        now += millis(wait);
        assert_eq!((book.next_confirmation(), book.unlisted(now)), (Some(now), vec!["r0".to_owned()]));
        assert_eq!(book.confirm(now - millis(1)), Confirm::Describe(vec![]));
    }
    assert!(!book.confirmed("r0", None, &mut Effects::default(), now));
    assert_eq!(book.next_confirmation(), None);
    for (after, expected) in [(59_999, Heard::Known), (60_000, Heard::Ending)] {
        assert_eq!(hear(&mut book, "r0", "COMPLETED", now + millis(after)).0, expected, "after {after} ms");
    }
}

#[test]
fn new_ends_are_asked_for_by_a_list_where_that_is_shorter_and_what_it_lacks_one_by_one() {
    for (ends, listed, by_list) in [(3, 10_usize, false), (4, 10, true), (4, 400, false), (5, 400, true)] {
        let (_, mut book) = seen_in("RUNNING", 5);
        let now = start() + millis(2_000);
        let created_after = back(start(), SLACK);
        let look = Look { kind: Kind::Moved, created_after, max_pages: 9, number: 0, started: now };
        let pages = u32::try_from(listed.div_ceil(100)).unwrap();
        book.sizes.count(&look, Listed { items: listed, pages, complete: true }, now);
        let ids: Vec<String> = (0..ends).map(|id| format!("r{id}")).collect();
        for id in &ids {
            hear(&mut book, id, "COMPLETED", now);
        }
        let is_list = matches!(book.confirm(now), Confirm::List(look) if look.created_after == created_after);
        assert_eq!(is_list, by_list, "{ends} ends, a list of {listed}");
        let sorted = |mut ids: Vec<String>| {
            ids.sort();
            ids
        };
        assert_eq!(sorted(book.unlisted(now)), ids);
        for id in &ids {
            book.confirmed(id, None, &mut Effects::default(), now);
        }
        let again = book.confirm(now + millis(500));
        assert!(
            matches!(again, Confirm::Describe(asked) if sorted(asked.clone()) == ids),
            "a list only once"
        );
    }
}

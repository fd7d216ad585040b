//! What lists say of the length of the next ones.

use super::*;

fn start() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn after(seconds: u64) -> Timestamp {
    start() + Duration::from_secs(seconds)
}

/// Learns from a list of what was created since the start, so many seconds after it.
fn learn(sizes: &mut Sizes, kind: Kind, (items, pages): (usize, u32), complete: bool, at: u64) {
    let created_after = back(start(), SLACK);
    let look = Look { kind, created_after, max_pages: pages, number: 0, started: start() };
    sizes.count(&look, Listed { items, pages, complete }, after(at));
}

/// The size of a page, as far as it is known.
fn page(sizes: &Sizes) -> usize {
    (1..1_000).take_while(|items| sizes.pages(*items) == 1).count()
}

#[test]
fn a_kind_has_the_name_that_metrics_and_the_documentation_give_it() {
    let kinds = [Kind::Live, Kind::Moved, Kind::Ended, Kind::Hinted];
    assert_eq!(kinds.map(Kind::name), ["live", "moved", "ended", "hinted"]);
}

#[test]
fn the_size_of_a_page_is_learned_from_full_ones() {
    for ((items, pages), complete, expected) in [
        ((0, 1), true, PAGE),
        ((PAGE, 1), true, PAGE),
        ((150, 1), true, 150),
        ((150, 1), false, 150),
        ((250, 3), true, PAGE),
        ((130, 3), true, 65),
        ((1_000, 3), true, 334),
        ((130, 3), false, PAGE),
    ] {
        let mut sizes = Sizes::default();
        learn(&mut sizes, Kind::Live, (items, pages), complete, 0);
        assert_eq!(page(&sizes), expected, "{items} in {pages} pages, complete: {complete}");
    }
}

#[test]
fn a_live_look_is_as_long_as_the_last_one_and_the_pages_of_a_look_are_all_that_it_took() {
    let mut sizes = Sizes::default();
    assert_eq!((sizes.live_pages(), sizes.last_pages()), (1, 0));
    learn(&mut sizes, Kind::Live, (250, 3), true, 0);
    assert_eq!((sizes.live_pages(), sizes.last_pages()), (3, 3));
    learn(&mut sizes, Kind::Ended, (150, 2), true, 0);
    assert_eq!((sizes.live_pages(), sizes.last_pages()), (3, 5));
    learn(&mut sizes, Kind::Hinted, (350, 4), true, 0);
    assert_eq!((sizes.live_pages(), sizes.last_pages()), (3, 5), "it ends no look");
    learn(&mut sizes, Kind::Moved, (350, 4), true, 0);
    assert_eq!((sizes.live_pages(), sizes.last_pages()), (3, 4));
}

#[test]
fn a_list_of_what_has_moved_grows_with_the_time_that_it_covers() {
    let mut sizes = Sizes::default();
    assert_eq!(sizes.moved_pages(start(), after(100)), None, "nothing is known");
    learn(&mut sizes, Kind::Moved, (300, 3), true, 100);
    assert_eq!(sizes.moved_pages(start(), after(100)), Some(3));
    assert_eq!(sizes.moved_pages(after(50), after(100)), Some(2), "half of the time, 150 items");
    assert_eq!(sizes.moved_pages(after(99), after(100)), Some(1));
    assert_eq!(sizes.moved_pages(back(start(), SLACK), after(100)), None, "it didn't cover that");
}

#[test]
fn a_list_that_was_too_long_is_taken_for_that_for_a_while() {
    let long_after = after(100) + TOO_LONG_FOR;
    for (kind, items) in [(Kind::Moved, 350), (Kind::Ended, 350), (Kind::Moved, 500)] {
        let mut sizes = Sizes::default();
        learn(&mut sizes, kind, (items, 5), false, 100);
        assert_eq!(sizes.moved_pages(start(), after(100)), Some(5), "{kind:?}: at least as many pages");
        assert!(sizes.is_too_long(start(), back(long_after, Duration::from_nanos(1))));
        assert!(!sizes.is_too_long(start(), long_after), "it may be shorter by now");
        assert_eq!(sizes.moved_pages(after(100), after(100)), None, "of what is newer it says nothing");
    }
    let mut sizes = Sizes::default();
    learn(&mut sizes, Kind::Moved, (300, 3), true, 100);
    assert!(!sizes.is_too_long(start(), after(100)));
}

#[test]
fn a_long_list_of_ends_says_nothing_of_the_last_minutes() {
    let mut sizes = Sizes::default();
    learn(&mut sizes, Kind::Ended, (500, 5), false, 10_000);
    let now = after(10_000);
    assert_eq!(sizes.moved_pages(start(), now), Some(5));
    assert_eq!(sizes.moved_pages(back(now, SHORT), now), Some(5));
    assert_eq!(sizes.moved_pages(back(now, SHORT) + Duration::from_secs(1), now), None);
}

#[test]
fn a_list_of_ends_says_something_where_nothing_better_is_known() {
    let mut sizes = Sizes::default();
    learn(&mut sizes, Kind::Ended, (300, 3), true, 100);
    assert_eq!(sizes.moved_pages(start(), after(100)), Some(3));
    learn(&mut sizes, Kind::Moved, (400, 4), true, 100);
    let newer =
        Look { kind: Kind::Ended, created_after: after(40), max_pages: 1, number: 0, started: after(100) };
    sizes.count(&newer, Listed { items: 10, pages: 1, complete: true }, after(100));
    assert_eq!(sizes.moved_pages(start(), after(100)), Some(4), "it covers less");
    learn(&mut sizes, Kind::Ended, (200, 2), true, 100);
    assert_eq!(sizes.moved_pages(start(), after(100)), Some(2), "it covers as much, and is newer");
}

#[test]
fn runs_are_described_one_by_one_when_a_list_has_more_pages() {
    let mut sizes = Sizes::default();
    let young = |sizes: &Sizes, runs| sizes.are_few(runs, back(after(1), SHORT), after(0));
    let old = |sizes: &Sizes, runs| sizes.are_few(runs, back(after(0), SHORT), after(0));
    assert_eq!([young(&sizes, 0), young(&sizes, 1)], [true, false], "a list of the last minutes is short");
    assert_eq!([old(&sizes, FEW), old(&sizes, FEW + 1)], [true, false], "that is anyone's guess");
    learn(&mut sizes, Kind::Moved, (300, 3), true, 100);
    let known = |runs| sizes.are_few(runs, start(), after(100));
    assert_eq!([known(2), known(3)], [true, false]);
}

#[test]
fn what_a_clock_that_was_set_back_has_not_seen_yet_is_forgotten() {
    for (now, expected) in [(after(100), Some(3)), (after(99), None)] {
        let mut sizes = Sizes::default();
        learn(&mut sizes, Kind::Moved, (300, 3), true, 100);
        sizes.set_back(now);
        assert_eq!(sizes.moved_pages(start(), after(100)), expected);
    }
}

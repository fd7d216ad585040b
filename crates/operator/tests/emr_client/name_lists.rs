//! The list of a name's runs, shared.

use std::time::{Duration, Instant};

use emrcontainers_operator::emr::name_lists::{NameList, NameLists};
use futures::{join, poll};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::rig::{Rig, error, rig, scope};

fn page(id: &str, next: Option<&str>) -> (u16, &'static str, Value) {
    (200, "", json!({"jobRuns": [{"id": id, "name": "nightly", "state": "COMPLETED"}], "nextToken": next}))
}

fn ids(list: &NameList) -> Vec<&str> {
    list.runs.iter().map(|run| run.id.as_str()).collect()
}

/// Asks, and says what comes, or `error`, and how many pages have been read by then.
async fn ask(lists: &NameLists, rig: &Rig, after: Option<&str>, from: Instant) -> (String, usize) {
    let after = after.map(|text| text.parse::<Timestamp>().unwrap());
    let list = lists.list(rig.client.clone(), &scope(), ("vc1", "nightly"), after, from).await;
    let text = if list.end.is_ok() { ids(&list).join(" ") } else { "error".to_owned() };
    (text, rig.script.lock().unwrap().requests.len())
}

#[tokio::test]
async fn who_asks_for_the_same_at_the_same_time_gets_it_at_once() {
    let replies = [page("a", Some("2")), page("b", None), page("c", None), page("d", None), page("e", None)];
    let rig = rig(replies).await;
    let (lists, start) = (NameLists::default(), Instant::now());
    let [all, newer] = [None, Some("2026-11-22T10:00:00Z")];
    let (one, two) = join!(ask(&lists, &rig, all, start), ask(&lists, &rig, newer, start));
    assert_eq!((one, two), (("a b".to_owned(), 2), ("a b".to_owned(), 2)), "one list of two pages");
    let later = Instant::now();
    assert_eq!(ask(&lists, &rig, newer, start).await.1, 2, "who comes later, too");
    assert_eq!(ask(&lists, &rig, newer, later).await, ("c".to_owned(), 3), "it was begun too early");
    assert_eq!(ask(&lists, &rig, all, later).await, ("d".to_owned(), 4), "what is older lacks");
    assert_eq!(ask(&lists, &rig, all, later).await, ("d".to_owned(), 4));
    let list = lists.list(rig.client.clone(), &scope(), ("vc1", "hourly"), None, start).await;
    assert_eq!(ids(&list), ["e"], "another name");
    let requests = rig.script.lock().unwrap().requests.clone();
    assert!(
        requests
            .iter()
            .take(4)
            .all(|(_, uri, _)| uri.contains("/vc1/jobruns") && uri.contains("name=nightly"))
    );
    assert!(requests[2].1.contains("createdAfter=2026-11-22"), "{requests:?}");
}

#[tokio::test]
async fn an_error_is_for_those_who_wait_and_the_next_asks_again() {
    let refused = (400, "ValidationException", error("not now"));
    let rig = rig([page("a", Some("2")), refused, page("b", None)]).await;
    let (lists, start) = (NameLists::default(), Instant::now());
    let (one, two) = join!(ask(&lists, &rig, None, start), ask(&lists, &rig, None, start));
    assert_eq!((one, two), (("error".to_owned(), 2), ("error".to_owned(), 2)));
    assert_eq!(ask(&lists, &rig, None, start).await, ("b".to_owned(), 3));
}

#[tokio::test]
async fn it_goes_on_without_who_asked_and_is_kept_for_a_minute() {
    let rig = rig([page("a", Some("2")), page("b", None), page("c", None)]).await;
    let (lists, start) = (NameLists::default(), Instant::now());
    {
        let mut given_up = Box::pin(ask(&lists, &rig, None, start));
        assert!(poll!(&mut given_up).is_pending());
    }
    assert_eq!(ask(&lists, &rig, None, start).await, ("a b".to_owned(), 2), "the first list");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(ask(&lists, &rig, None, start).await, ("a b".to_owned(), 2));
    tokio::time::advance(Duration::from_secs(2)).await;
    // What is kept is forgotten in a task of its own.
    tokio::task::yield_now().await;
    tokio::time::resume();
    assert_eq!(ask(&lists, &rig, None, start).await, ("c".to_owned(), 3));
}

//! What is remembered, for how long, and that nothing is kept of objects that have nothing to say.

use emrcontainers_api::JobRun;
use emrcontainers_api::job_run::JobRunSpec;
use emrcontainers_api::status::AckResourceMetadata;

use super::*;

fn run(version: &str) -> Arc<JobRun> {
    let mut run = JobRun::new("run", JobRunSpec::default());
    run.metadata.uid = Some("u".to_owned());
    run.metadata.resource_version = Some(version.to_owned());
    Arc::new(run)
}

fn shown(run: &JobRun) -> &str {
    run.metadata.resource_version.as_deref().unwrap()
}

fn kept(memories: &Memories<JobRun>) -> usize {
    memories.0.lock().unwrap().len()
}

fn submission() -> Submission {
    Submission {
        id: "1".to_owned(),
        virtual_cluster_id: "vc".to_owned(),
        place: AckResourceMetadata::default(),
        overrides: None,
        found: None,
        generation: None,
        advice: None,
    }
}

#[test]
fn the_newer_of_what_was_seen_and_what_was_written_counts() {
    let memories = Memories::default();
    assert_eq!(shown(&memories.freshest(run("10"))), "10", "nothing was written");
    memories.wrote(&run("10"));
    assert_eq!(shown(&memories.freshest(run("9"))), "10", "by number, not by letter");
    assert_eq!(shown(&memories.freshest(run("2"))), "10");
    let same = run("10");
    assert!(Arc::ptr_eq(&memories.freshest(Arc::clone(&same)), &same) && memories.get("u").fresh.is_none());
    memories.wrote(&run("11"));
    assert_eq!(shown(&memories.freshest(run("12"))), "12");
    assert!(memories.get("u").fresh.is_none(), "the watch is ahead");
    let nobodys = Arc::new(JobRun::new("run", JobRunSpec::default()));
    memories.wrote(&nobodys);
    assert!(Arc::ptr_eq(&memories.freshest(Arc::clone(&nobodys)), &nobodys));
}

#[test]
fn a_write_is_forgotten_when_the_watch_has_caught_up_with_it() {
    for (seen, is_kept) in [("9", true), ("10", false), ("11", false)] {
        let memories = Memories::default();
        memories.wrote(&run("10"));
        memories.caught_up(&run(seen));
        assert_eq!((memories.get("u").fresh.is_some(), kept(&memories)), (is_kept, usize::from(is_kept)));
    }
}

#[test]
fn whatever_is_known_is_kept_until_it_is_said_or_the_object_is_gone() {
    let known: [fn(&mut Memory<JobRun>); 8] = [
        |memory| memory.submission = Some(Box::new(submission())),
        |memory| memory.never_started = true,
        |memory| memory.sought = true,
        |memory| memory.cancel_asked = true,
        |memory| memory.asked_at = Some(Timestamp::UNIX_EPOCH),
        |memory| memory.unanswered = Some(Instant::now()),
        |memory| memory.repeated_since = Some(Instant::now()),
        |memory| memory.told_ahead = Some(0),
    ];
    for (number, set) in known.into_iter().enumerate() {
        let memories = Memories::default();
        memories.update("u", set);
        memories.caught_up(&run("1"));
        memories.succeeded("u");
        assert_eq!(kept(&memories), 1, "{number}");
        assert_eq!(memories.has_submission("u"), number == 0);
        memories.forget("u");
        assert_eq!(kept(&memories), 0);
    }
    let memories = Memories::<JobRun>::default();
    memories.update("u", |_| {});
    memories.caught_up(&run("1"));
    assert_eq!(kept(&memories), 0, "it says nothing");
}

#[test]
fn failures_are_counted_until_a_pass_succeeds() {
    let memories = Memories::<JobRun>::default();
    assert_eq!([memories.failed("u"), memories.failed("u")], [1, 2]);
    memories.caught_up(&run("1"));
    assert_eq!(memories.failed("u"), 3, "an event is no success");
    memories.succeeded("u");
    assert_eq!(kept(&memories), 0);
    assert_eq!(memories.failed("u"), 1);
}

#[test]
fn it_is_certain_that_nothing_was_started_when_it_was_never_asked_for_or_looked_for_since() {
    let memory = |never_started, sought, unanswered: bool| Memory::<JobRun> {
        never_started,
        sought,
        unanswered: unanswered.then(Instant::now),
        ..Memory::default()
    };
    for (memory, expected) in [
        (memory(false, false, false), false),
        (memory(true, false, true), true),
        (memory(false, true, false), true),
        (memory(false, true, true), false),
        (memory(false, false, true), false),
    ] {
        assert_eq!(memory.is_unstarted(), expected, "{memory:?}");
    }
}

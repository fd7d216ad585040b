//! The bounded run: the kept corpus, then variations of it for a few seconds, from a fresh seed each time.
//!
//! `FUZZ_SECONDS` sets how long, `FUZZ_SEED` with which variation it begins: a failure names the seed of its input.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops with a message"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use fuzz::mutate::mutate;
use fuzz::{TARGETS, target};

/// Long enough for thousands of inputs, and short enough for every run of the tests.
const SECONDS: u64 = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut inputs: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

fn holds(name: &str) {
    let check = target(name).unwrap().check;
    let kept = corpus(name);
    assert!(!kept.is_empty(), "there is no corpus of {name}");
    for (file, input) in &kept {
        let ended = catch_unwind(|| check(input));
        assert!(ended.is_ok(), "{name} fails on fuzz/corpus/{name}/{file}");
    }
    let first = number("FUZZ_SEED").unwrap_or_else(rand::random);
    let until = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut seed = first;
    while Instant::now() < until {
        let pick = |place: u64| &kept[usize::try_from(place % kept.len() as u64).unwrap()].1;
        // Which inputs are varied follows from the seed, too, and in another way than how.
        let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let input = mutate(pick(spread >> 32), pick(spread & 0xffff_ffff), seed);
        if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{seed}"));
            std::fs::write(&path, &input).unwrap();
            panic!(
                "{name} fails on the input that is kept in {}; it comes first with FUZZ_SEED={seed}",
                path.display()
            );
        }
        seed = seed.wrapping_add(1);
    }
    println!(
        "{name}: {} kept inputs and {} variations from FUZZ_SEED={first}",
        kept.len(),
        seed.wrapping_sub(first)
    );
}

#[test]
fn any_message_of_the_event_queue_is_a_hint_of_what_it_says_or_none() {
    holds("events");
}

#[test]
fn any_object_is_read_as_kube_would_or_says_what_is_wrong_with_it() {
    holds("objects");
}

#[test]
fn any_overrides_mean_what_they_say_or_are_refused_with_the_place() {
    holds("overrides");
}

#[test]
fn any_path_is_refused_or_ends_with_no_more_than_fits_into_a_config_map() {
    holds("paths");
}

#[test]
fn any_command_line_gives_fit_settings_or_names_the_flags() {
    holds("settings");
}

#[test]
fn any_request_to_the_simulator_gets_an_answer_in_the_shape_of_aws() {
    holds("simulator");
}

#[test]
fn every_target_has_a_corpus() {
    for target in TARGETS {
        assert!(!corpus(target.name).is_empty(), "{}", target.name);
    }
}

//! The turn of a run within the AWS quota: its priority, and what a run that waits says of its place.
//!
//! Must not decide who is next: the limiter does. Invariant: a wait is told when it begins to be worth it, and after that
//! only when the place has halved or doubled, so that a run writes a few times however far back it stands.

use std::time::Duration;

use emrcontainers_api::{JobRun, annotations, condition};
use kube::ResourceExt;

use super::act::{Pass, Result};
use super::report::Reported;
use super::status::{self, Situation};
use crate::emr::limit::{Kind as TurnKind, Pace, Place, Priority, Turn};
use crate::event::reason;
use crate::pass::{Next, Progress};
use crate::timing;

/// Reason of `ACK.Advisory` on a run whose priority can't be read.
pub(super) const INVALID_PRIORITY: &str = "InvalidPriority";

/// The priority that the object asks for, or the value that isn't one.
fn priority(run: &JobRun) -> std::result::Result<i32, &str> {
    let Some(value) = run.annotations().get(annotations::PRIORITY) else { return Ok(0) };
    value.trim().parse().map_err(|_| value.as_str())
}

/// What is wrong with the priority. The run isn't held back for it.
pub(super) fn advice(run: &JobRun) -> Option<String> {
    let value = priority(run).err()?;
    let shown: String = value.chars().take(40).collect();
    Some(format!(
        "annotation {}: {shown:?} is not a whole number from {} to {}; the priority is taken as 0",
        annotations::PRIORITY,
        i32::MIN,
        i32::MAX
    ))
}

/// How long a call waits behind so many others.
fn wait(ahead: usize, rate: Pace) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = (ahead + 1) as f64 / rate.per_second;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Whether a place is worth a status write, after another one was told.
fn is_news(told_ahead: Option<usize>, ahead: usize) -> bool {
    let Some(told) = told_ahead else { return true };
    let (told, now) = (told.saturating_add(1), ahead.saturating_add(1));
    now <= told / 2 || now / 2 >= told
}

/// When to look at the place again: it has halved then, if nothing else happens.
fn look_again_after(wait: Duration) -> Duration {
    (wait / 2).clamp(timing::PLACE_CHECK, timing::QUEUE_CHECK)
}

/// What a run that waits says.
fn words(kind: TurnKind, place: Place, rate: Pace) -> String {
    let call = kind.operation();
    let what = match kind {
        TurnKind::Start => "waits for its turn",
        TurnKind::Cancel => "is being deleted, and waits for its turn to be cancelled",
    };
    let standing = match place {
        Place { ahead: 0, waiting } => format!("it is the next of {waiting} that wait"),
        Place { ahead, waiting } => format!("about {ahead} of {waiting} that wait are before it"),
    };
    let per_second = (rate.per_second * 100.0).round().max(1.0) / 100.0;
    let why = if rate.throttled {
        format!("AWS has asked to slow down, and {call} is called {per_second} times a second for now")
    } else {
        format!("the AWS quota allows {per_second} {call} calls a second")
    };
    let time = roughly(wait(place.ahead, rate));
    let remedy = match kind {
        TurnKind::Start => {
            format!("; a greater annotation {} goes first in its namespace", annotations::PRIORITY)
        }
        TurnKind::Cancel => String::new(),
    };
    format!("{what}: {standing} in this account and region; {why}: about {time}{remedy}")
}

/// A time as people say it.
fn roughly(time: Duration) -> String {
    match time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)) {
        seconds @ ..100 => format!("{seconds} s"),
        seconds @ 100..6_000 => format!("{} minutes", seconds.div_ceil(60)),
        seconds => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

impl Pass<'_> {
    /// Asks the limiter for a call. One that may have been made before goes first: its object lacks nothing but the answer.
    pub(super) fn ask_for_turn(&self, kind: TurnKind, repeats: bool) -> Turn {
        let limiter = self.context.pool.limiter_for(self.scope, self.uid);
        let priority = Priority { repeats, asked: priority(self.run).unwrap_or_default() };
        let turn = limiter.request(kind, &self.key(), priority);
        if matches!(turn, Turn::Granted(_)) {
            self.forget_place();
        }
        turn
    }

    /// Says where in the queue the run is, if that is worth telling.
    pub(super) async fn await_turn(&self, kind: TurnKind, place: Place) -> Result {
        let limiter = self.context.pool.limiter_for(self.scope, self.uid);
        let Some(rate) = limiter.pace(kind.operation()).filter(|rate| rate.per_second > 0.0) else {
            return Ok(Progress::End(Next::After(timing::QUEUE_CHECK)));
        };
        let wait = wait(place.ahead, rate);
        let next = Next::After(look_again_after(wait));
        let told = self.context.job_runs.get(self.uid).told_ahead;
        let is_short = told.is_none() && wait < timing::WAIT_WORTH_TELLING;
        if is_short || !(is_news(told, place.ahead) || self.advice_is_new()) {
            return Ok(Progress::End(next));
        }
        let message = words(kind, place, rate);
        let situation = Situation::Waiting { reason: reason::WAITING_FOR_QUOTA, message: &message };
        Ok(match self.report(&situation).await? {
            Reported::Said(_) => {
                self.context.job_runs.update(self.uid, |memory| memory.told_ahead = Some(place.ahead));
                Progress::End(next)
            }
            Reported::Conflict(newer) => Progress::Again(newer),
            Reported::Gone => self.rest(),
        })
    }

    /// Gives up the place in the queue, and a call that is kept for the run: it has no use for one now.
    pub(super) fn leave_queue(&self) {
        if self.context.pool.forget(self.uid) {
            self.forget_place();
        }
    }

    fn forget_place(&self) {
        self.context.job_runs.update(self.uid, |memory| memory.told_ahead = None);
    }

    fn advice_is_new(&self) -> bool {
        let before = self.run.status.as_ref();
        let found = before.and_then(|status| condition::find(&status.conditions, condition::ADVISORY));
        let on_spec = before.and_then(status::advice_on_spec);
        let advice = status::advice(self.run, self.context.settings.cross_namespace, self.told, on_spec);
        found.and_then(|found| found.message.clone()) != advice.map(|(_, words)| words)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(priority: Option<&str>) -> JobRun {
        let annotations = priority.map(|value| json!({ annotations::PRIORITY: value }));
        serde_json::from_value(json!({"metadata": {"name": "pi", "annotations": annotations}, "spec": {}}))
            .unwrap()
    }

    #[test]
    fn a_priority_is_a_whole_number_and_anything_else_is_told_and_counts_as_none() {
        for (value, expected) in
            [(None, 0), (Some("7"), 7), (Some("-3"), -3), (Some(" 2147483647 "), i32::MAX), (Some("+1"), 1)]
        {
            assert_eq!(priority(&run(value)), Ok(expected), "{value:?}");
            assert_eq!(advice(&run(value)), None, "{value:?}");
        }
        for value in ["", "high", "1.5", "2147483648", "0x1"] {
            let run = run(Some(value));
            assert_eq!(priority(&run).unwrap_or_default(), 0, "{value}");
            assert!(advice(&run).unwrap().contains(&format!("{value:?} is not a whole number")), "{value}");
        }
        assert!(advice(&run(Some(&"x".repeat(200_000)))).unwrap().len() < 250);
    }

    #[test]
    fn a_place_is_news_when_it_has_halved_or_doubled() {
        for (told, ahead, expected) in [
            (None, 0, true),
            (None, 500, true),
            (Some(0), 0, false),
            (Some(0), 1, true),
            (Some(1), 0, true),
            (Some(1), 2, false),
            (Some(430), 429, false),
            (Some(430), 216, false),
            (Some(430), 214, true),
            (Some(430), 860, false),
            (Some(430), 861, true),
            (Some(usize::MAX), usize::MAX, false),
        ] {
            assert_eq!(is_news(told, ahead), expected, "{told:?} {ahead}");
        }
    }

    #[test]
    fn a_run_that_moves_up_one_by_one_tells_it_a_few_times() {
        for start in [0_usize, 1, 10, 999, 100_000] {
            let (mut told, mut times) = (None, 0);
            for ahead in (0..=start).rev() {
                if is_news(told, ahead) {
                    told = Some(ahead);
                    times += 1;
                }
            }
            assert!(times <= 1 + (start + 1).ilog2(), "{start}: {times}");
        }
    }

    #[test]
    fn the_place_is_looked_at_when_it_should_have_halved_but_not_all_the_time() {
        for (wait, expected) in [(0, 60), (100, 60), (240, 120), (3_600, 300)] {
            let [wait, expected] = [wait, expected].map(Duration::from_secs);
            assert_eq!(look_again_after(wait), expected, "{wait:?}");
        }
    }

    #[test]
    fn the_words_say_place_cause_and_time() {
        let quota = Pace { per_second: 1.0, throttled: false };
        assert_eq!(
            words(TurnKind::Start, Place { ahead: 120, waiting: 430 }, quota),
            "waits for its turn: about 120 of 430 that wait are before it in this account and region; the AWS quota allows \
             1 StartJobRun calls a second: about 3 minutes; a greater annotation \
             emrcontainers.services.k8s.aws/priority goes first in its namespace"
        );
        assert_eq!(
            words(
                TurnKind::Cancel,
                Place { ahead: 0, waiting: 9 },
                Pace { per_second: 0.333_3, throttled: true }
            ),
            "is being deleted, and waits for its turn to be cancelled: it is the next of 9 that wait in this account and \
             region; AWS has asked to slow down, and CancelJobRun is called 0.33 times a second for now: about 4 s"
        );
        for (seconds, expected) in [(1.2, "2 s"), (99.0, "99 s"), (601.0, "11 minutes"), (7_300.0, "3 hours")]
        {
            assert_eq!(roughly(Duration::from_secs_f64(seconds)), expected);
        }
    }
}

//! A model of a run's whole life: the object, this process's memory and the service, with crashes, lost replies, stale
//! reads, refusals, restores and tokens that the service forgets, in any order. What `plan` decides is carried out on the
//! model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use emrcontainers_api::job_run::{
    CANCEL_PENDING, CANCELLED, COMPLETED, FAILED, JobDriver, JobRunSpec, PENDING, RUNNING,
    SparkSubmitJobDriver, is_final,
};
use emrcontainers_api::{JOB_RUN_FINALIZER, JobRun, annotations};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::plan::{Step, View, plan, settled};
use super::report;
use super::request;
use super::status::{self, Manner, Situation, Submission, Tags};
use super::target::{ClusterTarget, RoleTarget, Target};
use crate::emr::poll::{Observation, Observed};
use crate::memory::Memory;
use crate::scope::decide::Told;
use crate::settings::JobReadyPolicy;

pub(super) fn a_run() -> JobRun {
    let mut run = JobRun::new(
        "r",
        JobRunSpec {
            execution_role_arn: Some("arn:aws:iam::123456789012:role/job".into()),
            release_label: Some("emr-7.10.0-latest".into()),
            job_driver: Some(JobDriver {
                spark_submit_job_driver: Some(SparkSubmitJobDriver {
                    entry_point: Some("s3://b/job.py".into()),
                    ..SparkSubmitJobDriver::default()
                }),
                ..JobDriver::default()
            }),
            virtual_cluster_id: Some("vc1".into()),
            ..JobRunSpec::default()
        },
    );
    run.metadata.uid = Some("uid".into());
    run.metadata.namespace = Some("ns".into());
    run.metadata.generation = Some(1);
    run
}

pub(super) fn seen(state: &str) -> Observed {
    Observed { state: state.to_owned(), ..Observed::default() }
}

/// What happens beside the passes.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A pass whose call and write go well.
    Pass,
    /// A pass on the object as it was one write ago.
    StalePass,
    /// A pass whose reply is lost after the service has acted.
    ReplyLost,
    /// A pass whose status write fails.
    WriteFails,
    /// A pass whose write is done and not answered.
    WriteUnanswered,
    /// The service refuses the next start for good.
    Refuse,
    /// The process dies and another one takes over.
    Crash,
    /// Nobody works for so long that the service forgets its tokens.
    Outage,
    /// The same, and the object is lost and comes back from a backup: with another UID, without its status.
    Restore,
    /// The job moves on.
    Advance,
    /// The poller looks.
    Look,
    /// The user deletes the object.
    Delete,
    /// The user sets the retry annotation to another value.
    Retry(u8),
    /// The user edits the tags.
    Edit,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Pass),
        2 => Just(Event::StalePass),
        2 => Just(Event::ReplyLost),
        2 => Just(Event::WriteFails),
        1 => Just(Event::WriteUnanswered),
        1 => Just(Event::Refuse),
        2 => Just(Event::Crash),
        1 => Just(Event::Outage),
        1 => Just(Event::Restore),
        3 => Just(Event::Advance),
        4 => Just(Event::Look),
        1 => Just(Event::Delete),
        1 => (0..3u8).prop_map(Event::Retry),
        2 => Just(Event::Edit),
    ]
}

/// What becomes of the write that a pass ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Done,
    Fails,
    /// The object has it, and the process doesn't know.
    Unanswered,
}

fn submission(id: String, found: Option<Observed>, generation: Option<i64>) -> Submission {
    Submission {
        id,
        virtual_cluster_id: "vc1".into(),
        place: emrcontainers_api::status::AckResourceMetadata::default(),
        overrides: None,
        found,
        generation,
        advice: None,
    }
}

struct World {
    run: JobRun,
    before: JobRun,
    memory: Memory<JobRun>,
    observation: Option<Observation>,
    /// The service's jobs by token: id and state.
    jobs: BTreeMap<String, (String, &'static str)>,
    /// The generation of the spec whose tags each job has, by its id.
    tagged: BTreeMap<String, Option<i64>>,
    /// The tokens that the service remembers; its lists show the others, too.
    remembered: BTreeSet<String>,
    /// Jobs that were started with a token that was used before.
    repeated: u32,
    lives: u32,
    refused: u32,
    refuse_next: bool,
    gone: bool,
    first_final: Option<String>,
}

impl World {
    fn new() -> Self {
        Self {
            run: a_run(),
            before: a_run(),
            memory: Memory::default(),
            observation: None,
            jobs: BTreeMap::new(),
            tagged: BTreeMap::new(),
            remembered: BTreeSet::new(),
            repeated: 0,
            lives: 1,
            refused: 0,
            refuse_next: false,
            gone: false,
            first_final: None,
        }
    }

    fn target() -> Target {
        Target {
            virtual_cluster: ClusterTarget::Given("vc1".into()),
            execution_role: RoleTarget::Given("arn:aws:iam::123456789012:role/job".into()),
            default_tags: Vec::new(),
        }
    }

    fn happen(&mut self, event: Event) {
        if self.gone {
            return;
        }
        match event {
            Event::Pass => self.pass(false, false, Write::Done),
            Event::StalePass => self.pass(true, false, Write::Done),
            Event::ReplyLost => self.pass(false, true, Write::Done),
            Event::WriteFails => self.pass(false, false, Write::Fails),
            Event::WriteUnanswered => self.pass(false, false, Write::Unanswered),
            Event::Refuse => self.refuse_next = true,
            Event::Crash => self.crash(),
            Event::Outage => {
                self.remembered.clear();
                self.crash();
            }
            Event::Restore => {
                self.remembered.clear();
                self.lives += 1;
                self.run.metadata.uid = Some(format!("uid{}", self.lives));
                self.run.metadata.deletion_timestamp = None;
                self.run.status = None;
                self.crash();
            }
            Event::Advance => {
                for (_, state) in self.jobs.values_mut() {
                    *state = match *state {
                        PENDING => RUNNING,
                        RUNNING => COMPLETED,
                        CANCEL_PENDING => CANCELLED,
                        other => other,
                    };
                }
            }
            Event::Look => {
                // The poller knows the run from its start on, also when the id isn't saved yet.
                let saved = self.run.status.as_ref().and_then(|status| status.id.clone());
                let id = saved.or_else(|| self.memory.submission.as_ref().map(|known| known.id.clone()));
                let job = self.jobs.values().find(|(known, _)| Some(known) == id.as_ref());
                self.observation = job.map(|(_, state)| Observation::Run(seen(state)));
            }
            Event::Delete => {
                if self.run.metadata.finalizers.is_none() {
                    self.gone = true;
                } else if self.run.metadata.deletion_timestamp.is_none() {
                    self.run.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
                }
            }
            Event::Retry(value) => {
                let own = self.run.metadata.annotations.get_or_insert_default();
                own.insert(annotations::RETRY.into(), value.to_string());
            }
            Event::Edit => {
                self.before = self.run.clone();
                self.run.metadata.generation = self.run.metadata.generation.map(|now| now + 1);
            }
        }
        self.check();
    }

    fn crash(&mut self) {
        self.memory = Memory::default();
        self.observation = None;
        self.before = self.run.clone();
    }

    /// What lists show of the object's own jobs.
    fn listed(&self, run: &JobRun) -> Option<Submission> {
        let tokens = request::tokens(run);
        let (_, (id, state)) = self.jobs.iter().find(|(token, _)| token.starts_with(&tokens))?;
        Some(submission(id.clone(), Some(seen(state)), Some(0)))
    }

    #[expect(clippy::too_many_lines, reason = "what each step does to the world, one after the other")]
    fn pass(&mut self, stale: bool, lose_reply: bool, write: Write) {
        // A stale object that this process wrote itself is replaced from memory; one that others wrote is not.
        let run = if stale && self.memory.fresh.is_none() { self.before.clone() } else { self.run.clone() };
        // The API server refuses every write that was decided on an older version.
        let write = if run == self.run { write } else { Write::Fails };
        let target = Self::target();
        let view = View {
            read_only: false,
            adoption: true,
            run: &run,
            memory: &self.memory,
            observation: self.observation.as_ref(),
            target: &target,
            retain: false,
        };
        match plan(&view) {
            Step::Rest | Step::AwaitReference => {}
            Step::Refuse(why) => self.write(&run, &Situation::Refused(&why), write),
            Step::Reopen => {
                let again = Situation::Waiting { reason: "Retrying", message: "again" };
                self.write(&run, &again, write);
                self.memory.never_started |= write == Write::Done;
            }
            Step::TakeOver(_) => match self.listed(&run) {
                Some(found) => self.save(&run, &found, write),
                None => self.memory.sought = true,
            },
            Step::Acknowledge => self.write(&run, &Situation::Acknowledged, write),
            Step::AddFinalizer if write == Write::Fails => {}
            Step::AddFinalizer => {
                self.before = self.run.clone();
                self.run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
                let uid = self.run.metadata.uid.clone().unwrap();
                self.run.metadata.annotations.get_or_insert_default().insert(annotations::ORIGIN.into(), uid);
                self.wrote(write);
                self.memory.never_started = write == Write::Done;
            }
            Step::Start(request) => {
                assert!(run.metadata.finalizers.is_some(), "started without a finalizer");
                let first = std::mem::take(&mut self.memory.never_started);
                self.memory.sought = true;
                let known = self.remembered.contains(&request.client_token);
                if std::mem::take(&mut self.refuse_next) && !known {
                    self.refused += 1;
                    // Whether an unanswered one is there is found out before the next try.
                    let write = if write == Write::Done { write } else { Write::Fails };
                    return self.write(&run, &Situation::Refused("no"), write);
                }
                self.repeated += u32::from(!known && self.jobs.contains_key(&request.client_token));
                self.remembered.insert(request.client_token.clone());
                let next = format!("job{}", self.jobs.len());
                let (id, _) = self.jobs.entry(request.client_token).or_insert((next, PENDING)).clone();
                let edited = run.metadata.generation;
                self.tagged.entry(id.clone()).or_insert(edited);
                if !lose_reply {
                    let generation = if first || edited == Some(1) { edited } else { Some(0) };
                    // Saved in the next pass: the run may have moved, or ended, until then.
                    self.memory.submission = Some(Box::new(submission(id, None, generation)));
                }
            }
            Step::Save(mut submission) => {
                if let Some(Observation::Run(seen)) = &self.observation {
                    submission.found = Some(seen.clone());
                }
                self.save(&run, &submission, write);
            }
            Step::Observe(_) => match self.observation.clone() {
                Some(Observation::Run(seen)) => {
                    self.write(&run, &Situation::Observed(&seen), write);
                }
                Some(Observation::Gone) => self.write(&run, &Situation::Lost, write),
                None => {}
            },
            Step::Retag(submitted) => {
                self.tagged.insert(submitted.id, run.metadata.generation);
                if !lose_reply {
                    self.write_with(&run, &Situation::Acknowledged, Tags::Sent, write);
                }
            }
            Step::Cancel(submitted) => {
                for (id, state) in self.jobs.values_mut() {
                    if *id == submitted.id && !is_final(state) {
                        *state = CANCEL_PENDING;
                    }
                }
                if !lose_reply {
                    self.memory.cancel_asked = true;
                    self.write(&run, &Situation::CancelAsked, write);
                }
            }
            Step::AwaitEnd(_) => {
                if let Some(Observation::Run(seen)) = self.observation.clone() {
                    self.write(&run, &Situation::Observed(&seen), write);
                }
            }
            Step::Find(_) => match self.listed(&run) {
                Some(Submission { found: Some(job), .. }) if is_final(&job.state) => {
                    self.release(write);
                }
                Some(found) => self.save(&run, &found, write),
                None => self.release(write),
            },
            Step::Release => self.release(write),
            Step::Misask(_) | Step::Adopt(..) | Step::Look(_) | Step::Missing => {
                unreachable!("no annotation asks for that")
            }
        }
    }

    fn save(&mut self, run: &JobRun, submission: &Submission, write: Write) {
        self.memory.submission = Some(Box::new(submission.clone()));
        self.write(run, &Situation::Submitted(submission, submission.found.as_ref()), write);
        if write == Write::Done {
            self.memory.submission = None;
            self.memory.sought = false;
        }
    }

    fn write(&mut self, run: &JobRun, situation: &Situation<'_>, write: Write) {
        self.write_with(run, situation, report::tags_of(run), write);
    }

    fn write_with(&mut self, run: &JobRun, situation: &Situation<'_>, tags: Tags<'_>, write: Write) {
        if write == Write::Fails {
            return;
        }
        let manner = Manner {
            ready: JobReadyPolicy::Outcome,
            by_reference: false,
            cross_namespace: true,
            tags,
            told: &Told::default(),
            now: Timestamp::UNIX_EPOCH,
        };
        let status = status::next(run, situation, manner);
        self.before = self.run.clone();
        self.run.status = Some(status);
        self.wrote(write);
    }

    fn wrote(&mut self, write: Write) {
        self.memory.fresh = (write == Write::Done).then(|| Arc::new(self.run.clone()));
    }

    fn release(&mut self, write: Write) {
        self.gone |= write != Write::Fails;
    }

    fn check(&mut self) {
        let refusals = usize::try_from(self.refused).unwrap();
        assert!(self.jobs.len() <= 1, "{refusals} refusals and these jobs: {:?}", self.jobs);
        assert_eq!(
            self.repeated, 0,
            "a second job for a token that the service had forgotten: {:?}",
            self.jobs
        );
        let status = self.run.status.as_ref();
        let state = status.and_then(|status| status.state.clone()).filter(|state| is_final(state));
        let deleted = self.run.metadata.deletion_timestamp.is_some();
        if let Some((id, answered)) = status.and_then(|s| Some((s.id.as_ref()?, s.observed_generation)))
            && answered == self.run.metadata.generation
            && state.is_none()
            && !deleted
        {
            assert_eq!(self.tagged.get(id), Some(&answered), "an edit is answered, and its tags aren't sent");
        }
        let submitted = status.is_some_and(|status| status.id.is_some());
        match (&self.first_final, state) {
            // A restore takes the state away until the run is found again.
            (Some(_), None) => assert!(!submitted && self.lives > 1, "a final state was left"),
            (Some(first), Some(state)) => assert_eq!(*first, state, "a final state was left"),
            (None, Some(state)) if submitted => self.first_final = Some(state),
            (None, _) => {}
        }
        if self.gone {
            let live: Vec<_> = self.jobs.values().filter(|(_, state)| !is_final(state)).collect();
            assert!(live.is_empty(), "the object is gone and a job lives: {live:?}");
        }
    }
}

#[test]
fn an_end_that_is_seen_before_the_id_is_saved_is_saved_with_it() {
    for between in
        [vec![], vec![Event::WriteFails], vec![Event::Crash], vec![Event::Restore], vec![Event::StalePass]]
    {
        let mut world = World::new();
        // The finalizer, the start, and then the job ends.
        for event in [Event::Pass, Event::Pass, Event::Advance, Event::Advance, Event::Look] {
            world.happen(event);
        }
        assert_eq!(world.run.status, None);
        assert_eq!(world.observation, Some(Observation::Run(seen(COMPLETED))));
        for &event in &between {
            world.happen(event);
        }
        world.happen(Event::Pass);
        let status = world.run.status.unwrap();
        assert_eq!(
            (status.id.as_deref(), status.state.as_deref()),
            (Some("job0"), Some(COMPLETED)),
            "{between:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_run_is_submitted_once_and_its_end_is_kept_whatever_happens(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
    }

    #[test]
    fn a_deleted_run_is_always_let_go_and_leaves_no_live_job(
        events in proptest::collection::vec(event(), 0..30)
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.happen(Event::Delete);
        for _ in 0..12 {
            for event in [Event::Pass, Event::Advance, Event::Look] {
                world.happen(event);
            }
        }
        prop_assert!(world.gone, "still there: {:?}", world.run.status);
    }

    #[test]
    fn a_run_left_alone_ends_and_then_rests(events in proptest::collection::vec(event(), 0..30)) {
        let mut world = World::new();
        for event in events.into_iter().filter(|event| !matches!(event, Event::Delete | Event::Refuse)) {
            world.happen(event);
        }
        for _ in 0..12 {
            for event in [Event::Pass, Event::Advance, Event::Look] {
                world.happen(event);
            }
        }
        prop_assert!(settled(&world.run), "not settled: {:?}", world.run.status);
        let state = world.run.status.unwrap().state.unwrap();
        prop_assert!(state == COMPLETED || state == FAILED, "{}", state);
    }
}

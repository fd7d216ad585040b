//! A model of a run's whole life: the object, this process's memory and the service, with crashes, lost replies, stale
//! reads, refusals, restores and tokens that the service forgets, in any order. What `plan` decides is carried out on the
//! model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use emrcontainers_api::job_run::{
    CANCEL_PENDING, CANCELLED, COMPLETED, FAILED, JobDriver, JobRunSpec, PENDING, RUNNING,
    SparkSubmitJobDriver, is_final,
};
use emrcontainers_api::{JOB_RUN_FINALIZER, JobRun, annotations};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::destination::Destination;
use super::plan::{Step, View, plan, settled};
use super::report;
use super::request;
use super::status::{self, Manner, Situation, Submission, Tags};
use super::target::{ClusterTarget, RoleTarget, Target};
use crate::emr::model::StartJobRun;
use crate::emr::poll::{Observation, Observed};
use crate::emr::pool::Scope;
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

fn scope() -> Scope {
    Scope::new("123456789012", "us-west-2")
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
    /// The user names the other virtual cluster.
    Move,
    /// The user makes a mistake in the spec, or mends it.
    Spoil,
    /// The user replaces the object of a run that has an id: what was put on it is gone.
    Replace,
    /// Lists show everything, and enough time has gone by to rely on it.
    Settle,
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
        1 => Just(Event::Move),
        1 => Just(Event::Spoil),
        1 => Just(Event::Replace),
        2 => Just(Event::Settle),
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

fn submission(job: &Job, found: Option<Observed>, generation: Option<i64>) -> Submission {
    Submission {
        id: job.id.clone(),
        virtual_cluster_id: job.cluster.to_owned(),
        place: emrcontainers_api::status::AckResourceMetadata::default(),
        overrides: None,
        found,
        generation,
        advice: None,
    }
}

/// A job of the service's.
#[derive(Clone, Debug)]
struct Job {
    id: String,
    state: &'static str,
    cluster: &'static str,
    /// Whether lists show it.
    is_listed: bool,
}

/// A cluster and a token: the model takes the worst that a service may do, tokens that say nothing in another cluster.
type Key = (&'static str, String);

struct World {
    run: JobRun,
    before: JobRun,
    memory: Memory<JobRun>,
    observation: Option<Observation>,
    /// The virtual cluster that the spec names.
    cluster: &'static str,
    /// The service's jobs.
    jobs: BTreeMap<Key, Job>,
    /// Whether what lists don't show isn't there, as far as the process can know.
    is_settled: bool,
    /// The generation of the spec whose tags each job has, by its id.
    tagged: BTreeMap<String, Option<i64>>,
    /// The tokens that the service remembers; its lists show the others, too.
    remembered: BTreeSet<Key>,
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
            cluster: "vc1",
            jobs: BTreeMap::new(),
            is_settled: false,
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

    fn target(&self) -> Target {
        Target {
            virtual_cluster: ClusterTarget::Given(self.cluster.into()),
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
                self.forget();
                self.crash();
            }
            // A backup of an object without our finalizer says nothing of its jobs.
            Event::Restore if self.run.metadata.finalizers.is_none() && !self.jobs.is_empty() => {}
            Event::Restore => {
                self.forget();
                self.lives += 1;
                self.run.metadata.uid = Some(format!("uid{}", self.lives));
                self.run.metadata.deletion_timestamp = None;
                self.run.status = None;
                self.crash();
            }
            Event::Advance => {
                for job in self.jobs.values_mut() {
                    job.state = match job.state {
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
                let job = self.jobs.values().find(|job| Some(&job.id) == id.as_ref());
                self.observation = job.map(|job| Observation::Run(seen(job.state)));
            }
            Event::Delete => {
                if self.run.metadata.finalizers.is_none() {
                    // One that was just replaced is gone at once, and nobody is asked.
                    self.gone = self.jobs.values().all(|job| is_final(job.state));
                } else if self.run.metadata.deletion_timestamp.is_none() {
                    self.run.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
                }
            }
            Event::Retry(value) => {
                let own = self.run.metadata.annotations.get_or_insert_default();
                own.insert(annotations::RETRY.into(), value.to_string());
            }
            Event::Edit => self.edit(|_| ()),
            Event::Move => {
                self.cluster = if self.cluster == "vc1" { "vc2" } else { "vc1" };
                self.edit(|_| ());
            }
            Event::Spoil => self.edit(|spec| {
                let label = spec.release_label.take();
                spec.release_label = label.is_none().then(|| "emr-7.10.0-latest".to_owned());
            }),
            Event::Replace => {
                let has_id = self.run.status.as_ref().is_some_and(|status| status.id.is_some());
                // With the origin goes the UID of an earlier life, which nothing else tells.
                let is_first_life = self.lives == 1;
                if has_id && is_first_life && self.run.metadata.deletion_timestamp.is_none() {
                    self.before = self.run.clone();
                    self.run.metadata.finalizers = None;
                    self.run.metadata.annotations = None;
                    self.memory.fresh = None;
                }
            }
            Event::Settle => {
                self.list_all();
                self.is_settled = true;
            }
        }
        self.check();
    }

    fn edit(&mut self, change: impl FnOnce(&mut JobRunSpec)) {
        self.before = self.run.clone();
        change(&mut self.run.spec);
        self.run.metadata.generation = self.run.metadata.generation.map(|now| now + 1);
    }

    /// So much time goes by that tokens are forgotten, and lists have caught up long since.
    fn forget(&mut self) {
        self.remembered.clear();
        self.list_all();
    }

    fn list_all(&mut self) {
        self.jobs.values_mut().for_each(|job| job.is_listed = true);
    }

    fn crash(&mut self) {
        self.memory = Memory::default();
        self.observation = None;
        self.is_settled = false;
        self.before = self.run.clone();
    }

    /// What lists of a cluster show of the object's own jobs.
    fn listed(&self, cluster: &str, run: &JobRun) -> Option<Submission> {
        let tokens = request::tokens(run);
        let mut jobs = self.jobs.iter();
        let (_, job) = jobs
            .find(|((there, token), job)| *there == cluster && token.starts_with(&tokens) && job.is_listed)?;
        Some(submission(job, Some(seen(job.state)), Some(0)))
    }

    /// Looks for a run that was started before; `again`: the same start is made again.
    fn take_over(&mut self, cluster: &str, again: bool, run: &JobRun, write: Write) {
        match self.listed(cluster, run) {
            Some(found) => self.save(run, &found, write),
            None if !again && !self.is_settled => {}
            None => {
                self.memory.sought = true;
                self.memory.unanswered = if self.is_settled { None } else { Some(Instant::now()) };
            }
        }
    }

    /// Makes the call, and says what came back.
    fn start(&mut self, run: &JobRun, request: &StartJobRun, lose_reply: bool, write: Write) {
        let here = Destination::new(&scope(), &request.virtual_cluster_id);
        assert_eq!(Destination::of(run), Some(here), "started where the object doesn't say");
        // After a pass that failed the object is read again.
        if std::mem::take(&mut self.memory.failures) > 0 && *run != self.run {
            self.memory.fresh = Some(Arc::new(self.run.clone()));
            return;
        }
        let first = std::mem::take(&mut self.memory.never_started);
        let unanswered = self.memory.unanswered;
        self.memory.sought = true;
        let key = (self.cluster, request.client_token.clone());
        let known = self.remembered.contains(&key);
        if std::mem::take(&mut self.refuse_next) && !known {
            // An earlier try may be there all the same.
            return match self.listed(self.cluster, run) {
                Some(found) if !first => self.save(run, &found, write),
                None if !first && !self.is_settled => {}
                _ => {
                    self.memory.never_started = first;
                    self.memory.unanswered = unanswered;
                    self.refused += 1;
                    self.write(run, &Situation::Refused("no"), write);
                }
            };
        }
        self.repeated += u32::from(!known && self.jobs.contains_key(&key));
        self.remembered.insert(key.clone());
        let new = Job {
            id: format!("job{}", self.jobs.len()),
            state: PENDING,
            cluster: self.cluster,
            is_listed: false,
        };
        let job = self.jobs.entry(key).or_insert(new).clone();
        let edited = run.metadata.generation;
        self.tagged.entry(job.id.clone()).or_insert(edited);
        if lose_reply {
            self.memory.unanswered = Some(Instant::now());
            self.is_settled = false;
        } else {
            let generation = if first || edited == Some(1) { edited } else { Some(0) };
            // Saved in the next pass: the run may have moved, or ended, until then.
            self.memory.submission = Some(Box::new(submission(&job, None, generation)));
            self.memory.unanswered = None;
        }
    }

    fn pass(&mut self, stale: bool, lose_reply: bool, write: Write) {
        // A stale object that this process wrote itself is replaced from memory; one that others wrote is not.
        let run = if stale && self.memory.fresh.is_none() { self.before.clone() } else { self.run.clone() };
        // The API server refuses every write that was decided on an older version.
        let write = if run == self.run { write } else { Write::Fails };
        let target = self.target();
        let scope = scope();
        let tried = Destination::tried(&run, &self.memory);
        let view = View {
            scope: Some(&scope),
            tried: tried.as_ref(),
            elsewhere: false,
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
            Step::TakeOver(cluster) => self.take_over(&cluster, true, &run, write),
            Step::RuleOut(cluster) => self.take_over(&cluster, false, &run, write),
            Step::Acknowledge => self.write(&run, &Situation::Acknowledged, write),
            Step::AddFinalizer(_) | Step::RestoreFinalizer(_) if write == Write::Fails => {}
            Step::AddFinalizer(destination) | Step::RestoreFinalizer(destination) => {
                self.before = self.run.clone();
                let origin = request::origin(&self.run);
                self.run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
                let own = self.run.metadata.annotations.get_or_insert_default();
                own.insert(annotations::ORIGIN.into(), origin);
                own.extend(destination.map(|there| (annotations::DESTINATION.to_owned(), there.text())));
                self.wrote(write);
                let memory = &mut self.memory;
                let may_exist = memory.sought || memory.unanswered.is_some() || memory.submission.is_some();
                let is_new = self.run.status.as_ref().is_none_or(|status| status.id.is_none());
                memory.never_started |= write == Write::Done && is_new && !may_exist;
            }
            Step::Start(request) => self.start(&run, &request, lose_reply, write),
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
                for job in self.jobs.values_mut() {
                    if job.id == submitted.id && !is_final(job.state) {
                        job.state = CANCEL_PENDING;
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
            Step::Find(cluster) => match self.listed(&cluster, &run) {
                Some(Submission { found: Some(job), .. }) if is_final(&job.state) => {
                    self.release(write);
                }
                Some(found) => self.save(&run, &found, write),
                None if !self.is_settled => {}
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
        self.memory.failures = u32::from(write != Write::Done);
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
        self.memory.failures = u32::from(write != Write::Done);
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
            let live: Vec<_> = self.jobs.values().filter(|job| !is_final(job.state)).collect();
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
        for event in [Event::Pass, Event::Pass, Event::Settle, Event::Advance, Event::Advance, Event::Look] {
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
        for _ in 0..12 {
            for event in [Event::Delete, Event::Settle, Event::Pass, Event::Advance, Event::Look] {
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
            for event in [Event::Settle, Event::Pass, Event::Advance, Event::Look] {
                world.happen(event);
            }
        }
        prop_assert!(settled(&world.run), "not settled: {:?}", world.run.status);
        let state = world.run.status.unwrap().state.unwrap();
        prop_assert!(state == COMPLETED || state == FAILED, "{}", state);
    }
}

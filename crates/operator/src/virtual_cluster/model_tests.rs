//! A model of a virtual cluster's whole life: the object, this process's memory and the service, with crashes, lost
//! replies, stale reads, refusals, tags that AWS wouldn't take, a finalizer that is lost, a namespace that others take,
//! clusters that others terminate, access that is withdrawn and runs that come and go, in any order. What `plan`
//! decides is carried out on the model.
//!
//! The service of the model lets two clusters of ours have one namespace, which AWS refuses: so that it isn't AWS's doing
//! that there is only one.

use std::sync::Arc;

use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::virtual_cluster::{ARRESTED, RUNNING, TERMINATED, TERMINATING, VirtualCluster};
use emrcontainers_api::{VIRTUAL_CLUSTER_FINALIZER, annotations};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::plan::{Step, View, never_asked, plan};
use super::plan_tests::cluster;
use super::status::{SeenCluster, Situation, next};
use crate::memory::Memory;
use crate::scope::decide::Told;

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
    /// The service refuses the next creation for good.
    Refuse,
    /// Somebody else's cluster takes the namespace, or gives it back.
    Taken(bool),
    /// EMR may no longer reach the namespace, or may again: without access nothing can be terminated.
    Access(bool),
    /// Somebody else terminates our cluster.
    Terminate,
    /// What is being terminated is gone, or can't be.
    Advance,
    /// The process dies and another one takes over.
    Crash,
    /// The same, and what it wrote last to let the object go is still on its way.
    CrashInRelease,
    /// That arrives, if the object is still as it was.
    ReleaseArrives,
    /// A run that uses the cluster is live, or isn't any more.
    Used(bool),
    /// The user edits the spec.
    Edit,
    /// AWS wouldn't take the tags, or takes them again: by an edit, or by other flags of the operator and without one.
    Tags(bool, bool),
    /// Somebody replaces the object by its manifest, which takes our finalizer away, and we get to see it. What isn't in the
    /// status by then is known to nobody.
    Replace,
    /// The user deletes the object.
    Delete,
    /// The user sets the retry annotation to another value.
    Retry(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => Just(Event::Pass),
        2 => Just(Event::StalePass),
        2 => Just(Event::ReplyLost),
        2 => Just(Event::WriteFails),
        1 => Just(Event::Refuse),
        1 => any::<bool>().prop_map(Event::Taken),
        1 => any::<bool>().prop_map(Event::Access),
        1 => Just(Event::Terminate),
        3 => Just(Event::Advance),
        2 => Just(Event::Crash),
        1 => Just(Event::CrashInRelease),
        1 => Just(Event::ReleaseArrives),
        1 => any::<bool>().prop_map(Event::Used),
        1 => Just(Event::Edit),
        2 => any::<(bool, bool)>().prop_map(|(bad, edited)| Event::Tags(bad, edited)),
        1 => Just(Event::Replace),
        1 => Just(Event::Delete),
        1 => (0..3u8).prop_map(Event::Retry),
    ]
}

/// Why the service creates nothing.
enum Denied {
    Refused,
    NamespaceTaken,
}

#[expect(clippy::struct_excessive_bools, reason = "what may stand in the way, each by itself")]
struct World {
    cluster: VirtualCluster,
    before: VirtualCluster,
    memory: Memory<VirtualCluster>,
    /// The service's clusters in the order of their creation: token and state. Their ids are their places.
    made: Vec<(String, &'static str)>,
    refuse_next: bool,
    taken: bool,
    access: bool,
    bad_tags: bool,
    users: Vec<String>,
    /// The version of the object that a process had let go when it died.
    released: Option<VirtualCluster>,
    gone: bool,
}

impl World {
    fn new() -> Self {
        Self {
            cluster: cluster(),
            before: cluster(),
            memory: Memory::default(),
            made: Vec::new(),
            refuse_next: false,
            taken: false,
            access: true,
            bad_tags: false,
            users: Vec::new(),
            released: None,
            gone: false,
        }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Self {
        let mut world = Self::new();
        for event in events {
            world.happen(event);
        }
        world
    }

    /// Everything that is in the way goes, and there is time.
    fn quieten(&mut self) {
        self.refuse_next = false;
        self.happen(Event::Taken(false));
        self.happen(Event::Access(true));
        self.happen(Event::Used(false));
        self.happen(Event::Tags(false, false));
        for _ in 0..12 {
            self.happen(Event::Pass);
            self.happen(Event::Advance);
        }
    }

    fn happen(&mut self, event: Event) {
        if self.gone {
            return;
        }
        match event {
            Event::Pass => self.pass(false, false, false),
            Event::StalePass => self.pass(true, false, false),
            Event::ReplyLost => self.pass(false, true, false),
            Event::WriteFails => self.pass(false, false, true),
            Event::Refuse => self.refuse_next = true,
            Event::Taken(taken) => self.taken = taken,
            Event::Access(access) => self.access = access,
            Event::Terminate => self.move_all(&[RUNNING, ARRESTED], TERMINATED),
            Event::Advance => {
                self.move_all(&[TERMINATING], if self.access { TERMINATED } else { ARRESTED });
            }
            Event::Crash => self.crash(),
            Event::CrashInRelease => {
                if plan(&self.view(&self.cluster)) == Step::Release {
                    self.released = Some(self.cluster.clone());
                }
                self.crash();
            }
            Event::ReleaseArrives => {
                self.gone = self.released.take().is_some_and(|seen| seen == self.cluster);
            }
            Event::Used(used) => self.users = used.then(|| "job".to_owned()).into_iter().collect(),
            Event::Edit => self.edit(),
            Event::Tags(bad, edited) => {
                self.bad_tags = bad;
                if edited {
                    self.edit();
                }
            }
            Event::Replace => self.replace(),
            Event::Delete if self.cluster.metadata.finalizers.is_none() => self.gone = true,
            Event::Delete => {
                self.cluster.metadata.deletion_timestamp.get_or_insert(Time(Timestamp::UNIX_EPOCH));
            }
            Event::Retry(value) => {
                let own = self.cluster.metadata.annotations.get_or_insert_default();
                own.insert(annotations::RETRY.into(), value.to_string());
            }
        }
        if self.gone {
            let live: Vec<_> = self.made.iter().filter(|(_, state)| *state != TERMINATED).collect();
            assert!(live.is_empty(), "the object is gone and a cluster lives: {live:?}");
        }
    }

    fn crash(&mut self) {
        self.memory = Memory::default();
        self.before = self.cluster.clone();
    }

    fn view<'a>(&'a self, cluster: &'a VirtualCluster) -> View<'a> {
        View {
            cluster,
            memory: &self.memory,
            users: &self.users,
            tags_problem: self.bad_tags.then_some("too many"),
            retain: false,
            read_only: false,
            adoption: true,
        }
    }

    fn edit(&mut self) {
        *self.cluster.metadata.generation.get_or_insert_default() += 1;
    }

    fn replace(&mut self) {
        let status = self.cluster.status.clone().unwrap_or_default();
        let is_told = status.id.is_some() || status.refusals.is_some();
        if is_told && self.cluster.metadata.deletion_timestamp.is_none() {
            self.cluster.metadata.finalizers = None;
            self.memory.fresh = None;
            self.happen(Event::Pass);
        }
    }

    fn move_all(&mut self, from: &[&str], to: &'static str) {
        for (_, state) in &mut self.made {
            if from.contains(state) {
                *state = to;
            }
        }
    }

    /// CreateVirtualCluster: the place of the cluster that the token stands for.
    fn create(&mut self, cluster: &VirtualCluster, token: String) -> Result<usize, Denied> {
        assert!(cluster.metadata.finalizers.is_some(), "created without a finalizer");
        if let Some(known) = self.made.iter().position(|(used, _)| *used == token) {
            return Ok(known);
        }
        if self.taken {
            return Err(Denied::NamespaceTaken);
        }
        if std::mem::take(&mut self.refuse_next) {
            return Err(Denied::Refused);
        }
        assert!(self.made.iter().all(|(_, state)| *state == TERMINATED), "a second one: {:?}", self.made);
        self.made.push((token, RUNNING));
        Ok(self.made.len() - 1)
    }

    fn seen(&self, id: &str) -> SeenCluster {
        let (_, state) = &self.made[id.parse::<usize>().unwrap()];
        let place = AckResourceMetadata::default();
        SeenCluster {
            id: id.into(),
            place,
            state: (*state).into(),
            created_at: None,
            scheduler: None,
            advice: None,
            unsent: false,
        }
    }

    fn pass(&mut self, stale: bool, lose_reply: bool, fail_write: bool) {
        // A stale object that this process wrote itself is replaced from memory; one that others wrote is not.
        let old = stale && self.memory.fresh.is_none();
        let cluster = if old { self.before.clone() } else { self.cluster.clone() };
        // The API server refuses every write that was decided on an older version.
        let fails = fail_write || cluster != self.cluster;
        match plan(&self.view(&cluster)) {
            Step::Rest | Step::Settled => {}
            Step::Refuse(why) => self.write(&cluster, &Situation::Unfit(&why), fails),
            Step::Reopen => self.write(&cluster, &Situation::Reopened, fails),
            Step::AddFinalizer | Step::RestoreFinalizer(_) if fails => {}
            Step::AddFinalizer | Step::RestoreFinalizer(_) => {
                self.before = self.cluster.clone();
                self.cluster.metadata.finalizers = Some(vec![VIRTUAL_CLUSTER_FINALIZER.to_owned()]);
                self.memory.fresh = Some(Arc::new(self.cluster.clone()));
                self.memory.never_started = never_asked(&self.cluster, &self.memory);
            }
            Step::Create { token } | Step::LookAgain { token } => {
                let never_started = std::mem::take(&mut self.memory.never_started);
                self.memory.asked_at = Some(Timestamp::UNIX_EPOCH);
                let created = self.create(&cluster, token);
                if lose_reply {
                    return;
                }
                match created {
                    Ok(place) => self.tell(&cluster, &place.to_string(), fails),
                    Err(Denied::Refused | Denied::NamespaceTaken) => {
                        self.memory.never_started = never_started;
                        self.write(&cluster, &Situation::Refused("no"), fails);
                    }
                }
            }
            Step::Sync(id) => self.tell(&cluster, &id, fails),
            Step::AwaitUsers => {
                let users = self.users.clone();
                self.write(&cluster, &Situation::InUse(&users), fails);
            }
            Step::Delete(id) => self.delete(&cluster, &id, lose_reply, fails),
            Step::AwaitTermination(id) => match self.seen(&id) {
                seen if seen.state == TERMINATED => self.gone |= !fails,
                seen => {
                    self.memory.cancel_asked &= seen.state == TERMINATING;
                    self.write(&cluster, &Situation::Seen(&seen), fails);
                }
            },
            Step::Recover { .. }
                if !self.taken && self.made.iter().all(|(_, state)| *state == TERMINATED) =>
            {
                self.gone |= !fails;
            }
            Step::Recover { token } => match self.create(&cluster, token) {
                _ if lose_reply => {}
                Ok(place) => {
                    let seen = SeenCluster { state: RUNNING.into(), ..self.seen(&place.to_string()) };
                    self.write(&cluster, &Situation::Seen(&seen), fails);
                }
                Err(Denied::Refused | Denied::NamespaceTaken) => self.gone |= !fails,
            },
            Step::Release => self.gone |= !fails,
            Step::Misask(_) | Step::Adopt(..) | Step::Missing => unreachable!("no annotation asks for that"),
        }
    }

    fn delete(&mut self, cluster: &VirtualCluster, id: &str, lose_reply: bool, fails: bool) {
        assert!(self.users.is_empty(), "deleted while a run uses it");
        let ended = self.seen(id).state == TERMINATED;
        self.move_all(&[RUNNING, ARRESTED], TERMINATING);
        if lose_reply {
            return;
        }
        if ended {
            self.gone |= !fails;
            return;
        }
        self.memory.cancel_asked = true;
        self.write(cluster, &Situation::DeleteAsked, fails);
    }

    fn tell(&mut self, cluster: &VirtualCluster, id: &str, fails: bool) {
        match self.seen(id) {
            seen if seen.state == TERMINATED => self.write(cluster, &Situation::Gone("gone"), fails),
            seen => self.write(cluster, &Situation::Seen(&seen), fails),
        }
    }

    fn write(&mut self, cluster: &VirtualCluster, situation: &Situation<'_>, fails: bool) {
        if fails {
            return;
        }
        let status = next(cluster, situation, &Told::default(), Timestamp::UNIX_EPOCH);
        self.before = self.cluster.clone();
        self.cluster.status = Some(status);
        self.memory.fresh = Some(Arc::new(self.cluster.clone()));
    }

    fn state(&self) -> Option<&str> {
        self.cluster.status.as_ref()?.state.as_deref()
    }
}

#[test]
fn a_release_that_arrives_late_leaves_no_cluster_behind() {
    let dies_in_release = [Event::Pass, Event::Delete, Event::CrashInRelease];
    World::after(dies_in_release.into_iter().chain([Event::WriteFails, Event::ReleaseArrives]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn there_is_one_cluster_at_a_time_and_none_is_left_behind_whatever_happens(
        events in proptest::collection::vec(event(), 1..60)
    ) {
        World::after(events);
    }

    #[test]
    fn a_deleted_cluster_is_always_let_go_once_nothing_is_in_the_way(
        events in proptest::collection::vec(event(), 0..40)
    ) {
        let mut world = World::after(events);
        world.happen(Event::Delete);
        world.quieten();
        prop_assert!(world.gone, "still there: {:?}", world.cluster.status);
    }

    #[test]
    fn a_cluster_left_alone_runs_or_says_that_it_is_gone(events in proptest::collection::vec(event(), 0..40)) {
        let mut world = World::after(events.into_iter().filter(|event| !matches!(event, Event::Delete)));
        world.quieten();
        let state = world.made.last().map(|(_, state)| *state);
        prop_assert!(matches!(state, Some(RUNNING | TERMINATED)), "{:?}", world.made);
        prop_assert_eq!(world.state(), state);
    }
}

//! Observes live runs by lists: a task for each virtual cluster that has any, and a wake-up for each run that changed.
//!
//! What to ask and what an answer means is decided in `poll_plan`, when to ask in `poll_pace`; here are the calls. A run
//! that ended is tracked no more, and a virtual cluster without live runs has no task: both cost nothing. Nothing here
//! writes anything, and no run is asked for by itself unless lists leave a question open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::Client;
use super::error::{Class, EmrError};
use super::limit::RunKey;
use super::model::JobRunFilter;
use super::operation::Operation;
use super::poll_hear::Hearing;
use super::poll_look::{Listed, Look};
use super::poll_pace::{Budget, interval};
use super::poll_plan::{Book, Effects, FollowUp};
use super::poll_watch;
use super::pool::{Pool, PoolConfig, Scope};
use crate::health::{Liveness, Work};
use crate::quotas::Quotas;
use crate::timing;

pub use super::poll_run::{Observed, Tracked};

/// What is known of a tracked run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The service's last word.
    Run(Observed),
    /// The service doesn't know the run any more.
    Gone,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Home {
    pub(super) scope: Scope,
    pub(super) virtual_cluster_id: String,
}

pub(super) struct Cluster {
    pub(super) book: Book,
    problem: Option<String>,
    pub(super) changed: Arc<Notify>,
    /// Here and not only in its task, so that a task that is lost is missed.
    looks: Work,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) clusters: HashMap<Arc<Home>, Cluster>,
    /// By UID, for runs that are tracked.
    homes: HashMap<Arc<str>, (Arc<Home>, String)>,
    /// By UID, for runs that have ended and aren't forgotten yet.
    ended: HashMap<Arc<str>, (String, Observation)>,
    /// By account and region, whose quota it is.
    budgets: HashMap<Scope, Budget>,
    pub(super) hearing: Hearing,
    /// When a look was planned last, to notice a clock that is set back.
    planned: Timestamp,
}

pub(super) struct Shared {
    pub(super) pool: Arc<Pool>,
    liveness: Liveness,
    state: Mutex<State>,
}

/// Tracks live runs. Clones share everything.
#[derive(Clone)]
pub struct Poller {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl Poller {
    /// A poller that asks through the pool's clients, wakes through the pool's channel, and says whether its looks move.
    pub fn new(pool: Arc<Pool>, liveness: Liveness) -> Self {
        Self { shared: Arc::new(Shared { pool, liveness, state: Mutex::default() }) }
    }

    /// Tracks a run until it has ended. Tracking it again changes nothing, also after it has ended, until
    /// [`untrack`](Self::untrack); another run of the same object takes its place, and so does the run itself when another
    /// scope is to ask for it.
    pub fn track(&self, scope: &Scope, virtual_cluster_id: &str, run: Tracked) {
        let uid = run.key.uid.clone();
        {
            let state = self.state();
            let tracked = state
                .homes
                .get(&uid)
                .is_some_and(|(home, run_id)| *run_id == run.run_id && home.scope == *scope);
            let ended = state.ended.get(&uid).is_some_and(|(run_id, _)| *run_id == run.run_id);
            if tracked || ended {
                return;
            }
        }
        self.untrack(&uid);
        let home = Arc::new(Home { scope: scope.clone(), virtual_cluster_id: virtual_cluster_id.to_owned() });
        let mut guard = self.state();
        let state = &mut *guard;
        state.homes.insert(uid, (home.clone(), run.run_id.clone()));
        let is_new = !state.clusters.contains_key(&home);
        let cluster = state.clusters.entry(home.clone()).or_insert_with(|| Cluster {
            book: Book::default(),
            problem: None,
            changed: Arc::default(),
            looks: self.shared.liveness.part("looks", virtual_cluster_id, timing::STUCK),
        });
        let early = state.hearing.take_early(&run.run_id);
        if cluster.book.track(run, now()) {
            self.config().observer.tracked(1);
        }
        if is_new {
            cluster.looks.due();
            tokio::spawn(poll_watch::watch(
                self.clone(),
                home,
                cluster.changed.clone(),
                cluster.looks.clone(),
            ));
        } else {
            cluster.changed.notify_one();
        }
        drop(guard);
        for hint in early {
            self.hear(&hint);
        }
    }

    /// Forgets a run, whether it has ended or not.
    pub fn untrack(&self, uid: &str) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.ended.remove(uid);
        let Some((home, run_id)) = state.homes.remove(uid) else { return };
        if state.clusters.get_mut(&home).is_some_and(|cluster| cluster.book.untrack(&run_id)) {
            self.config().observer.tracked(-1);
        }
    }

    /// What the service has said of a run since it is tracked; kept after its end until [`untrack`](Self::untrack).
    pub fn observed(&self, uid: &str) -> Option<Observation> {
        let state = self.state();
        if let Some((_, observation)) = state.ended.get(uid) {
            return Some(observation.clone());
        }
        let (home, run_id) = state.homes.get(uid)?;
        state.clusters.get(home)?.book.observed(run_id).cloned().map(Observation::Run)
    }

    /// Why the runs of a virtual cluster can't be observed, in AWS's words. Its runs are woken when that changes.
    pub fn problem(&self, scope: &Scope, virtual_cluster_id: &str) -> Option<String> {
        let home = Home { scope: scope.clone(), virtual_cluster_id: virtual_cluster_id.to_owned() };
        self.state().clusters.get(&home)?.problem.clone()
    }

    /// For how long a run is tracked.
    pub fn tracked_for(&self, uid: &str) -> Option<Duration> {
        let state = self.state();
        let (home, run_id) = state.homes.get(uid)?;
        state.clusters.get(home)?.book.tracked_for(run_id, now())
    }

    /// How many runs are tracked.
    pub fn tracked(&self) -> usize {
        self.state().clusters.values().map(|cluster| cluster.book.len()).sum()
    }

    pub(super) fn config(&self) -> &PoolConfig {
        self.shared.pool.config()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each method leaves the state consistent: a panic of another thread doesn't break it.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_book<T>(&self, home: &Home, act: impl FnOnce(&mut Book) -> T) -> Option<T> {
        self.state().clusters.get_mut(home).map(|cluster| act(&mut cluster.book))
    }

    /// The next list, or the end: a virtual cluster without live runs is dropped.
    pub(super) fn plan(&self, home: &Home) -> Option<Look> {
        let now = now();
        let mut state = self.state();
        if now < std::mem::replace(&mut state.planned, now) {
            state.clusters.values_mut().for_each(|cluster| cluster.book.set_back(now));
            state.hearing.set_back(now);
        }
        let look = state.clusters.get_mut(home).and_then(|cluster| cluster.book.plan(now));
        if look.is_none() {
            state.clusters.remove(home);
        }
        look
    }

    /// Asks for a list and for what it leaves open. Returns how many pages that took, also when it failed.
    pub(super) async fn look(
        &self,
        client: &Client,
        home: &Arc<Home>,
        look: &Look,
    ) -> (u32, Result<(), EmrError>) {
        let (mut pages, mut woken) = (0, 0);
        let mut next = Some(look.clone());
        let mut result = Ok(());
        let mut describe = Vec::new();
        while let Some(look) = next.take() {
            let (listed, effects) = self.list(client, home, &look).await;
            woken += self.apply(home, effects);
            match listed {
                Ok((listed, follow_up)) => {
                    pages += listed.pages;
                    next = follow_up.list;
                    describe.extend(follow_up.describe);
                }
                Err(error) => {
                    pages += 1;
                    result = Err(error);
                }
            }
        }
        if result.as_ref().is_err_and(|error| matches!(error.class, Class::NotFound | Class::Refused)) {
            // A virtual cluster that isn't known any more: its runs may not be either.
            describe = self.with_book(home, |book| book.some(now())).unwrap_or_default();
        }
        for run_id in describe {
            match self.describe(client, home, &run_id).await {
                Ok(effects) => woken += self.apply(home, effects),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if result.is_ok() {
            self.state().hearing.looked(home);
        }
        self.config().observer.look(look.kind.name(), pages, woken);
        (pages, result)
    }

    async fn list(
        &self,
        client: &Client,
        home: &Home,
        look: &Look,
    ) -> (Result<(Listed, FollowUp), EmrError>, Effects) {
        let filter = JobRunFilter {
            name: None,
            virtual_cluster_id: home.virtual_cluster_id.clone(),
            states: look.states().to_vec(),
            created_after: Some(look.created_after),
        };
        let mut effects = Effects::default();
        let mut items = 0;
        let pages = client
            .list_job_runs(&filter, look.max_pages, |item| {
                items += 1;
                self.with_book(home, |book| book.absorb(look, &item, &mut effects, now()));
            })
            .await;
        let result = pages.map(|read| {
            let listed = Listed { items, pages: read.pages, complete: read.complete };
            let finish = |book: &mut Book| book.finish(look, listed, &mut effects, now());
            (listed, self.with_book(home, finish).unwrap_or_default())
        });
        (result, effects)
    }

    async fn describe(&self, client: &Client, home: &Home, run_id: &str) -> Result<Effects, EmrError> {
        let mut effects = Effects::default();
        let answer = match client.describe_job_run(&home.virtual_cluster_id, run_id).await {
            Ok(run) => Some(run),
            Err(error) if error.class == Class::NotFound => None,
            Err(error) => return Err(error),
        };
        self.with_book(home, |book| book.described(run_id, answer.as_ref(), &mut effects, now()));
        Ok(effects)
    }

    /// Stores what has ended and wakes what has changed; returns how many that are.
    pub(super) fn apply(&self, home: &Arc<Home>, effects: Effects) -> usize {
        let config = self.config();
        let woken = effects.changed.len() + effects.ended.len();
        let mut keys = effects.changed;
        let mut state = self.state();
        state.hearing.found(home, effects.found, now());
        for (key, observed) in effects.ended {
            config.observer.tracked(-1);
            if let Some((_, run_id)) = state.homes.remove(&key.uid) {
                let observation = observed.map_or(Observation::Gone, Observation::Run);
                state.ended.insert(key.uid.clone(), (run_id, observation));
            }
            keys.push(key);
        }
        drop(state);
        self.wake(keys);
        woken
    }

    fn wake(&self, keys: impl IntoIterator<Item = RunKey>) {
        for key in keys {
            // Nobody listens any more when the process ends.
            let _ = self.config().wake.send(key);
        }
    }

    /// Keeps why lists fail, and wakes all runs of the virtual cluster when that changes.
    pub(super) fn set_problem(&self, home: &Home, problem: Option<String>) {
        let mut state = self.state();
        let Some(cluster) = state.clusters.get_mut(home).filter(|cluster| cluster.problem != problem) else {
            return;
        };
        cluster.problem = problem;
        let keys: Vec<_> = cluster.book.keys().cloned().collect();
        drop(state);
        self.wake(keys);
    }

    /// Takes pages from the budget of the scope; returns how long the quota makes us wait.
    pub(super) fn spend(&self, home: &Home, pages: u32) -> Duration {
        let Quotas::PerOperation { buckets, .. } = &self.config().quotas else {
            return Duration::ZERO;
        };
        let Some(quota) = buckets.get(Operation::ListJobRuns.name()) else { return Duration::ZERO };
        let now = now();
        let mut state = self.state();
        let budget = state.budgets.entry(home.scope.place()).or_insert_with(|| Budget::of(*quota, now));
        budget.spend(pages, now)
    }

    pub(super) fn interval(&self, home: &Home, jitter: f64) -> Duration {
        let mut activity = self.with_book(home, |book| book.activity(now())).unwrap_or_default();
        activity.told = self.state().hearing.tells_all(home, now());
        interval(&activity, jitter)
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

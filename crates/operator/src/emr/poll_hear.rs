//! The poller's ear: takes hints to the runs they are about, asks for the ends that they tell, and says whose runs need no
//! frequent looks because hints tell all.
//!
//! Receives no message and ends no run by itself. Invariant: without hints, or without trust in them, looks are as frequent
//! as if there were no queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Client;
use super::error::{Class, EmrError};
use super::hint::Hint;
use super::model::JobRunFilter;
use super::poll::{Cluster, Home, Poller, State, now};
use super::poll_hint::{Confirm, Heard};
use super::poll_look::Look;
use super::poll_pace::since;
use super::poll_plan::Effects;
use super::poll_run::ENDED;
use super::poll_trust::Trust;
use super::pool::Scope;

/// For so long a hint about a run that isn't tracked is kept: the event may come before the answer of StartJobRun.
const EARLY_FOR: Duration = Duration::from_secs(10);
/// So many of them are kept at most: the queue also tells of runs that aren't ours.
const MOST_EARLY: usize = 256;

/// What hints have told so far.
#[derive(Default)]
pub(super) struct Hearing {
    /// Whether the queue can be read.
    is_open: bool,
    trusts: HashMap<Arc<Home>, Trust>,
    early: VecDeque<(Hint, Timestamp)>,
}

impl Hearing {
    /// Whether hints tell all that happens in a virtual cluster.
    pub(super) fn tells_all(&mut self, home: &Home, now: Timestamp) -> bool {
        let trust = self.trusts.get_mut(home).filter(|_| self.is_open);
        trust.is_some_and(|trust| {
            trust.settle(now);
            trust.is_earned()
        })
    }

    /// A look found what no hint had told.
    pub(super) fn found(&mut self, home: &Arc<Home>, found: Vec<(String, bool)>, now: Timestamp) {
        if self.is_open && !found.is_empty() {
            let trust = self.trusts.entry(Arc::clone(home)).or_default();
            for (run_id, ended) in found {
                trust.found(run_id, ended, now);
            }
        }
    }

    pub(super) fn set_back(&mut self, now: Timestamp) {
        self.trusts.values_mut().for_each(|trust| trust.set_back(now));
        self.early.iter_mut().for_each(|(_, at)| *at = now.min(*at));
    }

    /// A look is over.
    pub(super) fn looked(&mut self, home: &Home) {
        if let Some(trust) = self.trusts.get_mut(home) {
            trust.looked();
        }
    }

    fn keep(&mut self, hint: &Hint, now: Timestamp) {
        self.early.retain(|(_, at)| since(*at, now) <= EARLY_FOR);
        if since(hint.at, now) <= EARLY_FOR {
            self.early.push_back((hint.clone(), now));
        }
        if self.early.len() > MOST_EARLY {
            self.early.pop_front();
        }
    }

    /// Takes out what came too early for a run that is tracked now.
    pub(super) fn take_early(&mut self, run_id: &str) -> Vec<Hint> {
        let (of_run, others) = self.early.drain(..).partition(|(hint, _)| hint.run_id == run_id);
        self.early = others;
        VecDeque::into_iter(of_run).map(|(hint, _)| hint).collect()
    }
}

impl State {
    /// Where the run of a hint is tracked, or would be. A virtual cluster has a home for each role and endpoint that its
    /// runs are asked for with.
    fn home_of(&self, hint: &Hint) -> Arc<Home> {
        let usual = Home {
            scope: Scope::new(&hint.account, &hint.region),
            virtual_cluster_id: hint.virtual_cluster_id.clone(),
        };
        let has_run = |cluster: &Cluster| cluster.book.tracks(&hint.run_id);
        if let Some((home, _)) = self.clusters.get_key_value(&usual).filter(|(_, cluster)| has_run(cluster)) {
            return Arc::clone(home);
        }
        let is_there = |home: &Home| {
            home.virtual_cluster_id == hint.virtual_cluster_id
                && home.scope.is_at(&hint.account, &hint.region)
        };
        let mut there = self.clusters.iter().filter(|(home, _)| is_there(home));
        let tracked = there.clone().find(|(_, cluster)| has_run(cluster));
        tracked.or_else(|| there.next()).map_or_else(|| Arc::new(usual), |(home, _)| Arc::clone(home))
    }
}

impl Poller {
    /// Takes in a hint.
    pub(super) fn hear(&self, hint: &Hint) -> Heard {
        let now = now();
        let mut effects = Effects::default();
        let mut guard = self.state();
        let state = &mut *guard;
        let mut heard = Heard::Untracked;
        let home = state.home_of(hint);
        let told_before = state.hearing.tells_all(&home, now);
        if let Some(cluster) = state.clusters.get_mut(&home) {
            heard = cluster.book.hear(&hint.run_id, &hint.state, &mut effects, now);
        }
        let is_news = matches!(heard, Heard::Moved | Heard::Ending);
        if is_news {
            state.hearing.trusts.entry(Arc::clone(&home)).or_default();
        }
        if let Some(trust) = state.hearing.trusts.get_mut(&home) {
            let ended = ENDED.contains(&hint.state.as_str());
            trust.hinted(&hint.run_id, ended, is_news, hint.at, now);
        }
        if heard == Heard::Untracked {
            state.hearing.keep(hint, now);
        }
        let distrusts = told_before && !state.hearing.tells_all(&home, now);
        if let Some(cluster) = state.clusters.get(&home).filter(|_| heard == Heard::Ending || distrusts) {
            cluster.changed.notify_one();
        }
        drop(guard);
        self.apply(&home, effects);
        heard
    }

    /// Says whether the queue can be read. When it can't any more, looks are frequent again at once, and trust is to be
    /// earned anew.
    pub(super) fn set_hearing(&self, is_open: bool) {
        let mut state = self.state();
        if state.hearing.is_open && !is_open {
            state.hearing.trusts.clear();
            state.clusters.values().for_each(|cluster| cluster.changed.notify_one());
        }
        state.hearing.is_open = is_open;
    }

    /// When an end is to be confirmed next.
    pub(super) fn next_confirmation(&self, home: &Home) -> Option<Instant> {
        let due = self.with_book(home, |book| book.next_confirmation()).flatten()?;
        Some(Instant::now() + since(now(), due))
    }

    /// Asks the service about the runs that are said to have ended.
    pub(super) async fn confirm(&self, client: &Client, home: &Arc<Home>) {
        let Some(confirm) = self.with_book(home, |book| book.confirm(now())) else { return };
        let (mut pages, mut woken) = (0, 0);
        let ids = match confirm {
            Confirm::Describe(ids) => ids,
            Confirm::List(look) => {
                (pages, woken) = self.list_ended(client, home, &look).await;
                self.with_book(home, |book| book.unlisted(now())).unwrap_or_default()
            }
        };
        let mut failed = false;
        for run_id in ids {
            let answer = if failed {
                // The call before failed, and this one would too: it is made a little later.
                None
            } else {
                let answer = client.describe_job_run(&home.virtual_cluster_id, &run_id).await;
                failed = answer.as_ref().is_err_and(|error| error.class != Class::NotFound);
                answer.inspect_err(|error| not_confirmed(home, error)).ok()
            };
            let mut effects = Effects::default();
            let confirmed = |book: &mut super::poll_plan::Book| {
                book.confirmed(&run_id, answer.as_ref(), &mut effects, now())
            };
            if !self.with_book(home, confirmed).unwrap_or(true) {
                self.give_up(home);
            }
            woken += self.apply(home, effects);
        }
        self.config().observer.look("hinted", pages, woken);
    }

    async fn list_ended(&self, client: &Client, home: &Arc<Home>, look: &Look) -> (u32, usize) {
        let filter = JobRunFilter {
            name: None,
            virtual_cluster_id: home.virtual_cluster_id.clone(),
            states: look.states().to_vec(),
            created_after: Some(look.created_after),
        };
        let mut effects = Effects::default();
        let listed = client
            .list_job_runs(&filter, look.max_pages, |item| {
                self.with_book(home, |book| book.listed_as_ended(&item, &mut effects, now()));
            })
            .await;
        let woken = self.apply(home, effects);
        let pages = listed.inspect_err(|error| not_confirmed(home, error)).map_or(1, |read| read.pages);
        self.spend(home, pages);
        (pages, woken)
    }

    /// A hint told an end that the service doesn't confirm.
    fn give_up(&self, home: &Home) {
        self.config().observer.refuted();
        let mut state = self.state();
        if let Some(trust) = state.hearing.trusts.get_mut(home) {
            trust.lose();
        }
        if let Some(cluster) = state.clusters.get(home) {
            cluster.changed.notify_one();
        }
    }
}

fn not_confirmed(home: &Home, error: &EmrError) {
    tracing::debug!(virtual_cluster = home.virtual_cluster_id, %error, "an end that was hinted at isn't confirmed yet");
}

//! What every pass works with.
//!
//! Holds handles and decides nothing. Invariant: a store is never asked for an object of a namespace that isn't watched
//! and then said to lack it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::{JobRun, VirtualCluster, annotations};
use jiff::Timestamp;
use kube::{Client, Resource, ResourceExt};
use kube_runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::adoption;
use crate::emr::name_lists::NameLists;
use crate::emr::poll::Poller;
use crate::emr::pool::{Pool, Scope};
use crate::event::Events;
use crate::field_export::exports::Exports;
use crate::health::Work;
use crate::job_run::role::Roles;
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::scope::decide::{Acting, Withheld};
use crate::scope::{Change, Directory};
use crate::settings::{self, DeletionPolicy, Settings};
use crate::store::Store;
use crate::timing;
use crate::watch::Watched;
use crate::write::Writer;

/// What every pass works with.
pub struct Context {
    /// What the user asked for.
    pub settings: Settings,
    /// The API server, to read from.
    pub client: Client,
    /// The API server, to write to.
    pub writer: Writer,
    /// The AWS side.
    pub pool: Arc<Pool>,
    /// Who observes live runs.
    pub poller: Poller,
    /// The runs of a name, for all who look for theirs.
    pub name_lists: NameLists,
    /// Who acts for an object, and where.
    pub directory: Directory,
    /// The account and region that calls go to by default.
    pub home: Scope,
    /// The AWS partition.
    pub partition: String,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to hand over Kubernetes Events.
    pub events: Events,
    /// What this process remembers of JobRuns.
    pub job_runs: Memories<JobRun>,
    /// What this process remembers of VirtualClusters.
    pub clusters: Memories<VirtualCluster>,
    /// The JobRuns, as the watch has them.
    pub job_run_scopes: Scopes<JobRun>,
    /// The VirtualClusters, as the watch has them.
    pub cluster_scopes: Scopes<VirtualCluster>,
    /// JobRuns that wait for a VirtualCluster.
    pub waiters: Waiters,
    /// The IAM roles that JobRuns refer to.
    pub roles: Roles,
    /// The FieldExports, and what is known of them.
    pub exports: Exports,
    /// When the controllers started.
    pub started: Instant,
    /// Who looks up what the API server lets us do.
    pub access: Access,
}

impl Context {
    /// The time; the only place that reads the clock for a status.
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Who acts for an object whose resource is in `place`, and where. `idle` says that no call will be made for it.
    ///
    /// # Errors
    /// When nobody may: also when the resource is in another account than the role that would act. With the wrong
    /// credentials every resource would seem to be gone. And when the object goes, and what is to become of its resource
    /// can't be read.
    pub fn acting<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        place: Option<&AckResourceMetadata>,
        idle: bool,
    ) -> Result<Acting, Withheld> {
        if !idle
            && object.meta().deletion_timestamp.is_some()
            && let Err(problem) = self.deletion_policy(object)
        {
            return Err(Withheld::Unfit(format!("{problem}; until then nothing is cancelled or deleted")));
        }
        let acting = self.directory.acting(object, place, self.is_gone(object));
        let owner = place.map(|place| place.owner_account_id.as_str()).filter(|owner| !owner.is_empty());
        match (acting, owner) {
            (Err(_), _) if idle => Ok(Acting::nobody(&self.home)),
            (Ok(acting), Some(owner)) if !idle && owner != acting.scope.account => {
                Err(Withheld::Unfit(format!(
                    "Resource already exists in account {owner}, but the role used for reconciliation is in account {}. Give \
                     the operator a role in account {owner}",
                    acting.scope.account
                )))
            }
            (acting, _) => acting,
        }
    }

    /// Whether nothing of the object's AWS resource may be changed.
    pub fn is_read_only<K: Resource>(&self, object: &K) -> bool {
        self.settings.feature_gates.read_only_resources && adoption::is_read_only(object)
    }

    /// Whether annotations may ask to take over what exists.
    pub fn adoption(&self) -> bool {
        self.settings.feature_gates.resource_adoption
    }

    /// Whether this process has led long enough that what lists don't show isn't there: they lag, and the process before
    /// may have made its last call just before it ended.
    pub fn lists_are_settled(&self) -> bool {
        self.started.elapsed() >= timing::LISTS_LAG
    }

    /// Whether the AWS resource outlives the object.
    pub fn retain<K: Resource>(&self, object: &K) -> bool {
        self.deletion_policy(object) == Ok(DeletionPolicy::Retain)
    }

    /// What becomes of the AWS resource when the object goes: what the object says, else its namespace, else the flag.
    fn deletion_policy<K: Resource>(&self, object: &K) -> Result<DeletionPolicy, String> {
        let key = annotations::DELETION_POLICY;
        let of_object = object.annotations().get(key).filter(|text| !text.trim().is_empty());
        let of_object = of_object
            .map(|text| settings::deletion(text).map_err(|problem| format!("annotation {key} {problem}")));
        let of_namespace = || self.directory.deletion_policy(namespace_of(object), self.is_gone(object));
        of_object.or_else(of_namespace).unwrap_or(Ok(self.settings.deletion_policy))
    }

    /// Whether the object is gone, and is being seen off.
    fn is_gone<K: Resource>(&self, object: &K) -> bool {
        self.writer.vanished.contains(object.meta().uid.as_deref())
    }

    /// Asks for passes over the objects that a change concerns, but for those that have come to their end.
    pub fn wake_concerned(&self, change: &Change) {
        for run in self.job_run_scopes.filter(|run| {
            let place = run.status.as_ref().and_then(|status| status.ack_resource_metadata.as_ref());
            self.directory.concerns(change, namespace_of(run), place)
        }) {
            self.job_run_scopes.wake(namespace_of(&*run), &run.name_any());
        }
        for cluster in self.cluster_scopes.filter(|cluster| {
            let place = cluster.status.as_ref().and_then(|status| status.ack_resource_metadata.as_ref());
            self.directory.concerns(change, namespace_of(cluster), place)
        }) {
            self.cluster_scopes.wake(namespace_of(&*cluster), &cluster.name_any());
        }
    }
}

fn namespace_of<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

/// A watched namespace, or all of them.
pub struct WatchedScope<K: Watched> {
    /// The namespace; `None` means all.
    pub namespace: Option<String>,
    /// The objects in it.
    pub store: Store<K>,
    /// Wakes an object in it.
    pub wake: UnboundedSender<ObjectRef<K>>,
    /// Where the passes that it is woken for are due.
    pub passes: Work,
    /// Cancelled once the store holds what there was at the start.
    pub listed: CancellationToken,
}

/// The watched namespaces of a kind.
pub struct Scopes<K: Watched>(pub Vec<WatchedScope<K>>);

impl<K: Watched> Scopes<K> {
    fn of(&self, namespace: &str) -> Option<&WatchedScope<K>> {
        self.0.iter().find(|scope| scope.namespace.as_deref().is_none_or(|watched| watched == namespace))
    }

    /// Whether objects of a namespace are watched.
    pub fn sees(&self, namespace: &str) -> bool {
        self.of(namespace).is_some()
    }

    /// An object by name, if something may have to be done for it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.of(namespace)?.store.get(namespace, name)
    }

    /// Those that the predicate picks among the objects for which something may have to be done.
    pub fn filter(&self, predicate: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.0.iter().flat_map(|scope| scope.store.filter(&predicate)).collect()
    }

    /// Waits until every namespace has been listed.
    pub async fn listed(&self) {
        for scope in &self.0 {
            scope.listed.cancelled().await;
        }
    }

    /// Whether every namespace has been listed.
    pub fn are_listed(&self) -> bool {
        self.0.iter().all(|scope| scope.listed.is_cancelled())
    }

    /// Asks for a pass over an object.
    pub fn wake(&self, namespace: &str, name: &str) {
        if let Some(scope) = self.of(namespace) {
            // The receiver goes when the controllers stop; nothing is lost then.
            let _ = scope.wake.send(ObjectRef::new(name).within(namespace));
            scope.passes.due();
        }
    }
}

/// A namespace and a name in it.
type Key = (String, String);

/// JobRuns that wait for a VirtualCluster. Invariant: a run waits for one, and for none once it is gone.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// By the cluster's namespace and name.
    runs: HashMap<Key, HashSet<Key>>,
    /// By the run's.
    clusters: HashMap<Key, Key>,
}

impl Waiting {
    fn remove(&mut self, run: &Key) {
        let Some(cluster) = self.clusters.remove(run) else { return };
        if let Some(runs) = self.runs.get_mut(&cluster) {
            runs.remove(run);
            if runs.is_empty() {
                self.runs.remove(&cluster);
            }
        }
    }
}

impl Waiters {
    fn with<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that a run waits. The caller resolves the reference once more after this, so that no event is missed.
    pub fn add(&self, cluster: (&str, &str), run: (&str, &str)) {
        let [cluster, run] = [cluster, run].map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        self.with(|waiting| {
            waiting.remove(&run);
            waiting.clusters.insert(run.clone(), cluster.clone());
            waiting.runs.entry(cluster).or_default().insert(run);
        });
    }

    /// Takes out those that wait for a cluster.
    pub fn take(&self, namespace: &str, name: &str) -> HashSet<Key> {
        self.with(|waiting| {
            let runs = waiting.runs.remove(&(namespace.to_owned(), name.to_owned())).unwrap_or_default();
            for run in &runs {
                waiting.clusters.remove(run);
            }
            runs
        })
    }

    /// The names of those that wait.
    #[cfg(test)]
    pub fn names(&self) -> Vec<String> {
        self.with(|waiting| waiting.clusters.keys().map(|(_, name)| name.clone()).collect())
    }

    /// Forgets a run that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.with(|waiting| waiting.remove(&(namespace.to_owned(), name.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_runs_that_waited_and_are_gone() {
        let waiters = Waiters::default();
        for name in ["a", "b", "c"] {
            waiters.add(("ns", "never"), ("ns", name));
            waiters.add(("ns", "never"), ("ns", name));
        }
        // Its reference was edited.
        waiters.add(("other", "later"), ("ns", "c"));
        assert_eq!(waiters.take("ns", "never").len(), 2);
        waiters.add(("ns", "never"), ("ns", "a"));
        for name in ["a", "b", "c"] {
            waiters.forget("ns", name);
        }
        waiters.with(|waiting| {
            assert!(waiting.runs.is_empty() && waiting.clusters.is_empty(), "{waiting:?}");
        });
    }
}

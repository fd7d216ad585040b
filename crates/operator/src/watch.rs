//! Watch streams: guarded, pruned, isolated.
//!
//! An object that doesn't decode is skipped, counted and logged, and stops nothing. What no pass reads is dropped
//! before it is stored. Each stream backs off by itself, so that one forbidden kind doesn't slow the other. Invariant:
//! an object is passed on only when its generation, its labels, the finalizers of others, its deletion or one of our
//! annotations has moved.

use std::sync::Arc;

use emrcontainers_api::{GROUP, annotations};
use futures::{Stream, StreamExt, future, stream};
use kube::api::{Api, ObjectMeta};
use kube::core::Selector;
use kube::{Client, Resource, ResourceExt};
use kube_runtime::reflector::{Lookup, ObjectRef};
use kube_runtime::utils::WatchStreamExt;
use kube_runtime::watcher::{self, Event, watcher};
use tracing::{debug, warn};

use crate::decode::Decoded;
use crate::metrics::Metrics;
use crate::store::{Applied, Change, Store};
use crate::timing;
use crate::watch_backoff::WatchBackoff;
use crate::watch_first::unsettled;
use crate::write::Kind;

/// A kind that can be watched.
pub trait Watched: Kind + Lookup<DynamicType = ()> + 'static {
    /// Its name in metrics.
    const KIND: crate::metrics::Kind;

    /// Whether others refer to objects of the kind: then all are watched, and only those selected get passes.
    const IS_REFERRED_TO: bool;

    /// A field selector for the objects that may need a pass, if there are fields that tell. It may leave out some, which
    /// are found when all are listed.
    const UNSETTLED: Option<&'static str>;

    /// How an object can end.
    type End: Copy + Send + Sync + 'static;

    /// Drops what no pass reads.
    fn prune(&mut self);

    /// How the object has ended, if nothing will have to be done for it as it is now.
    fn settled(&self) -> Option<Self::End>;

    /// Whether the object's AWS resource has still to be made.
    fn is_start(&self) -> bool;
}

/// What happens beside the stream: called for every event, in order, after the store has it.
pub trait Hooks<K>: Send + Sync + 'static {
    /// The object is there, or has changed.
    fn applied(&self, object: &K);
    /// The object was not there before, or nothing had to be done for it: it may have been another operator's.
    fn appeared(&self, _object: &K) {}
    /// The object is gone.
    fn deleted(&self, object: &K);
    /// The store holds a new list, whole.
    fn listed(&self);
    /// The API server refused or broke off; it is asked again.
    fn failed(&self);
}

/// Watches the selected objects of a kind in a namespace, or in all; names the objects that are due for a pass.
pub fn watch<K: Watched>(
    client: &Client,
    namespace: Option<&str>,
    selector: &Selector,
    store: Store<K>,
    hooks: Arc<dyn Hooks<K>>,
    metrics: &Metrics,
) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
    let api: Api<Decoded<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let config = watcher::Config::default().timeout(timing::WATCH_SECONDS).page_size(timing::LIST_PAGE);
    let config = if K::IS_REFERRED_TO { config } else { config.labels_from(selector) };
    let errors = metrics.clone();
    let failures = Arc::clone(&hooks);
    let first = unsettled(api.clone(), &config);
    let events =
        first.chain(watcher(api, config).backoff(WatchBackoff::default())).filter_map(move |event| {
            let event = event.map_or_else(
                |error| {
                    errors.watch_error(K::KIND);
                    failures.failed();
                    warn!(kind = K::KIND.as_str(), %error, "watch failed; it is tried again with backoff");
                    None
                },
                |event| decode(event, &errors),
            );
            future::ready(event)
        });
    events.flat_map(move |event| stream::iter(take_in(event.modify(Watched::prune), &*hooks, &store)))
}

/// An object that doesn't decode is skipped.
fn decode<K: Watched>(event: Event<Decoded<K>>, metrics: &Metrics) -> Option<Event<K>> {
    let open = |decoded: Decoded<K>| match decoded.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            metrics.undecodable_object(K::KIND);
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
            warn!(kind = K::KIND.as_str(), namespace, name, error = %invalid.error, "object doesn't decode; it is skipped until it is mended");
            None
        }
    };
    Some(match event {
        Event::Apply(object) => Event::Apply(open(object)?),
        // What it was doesn't matter any more.
        Event::Delete(object) => Event::Delete(
            object
                .0
                .unwrap_or_else(|undecodable| K::assemble(undecodable.metadata, K::Spec::default(), None)),
        ),
        Event::InitApply(object) => Event::InitApply(open(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Stores what the watch says, tells the hooks, and names the objects that are due for a pass.
///
/// The store takes a list in only when it is whole, so its objects are due then and not one by one as they arrive: a
/// pass before that would be made on the object of the list before, and nothing would repeat it.
fn take_in<K: Watched>(event: Event<K>, hooks: &dyn Hooks<K>, store: &Store<K>) -> Vec<ObjectRef<K>> {
    match store.take_in(event) {
        Change::None => Vec::new(),
        Change::Applied(applied) => {
            if applied.before.is_none() {
                hooks.appeared(&applied.object);
            }
            hooks.applied(&applied.object);
            due(&applied).into_iter().collect()
        }
        Change::Deleted(object) => {
            hooks.deleted(&object);
            Vec::new()
        }
        Change::Listed { applied, lost } => {
            debug!(kind = K::KIND.as_str(), objects = applied.len(), lost = lost.len(), "listed");
            hooks.listed();
            for object in &lost {
                hooks.deleted(object);
            }
            for Applied { object, .. } in &applied {
                hooks.applied(object);
            }
            applied.iter().filter_map(due).collect()
        }
    }
}

/// Names the object if a pass is due for it.
fn due<K: Watched>(applied: &Applied<K>) -> Option<ObjectRef<K>> {
    let Applied { object, before } = applied;
    let is_due =
        object.settled().is_none() && before.as_ref().is_none_or(|before| has_moved(&**before, &**object));
    is_due.then(|| ObjectRef::from_obj(&**object))
}

/// Whether anything that passes are made for has changed.
fn has_moved<K: Watched>(before: &K, now: &K) -> bool {
    let [before_meta, now_meta] = [before, now].map(Resource::meta);
    before_meta.generation != now_meta.generation
        || before_meta.deletion_timestamp.is_some() != now_meta.deletion_timestamp.is_some()
        || before_meta.labels != now_meta.labels
        || !others::<K>(before).eq(others::<K>(now))
        || has_lost::<K>(before, now)
        || !asked(before).eq(asked(now))
}

/// The finalizers that aren't ours: the pass that puts ours on goes on by itself, and its event would repeat a call that
/// has just failed.
fn others<K: Watched>(object: &K) -> impl Iterator<Item = &String> {
    object.finalizers().iter().filter(|finalizer| *finalizer != K::FINALIZER)
}

/// Whether somebody took off what we had put on.
fn has_lost<K: Watched>(before: &K, now: &K) -> bool {
    let has_finalizer = |object: &K| object.finalizers().iter().any(|finalizer| finalizer == K::FINALIZER);
    let has_destination = |object: &K| object.annotations().contains_key(annotations::DESTINATION);
    has_finalizer(before) && !has_finalizer(now) || has_destination(before) && !has_destination(now)
}

/// What is asked by annotation; not those that go on with our finalizer.
fn asked<K: Resource>(object: &K) -> impl Iterator<Item = (&String, &String)> {
    let written = [annotations::ORIGIN, annotations::DESTINATION, annotations::EXPORTED_TO];
    object.annotations().iter().filter(move |(key, _)| is_ours(key) && !written.contains(&key.as_str()))
}

/// Whether an annotation means something to us: upstream's or ours.
fn is_ours(key: &str) -> bool {
    key == annotations::DELETION_POLICY
        || key.split_once('/').is_some_and(|(prefix, _)| prefix == "services.k8s.aws" || prefix == GROUP)
}

/// Drops from the metadata what no pass reads.
pub fn prune_metadata(meta: &mut ObjectMeta) {
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| is_ours(key));
    }
}

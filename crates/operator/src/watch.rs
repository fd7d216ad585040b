//! Watch streams: guarded, pruned, isolated.
//!
//! An object that doesn't decode is skipped, counted and logged, and stops nothing. What no pass reads is dropped
//! before it is stored. Each stream backs off by itself, so that one forbidden kind doesn't slow the other. Invariant:
//! an object is passed on only when its generation, the finalizers of others, its deletion or one of our annotations has moved.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use emrcontainers_api::{GROUP, annotations};
use futures::{Stream, StreamExt, TryStreamExt, future, stream};
use kube::api::{Api, ObjectMeta};
use kube::{Client, ResourceExt};
use kube_runtime::reflector::{Lookup, ObjectRef, Store, store::Writer};
use kube_runtime::utils::WatchStreamExt;
use kube_runtime::watcher::{self, Event, watcher};
use tracing::{debug, warn};

use crate::decode::Decoded;
use crate::metrics::Metrics;
use crate::timing;
use crate::write::Kind;

/// A kind that can be watched.
pub trait Watched: Kind + Lookup<DynamicType = ()> + 'static {
    /// Its name in metrics.
    const KIND: crate::metrics::Kind;

    /// Drops what no pass reads.
    fn prune(&mut self);

    /// Whether nothing will have to be done for the object as it is now.
    fn settled(&self) -> bool;

    /// Whether the object's AWS resource has still to be made.
    fn is_start(&self) -> bool;
}

/// What happens beside the stream: called for every event, in order, after the store has it.
pub trait Hooks<K>: Send + Sync + 'static {
    /// The object is there, or has changed.
    fn applied(&self, object: &K);
    /// The object is gone.
    fn deleted(&self, object: &K);
    /// The store holds a new list, whole.
    fn listed(&self);
    /// The API server refused or broke off; it is asked again.
    fn failed(&self);
}

/// Watches a kind in a namespace, or in all; names the objects that are due for a pass.
pub fn watch<K: Watched>(
    client: &Client,
    namespace: Option<&str>,
    writer: Writer<K>,
    hooks: Arc<dyn Hooks<K>>,
    metrics: &Metrics,
) -> impl Stream<Item = ObjectRef<K>> + Send + use<K> {
    let api: Api<Decoded<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let config = watcher::Config::default().timeout(timing::WATCH_SECONDS).page_size(timing::LIST_PAGE);
    let reader = writer.as_reader();
    let errors = metrics.clone();
    let failures = Arc::clone(&hooks);
    let events = watcher(api, config)
        .default_backoff()
        .filter_map(move |event| {
            let event = event.map_or_else(
                |error| {
                    errors.watch_error(K::KIND);
                    failures.failed();
                    warn!(kind = K::KIND.as_str(), %error, "watch failed; it is tried again with backoff");
                    None
                },
                |event| decode(event, &errors),
            );
            future::ready(event.map(Ok))
        })
        .map_ok(|event| event.modify(Watched::prune));
    kube_runtime::reflector(writer, events)
        .map_ok(move |event| stream::iter(take_in(event, &*hooks, &reader).into_iter().map(Ok)))
        .try_flatten()
        .predicate_filter(due::<K>, kube_runtime::PredicateConfig::default())
        // Errors were reported above.
        .filter_map(|object| future::ready(object.ok().as_ref().map(ObjectRef::from_obj)))
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

/// Tells the hooks, and says which objects may be due for a pass.
///
/// The store takes a list in only when it is whole, so its objects are due then and not one by one as they arrive: a
/// pass before that would be made on the object of the list before, and nothing would repeat it.
fn take_in<K: Watched>(event: Event<K>, hooks: &dyn Hooks<K>, store: &Store<K>) -> Vec<K> {
    match event {
        Event::Apply(object) => {
            hooks.applied(&object);
            if object.settled() { Vec::new() } else { vec![object] }
        }
        Event::Delete(object) => {
            hooks.deleted(&object);
            Vec::new()
        }
        Event::InitDone => {
            let objects = store.state();
            debug!(kind = K::KIND.as_str(), objects = objects.len(), "listed");
            hooks.listed();
            for object in &objects {
                hooks.applied(object);
            }
            objects.iter().filter(|object| !object.settled()).map(|object| K::clone(object)).collect()
        }
        Event::Init | Event::InitApply(_) => Vec::new(),
    }
}

/// Changes when a pass is due.
#[allow(clippy::unnecessary_wraps, reason = "the signature that predicate_filter takes")]
fn due<K: Watched>(object: &K) -> Option<u64> {
    let meta = object.meta();
    let mut hasher = DefaultHasher::new();
    meta.generation.hash(&mut hasher);
    // Not ours: the pass that puts it on goes on by itself, and its event would repeat a call that has just failed.
    for finalizer in meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != K::FINALIZER) {
        finalizer.hash(&mut hasher);
    }
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    // Nor the annotation that goes on with it.
    let asked = |key: &str| is_ours(key) && key != annotations::ORIGIN;
    for (key, value) in object.annotations().iter().filter(|(key, _)| asked(key)) {
        (key, value).hash(&mut hasher);
    }
    Some(hasher.finish())
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

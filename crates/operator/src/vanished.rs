//! Objects that went without us: the API server deleted them although our finalizer was on.
//!
//! It looks for finalizers when it begins to delete, and not again when its write meets a newer version. One that we put on
//! in between isn't seen, and what we started then would be left behind. Such an object is seen off by the steps that
//! are made for one that is being deleted; only that nothing is written any more, see [`crate::write`]. Must not act
//! before a read has said that the object is gone: one that leaves the label selector is told as deleted too, and is left to
//! its passes if the watch has it again. Invariant:
//! what this process made for an object ends when the object is gone.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use emrcontainers_api::{JobRun, VirtualCluster};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::core::SelectorExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;

use crate::context::Context;
use crate::health::Work;
use crate::pass::{Again, Reconciled, backoff, pass};
use crate::timing;
use crate::watch::Watched;
use crate::write;

/// UIDs of the objects that are being seen off.
#[derive(Clone, Debug, Default)]
pub struct Vanished(Arc<Mutex<HashSet<String>>>);

impl Vanished {
    /// Whether the object is among them.
    pub fn contains(&self, uid: Option<&str>) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uid.is_some_and(|uid| all.contains(uid))
    }

    fn insert(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
    }

    /// Takes one out; says whether it was among them.
    pub fn remove(&self, uid: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }
}

/// An object that may have gone without us.
pub enum Gone {
    /// A run.
    Run(Arc<JobRun>),
    /// A virtual cluster.
    Cluster(Arc<VirtualCluster>),
}

impl From<Arc<JobRun>> for Gone {
    fn from(run: Arc<JobRun>) -> Self {
        Self::Run(run)
    }
}

impl From<Arc<VirtualCluster>> for Gone {
    fn from(cluster: Arc<VirtualCluster>) -> Self {
        Self::Cluster(cluster)
    }
}

/// Takes an object in that the watch lacks by now, unless it was let go; says whether it did.
pub fn take_in<K: Reconciled>(object: &K, context: &Context, gone: &UnboundedSender<Gone>) -> bool
where
    Gone: From<Arc<K>>,
{
    let settings = &context.settings;
    let newest = K::memories(context).freshest(Arc::new(object.clone()));
    let is_ours = !settings.read_only
        && settings.worked_on.includes(K::KIND)
        && settings.watch_selector.matches(newest.labels());
    // Who lets an object go sees its deletion first.
    let is_let_go = newest.meta().deletion_timestamp.is_some() || !has_finalizer(&*newest);
    let is_concerned = is_ours && !is_let_go && newest.settled().is_none();
    let Some(uid) = newest.uid().filter(|_| is_concerned) else { return false };
    context.writer.vanished.insert(&uid);
    // Nobody listens any more when the process ends.
    gone.send(newest.into()).is_ok()
}

/// Sees off what comes, for ever.
pub async fn see_off(mut gone: UnboundedReceiver<Gone>, context: &Arc<Context>, work: &Work) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            object = gone.recv() => under_way.push(match object {
                Some(Gone::Run(run)) => one(run, context, work).boxed(),
                Some(Gone::Cluster(cluster)) => one(cluster, context, work).boxed(),
                None => return,
            }),
            Some(()) = under_way.next() => {
                if under_way.is_empty() {
                    work.done();
                }
            }
        }
    }
}

/// Sees one object off.
async fn one<K: Reconciled>(object: Arc<K>, context: &Arc<Context>, work: &Work) {
    let uid = object.uid().unwrap_or_default().into_owned();
    if is_gone(&*object, context).await {
        tracing::warn!(
            kind = K::KIND.as_str(),
            namespace = object.namespace().as_deref(),
            name = &*object.name_any(),
            "the object was deleted although it has our finalizer: what was made for it is ended"
        );
        end(object, context, work).await;
    }
    if !context.writer.vanished.remove(&uid) {
        // The watch has it again.
        return;
    }
    K::memories(context).forget(&uid);
    context.poller.untrack(&uid);
    context.pool.forget(&uid);
}

/// Asks the API server whether it is there, until it says so.
async fn is_gone<K: Reconciled>(object: &K, context: &Context) -> bool {
    let mut failures = 0;
    loop {
        match write::exists(&context.writer, object).await {
            Ok(exists) => return !exists,
            Err(error) => {
                failures += 1;
                tracing::debug!(%error, "whether an object is gone can't be told yet");
                sleep(backoff(failures)).await;
            }
        }
    }
}

/// Makes passes until nothing is left of it.
async fn end<K: Reconciled>(mut object: Arc<K>, context: &Arc<Context>, work: &Work) {
    loop {
        object = deleted(K::memories(context).freshest(object));
        if !has_finalizer(&*object) {
            return;
        }
        // Nothing wakes it: it has no place in the store any more.
        let (soon, late) = timing::VANISHED_LOOK;
        sleep(match pass(Arc::clone(&object), Arc::clone(context), work.clone()).await {
            Again::Save => Duration::ZERO,
            Again::Never => soon,
            Again::After(wait) => wait.min(late),
        })
        .await;
    }
}

fn has_finalizer<K: Watched>(object: &K) -> bool {
    object.finalizers().iter().any(|finalizer| finalizer == K::FINALIZER)
}

/// The object as one that is being deleted.
fn deleted<K: Watched>(object: Arc<K>) -> Arc<K> {
    if object.meta().deletion_timestamp.is_some() {
        return object;
    }
    let mut object = Arc::unwrap_or_clone(object);
    object.meta_mut().deletion_timestamp = Some(Time(Timestamp::now()));
    Arc::new(object)
}

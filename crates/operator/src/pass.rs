//! One pass over one object: bounded in time, measured, and repeated with backoff when it fails.
//!
//! Knows nothing of what a kind does. Invariant: a pass that fails is repeated, later each time, and never at the same
//! moment as all others.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use kube_runtime::reflector::ObjectRef;
use rand::RngExt;
use tracing::{Instrument, info, info_span, warn};

use crate::context::Context;
use crate::health::Work;
use crate::memory::{Memories, version};
use crate::metrics::Outcome;
use crate::timing;
use crate::watch::Watched;

/// When to look at the object again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something wakes it: the watch, the poller, the queue, a referenced object.
    Await,
    /// Then, at the latest.
    After(Duration),
    /// Then, to see what came of it: until that is known the failures before it count on.
    Check(Duration),
    /// The pass came to nothing for a cause that it has told the user: later each time.
    Backoff,
}

/// How a step of a pass went.
#[derive(Debug)]
pub enum Progress<K> {
    /// The pass ends here.
    End(Next),
    /// The object has changed under or by us: plan anew.
    Again(Arc<K>),
    /// The AWS resource is there, and this process knows it: to write that down lets the starts of others go first.
    Started,
}

/// Steps in one pass; the longest way (reopen, finalizer, conflict, start) has fewer.
const MAX_STEPS: usize = 8;

/// Why a pass broke off.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The API server refused or could not be reached.
    #[error("kubernetes: {0}")]
    Kube(#[source] Box<kube::Error>),
    /// A step took too long.
    #[error("a step took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    /// The pass has a bug.
    #[error("the pass panicked: {0}")]
    Panicked(String),
    /// Somebody else kept writing the object.
    #[error("the object kept changing while it was written")]
    Contended,
}

impl PassError {
    /// Whether the API server doesn't let us do something.
    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Kube(error) if matches!(&**error, kube::Error::Api(status) if status.code == 403))
    }
}

impl From<kube::Error> for PassError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// A kind that passes are made over.
pub trait Reconciled: Watched {
    /// What this process remembers of the kind's objects.
    fn memories(context: &Context) -> &Memories<Self>;

    /// The object as the watch gave it last, if something may have to be done for it, and by us.
    fn stored(context: &Context, namespace: &str, name: &str) -> Option<Arc<Self>>;

    /// Whether an AWS call is kept for the object until its pass asks for it.
    fn may_call(&self, _context: &Context) -> bool {
        false
    }

    /// Observes, plans and acts, once. Every step ends in a write, a call, or the end of the pass.
    fn step(
        object: &Arc<Self>,
        context: &Context,
    ) -> impl Future<Output = Result<Progress<Self>, PassError>> + Send;
}

/// Whether and when another pass follows without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When something asks for it.
    Never,
    /// Then.
    After(Duration),
    /// In its turn, to write down what this one started.
    Save,
}

/// Makes a pass and decides when the next one is.
pub async fn pass<K: Reconciled>(object: Arc<K>, context: Arc<Context>, work: Work) -> Again {
    let uid = object.meta().uid.clone().unwrap_or_default();
    let span = info_span!(
        "pass",
        kind = K::KIND.as_str(),
        namespace = object.meta().namespace.as_deref().unwrap_or_default(),
        name = object.meta().name.as_deref().unwrap_or_default(),
    );
    let object_ref = ObjectRef::from_obj(&*object);
    async {
        let started = Instant::now();
        let result = recovered(steps(object, &context, &work)).await;
        if result.as_ref().is_err_and(PassError::is_forbidden) {
            context.access.doubt();
        }
        let (again, outcome) = conclude(result, K::memories(&context), &uid);
        context.metrics.pass(K::KIND, outcome, started.elapsed());
        tidy::<K>(&object_ref, &uid, &context);
        again
    }
    .instrument(span)
    .await
}

/// Whether the watch still has the object: nothing is made for one that it has told to be gone.
pub fn is_stored<K: Reconciled>(object: &K, context: &Context) -> bool {
    let meta = object.meta();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let stored = K::stored(context, namespace, meta.name.as_deref().unwrap_or_default());
    stored.is_some_and(|stored| stored.meta().uid == meta.uid)
}

/// Forgets what the watch has caught up with: its event may have come before the reply of our write, and for a finished
/// run no other comes.
fn tidy<K: Reconciled>(object: &ObjectRef<K>, uid: &str, context: &Context) {
    match K::stored(context, object.namespace.as_deref().unwrap_or_default(), &object.name) {
        Some(stored) if stored.meta().uid.as_deref() == Some(uid) => K::memories(context).caught_up(&stored),
        Some(_) | None if context.writer.vanished.contains(Some(uid)) => {}
        Some(_) | None => K::memories(context).forget(uid),
    }
}

/// What the steps came to.
enum Ended {
    Pass(Next),
    Start,
}

/// Makes steps until the pass ends, or its start is through.
async fn steps<K: Reconciled>(
    mut object: Arc<K>,
    context: &Context,
    work: &Work,
) -> Result<Ended, PassError> {
    for _ in 0..MAX_STEPS {
        let step = tokio::time::timeout(timing::STEP, K::step(&object, context)).await;
        // However it went: an API server or an AWS that hangs costs a step its time, and is no reason to restart.
        work.moved();
        match step.unwrap_or(Err(PassError::Timeout(timing::STEP)))? {
            Progress::End(next) => return Ok(Ended::Pass(next)),
            Progress::Again(newer) => object = newer,
            Progress::Started => return Ok(Ended::Start),
        }
    }
    Err(PassError::Contended)
}

/// The newest state of an object that this process has seen: what the watch gave, or what our last write returned. None if
/// it is gone, or nothing will have to be done for it.
///
/// The write is forgotten once the watch has caught up with it, so the store is asked after the memory: one of both has it.
pub fn known<K: Reconciled>(object: &ObjectRef<K>, context: &Context) -> Option<Arc<K>> {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let stored = || K::stored(context, namespace, &object.name);
    let known = K::memories(context).freshest(stored()?);
    let stored = stored()?;
    let is_later = stored.meta().uid == known.meta().uid && version(&*stored) > version(&*known);
    Some(if is_later { stored } else { known })
}

fn conclude<K: Reconciled>(
    result: Result<Ended, PassError>,
    memories: &Memories<K>,
    uid: &str,
) -> (Again, Outcome) {
    match result {
        Ok(Ended::Start) => {
            memories.succeeded(uid);
            (Again::Save, Outcome::Again)
        }
        Ok(Ended::Pass(Next::Await)) => {
            memories.succeeded(uid);
            (Again::Never, Outcome::Ok)
        }
        Ok(Ended::Pass(Next::After(delay))) => {
            memories.succeeded(uid);
            (Again::After(delay), Outcome::Later)
        }
        Ok(Ended::Pass(Next::Check(delay))) => (Again::After(delay), Outcome::Later),
        Ok(Ended::Pass(Next::Backoff)) => {
            let delay = backoff(memories.failed(uid));
            info!(retry_in_seconds = delay.as_secs_f32(), "tried again later");
            (Again::After(delay), Outcome::Error)
        }
        Err(error) => {
            let delay = backoff(memories.failed(uid));
            warn!(%error, retry_in_seconds = delay.as_secs_f32(), "the pass broke off");
            let outcome = match error {
                PassError::Timeout(_) => Outcome::Timeout,
                PassError::Panicked(_) => Outcome::Panic,
                PassError::Kube(_) | PassError::Contended => Outcome::Error,
            };
            (Again::After(delay), outcome)
        }
    }
}

/// A bug that panics on one object stops no other.
async fn recovered<T>(steps: impl Future<Output = Result<T, PassError>>) -> Result<T, PassError> {
    let result = AssertUnwindSafe(steps).catch_unwind().await;
    result.unwrap_or_else(|panic| Err(PassError::Panicked(message(&*panic))))
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

/// Doubles from failure to failure up to a bound, and is spread by a half so that no two objects march in step.
pub fn backoff(failures: u32) -> Duration {
    let doubled =
        timing::BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled.min(timing::BACKOFF_LONGEST).mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use emrcontainers_api::JobRun;

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_pass_is_counted_as_one_and_another_pass_follows() {
        let words = "a bug".to_owned();
        let steps = async { if words.is_empty() { Ok(Ended::Start) } else { panic!("{words}") } };
        let result = recovered(steps).await;
        assert!(matches!(&result, Err(PassError::Panicked(said)) if said == "a bug"));
        let memories = Memories::<JobRun>::default();
        let (again, outcome) = conclude(result, &memories, "u");
        assert!(matches!(again, Again::After(_)) && outcome == Outcome::Panic, "{again:?}");
        assert_eq!(memories.get("u").failures, 1);
    }

    #[test]
    fn backoff_grows_to_its_bound_and_no_further() {
        assert!(backoff(1) <= timing::BACKOFF_FIRST.mul_f64(1.25));
        assert!(backoff(4) > backoff(1));
        for failures in [9, 20, u32::MAX] {
            assert!(backoff(failures) >= timing::BACKOFF_LONGEST.mul_f64(0.75));
            assert!(backoff(failures) <= timing::BACKOFF_LONGEST.mul_f64(1.25));
        }
    }
}

//! One pass over one object: bounded in time, measured, and repeated with backoff when it fails.
//!
//! Knows nothing of what a kind does. Invariant: a pass that fails is repeated, later each time, and never at the same
//! moment as all others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_runtime::controller::Action;
use rand::RngExt;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info, info_span, warn};

use crate::context::Context;
use crate::memory::{Memories, version};
use crate::metrics::Outcome;
use crate::timing;
use crate::turnstile::Turnstile;
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
    /// The AWS resource is there, and this process knows it: the rest of the pass lets the starts of others go first.
    Started(Arc<K>),
}

/// Steps in one pass; the longest way (finalizer, conflict, start, save, report) has fewer.
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

impl From<kube::Error> for PassError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// A kind that passes are made over.
pub trait Reconciled: Watched {
    /// What this process remembers of the kind's objects.
    fn memories(context: &Context) -> &Memories<Self>;

    /// Bounds the passes of the kind.
    fn turns(context: &Context) -> &Turnstile;

    /// The object as the watch gave it last.
    fn stored(context: &Context, namespace: &str, name: &str) -> Option<Arc<Self>>;

    /// Observes, plans and acts, once. Every step ends in a write, a call, or the end of the pass.
    fn step(
        object: &Arc<Self>,
        context: &Context,
    ) -> impl Future<Output = Result<Progress<Self>, PassError>> + Send;
}

/// Makes a pass and decides when the next one is.
///
/// The pass is a task of its own: a bug that panics on one object stops no other. The controller
/// looks at all its passes whenever one of them moves, so one that waits must be cheap to look at: only the task's handle
/// is left to it. The task ends when this future is dropped, so no pass outlives the lease.
pub async fn pass<K: Reconciled>(object: Arc<K>, context: Arc<Context>) -> Result<Action, PassError> {
    let uid = object.meta().uid.clone().unwrap_or_default();
    let span = info_span!(
        "pass",
        kind = K::KIND.as_str(),
        namespace = object.meta().namespace.as_deref().unwrap_or_default(),
        // Not `name`: the JSON log gives that key to the span itself.
        object = object.meta().name.as_deref().unwrap_or_default(),
    );
    let memories = K::memories(&context);
    let waiting = Instant::now();
    let task = tokio::spawn(in_turn(object, Arc::clone(&context)).instrument(span.clone()));
    let (result, started) = match AbortOnDropHandle::new(task).await {
        Ok(ended) => ended,
        Err(error) => (Err(PassError::Panicked(error.to_string())), waiting),
    };
    let (action, outcome) = span.in_scope(|| conclude(result, memories, &uid));
    context.metrics.pass(K::KIND, outcome, started.elapsed());
    context.progress.beat();
    Ok(action)
}

/// Waits for the object's turn and makes the pass; says when the turn came.
///
/// The steps are in a box that isn't there while the pass waits: it is some kilobytes, and thousands may wait.
async fn in_turn<K: Reconciled>(object: Arc<K>, context: Arc<Context>) -> (Result<Next, PassError>, Instant) {
    let is_start = object.is_start();
    let turn = K::turns(&context).enter(is_start).await;
    let begun = Instant::now();
    let object = match Box::pin(steps(freshest(object, &context), &context)).await {
        Ok(Ended::Pass(next)) => return (Ok(next), begun),
        Ok(Ended::Start(object)) => object,
        Err(error) => return (Err(error), begun),
    };
    let _turn = turn.make_way().await;
    let rest = Box::pin(steps(freshest(object, &context), &context)).await;
    let next = rest.and_then(|ended| match ended {
        Ended::Pass(next) => Ok(next),
        Ended::Start(_) => Err(PassError::Contended),
    });
    (next, begun)
}

/// What the steps came to.
enum Ended<K> {
    Pass(Next),
    Start(Arc<K>),
}

/// Makes steps until the pass ends, or its start is through.
async fn steps<K: Reconciled>(mut object: Arc<K>, context: &Context) -> Result<Ended<K>, PassError> {
    for _ in 0..MAX_STEPS {
        let step = tokio::time::timeout(timing::STEP, K::step(&object, context));
        match step.await.unwrap_or(Err(PassError::Timeout(timing::STEP)))? {
            Progress::End(next) => return Ok(Ended::Pass(next)),
            Progress::Again(newer) => object = newer,
            Progress::Started(object) => return Ok(Ended::Start(object)),
        }
    }
    Err(PassError::Contended)
}

/// The newest state of an object that this process has seen.
///
/// The object was taken from the store when the pass was scheduled. Until it runs, the watch may catch up with our last
/// write, which is forgotten then: so memory is asked first and the store after it, and one of both has that write.
fn freshest<K: Reconciled>(scheduled: Arc<K>, context: &Context) -> Arc<K> {
    let known = K::memories(context).freshest(scheduled);
    let meta = known.meta();
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    let stored = K::stored(context, namespace.unwrap_or_default(), name.unwrap_or_default())
        .filter(|stored| stored.meta().uid == meta.uid);
    match stored {
        Some(stored) if version(&*stored) > version(&*known) => stored,
        Some(_) | None => known,
    }
}

fn conclude<K: Reconciled>(
    result: Result<Next, PassError>,
    memories: &Memories<K>,
    uid: &str,
) -> (Action, Outcome) {
    match result {
        Ok(Next::Await) => {
            memories.succeeded(uid);
            (Action::await_change(), Outcome::Ok)
        }
        Ok(Next::After(delay)) => {
            memories.succeeded(uid);
            (Action::requeue(delay), Outcome::Ok)
        }
        Ok(Next::Check(delay)) => (Action::requeue(delay), Outcome::Ok),
        Ok(Next::Backoff) => {
            let delay = backoff(memories.failed(uid));
            info!(retry_in_seconds = delay.as_secs_f32(), "tried again later");
            (Action::requeue(delay), Outcome::Error)
        }
        Err(error) => {
            let delay = backoff(memories.failed(uid));
            warn!(%error, retry_in_seconds = delay.as_secs_f32(), "the pass broke off");
            let outcome = match error {
                PassError::Timeout(_) => Outcome::Timeout,
                PassError::Panicked(_) => Outcome::Panic,
                PassError::Kube(_) | PassError::Contended => Outcome::Error,
            };
            (Action::requeue(delay), outcome)
        }
    }
}

/// Doubles from failure to failure up to a bound, and is spread by a half so that no two objects march in step.
pub fn backoff(failures: u32) -> Duration {
    let doubled =
        timing::BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled.min(timing::BACKOFF_LONGEST).mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! Runs the passes of a kind: takes in what asks for one, and gives each object its turn.
//!
//! Knows nothing of what a pass does. kube-runtime's `Controller` isn't used: it looks at all its passes whenever one of
//! them moves, and picks the next object by the order of a hash set; with thousands of objects that costs more than the
//! passes, and leaves some of them waiting for as long as others keep coming. Invariant: when [`run`] has ended or was
//! dropped, no pass is under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt};
use kube_runtime::reflector::ObjectRef;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use crate::busy::{Busy, Marked};
use crate::context::Context;
use crate::health::Work;
use crate::metrics::{QueueMetrics, saturating};
use crate::pass::{self, Again, Reconciled};
use crate::work_queue::{Class, WorkQueue};

/// Runs passes over the objects that `triggers` names until `stop`, and then until what has to be saved is saved.
pub async fn run<K: Reconciled>(
    triggers: impl Stream<Item = ObjectRef<K>> + Send,
    context: Arc<Context>,
    busy: Busy,
    work: Work,
    stop: CancellationToken,
) {
    let mut runner = Runner::<K>::new(context, busy, work);
    let mut triggers = std::pin::pin!(triggers);
    let mut stopping = false;
    loop {
        let now = Instant::now();
        runner.begin_passes(now);
        runner.tell_work();
        if stopping && runner.queue.is_idle() {
            return;
        }
        let patience = runner.queue.patience(now);
        tokio::select! {
            biased;
            Some(ended) = runner.passes.join_next() => {
                match ended {
                    Ok((object, again)) => runner.end_pass(&object, again, stopping),
                    // A pass catches its own panics, and nobody aborts it.
                    Err(error) => tracing::error!(%error, kind = K::KIND.as_str(), "a pass was lost"),
                }
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                runner.leave();
            }
            Some(due) = runner.delays.next(), if !stopping => {
                let object = due.into_inner();
                runner.delayed.remove(&object);
                runner.ask(object);
            }
            trigger = triggers.next(), if !stopping => match trigger {
                Some(object) => runner.ask(object),
                None => return,
            },
            () = tokio::time::sleep(patience.unwrap_or_default()), if patience.is_some() => {}
            // A pass was lost, and nothing else is left.
            else => return,
        }
    }
}

struct Runner<K: Reconciled> {
    context: Arc<Context>,
    work: Work,
    queue: WorkQueue<ObjectRef<K>>,
    passes: JoinSet<(ObjectRef<K>, Again)>,
    delays: DelayQueue<ObjectRef<K>>,
    delayed: HashMap<ObjectRef<K>, Key>,
    busy: Busy,
    marked: Option<Marked>,
    metrics: QueueMetrics,
}

impl<K: Reconciled> Runner<K> {
    fn new(context: Arc<Context>, busy: Busy, work: Work) -> Self {
        let passes = context.settings.max_concurrent_syncs.of(K::KIND);
        Self {
            work,
            queue: WorkQueue::new(passes),
            metrics: context.metrics.queue(K::KIND, passes),
            passes: JoinSet::new(),
            delays: DelayQueue::new(),
            delayed: HashMap::new(),
            context,
            busy,
            marked: None,
        }
    }

    /// Puts an object into the queue.
    fn ask(&mut self, object: ObjectRef<K>) {
        // An object that is gone has nothing to be done for.
        if let Some(known) = pass::known::<K>(&object, &self.context) {
            let uid = known.meta().uid.as_deref().unwrap_or_default();
            let class = if K::memories(&self.context).has_submission(uid) {
                Class::Save
            } else if known.may_call(&self.context) {
                Class::Turn
            } else if known.is_start() {
                Class::Start
            } else {
                Class::Rest
            };
            self.push(object, class);
        }
    }

    fn push(&mut self, object: ObjectRef<K>, class: Class) {
        if self.queue.push(object, class, Instant::now()) {
            self.metrics.adds.inc();
        }
    }

    /// Drops what can be left to the next process. A save that failed is tried once more.
    fn leave(&mut self) {
        for object in std::mem::take(&mut self.delayed).into_keys() {
            self.ask(object);
        }
        self.queue.leave();
    }

    /// Begins as many passes as may run.
    fn begin_passes(&mut self, now: Instant) {
        while let Some((object, since)) = self.queue.pop(now) {
            self.metrics.waited.observe(now.saturating_duration_since(since).as_secs_f64());
            // Whatever it was to be looked at for is seen to now.
            if let Some(key) = self.delayed.remove(&object) {
                self.delays.remove(&key);
            }
            let Some(known) = pass::known::<K>(&object, &self.context) else {
                self.queue.done(&object, now);
                continue;
            };
            let context = Arc::clone(&self.context);
            let work = self.work.clone();
            self.passes.spawn(async move { (object, pass::pass::<K>(known, context, work).await) });
        }
        let (waiting, running) = self.queue.lengths();
        self.metrics.depth.set(saturating(waiting));
        self.metrics.active.set(saturating(running));
        if self.queue.is_idle() {
            self.marked = None;
        } else if self.marked.is_none() {
            self.marked = Some(self.busy.mark());
        }
    }

    /// Says what has to be done next; that it moves is for the passes to say.
    fn tell_work(&self) {
        if !self.queue.is_idle() {
            self.work.due();
        } else if let Some(next) = self.delays.peek() {
            self.work.due_at(self.delays.deadline(&next));
        } else {
            self.work.done();
        }
    }

    fn end_pass(&mut self, object: &ObjectRef<K>, again: Again, stopping: bool) {
        let now = Instant::now();
        match again {
            Again::Never => {}
            // Before the pass is done, so that it isn't taken for a start once more.
            Again::Save => self.push(object.clone(), Class::Save),
            Again::After(_) if stopping => {}
            Again::After(delay) => {
                let key = self.delays.insert(object.clone(), delay);
                self.delayed.insert(object.clone(), key);
            }
        }
        self.queue.done(object, now);
    }
}

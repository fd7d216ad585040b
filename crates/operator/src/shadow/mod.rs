//! Shadow mode: looks at every object, says what would be done for it, and changes nothing.
//!
//! Makes no pass: it asks `plan`, as a pass does, and where that has to look for something at AWS it looks too. Must
//! not hold the lease, so that it can run beside the controller that works. Invariant: nothing is written, neither to
//! AWS nor to the API server; the clients that it is given can't.

mod book;

use std::sync::Arc;

use emrcontainers_api::condition;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::context::{Context, Scopes};
use crate::health::Gate;
use crate::metrics::Kind;
use crate::pass::Reconciled;
use crate::scope::decide::Withheld;
use crate::timing;
use book::Book;

pub use crate::metrics::Decision;

/// What would be done, and about what.
pub type Verdict = (Decision, String);

/// A kind that can be judged without a pass.
pub trait Shadowed: Reconciled {
    /// The objects, as the watch has them.
    fn scopes(context: &Context) -> &Scopes<Self>;

    /// What a pass would do.
    fn judge(object: &Arc<Self>, context: &Context) -> impl Future<Output = Verdict> + Send;
}

/// Judges the objects that the streams name, and all of them now and then, until `stop`.
pub async fn run<A: Shadowed, B: Shadowed>(
    context: Arc<Context>,
    first: BoxStream<'static, ObjectRef<A>>,
    second: BoxStream<'static, ObjectRef<B>>,
    listed: Gate,
    stop: CancellationToken,
) {
    info!(
        "shadow mode: nothing is written; what would be done is told here and in emrcontainers_shadow_decisions"
    );
    let book = Arc::new(Book::default());
    count_on_scrape::<A, B>(&context, &book);
    let mut first = std::pin::pin!(paced(first, Arc::clone(&book)));
    let mut second = std::pin::pin!(paced(second, Arc::clone(&book)));
    // Nothing can be told of an object before it is known in whose name its calls are made.
    tokio::select! {
        () = stop.cancelled() => {}
        () = context.directory.known() => {}
    }
    while !stop.is_cancelled() {
        // The references of a run can't be judged before all clusters are known.
        if A::scopes(&context).are_listed() && B::scopes(&context).are_listed() {
            listed.open();
            sweep::<A>(&context, &book).await;
            sweep::<B>(&context, &book).await;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(()) = first.next() => {}
            Some(()) = second.next() => {}
            () = tokio::time::sleep(timing::SHADOW_SWEEP) => {}
        }
    }
    tell_all::<A>(&context, &book);
    tell_all::<B>(&context, &book);
}

/// Takes in all that is there, so that a list is one item and not thousands. What is named is judged anew: it has
/// changed, or who acts for it has.
fn paced<K: Shadowed>(changes: BoxStream<'static, ObjectRef<K>>, book: Arc<Book>) -> impl Stream<Item = ()> {
    let chunks = changes.ready_chunks(usize::from(u16::MAX));
    let doubt = move |objects: Vec<ObjectRef<K>>| {
        for object in objects {
            book.doubt(K::KIND, object.namespace.unwrap_or_default(), object.name);
        }
    };
    chunks.map(doubt).chain(stream::pending())
}

/// What is told of an object that nobody may act for.
pub fn withheld(withheld: Withheld) -> Verdict {
    match withheld {
        Withheld::UnknownNamespace => (Decision::Unknown, "its namespace isn't known yet".to_owned()),
        Withheld::UnknownMap(map) => {
            (Decision::Unknown, format!("the config map {} isn't known yet", map.name()))
        }
        Withheld::NoRole(why) => (Decision::Wait, format!("{}: {why}", condition::NO_ROLE_MESSAGE)),
        Withheld::Unfit(why) => (Decision::Wait, why),
    }
}

/// Judges the objects that have changed since they were judged, and those of which too little was known.
async fn sweep<K: Shadowed>(context: &Context, book: &Book) {
    let mut there = Vec::new();
    for object in K::scopes(context).filter(|_| true) {
        let namespace = object.namespace().unwrap_or_default().into_owned();
        let name = object.name_any();
        if K::stored(context, &namespace, &name).is_none() {
            continue;
        }
        there.push((namespace.clone(), name.clone()));
        let version = object.resource_version().unwrap_or_default().into_owned();
        if book.is_judged(K::KIND, &namespace, &name, &version) {
            continue;
        }
        let (decision, about) = K::judge(&object, context).await;
        if book.write(K::KIND, &namespace, &name, version, decision) {
            info!(
                kind = K::KIND.as_str(),
                namespace,
                object = name,
                decision = decision.as_str(),
                "would {}: {about}",
                decision.words()
            );
        }
    }
    book.keep(K::KIND, &there);
}

/// The counts of a kind, with the objects for which nothing will ever be done.
fn counts<K: Shadowed>(context: &Context, book: &Book) -> [(Decision, usize); Decision::ALL.len()] {
    let mut ended = 0;
    for scope in &K::scopes(context).0 {
        scope.store.each(|object| ended += usize::from(object.is_ok()));
    }
    Decision::ALL.map(|decision| {
        let judged = book.count(K::KIND, decision);
        (decision, if decision == Decision::Nothing { judged + ended } else { judged })
    })
}

fn tell_all<K: Shadowed>(context: &Context, book: &Book) {
    let counts = counts::<K>(context, book);
    let words: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(decision, count)| format!("{} {count}", decision.words()))
        .collect();
    let words = if words.is_empty() { "nothing is there".to_owned() } else { words.join(", ") };
    info!(kind = K::KIND.as_str(), "shadow mode ends; of this kind it would {words}");
}

fn count_on_scrape<A: Shadowed, B: Shadowed>(context: &Arc<Context>, book: &Arc<Book>) {
    let metrics = context.metrics.clone();
    let (context, book) = (Arc::downgrade(context), Arc::downgrade(book));
    metrics.on_scrape(move |metrics| {
        let (Some(context), Some(book)) = (context.upgrade(), book.upgrade()) else { return };
        let set = |kind: Kind, counts: [(Decision, usize); Decision::ALL.len()]| {
            for (decision, count) in counts {
                metrics.set_shadow_decisions(kind, decision, count);
            }
        };
        set(A::KIND, counts::<A>(&context, &book));
        set(B::KIND, counts::<B>(&context, &book));
    });
}

//! The job runs of one name, listed once for all who ask.
//!
//! Hundreds of objects that come back from a backup may have one `spec.name`, and each would read the same pages, one by one
//! within the quota. Must not decide which run is whose. Invariants: who asks gets a list that was begun no earlier than at
//! the time from which on it says what is asked; a list goes on when who asked for it gives up, so that many pages come to
//! their end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Client;
use super::error::{EmrError, UNKNOWN};
use super::model::{JobRun, JobRunFilter};
use super::operation::Operation;
use super::pool::Scope;
use crate::timing;

/// What was listed.
#[derive(Debug)]
pub struct NameList {
    /// The runs: all of them, or those that came before the error.
    pub runs: Vec<JobRun>,
    /// How the list ended.
    pub end: Result<(), EmrError>,
}

/// The lists under way, and the last ones.
#[derive(Clone, Debug, Default)]
pub struct NameLists(Arc<Mutex<HashMap<Key, Vec<Listing>>>>);

/// Whose runs: account and region, virtual cluster, name.
type Key = (Scope, String, String);

#[derive(Clone, Debug)]
struct Listing {
    begun: Instant,
    created_after: Option<Timestamp>,
    answer: watch::Receiver<Option<Arc<NameList>>>,
}

impl Listing {
    /// Whether it says all that a list would that is begun at that time, or later.
    fn serves(&self, from: Instant, created_after: Option<Timestamp>) -> bool {
        // `None` is less than any time: nothing is left out.
        let has_failed = self.answer.borrow().as_ref().is_some_and(|list| list.end.is_err());
        self.begun >= from && self.created_after <= created_after && !has_failed
    }
}

impl NameLists {
    /// The runs of a name that were created after a time; as listed by then, or at any time since `from`.
    pub async fn list(
        &self,
        client: Client,
        scope: &Scope,
        (virtual_cluster_id, name): (&str, &str),
        created_after: Option<Timestamp>,
        from: Instant,
    ) -> Arc<NameList> {
        let key = (scope.clone(), virtual_cluster_id.to_owned(), name.to_owned());
        let mut answer = self.find_or_begin(client, key, created_after, from);
        let list = answer.wait_for(Option::is_some).await;
        let list = list.ok().and_then(|list| list.clone());
        list.unwrap_or_else(|| Arc::new(NameList { runs: Vec::new(), end: Err(ended_without_an_answer()) }))
    }

    fn find_or_begin(
        &self,
        client: Client,
        key: Key,
        created_after: Option<Timestamp>,
        from: Instant,
    ) -> watch::Receiver<Option<Arc<NameList>>> {
        let mut lists = self.lock();
        let listings = lists.entry(key.clone()).or_default();
        // Of one that panicked nothing comes.
        listings.retain(|listing| listing.answer.has_changed().is_ok());
        if let Some(listing) = listings.iter().find(|listing| listing.serves(from, created_after)) {
            return listing.answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        let begun = Instant::now();
        listings.push(Listing { begun, created_after, answer: answer.clone() });
        let all = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let (_, virtual_cluster_id, name) = key.clone();
            let list = read(&client, virtual_cluster_id, name, created_after).await;
            let has_failed = list.end.is_err();
            // Nobody may be left who waits for it.
            tell.send_replace(Some(Arc::new(list)));
            if !has_failed {
                // Who gave up comes again.
                sleep(timing::NAME_LIST_KEPT).await;
            }
            if let Some(all) = all.upgrade() {
                Self(all).forget(&key, begun);
            }
        });
        answer
    }

    fn forget(&self, key: &Key, begun: Instant) {
        let mut lists = self.lock();
        if let Some(listings) = lists.get_mut(key) {
            listings.retain(|listing| listing.begun != begun);
            if listings.is_empty() {
                lists.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Listing>>> {
        // Consistent between statements: a panic of another thread doesn't break it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(
    client: &Client,
    virtual_cluster_id: String,
    name: String,
    created_after: Option<Timestamp>,
) -> NameList {
    let filter = JobRunFilter { virtual_cluster_id, name: Some(name), states: Vec::new(), created_after };
    let mut runs = Vec::new();
    let end = client.list_job_runs(&filter, u32::MAX, |run| runs.push(run)).await.map(drop);
    NameList { runs, end }
}

fn ended_without_an_answer() -> EmrError {
    EmrError::new(Operation::ListJobRuns, UNKNOWN, None, "the list ended without an answer")
}

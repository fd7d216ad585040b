//! Every version that an object has had since a recording began: what a client that watches sees.
//!
//! Must not: miss a version (a watch from a known resource version shows each write).

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures::{StreamExt, pin_mut};
use kube::Api;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use tokio::task::JoinHandle;

/// A recording; it ends when this is dropped.
pub struct History {
    versions: Arc<Mutex<Vec<DynamicObject>>>,
    task: JoinHandle<()>,
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl History {
    /// Records all versions of the object of that name from now on, whether it exists yet or not.
    pub async fn record(api: Api<DynamicObject>, name: &str) -> Result<Self> {
        let selector = format!("metadata.name={name}");
        let listed = api.list(&ListParams::default().fields(&selector)).await?;
        let since = listed.metadata.resource_version.context("a list has a resource version")?;
        let versions = Arc::new(Mutex::new(listed.items));
        let seen = Arc::clone(&versions);
        let params = WatchParams::default().fields(&selector).timeout(280);
        let task = tokio::spawn(async move {
            let Ok(stream) = api.watch(&params, &since).await else { return };
            pin_mut!(stream);
            while let Some(Ok(event)) = stream.next().await {
                if let WatchEvent::Added(object)
                | WatchEvent::Modified(object)
                | WatchEvent::Deleted(object) = event
                {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(object);
                }
            }
        });
        Ok(Self { versions, task })
    }

    /// The versions so far, the oldest first.
    pub fn versions(&self) -> Vec<DynamicObject> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The values of a string in the status, without repetitions; versions without it don't count.
    pub fn statuses(&self, field: &str) -> Vec<String> {
        let versions = self.versions();
        let mut values: Vec<String> =
            versions.iter().filter_map(|v| crate::objects::status(v, field)).map(str::to_owned).collect();
        values.dedup();
        values
    }
}

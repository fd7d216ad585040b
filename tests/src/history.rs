//! Every version that an object has had since a recording began: what a client that watches sees.
//!
//! Must not: miss a version (a watch from a known resource version shows each write).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures::{StreamExt, pin_mut};
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use kube_runtime::watcher::{self, Event, watcher};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::PATIENCE;
use crate::objects::status;
use crate::wait;

/// A recording; it ends when this is dropped.
pub struct History {
    api: Api<DynamicObject>,
    name: String,
    versions: Arc<Mutex<Vec<DynamicObject>>>,
    gone: Arc<AtomicBool>,
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
        let watched = api.clone();
        let gone = Arc::new(AtomicBool::new(false));
        let went = Arc::clone(&gone);
        let task = tokio::spawn(async move {
            let Ok(stream) = watched.watch(&params, &since).await else { return };
            pin_mut!(stream);
            while let Some(Ok(event)) = stream.next().await {
                let deleted = matches!(event, WatchEvent::Deleted(_));
                if let WatchEvent::Added(object)
                | WatchEvent::Modified(object)
                | WatchEvent::Deleted(object) = event
                {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(object);
                }
                went.store(deleted, Ordering::Release);
            }
        });
        Ok(Self { api, name: name.to_owned(), versions, gone, task })
    }

    /// The versions so far, the oldest first: up to the one that the API server has now, which this watch may get later
    /// than another.
    pub async fn versions(&self) -> Result<Vec<DynamicObject>> {
        let now = self.api.get_opt(&self.name).await?;
        let wanted = now.as_ref().map_or(0, version);
        wait::eventually(PATIENCE, "the recording should have the newest version", async || {
            let there = now.is_some() || self.gone.load(Ordering::Acquire);
            let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let complete = versions.last().map_or(now.is_none(), |last| there && version(last) >= wanted);
            Ok(Some(versions).filter(|_| complete))
        })
        .await
    }

    /// The values of a string in the status, without repetitions; versions without it don't count.
    pub async fn statuses(&self, field: &str) -> Result<Vec<String>> {
        let versions = self.versions().await?;
        let mut values: Vec<String> =
            versions.iter().filter_map(|v| crate::objects::status(v, field)).map(str::to_owned).collect();
        values.dedup();
        Ok(values)
    }
}

fn version(object: &DynamicObject) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// When a client that watches has first seen each state of each run.
pub struct Sightings {
    seen: Arc<Mutex<BTreeMap<(String, String), Instant>>>,
    task: JoinHandle<()>,
}

impl Drop for Sightings {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sightings {
    /// Watches all runs of a namespace from now on.
    pub fn record(api: Api<DynamicObject>) -> Self {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let into = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let stream = watcher(api, watcher::Config::default());
            pin_mut!(stream);
            while let Some(event) = stream.next().await {
                let Ok(Event::Apply(run) | Event::InitApply(run)) = event else { continue };
                let Some(state) = status(&run, "state") else { continue };
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                seen.entry((run.name_any(), state.to_owned())).or_insert_with(Instant::now);
            }
        });
        Self { seen, task }
    }

    /// When a run was seen in a state, if it was.
    pub fn of(&self, name: &str, state: &str) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&(name.to_owned(), state.to_owned())).copied()
    }
}

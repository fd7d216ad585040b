//! When the API server showed what: one watch of all JobRuns, on a thread of its own so that creating doesn't delay it.
//!
//! Must not: ask for single objects. Invariant: the first time counts, also after the watch had to start anew; of JobRuns
//! that aren't of the load only the changes are counted.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use futures::StreamExt;
use jiff::Timestamp;
use kube::core::{NotUsed, Object};
use kube::{Api, Client, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{Config, Event, watcher};
use serde::{Deserialize, Serialize};
use tests::control_plane::ControlPlane;
use tests::objects;
use tokio::runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::workload;

/// Only what is looked at is decoded.
type Run = Object<NotUsed, Status>;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Status {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    state: Option<String>,
}

/// A thread with a runtime, so that its tasks don't wait behind those of others.
pub(crate) struct Beside {
    pub(crate) handle: runtime::Handle,
    stop: CancellationToken,
}

impl Beside {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || runtime.block_on(stopped)).context("can't start a thread")?;
        Ok(Self { handle, stop })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What was seen of one JobRun, and when first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) id: Option<(String, Timestamp)>,
    pub(crate) running: Option<Timestamp>,
    /// The final state.
    pub(crate) end: Option<(String, Timestamp)>,
}

/// How far the JobRuns are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) known: usize,
    pub(crate) with_id: usize,
    /// RUNNING or ended.
    pub(crate) running: usize,
    pub(crate) ended: usize,
    /// Gone from the API server.
    pub(crate) gone: usize,
    /// Changes after the creation.
    pub(crate) writes: u64,
    /// How often the watch began; changes may be missed between two.
    pub(crate) begins: usize,
    pub(crate) error: Option<String>,
}

#[derive(Default)]
struct Board {
    runs: Mutex<HashMap<String, Seen>>,
    progress: watch::Sender<Progress>,
}

/// The watch.
pub(crate) struct Watching {
    board: Arc<Board>,
    _beside: Beside,
}

impl Watching {
    /// Begins; returns when the first list is there.
    pub(crate) async fn start(plane: &ControlPlane) -> Result<Self> {
        let beside = Beside::start("watching")?;
        let client = {
            // Its connections belong to the runtime that it is made in.
            let _entered = beside.handle.enter();
            plane.client()?
        };
        let board = Arc::<Board>::default();
        beside.handle.spawn(follow(client, Arc::clone(&board)));
        let watching = Self { board, _beside: beside };
        watching.progress().wait_for(|progress| progress.begins > 0).await?;
        Ok(watching)
    }

    /// How far it is, and how far it gets.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.board.progress.subscribe()
    }

    /// Everything seen so far, by JobRun.
    pub(crate) fn seen(&self) -> HashMap<String, Seen> {
        self.board.runs().clone()
    }
}

impl Board {
    fn runs(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, run: &Run, now: Timestamp) {
        if !run.name_any().starts_with(workload::PREFIX) {
            return;
        }
        let mut runs = self.runs();
        let known = runs.contains_key(&run.name_any());
        let seen = runs.entry(run.name_any()).or_default();
        let (had_id, ran, had_ended) = (seen.id.is_some(), seen.running.is_some(), seen.end.is_some());
        let status = run.status.clone().unwrap_or_default();
        if let (None, Some(id)) = (&seen.id, status.id) {
            seen.id = Some((id, now));
        }
        let state = status.state.unwrap_or_default();
        let ended = matches!(state.as_str(), "COMPLETED" | "FAILED" | "CANCELLED");
        if ended || state == "RUNNING" {
            seen.running.get_or_insert(now);
        }
        if ended && seen.end.is_none() {
            seen.end = Some((state, now));
        }
        self.progress.send_modify(|progress| {
            progress.known += usize::from(!known);
            progress.with_id += usize::from(!had_id && seen.id.is_some());
            progress.running += usize::from(!ran && seen.running.is_some());
            progress.ended += usize::from(!had_ended && seen.end.is_some());
            progress.writes += u64::from(known);
        });
    }
}

async fn follow(client: Client, board: Arc<Board>) {
    let api = Api::<Run>::all_with(client, &objects::resource("JobRun"));
    let mut events = pin!(watcher(api, Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let now = Timestamp::now();
        match event {
            Ok(Event::Apply(run)) if !run.name_any().starts_with(workload::PREFIX) => {
                board.progress.send_modify(|progress| progress.writes += 1);
            }
            Ok(Event::Apply(run) | Event::InitApply(run)) => board.note(&run, now),
            Ok(Event::InitDone) => board.progress.send_modify(|progress| progress.begins += 1),
            Ok(Event::Delete(_)) => board.progress.send_modify(|progress| progress.gone += 1),
            Ok(Event::Init) => {}
            Err(error) => board.progress.send_modify(|progress| progress.error = Some(error.to_string())),
        }
    }
}

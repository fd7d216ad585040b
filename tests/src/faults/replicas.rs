//! The operator's processes: struck down by plan, and started again when they end, as a kubelet does it.
//!
//! Must not: wait until one is ready, since they are struck while they start, too.
//! Invariant: at any time each replica has one process, or is about to get one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use emr_simulator::{Fault, FaultKind, Handle};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use super::counters::Counted;
use super::ends::{complaint, ended_badly, panics};
use super::family::Family;
use super::plan::{Blow, BlowKind, Timed};
use super::tally::Tally;
use super::truth::Wrong;
use crate::operator::{Builder, Operator};
use crate::process::Signal;
use crate::wait;

/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a blow waits for a run to be started: if nothing is to be started, it strikes anyway.
const START_WITHIN: Duration = Duration::from_secs(2);

/// All replicas.
pub struct Replicas {
    builder: Builder,
    directory: PathBuf,
    pub(super) leases: Api<Lease>,
    pub(super) tally: Tally,
    pub(super) state: Mutex<State>,
    truce: Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) running: Vec<Running>,
    /// The logs of all processes, those that have ended too.
    pub(super) logs: Vec<PathBuf>,
    wrong: Vec<Wrong>,
}

/// A process.
pub(super) struct Running {
    pub(super) operator: Operator,
    /// Its own, so that AWS's journal says who called.
    pub(super) access_key: String,
}

impl Replicas {
    /// Starts so many; their leases, if they need one, are among `leases`.
    pub async fn start(
        builder: Builder,
        number: usize,
        directory: PathBuf,
        leases: Api<Lease>,
        tally: Tally,
    ) -> Result<Self> {
        let (builder, state, truce) = (builder.without_waiting(), Mutex::default(), Mutex::default());
        let replicas = Self { builder, directory, leases, tally, state, truce };
        let mut state = replicas.state.lock().await;
        for index in 0..number {
            let running = replicas.spawn(&mut state, index).await?;
            state.running.push(running);
        }
        drop(state);
        Ok(replicas)
    }

    async fn spawn(&self, state: &mut State, index: usize) -> Result<Running> {
        let access_key = format!("PROCESS{}", state.logs.len());
        // As a pod, it keeps its identity, and with that its lease.
        let builder = self.builder.clone().environment("POD_NAME", &format!("replica-{index}"));
        let builder =
            builder.environment("POD_UID", "of-the-pod").environment("AWS_ACCESS_KEY_ID", &access_key);
        let operator = builder.start(&self.directory).await?;
        state.logs.push(operator.process().log_path().to_owned());
        Ok(Running { operator, access_key })
    }

    /// Starts what has ended, for ever.
    pub async fn keep_alive(&self) -> Result<()> {
        loop {
            sleep(LOOK_EVERY).await;
            let mut state = self.state.lock().await;
            for index in 0..state.running.len() {
                let ended =
                    state.running.get(index).filter(|running| !running.operator.process().is_running());
                if let Some(running) = ended {
                    let complaint = complaint(&running.operator);
                    state.wrong.extend(complaint);
                    self.replace(&mut state, index).await?;
                }
            }
        }
    }

    /// Strikes by plan.
    pub async fn suffer(&self, plan: &[Timed<Blow>], aws: &Handle) -> Result<()> {
        for Timed { wait, what } in plan {
            sleep(*wait).await;
            let truce = self.truce.lock().await;
            match what.kind {
                BlowKind::PauseLeader(pause) => self.pause_leader(pause, what.in_start, aws).await?,
                BlowKind::TakeLease => self.take_lease(aws).await?,
                BlowKind::Kill | BlowKind::Terminate => self.strike(*what, aws).await?,
            }
            drop(truce);
        }
        Ok(())
    }

    /// No process is struck as long as this is held: for what can only be felt by one that lives on.
    pub async fn truce(&self) -> MutexGuard<'_, ()> {
        self.truce.lock().await
    }

    async fn strike(&self, blow: Blow, aws: &Handle) -> Result<()> {
        let held = blow.in_start && hold_a_start(aws, START_WITHIN).await?;
        let mut state = self.state.lock().await;
        let operator = &state.running.get(blow.replica).context("there is no such replica")?.operator;
        if !operator.process().is_running() {
            // It is about to be started again.
            aws.release();
            return Ok(());
        }
        if blow.in_start {
            self.tally.note(Family::InStart, held);
        }
        if blow.kind == BlowKind::Terminate {
            operator.process().signal(Signal::TERM)?;
            // Only then, so that what it does with the answer is part of its end.
            aws.release();
            let complaint = ended_badly(operator).await?;
            state.wrong.extend(complaint);
            self.tally.note(Family::Terms, true);
        } else {
            operator.kill9().await?;
            aws.release();
            self.tally.note(Family::Kills, true);
        }
        self.replace(&mut state, blow.replica).await
    }

    async fn replace(&self, state: &mut State, index: usize) -> Result<()> {
        let next = self.spawn(state, index).await?;
        let place = state.running.get_mut(index).context("there is no such replica")?;
        let last = std::mem::replace(place, next);
        state.wrong.extend(panics(&last.operator));
        Ok(())
    }

    /// Asks all to end, which they must do well.
    pub async fn end(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        let mut wrong = Vec::new();
        for Running { operator, .. } in &state.running {
            // It may have ended this very moment.
            if operator.process().is_running() {
                operator.process().signal(Signal::TERM)?;
                wrong.extend(ended_badly(operator).await?);
            } else {
                wrong.extend(complaint(operator));
            }
            wrong.extend(panics(operator));
        }
        state.wrong.extend(wrong);
        Ok(())
    }

    /// How many processes there were.
    pub async fn started(&self) -> usize {
        self.state.lock().await.logs.len()
    }

    /// What those count that are there.
    pub async fn counted(&self) -> Result<Vec<Counted>> {
        let state = self.state.lock().await;
        let mut counted = Vec::new();
        for Running { operator, access_key } in &state.running {
            counted.push(Counted { access_key: access_key.clone(), metrics: operator.metrics().await? });
        }
        Ok(counted)
    }

    /// What they did that no process may do.
    pub async fn wrong(&self) -> Vec<Wrong> {
        self.state.lock().await.wrong.clone()
    }

    /// The ends of their logs.
    pub async fn words(&self) -> String {
        let state = self.state.lock().await;
        let tails = state.running.iter().map(|running| running.operator.process().log_tail(40));
        format!("the operator's log ends with\n{}", tails.collect::<String>())
    }

    /// What all logs say of an object, and where each process starts and stops.
    pub async fn said_of(&self, name: &str) -> Vec<String> {
        let state = self.state.lock().await;
        let logs = state.logs.iter().enumerate();
        let words = [format!("\"name\":\"{name}\""), "\"msg\":\"sta".to_owned(), "\"msg\":\"sto".to_owned()];
        let lines = logs.filter_map(|(index, log)| {
            let text = std::fs::read_to_string(log).ok()?;
            let lines = text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
            Some(lines.map(|line| format!("process {index}: {line}")).collect::<Vec<_>>())
        });
        lines.flatten().collect()
    }

    /// The objects of which a log says these words.
    pub async fn said_so_of(&self, words: &str) -> BTreeSet<String> {
        let state = self.state.lock().await;
        let logs = state.logs.iter().filter_map(|log| std::fs::read_to_string(log).ok());
        let names = |log: String| -> Vec<String> {
            let lines = log.lines().filter(|line| line.contains(words));
            let read = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            read.filter_map(|line| line.get("name")?.as_str().map(str::to_owned)).collect()
        };
        logs.flat_map(names).collect()
    }
}

/// Waits until a run was started and AWS keeps the answer; false when none is started in time.
pub(super) async fn hold_a_start(aws: &Handle, within: Duration) -> Result<bool> {
    let fault = aws.add_fault(Fault { count: Some(1), ..Fault::new("StartJobRun", FaultKind::HoldReply) })?;
    let held = wait::eventually(within, "a reply should be held", async || {
        Ok((aws.snapshot().held_replies > 0).then_some(()))
    });
    let held = held.await.is_ok();
    aws.remove_fault(fault);
    Ok(held)
}

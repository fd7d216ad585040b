//! The operator's processes: struck down by plan, and started again when they end, as a kubelet does it.
//!
//! Must not: wait until one is ready, since they are struck while they start, too.
//! Invariant: at any time each replica has one process, or is about to get one.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use emr_simulator::{Fault, FaultKind, Handle};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::plan::{Blow, BlowKind, Timed};
use super::truth::{Kind, Wrong};
use crate::operator::{Builder, Operator};
use crate::port;
use crate::process::{KILLED, Signal};
use crate::wait;

/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a blow waits for a run to be started: if nothing is to be started, it strikes anyway.
const START_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take until one of the replicas leads: a lease may have to run out first.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// How long the one that wakes may take to end: as long as it may wait for its last requests.
const DEPOSED_WITHIN: Duration = Duration::from_secs(20);
/// How long metrics may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A kubelet kills after 10 s; a busy machine is given a little more.
const TERM_WITHIN: Duration = Duration::from_secs(15);
/// The exit code that a shell reports for a process that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;

/// What befell the processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blows {
    /// SIGKILLs.
    pub kills: usize,
    /// SIGTERMs.
    pub terms: usize,
    /// Leaders that stood still until their lease was gone.
    pub pauses: usize,
    /// Processes that ended by themselves because their lease was gone.
    pub deposed: usize,
    /// Of all blows, those between the start of a run and its answer.
    pub in_start: usize,
}

/// All replicas.
pub struct Replicas {
    builder: Builder,
    directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Vec<Operator>,
    blows: Blows,
    wrong: Vec<Wrong>,
}

impl Replicas {
    /// Starts so many.
    pub async fn start(builder: Builder, number: usize, directory: PathBuf) -> Result<Self> {
        let replicas = Self { builder: builder.without_waiting(), directory, state: Mutex::default() };
        for index in 0..number {
            let operator = replicas.spawn(index).await?;
            replicas.state.lock().await.running.push(operator);
        }
        Ok(replicas)
    }

    async fn spawn(&self, index: usize) -> Result<Operator> {
        // As a pod, it keeps its identity, and with that its lease.
        let builder = self.builder.clone().environment("POD_NAME", &format!("replica-{index}"));
        builder.environment("POD_UID", "of-the-pod").start(&self.directory).await
    }

    /// Starts what has ended, for ever.
    pub async fn keep_alive(&self) -> Result<()> {
        loop {
            sleep(LOOK_EVERY).await;
            let mut state = self.state.lock().await;
            for index in 0..state.running.len() {
                let ended = state.running.get(index).filter(|operator| !operator.process().is_running());
                if let Some(operator) = ended {
                    let complaint = complaint(operator);
                    state.blows.deposed += usize::from(complaint.is_none());
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
            self.strike(*what, aws).await?;
        }
        Ok(())
    }

    async fn strike(&self, blow: Blow, aws: &Handle) -> Result<()> {
        let within = match blow.kind {
            BlowKind::PauseLeader(_) => LEADER_WITHIN,
            BlowKind::Kill | BlowKind::Terminate => START_WITHIN,
        };
        let held = if blow.in_start { hold_a_start(aws, within).await? } else { false };
        let in_start = usize::from(held);
        let mut state = self.state.lock().await;
        state.blows.in_start += in_start;
        let operator = state.running.get(blow.replica).context("there is no such replica")?;
        if !operator.process().is_running() {
            // It is about to be started again.
            aws.release();
            return Ok(());
        }
        match blow.kind {
            BlowKind::Kill => {
                operator.kill9().await?;
                state.blows.kills += 1;
            }
            BlowKind::Terminate => {
                operator.process().signal(Signal::TERM)?;
                // Only then, so that what it does with the answer is part of its end.
                aws.release();
                let complaint = ended_badly(operator).await?;
                state.wrong.extend(complaint);
                state.blows.terms += 1;
            }
            BlowKind::PauseLeader(pause) => {
                drop(state);
                return self.pause_leader(pause, aws).await;
            }
        }
        aws.release();
        self.replace(&mut state, blow.replica).await
    }

    /// Lets the leader stand still. Nothing is done if nobody leads, which other faults may bring about.
    async fn pause_leader(&self, pause: Duration, aws: &Handle) -> Result<()> {
        let leader = wait::eventually(LEADER_WITHIN, "one should lead", async || self.leader().await).await;
        let state = self.state.lock().await;
        let paused = match leader.ok().and_then(|index| state.running.get(index)) {
            Some(operator) if operator.process().is_running() => operator.process().pid(),
            _ => return Ok(()),
        };
        let find = |state: &State| state.running.iter().position(|running| running.process().pid() == paused);
        signal(&state, find(&state), Signal::STOP)?;
        drop(state);
        // The answer to its start, if it waits for one, is there when it wakes.
        aws.release();
        sleep(pause).await;
        let mut state = self.state.lock().await;
        state.blows.pauses += 1;
        let woken = find(&state);
        signal(&state, woken, Signal::CONT)?;
        drop(state);
        // It has to see that its lease is gone, and to end; whether it did is counted where ends are.
        let ended = wait::eventually(DEPOSED_WITHIN, "the one that woke should end", async || {
            let state = self.state.lock().await;
            Ok(find(&state).is_none().then_some(()))
        });
        drop(ended.await);
        Ok(())
    }

    /// Which one leads.
    async fn leader(&self) -> Result<Option<usize>> {
        let state = self.state.lock().await;
        for (index, operator) in state.running.iter().enumerate() {
            // One that starts or stands still doesn't answer.
            let metrics = timeout(ANSWER_WITHIN, operator.metrics()).await;
            if let Ok(Ok(metrics)) = metrics
                && metrics.sum("emrcontainers_leader", &[]) > 0.5
            {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    async fn replace(&self, state: &mut State, index: usize) -> Result<()> {
        let next = self.spawn(index).await?;
        let place = state.running.get_mut(index).context("there is no such replica")?;
        let last = std::mem::replace(place, next);
        state.wrong.extend(panics(&last));
        Ok(())
    }

    /// Asks all to end, which they must do well.
    pub async fn end(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        let mut wrong = Vec::new();
        for operator in &state.running {
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

    /// What befell them.
    pub async fn blows(&self) -> Blows {
        self.state.lock().await.blows
    }

    /// What they did that no process may do.
    pub async fn wrong(&self) -> Vec<Wrong> {
        self.state.lock().await.wrong.clone()
    }

    /// The ends of their logs.
    pub async fn words(&self) -> String {
        let state = self.state.lock().await;
        let tails = state.running.iter().map(|operator| operator.process().log_tail(40));
        format!("the operator's log ends with\n{}", tails.collect::<String>())
    }
}

fn signal(state: &State, index: Option<usize>, signal: Signal) -> Result<()> {
    match index.and_then(|index| state.running.get(index)) {
        Some(operator) if operator.process().is_running() => operator.process().signal(signal),
        _ => Ok(()),
    }
}

/// Waits until a run was started and AWS keeps the answer; false when none is started in time.
async fn hold_a_start(aws: &Handle, within: Duration) -> Result<bool> {
    let fault = aws.add_fault(Fault { count: Some(1), ..Fault::new("StartJobRun", FaultKind::HoldReply) })?;
    let held = wait::eventually(within, "a reply should be held", async || {
        Ok((aws.snapshot().held_replies > 0).then_some(()))
    });
    let held = held.await.is_ok();
    aws.remove_fault(fault);
    Ok(held)
}

/// What is wrong with the end of a process that got SIGTERM.
async fn ended_badly(operator: &Operator) -> Result<Option<Wrong>> {
    let code = operator.process().wait_exit(TERM_WITHIN).await?;
    // One that had hardly begun doesn't know the signal yet.
    let allowed = code == 0 || code == TERMINATED;
    let what = || format!("SIGTERM gave the code {code}: {}", operator.process().log_tail(10));
    Ok((!allowed).then(|| Wrong { kind: Kind::Process, what: what() }))
}

/// Why a process may not have ended as it did.
fn complaint(operator: &Operator) -> Option<Wrong> {
    let log = operator.log();
    let code = operator.process().exit_code().unwrap_or(KILLED);
    let allowed = port::was_taken(&log) || (code == 1 && log.contains("the lease is lost"));
    let what =
        || format!("a process ended by itself with the code {code}: {}", operator.process().log_tail(10));
    (!allowed).then(|| Wrong { kind: Kind::Process, what: what() })
}

/// What a process says of its own bugs.
fn panics(operator: &Operator) -> Option<Wrong> {
    let log = operator.log();
    let line = log.lines().find(|line| line.contains("panicked"))?;
    Some(Wrong { kind: Kind::Process, what: format!("a panic: {line}") })
}

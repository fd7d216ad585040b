//! Blows against the replica that leads: it stands still until its lease is gone, or somebody takes the lease away.
//!
//! Must not: leave the lease with somebody who doesn't exist.
//! Invariant: the one that leads is found by what it says of itself, and known by its process from then on.

use std::time::Duration;

use anyhow::Result;
use emr_simulator::Handle;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::family::Family;
use super::replicas::{Replicas, State, hold_a_start};
use super::world::persist;
use crate::process::Signal;
use crate::wait;

/// The name of the operator's lease.
const LEASE: &str = "ack-emrcontainers.services.k8s.aws";
/// How long it may take until one of the replicas leads: a lease may have to run out first.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// How long one that has lost its lease may take to end: as long as it may wait for its last requests.
const DEPOSED_WITHIN: Duration = Duration::from_secs(20);
/// How long metrics may take.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

impl Replicas {
    /// Lets the leader stand still. Nothing is done if nobody leads, which other faults may bring about.
    pub(super) async fn pause_leader(&self, pause: Duration, in_start: bool, aws: &Handle) -> Result<()> {
        if in_start {
            hold_a_start(aws, LEADER_WITHIN).await?;
        }
        let leader = self.leader().await;
        let state = self.state.lock().await;
        let stopped = signal(&state, leader, Signal::STOP)?;
        drop(state);
        // The answer to its start, if it waits for one, is there when it wakes.
        aws.release();
        if stopped {
            sleep(pause).await;
            let state = self.state.lock().await;
            signal(&state, leader, Signal::CONT)?;
            drop(state);
            let ended = self.has_ended(leader).await;
            self.tally.note(Family::PausedLeader, ended);
        }
        Ok(())
    }

    /// Gives the lease to somebody else while AWS keeps the answer to the leader's start.
    pub(super) async fn take_lease(&self, aws: &Handle) -> Result<()> {
        let held = hold_a_start(aws, LEADER_WITHIN).await?;
        let leader = self.leader().await;
        if leader.is_some() {
            self.set_holder("somebody-else").await?;
            let ended = self.has_ended(leader).await;
            self.tally.note(Family::LostLease, held && ended);
            self.set_holder("").await?;
        }
        aws.release();
        Ok(())
    }

    async fn set_holder(&self, holder: &str) -> Result<()> {
        let lease = json!({"spec": {"holderIdentity": holder}});
        persist("the lease should change hands", async || {
            let patch = Patch::Merge(&lease);
            Ok(self.leases.patch(LEASE, &PatchParams::default(), &patch).await.map(drop)?)
        })
        .await
    }

    /// Whether a process that has lost its lease ends by itself; why it did is looked at where ends are.
    async fn has_ended(&self, pid: Option<u32>) -> bool {
        let ended = wait::eventually(DEPOSED_WITHIN, "the one that led should end", async || {
            let state = self.state.lock().await;
            Ok(state
                .running
                .iter()
                .all(|running| Some(running.operator.process().pid()) != pid)
                .then_some(()))
        });
        ended.await.is_ok()
    }

    /// The process that leads, once one does.
    async fn leader(&self) -> Option<u32> {
        let leader = wait::eventually(LEADER_WITHIN, "one should lead", async || {
            let state = self.state.lock().await;
            for running in &state.running {
                // One that starts or stands still doesn't answer.
                let metrics = timeout(ANSWER_WITHIN, running.operator.metrics()).await;
                if let Ok(Ok(metrics)) = metrics
                    && metrics.sum("emrcontainers_leader", &[]) > 0.5
                {
                    return Ok(Some(running.operator.process().pid()));
                }
            }
            Ok(None)
        });
        leader.await.ok()
    }
}

/// Signals a process; false when it isn't there any more.
fn signal(state: &State, pid: Option<u32>, signal: Signal) -> Result<bool> {
    let mut processes = state.running.iter().map(|running| running.operator.process());
    match processes.find(|process| Some(process.pid()) == pid && process.is_running()) {
        Some(process) => process.signal(signal).map(|()| true),
        None => Ok(false),
    }
}

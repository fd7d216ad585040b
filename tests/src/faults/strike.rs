//! Carries out what befalls the clock, AWS and the API server, and looks whether it is felt.
//!
//! What isn't felt in its time lasts longer, or comes again, since a fault that nobody notices proves nothing.
//! Must not: leave anything broken behind. Invariant: a lane does one thing after the other, in the order of the plan.

use std::time::Duration;

use anyhow::Result;
use emr_simulator::Fault;
use jiff::SignedDuration;
use tokio::time::sleep;

use super::evidence::{self, Journal, has_grown, seen};
use super::family::Family;
use super::plan::{Jump, Outage, OutageKind, Timed, Trouble};
use super::world::{BINDING, World};
use crate::manifest;
use crate::process::Signal;

/// How much longer than planned something may last until it is felt.
const FELT_WITHIN: Duration = Duration::from_secs(6);
/// The same for what is felt when a watch is tried again, which is done ever later.
const WATCH_WITHIN: Duration = Duration::from_secs(20);
/// How often an outage is brought about that isn't felt.
const TRIES: usize = 3;
/// The words of the policy.
pub const REFUSAL: &str = "statuses are frozen";

/// The clock is set wrong, and right again.
pub async fn clock(world: &World<'_>, plan: &[Timed<Jump>]) -> Result<()> {
    for Timed { wait, what } in plan {
        sleep(*wait).await;
        let journal = Journal::open(world);
        world.clock.set(what.offset)?;
        sleep(what.lasting).await;
        let felt = seen(FELT_WITHIN, async || journal.has_jumped(*what)).await;
        world.clock.set(SignedDuration::ZERO)?;
        world.tally.note(Family::ClockJumps, felt);
    }
    Ok(())
}

/// What AWS does wrong.
pub async fn aws(world: &World<'_>, plan: &[Timed<Trouble>]) -> Result<()> {
    for Timed { wait, what } in plan {
        sleep(*wait).await;
        let outlasts = what.family == Family::Timeouts;
        let truce = if outlasts { Some(world.replicas.truce().await) } else { None };
        let (journal, before) = (Journal::open(world), evidence::unanswered(&world.replicas).await);
        let fault = Fault::new(what.operation, what.kind);
        let delay_ms = what.delay.as_millis().try_into()?;
        let id = world.simulator.add_fault(Fault { probability: what.share, delay_ms, ..fault })?;
        sleep(what.lasting).await;
        let felt = seen(FELT_WITHIN, async || {
            journal.has_struck(what)
                && (!outlasts || has_grown(&before, &evidence::unanswered(&world.replicas).await))
        });
        let felt = felt.await;
        world.simulator.remove_fault(id);
        drop(truce);
        world.tally.note(what.family, felt);
    }
    Ok(())
}

/// What befalls the API server.
pub async fn api(world: &World<'_>, plan: &[Timed<Outage>]) -> Result<()> {
    for Timed { wait, what } in plan {
        sleep(*wait).await;
        for _ in 0..TRIES {
            let felt = outage(world, *what).await?;
            world.tally.note(what.kind.family(), felt);
            if felt {
                break;
            }
        }
    }
    Ok(())
}

/// Brings an outage about, and says whether it was felt.
async fn outage(world: &World<'_>, Outage { kind, lasting }: Outage) -> Result<bool> {
    // Only a watch that was there before can be told that it is too old.
    let truce = if kind == OutageKind::Compact { Some(world.replicas.truce().await) } else { None };
    if truce.is_some() {
        evidence::watches(&world.replicas).await;
    }
    if kind == OutageKind::Freeze {
        evidence::works(&world.replicas).await;
    }
    let before = evidence::of_outage(&world.replicas, kind).await;
    let is_felt = async || has_grown(&before, &evidence::of_outage(&world.replicas, kind).await);
    begin(world, kind).await?;
    sleep(lasting).await;
    let felt = match kind {
        OutageKind::Freeze | OutageKind::Compact => {
            end(world, kind).await?;
            let within = if kind == OutageKind::Compact { WATCH_WITHIN } else { FELT_WITHIN };
            seen(within, is_felt).await
        }
        OutageKind::Crash | OutageKind::LongCrash | OutageKind::Rights | OutageKind::StatusWrites => {
            let felt = seen(FELT_WITHIN, is_felt).await;
            end(world, kind).await?;
            felt
        }
    };
    drop(truce);
    Ok(felt)
}

async fn begin(world: &World<'_>, kind: OutageKind) -> Result<()> {
    match kind {
        OutageKind::Freeze => world.plane.signal_api_server(Signal::STOP),
        OutageKind::Crash | OutageKind::LongCrash => world.plane.stop_api_server().await,
        OutageKind::Compact => {
            world.plane.stop_api_server().await?;
            world.plane.compact_etcd().await
        }
        OutageKind::Rights => world.remove(BINDING).await,
        OutageKind::StatusWrites => world.apply(&frozen_statuses(world.namespace.name())).await,
    }
}

async fn end(world: &World<'_>, kind: OutageKind) -> Result<()> {
    match kind {
        OutageKind::Freeze => world.plane.signal_api_server(Signal::CONT),
        OutageKind::Crash | OutageKind::LongCrash | OutageKind::Compact => {
            world.plane.start_api_server().await
        }
        OutageKind::Rights => world.apply(BINDING).await,
        OutageKind::StatusWrites => world.remove(&frozen_statuses(world.namespace.name())).await,
    }
}

/// Refuses every write of a status in a namespace.
fn frozen_statuses(namespace: &str) -> String {
    manifest::policy(namespace, "jobruns/status, virtualclusters/status", "false", REFUSAL)
}

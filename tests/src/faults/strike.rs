//! Carries out what befalls AWS and the API server.
//!
//! Must not: leave anything broken behind. Invariant: a lane does one thing after the other, in the order of the plan.

use anyhow::Result;
use emr_simulator::{Fault, Handle};
use tokio::time::sleep;

use super::plan::{Outage, Timed, Trouble};
use super::world::World;

/// What AWS does wrong.
pub async fn aws(aws: &Handle, plan: &[Timed<Trouble>]) -> Result<()> {
    for Timed { wait, what } in plan {
        sleep(*wait).await;
        let fault = Fault::new(what.operation, what.kind);
        let id = aws.add_fault(Fault { probability: what.share, ..fault })?;
        sleep(what.lasting).await;
        aws.remove_fault(id);
    }
    Ok(())
}

/// What befalls the API server.
pub async fn api(_world: &World<'_>, plan: &[Timed<Outage>]) -> Result<()> {
    for Timed { wait, what } in plan {
        sleep(*wait).await;
        match *what {}
    }
    Ok(())
}

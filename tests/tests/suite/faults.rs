//! Rounds of faults, each with a fresh seed: whatever goes wrong, every run is started once and every status is true.
//!
//! Every family (but short outages, where there is a longer one) strikes in one of them and must have been felt. `make
//! faults` runs many more and longer rounds.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::control_plane::{ControlPlane, shared};
use tests::faults::{self, Family, Shape};

async fn round(plane: &ControlPlane, families: &[Family]) -> Result<()> {
    let seed = faults::seed()?;
    println!("{}={seed}", faults::SEED_VARIABLE);
    plane.install_crds().await?;
    let shape = Shape {
        runs: 40,
        length: Duration::from_secs(4),
        // Longer than the operator would hold on to a lease.
        long_outage: Duration::from_secs(12),
        families: families.iter().copied().collect(),
    };
    let figures = faults::passes(plane, seed, &shape).await?;
    println!("{figures}");
    let unfelt = figures.unfelt(&shape.families);
    ensure!(unfelt.is_empty(), "{}={seed}: nobody felt {unfelt:?}:\n{figures}", faults::SEED_VARIABLE);
    Ok(())
}

#[tokio::test]
async fn kills_and_lost_replies_start_no_run_twice_and_lose_none() -> Result<()> {
    round(
        shared().await?,
        &[Family::Kills, Family::InStart, Family::LostReplies, Family::LateLists, Family::Deletions],
    )
    .await
}

#[tokio::test]
async fn errors_and_hanging_answers_of_aws_start_no_run_twice_and_lose_none() -> Result<()> {
    let families = [Family::Terms, Family::AwsErrors, Family::Hangs, Family::Timeouts, Family::Deletions];
    round(shared().await?, &families).await
}

#[tokio::test]
async fn a_clock_that_jumps_starts_no_run_twice_and_loses_none() -> Result<()> {
    round(shared().await?, &[Family::Kills, Family::ClockJumps, Family::Deletions]).await
}

#[tokio::test]
async fn rights_and_statuses_that_are_withheld_for_a_while_lose_nothing() -> Result<()> {
    round(shared().await?, &[Family::Kills, Family::Rights, Family::StatusWrites, Family::Deletions]).await
}

#[tokio::test]
async fn an_api_server_that_goes_and_comes_back_loses_nothing() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let families = [Family::Freezes, Family::LongOutages, Family::Compactions, Family::Deletions];
    round(&plane, &families).await
}

#[tokio::test]
async fn a_leader_that_lost_its_lease_asleep_or_in_a_start_starts_no_run_twice() -> Result<()> {
    round(shared().await?, &[Family::PausedLeader, Family::LostLease, Family::Deletions]).await
}

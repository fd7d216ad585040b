//! Rounds of faults, each with a fresh seed: whatever goes wrong, every run is started once and every status is true.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::control_plane::{ControlPlane, shared};
use tests::faults::{self, Family, Figures, Shape};

/// Short enough for every run of the suites; `make faults` runs hundreds of longer ones.
async fn round(plane: &ControlPlane, families: &[Family]) -> Result<Figures> {
    let seed = faults::seed()?;
    println!("{}={seed}", faults::SEED_VARIABLE);
    plane.install_crds().await?;
    let families = families.iter().copied().collect();
    let shape = Shape { runs: 40, length: Duration::from_secs(6), families };
    let figures = faults::passes(plane, seed, &shape).await?;
    println!("{figures}");
    Ok(figures)
}

#[tokio::test]
async fn kills_and_lost_replies_start_no_run_twice_and_lose_none() -> Result<()> {
    let figures = round(shared().await?, &[Family::Kills, Family::LostReplies]).await?;
    ensure!(figures.kills > 1, "hardly anything went wrong:\n{figures}");
    Ok(())
}

#[tokio::test]
async fn errors_and_hanging_answers_of_aws_start_no_run_twice_and_lose_none() -> Result<()> {
    let families = [Family::Terms, Family::AwsErrors, Family::Hangs, Family::Deletions];
    let figures = round(shared().await?, &families).await?;
    ensure!(figures.terms > 1, "hardly anything went wrong:\n{figures}");
    Ok(())
}

#[tokio::test]
async fn rights_and_statuses_that_are_withheld_for_a_while_lose_nothing() -> Result<()> {
    let figures =
        round(shared().await?, &[Family::Kills, Family::Rights, Family::StatusWrites, Family::Deletions])
            .await?;
    ensure!(figures.rights + figures.status_writes > 0, "hardly anything went wrong:\n{figures}");
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_goes_and_comes_back_loses_nothing() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let figures =
        round(&plane, &[Family::Terms, Family::Outages, Family::Compactions, Family::Deletions]).await?;
    ensure!(figures.outages > 0, "hardly anything went wrong:\n{figures}");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_wakes_when_its_lease_is_gone_starts_no_run_twice() -> Result<()> {
    let figures = round(shared().await?, &[Family::PausedLeader, Family::Deletions]).await?;
    ensure!(figures.pauses == 1 && figures.deposed == 1, "it woke and went on:\n{figures}");
    Ok(())
}

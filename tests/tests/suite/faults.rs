//! Rounds of faults, each with a fresh seed: whatever goes wrong, every run is started once and every status is true.

use std::time::Duration;

use anyhow::Result;
use tests::control_plane::shared;
use tests::faults::{self, Family, Figures, Shape};

/// Short enough for every run of the suites; `make faults` runs hundreds of longer ones.
async fn round(families: &[Family]) -> Result<Figures> {
    let seed = faults::seed()?;
    println!("{}={seed}", faults::SEED_VARIABLE);
    let plane = shared().await?;
    plane.install_crds().await?;
    let families = families.iter().copied().collect();
    let shape = Shape { runs: 40, length: Duration::from_secs(6), families };
    let figures = faults::passes(plane, seed, &shape).await?;
    println!("{figures}");
    Ok(figures)
}

#[tokio::test]
async fn kills_and_lost_replies_start_no_run_twice_and_lose_none() -> Result<()> {
    let figures = round(&[Family::Kills, Family::LostReplies]).await?;
    anyhow::ensure!(figures.kills > 3 && figures.runs == 40, "hardly anything went wrong:\n{figures}");
    Ok(())
}

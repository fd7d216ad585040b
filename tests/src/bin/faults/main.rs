//! Rounds of faults until a number of kills is reached: what happened, what is wrong, and the seeds that show it again.
//!
//! Must not: know what a fault is; [`tests::faults`] does.
//! Invariant: the exit code is 0 only when nothing is wrong in any round.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tests::control_plane::ControlPlane;
use tests::faults::{self, Family, Figures, Shape};

/// So many rounds may break off because the machine is too slow for the API server's own deadlines; they count for nothing.
const MAY_BREAK_OFF: usize = 3;

/// Lets everything go wrong while runs go, and checks that each was started once and that every status is true.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Options {
    /// Rounds until the operator was killed so often
    #[arg(long, default_value_t = 1000)]
    kills: usize,
    /// At most so many rounds
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    rounds: usize,
    /// The one round of this seed
    #[arg(long, env = faults::SEED_VARIABLE)]
    seed: Option<u64>,
    /// JobRuns of a round
    #[arg(long, default_value_t = 120)]
    runs: usize,
    /// Seconds that the faults of a round last
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Seconds of an outage of the API server that is a long one
    #[arg(long, default_value_t = 60)]
    long_outage_seconds: u64,
    /// What goes wrong in each round, separated by commas; kills and some of the rest, by seed, by default
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Family>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Options::parse()).await {
        Ok(figures) if figures.failing.is_empty() => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!(
                "failed: {}=<seed> and the same arguments run the round of a seed again",
                faults::SEED_VARIABLE
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<Figures> {
    let mut plane = plane().await?;
    let (mut figures, mut broken_off) = (Figures::default(), 0);
    let rounds = if options.seed.is_some() { 1 } else { options.rounds };
    while figures.rounds < rounds
        && (figures.fault(Family::Kills).struck < options.kills || options.seed.is_some())
    {
        let seed = options.seed.unwrap_or_else(rand::random);
        let only = &options.only;
        let families = if only.is_empty() { Family::some(seed) } else { only.iter().copied().collect() };
        let shape = Shape {
            runs: options.runs,
            length: Duration::from_secs(options.seconds),
            long_outage: Duration::from_secs(options.long_outage_seconds),
            families,
        };
        let round = faults::round(&plane, seed, &shape).await;
        let round = match round.with_context(|| format!("{}={seed}", faults::SEED_VARIABLE)) {
            Ok(round) => round,
            Err(error) if options.seed.is_none() && broken_off < MAY_BREAK_OFF => {
                broken_off += 1;
                eprintln!("a round broke off and counts for nothing: {error:#}");
                plane = self::plane().await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        eprintln!(
            "round {}: seed {seed}, {} kills, {} wrong, not felt: {:?}",
            figures.rounds + 1,
            round.fault(Family::Kills).struck,
            round.wrong.len(),
            round.unfelt(&round.faults.keys().copied().collect()),
        );
        for wrong in &round.wrong {
            eprintln!("  {wrong}");
        }
        eprint!("{}", round.words);
        figures.add(round);
    }
    print!("{figures}");
    if broken_off > 0 {
        println!("{broken_off} rounds broke off besides.");
    }
    Ok(figures)
}

async fn plane() -> Result<ControlPlane> {
    let plane = ControlPlane::start().await?;
    plane.install_crds().await?;
    Ok(plane)
}

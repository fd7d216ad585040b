//! What `make demo`, `make up` and `make down` run: the whole thing on this machine, without an AWS account.
//!
//! Must not: pass when a sample is not in the state that its annotation expects.
//! Invariant: `run` leaves nothing behind; what `up` starts ends with `down`.

mod background;
mod samples;
mod show;
mod stack;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tests::control_plane::repository;

#[derive(Parser)]
#[command(about = "A control plane, a simulated AWS and the operator, with sample jobs")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the samples to their end, then stop everything
    Run {
        /// Folder of YAML files with the samples
        #[arg(long, default_value_os_t = repository().join("manifests/samples"))]
        samples: PathBuf,
        /// Give up after so long
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        deadline_seconds: u64,
    },
    /// Start everything and leave it running
    Up(Place),
    /// Stop what `up` started
    Down(Place),
    /// What `up` starts in the background
    #[command(hide = true)]
    Serve(Place),
}

#[derive(clap::Args)]
struct Place {
    /// Folder of the pid, the log and the kubeconfig of what runs
    #[arg(long, default_value_os_t = repository().join(".run"))]
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { samples, deadline_seconds } => {
            samples::run(&samples, Duration::from_secs(deadline_seconds)).await
        }
        Command::Up(place) => background::up(place.folder).await,
        Command::Down(place) => background::down(place.folder).await,
        Command::Serve(place) => background::serve(place.folder).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n{} {error:#}", show::red("failed:"));
            ExitCode::FAILURE
        }
    }
}

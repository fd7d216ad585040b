//! The load test: how a controller of this CRD group behaves with many JobRuns, on a real API server and a simulated AWS.
//!
//! It knows no controller from the inside: it starts a command line, creates objects, watches them, and compares what
//! the API server shows with what the simulator did and was asked. So two controllers can be compared on one machine.
//!
//! Must not: judge. It prints figures, and fails only when the load could not be run or when a limit given on the
//! command line is passed.
//! Invariant: all times are of one clock, because the simulator, the creating and the watching are in one process.

mod backlog;
mod controllers;
mod expect;
mod figures;
mod machine;
mod options;
mod phase;
mod quota;
mod removal;
mod report;
mod restart;
mod rig;
mod run;
mod standard;
mod watching;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use crate::options::{Command, Options};

#[tokio::main]
async fn main() -> ExitCode {
    let Options { standard, command, scenario } = Options::parse();
    let scenario = scenario.completed();
    let command = Command::of(&command, &scenario);
    let ended = match (command, standard) {
        (Ok(command), Some(directory)) => standard::run(&command, &scenario, &directory).await,
        (Ok(command), None) => run::one(&command, &scenario).await,
        (Err(error), _) => Err(error),
    };
    match ended {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            for complaint in complaints {
                eprintln!("failed: {complaint}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! The load test itself, small: it runs to its end, its figures hold together, and a limit that is passed fails it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::process;

/// With two JobRuns for each of two clusters, and no StartJobRun answered at the first try in some.
const SMALL: [&str; 12] = [
    "--runs",
    "4",
    "--clusters",
    "2",
    "--namespaces",
    "2",
    "--job-time",
    "2s",
    "--idle-seconds",
    "1",
    "--lose",
    "0.3",
];

fn load(arguments: &[&str]) -> Command {
    let mut load = Command::new(env!("CARGO_BIN_EXE_load"));
    load.args(SMALL).args(arguments);
    load
}

#[tokio::test]
async fn the_load_test_measures_every_run_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("figures.json");
    let json = path.to_str().context("the path is not UTF-8")?;
    let text =
        process::run(load(&["--max-duplicates", "0", "--json", json, "--finished", "3", "--restart"]), None)
            .await?;
    ensure!(text.contains("apply → StartJobRun"), "{text}");
    let figures: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let number = |pointer: &str| {
        let found = figures.pointer(pointer).and_then(Value::as_f64);
        found.with_context(|| format!("no {pointer} in {figures}"))
    };
    ensure!(figures.pointer("/ended/COMPLETED") == Some(&Value::from(4)), "{figures}");
    ensure!(number("/busy/aws_calls_by_operation/StartJobRun")? >= 4.0, "{figures}");
    ensure!(number("/times/start/p50")? <= number("/times/id/p50")?, "{figures}");
    // The copies of the template were taken for what they are: the last run alone was started after the restart.
    ensure!(number("/restart/phase/aws_calls_by_operation/StartJobRun")? >= 1.0, "{figures}");
    ensure!(number("/restart/first_start_seconds")? > 0.0, "{figures}");
    ensure!(number("/times/end/max")? > 0.0 && number("/busy/cpu_ms/api_server")? > 0.0, "{figures}");
    Ok(())
}

#[tokio::test]
async fn the_load_test_fails_when_a_limit_is_passed() -> Result<()> {
    let failed = process::run(load(&["--max-aws-calls-per-run", "0.1"]), None).await;
    let error = failed.err().context("a run without an AWS call")?;
    ensure!(error.to_string().contains("AWS calls a run, not 0.1"), "{error:#}");
    Ok(())
}

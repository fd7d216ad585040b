//! The demo keeps what it promises: each sample as expected or a failure, and nothing left behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, test_kill_process};
use tests::control_plane::repository;
use tests::guard::Scratch;
use tests::operator::sibling;
use tests::wait;

/// What a run of the demo did.
struct Run {
    succeeded: bool,
    said: String,
}

/// Runs the demo to its end, with its temporary files in a folder of this test.
async fn demo(scratch: &Scratch, arguments: &[&str]) -> Result<Run> {
    let mut command = tokio::process::Command::new(sibling("demo")?);
    command.args(arguments).env("TMPDIR", scratch.path()).kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(Duration::from_mins(4), command.output()).await??;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok(Run { succeeded: output.status.success(), said })
}

/// Nothing that was started with this folder runs any more, and the folder is empty.
async fn nothing_is_left(scratch: &Scratch) -> Result<()> {
    let folder = scratch.path();
    wait::eventually(Duration::from_secs(20), "the demo should leave nothing behind", async || {
        let processes = Command::new("ps").args(["-ww", "-eo", "pid=,args="]).output()?;
        let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
        let shown = folder.display().to_string();
        // The guard of the folder itself has its path as an argument too.
        let left: Vec<&str> = processes.lines().filter(|line| line.contains(&format!("{shown}/"))).collect();
        ensure!(left.is_empty(), "still running: {left:?}");
        let files: Vec<_> = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        ensure!(files.is_empty(), "still there: {files:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn the_demo_ends_by_itself_with_every_sample_as_expected() -> Result<()> {
    let scratch = Scratch::create("demo-")?;
    let run = demo(&scratch, &["run"]).await?;
    ensure!(run.succeeded, "{}", run.said);
    for expected in [
        "kube-apiserver is ready",
        "the operator is ready",
        "kubectl apply -f manifests/samples",
        "virtualcluster/analytics",
        "jobrun/word-count",
        "jobrun/my-ack-jobrun-csv-parquet",
        "jobrun/daily-report",
        "jobrun/nightly-load",
        "COMPLETED",
        "jobrun/meant-to-fail is FAILED",
        "failureReason: USER_ERROR",
        "stateDetails: JobRun failed.",
        "every sample is in the expected state",
        "make up",
        "kubectl describe jobrun meant-to-fail",
        "make down",
    ] {
        ensure!(run.said.contains(expected), "'{expected}' is missing in\n{}", run.said);
    }
    ensure!(!run.said.contains('\u{1b}'), "no colours where there is no terminal:\n{}", run.said);
    nothing_is_left(&scratch).await
}

#[tokio::test]
async fn the_demo_fails_when_a_sample_is_not_as_expected() -> Result<()> {
    let (scratch, samples) = (Scratch::create("demo-")?, Scratch::create("demo-samples-")?);
    let shipped = repository().join("manifests/samples");
    copy(&shipped, samples.path(), "00-virtual-cluster.yaml", |text| text)?;
    copy(&shipped, samples.path(), "50-meant-to-fail.yaml", |text| {
        text.replace("expect: FAILED", "expect: COMPLETED")
    })?;
    let folder = samples.path().display().to_string();
    let run = demo(&scratch, &["run", "--samples", &folder]).await?;
    ensure!(!run.succeeded, "{}", run.said);
    for expected in
        ["failed: ", "jobrun/meant-to-fail should end COMPLETED, but is FAILED", "failureReason: USER_ERROR"]
    {
        ensure!(run.said.contains(expected), "'{expected}' is missing in\n{}", run.said);
    }
    nothing_is_left(&scratch).await
}

#[tokio::test]
async fn a_sample_without_an_expectation_is_refused_before_anything_starts() -> Result<()> {
    let (scratch, samples) = (Scratch::create("demo-")?, Scratch::create("demo-samples-")?);
    let shipped = repository().join("manifests/samples");
    copy(&shipped, samples.path(), "30-spark-sql.yaml", |text| text.replace("/expect:", "/hope:"))?;
    let run = demo(&scratch, &["run", "--samples", &samples.path().display().to_string()]).await?;
    ensure!(!run.succeeded && run.said.contains("daily-report has no annotation"), "{}", run.said);
    ensure!(!run.said.contains("starting"), "{}", run.said);
    Ok(())
}

#[tokio::test]
async fn what_up_starts_can_be_used_and_ends_with_down() -> Result<()> {
    let scratch = Scratch::create("demo-")?;
    let place = scratch.path().join("run");
    let folder = place.display().to_string();
    let up = demo(&scratch, &["up", "--folder", &folder]).await?;
    ensure!(up.succeeded, "{}", up.said);
    ensure!(up.said.contains("export KUBECONFIG=") && up.said.contains("make down"), "{}", up.said);
    let used = use_it(&up.said, &place).await;
    let again = demo(&scratch, &["up", "--folder", &folder]).await?;
    let down = demo(&scratch, &["down", "--folder", &folder]).await?;
    used?;
    ensure!(again.succeeded && again.said.contains("it is running already"), "{}", again.said);
    ensure!(down.succeeded && down.said.contains("stopped"), "{}", down.said);
    nothing_is_left(&scratch).await?;
    let down = demo(&scratch, &["down", "--folder", &folder]).await?;
    ensure!(down.succeeded && down.said.contains("nothing is running"), "{}", down.said);
    Ok(())
}

/// Does in a shell what `up` says.
async fn use_it(said: &str, place: &Path) -> Result<()> {
    let exports: Vec<&str> = said.lines().map(str::trim).filter(|line| line.starts_with("export ")).collect();
    ensure!(exports.len() == 2, "{said}");
    let script = format!(
        "{}\nkubectl apply -f manifests/samples\nkubectl wait jobrun/word-count \
        --for=jsonpath='{{.status.state}}'=COMPLETED --timeout=60s\nkubectl get emr -o wide",
        exports.join("\n")
    );
    let mut shell = Command::new("bash");
    shell.args(["-euc", &script]).current_dir(repository());
    let shown = tests::process::run(shell, None).await?;
    ensure!(shown.contains("word-count") && shown.contains("COMPLETED"), "{shown}");
    let pid: i32 = std::fs::read_to_string(place.join("pid"))?.trim().parse()?;
    let Some(pid) = Pid::from_raw(pid) else { bail!("no pid") };
    test_kill_process(pid).context("it should run")
}

fn copy(from: &Path, to: &Path, name: &str, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = std::fs::read_to_string(from.join(name))?;
    let changed = change(text);
    std::fs::write(to.join(name), changed)?;
    Ok(())
}

//! The harness keeps its promises: nothing outlives a test run, exit codes are true, time-outs are readable.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use tests::control_plane::ControlPlane;
use tests::guard::Scratch;
use tests::process::{KILLED, Process, Usage};
use tests::wait;

/// Tells the child below what to do and where to report it.
const CHILD: &str = "HARNESS_TEST_CHILD";
const REPORT: &str = "HARNESS_TEST_REPORT";

/// Not a test: the process that the tests below start and end in unfriendly ways.
#[tokio::test]
#[ignore = "run by the tests of this module"]
async fn child() -> Result<()> {
    let (Ok(task), Some(report)) = (std::env::var(CHILD), std::env::var_os(REPORT).map(PathBuf::from)) else {
        return Ok(());
    };
    let tell = |directory: &Path, pids: &[u32]| {
        let text = format!("{}\n{pids:?}", directory.display()).replace(['[', ']', ','], "");
        let draft = report.with_extension("draft");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &report))
    };
    if task == "control plane" {
        let plane = ControlPlane::start().await?;
        tell(plane.scratch(), &plane.pids())?;
        return std::future::pending().await;
    }
    let scratch = Scratch::create("harness-")?;
    let process = Process::spawn("sleep", Command::new("sleep").arg("600"), &scratch.path().join("log"))?;
    tell(scratch.path(), &[process.pid()])?;
    if task == "panic" {
        // What a failed assertion does to a test whose servers are in a static.
        std::mem::forget((scratch, process));
        panic!("on purpose");
    }
    std::future::pending().await
}

/// Starts the child, ends it with `signal` (or lets it panic) and checks that its servers and directory are gone.
async fn leaves_nothing_behind(task: &str, signal: Option<Signal>) -> Result<()> {
    let own = Scratch::create("harness-report-")?;
    let report = own.path().join("report");
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "harness::child", "--ignored"])
        .env(CHILD, task)
        .env(REPORT, &report)
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let group = Pid::from_child(&child);
    let text = wait::eventually(Duration::from_mins(2), "the child should report", async || {
        if let Some(status) = child.try_wait()? {
            ensure!(report.exists(), "the child ended early with {status}");
        }
        Ok(std::fs::read_to_string(&report).ok())
    });
    let text = text.await?;
    let (directory, pids) = text.split_once('\n').context("unreadable report")?;
    let pids: Vec<i32> = pids.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    if let Some(signal) = signal {
        for pid in &pids {
            ensure!(is_alive(*pid), "server {pid} should run while the child does");
        }
        // To the whole group, as the terminal does it.
        kill_process_group(group, signal)?;
    }
    let ended = async || Ok(child.try_wait()?.map(drop));
    wait::eventually(Duration::from_mins(1), "the child should end", ended).await?;
    wait::eventually(Duration::from_secs(10), "servers and files should be gone", async || {
        if let Some(pid) = pids.iter().find(|pid| is_alive(**pid)) {
            bail!("server {pid} still runs");
        }
        ensure!(!Path::new(directory).exists(), "{directory} still exists");
        Ok(Some(()))
    })
    .await
}

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[tokio::test]
async fn a_killed_test_run_leaves_no_control_plane_behind() -> Result<()> {
    leaves_nothing_behind("control plane", Some(Signal::KILL)).await
}

#[tokio::test]
async fn an_interrupted_test_run_leaves_nothing_behind() -> Result<()> {
    // Not SIGINT: who starts the tests in the background may have it ignored, and that is inherited.
    leaves_nothing_behind("sleep", Some(Signal::TERM)).await
}

#[tokio::test]
async fn a_panicking_test_run_leaves_nothing_behind() -> Result<()> {
    leaves_nothing_behind("panic", None).await
}

#[tokio::test]
async fn the_exit_code_is_the_servers_own() -> Result<()> {
    let scratch = Scratch::create("harness-")?;
    let log = scratch.path().join("log");
    // Handles TERM as a server does; `sleep` in the background keeps the shell free to.
    let script = "trap 'echo draining; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    let process = Process::spawn("sh", Command::new("sh").args(["-c", script]), &log)?;
    wait::eventually(Duration::from_secs(10), "should be up", async || {
        Ok(process.log().contains("up").then_some(()))
    })
    .await?;
    ensure!(process.is_running());
    process.signal(Signal::TERM)?;
    ensure!(process.wait_exit(Duration::from_secs(10)).await? == 7);
    ensure!(process.log().contains("draining"));
    ensure!(process.signal(Signal::TERM).is_err(), "there is nothing left to signal");
    Ok(())
}

#[tokio::test]
async fn kill_and_drop_both_end_a_server() -> Result<()> {
    let scratch = Scratch::create("harness-")?;
    let log = scratch.path().join("log");
    let process = Process::spawn("sleep", Command::new("sleep").arg("600"), &log)?;
    process.kill().await?;
    ensure!(process.exit_code() == Some(KILLED));

    let process = Process::spawn("sleep", Command::new("sleep").arg("600"), &log)?;
    let pid = i32::try_from(process.pid())?;
    drop(process);
    let gone = async || Ok((!is_alive(pid)).then_some(()));
    wait::eventually(Duration::from_secs(10), "should be gone", gone).await
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named_in_the_log() -> Result<()> {
    let scratch = Scratch::create("harness-")?;
    let process = Process::spawn("ghost", &Command::new("/nowhere/ghost"), &scratch.path().join("log"))?;
    ensure!(process.wait_exit(Duration::from_secs(10)).await? == 127);
    ensure!(process.log().contains("/nowhere/ghost"), "{}", process.log());
    Ok(())
}

#[tokio::test]
async fn memory_and_cpu_time_are_those_of_the_server() -> Result<()> {
    let scratch = Scratch::create("harness-")?;
    let busy = Process::spawn(
        "busy",
        Command::new("sh").args(["-c", "while :; do :; done"]),
        &scratch.path().join("log"),
    )?;
    let used = wait::eventually(Duration::from_secs(20), "should use CPU time", async || {
        let usage = busy.usage()?;
        Ok((usage.cpu >= Duration::from_millis(50)).then_some(usage))
    });
    let Usage { resident_bytes, .. } = used.await?;
    ensure!((100 << 10..100 << 20).contains(&resident_bytes), "a shell has {resident_bytes} bytes?");
    Ok(())
}

#[tokio::test]
async fn a_timeout_says_what_was_seen_last() -> Result<()> {
    let mut looks = 0;
    let look = async || {
        looks += 1;
        bail!("it is at {looks} %")
    };
    let waited: Result<()> =
        wait::eventually(Duration::from_millis(100), "the moon should be full", look).await;
    let message = format!("{:#}", waited.err().context("should time out")?);
    ensure!(message.contains("the moon should be full") && message.contains(" %"), "{message}");
    Ok(())
}

//! A server process that dies with us: start, signal, wait for its exit code, read its log, memory and CPU time.
//!
//! Must not: be bound to a tokio runtime (a thread waits for the exit, so any runtime can await it).
//! Invariant: see [`crate::guard`].

use std::fmt::Write as _;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::guard::Guard;

/// The exit code that a shell reports for a process that SIGKILL ended.
pub const KILLED: i32 = 128 + 9;

/// A running server.
pub struct Process {
    name: String,
    pid: Pid,
    log: PathBuf,
    exit: watch::Receiver<Option<i32>>,
    lifeline: Mutex<Option<ChildStdin>>,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// Of the command, the program, arguments, environment changes and working directory are used.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let Guard { lifeline, mut shell, mut output, greeting } =
            Guard::server(command, log).with_context(|| format!("can't start {name}"))?;
        let pid =
            greeting.parse().ok().and_then(Pid::from_raw).with_context(|| {
                format!("can't start {name}: the guard said '{greeting}' instead of a pid")
            })?;
        let (report, exit) = watch::channel(None);
        std::thread::Builder::new().name(format!("wait-{name}")).spawn(move || {
            let mut line = String::new();
            let code = output.read_line(&mut line).ok().and_then(|_| line.trim().parse().ok());
            // A guard that was killed itself says nothing: the server counts as killed too.
            report.send_replace(Some(code.unwrap_or(KILLED)));
            shell.wait().ok();
        })?;
        Ok(Self {
            name: name.to_owned(),
            pid,
            log: log.to_owned(),
            exit,
            lifeline: Mutex::new(Some(lifeline)),
        })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's own process id, not the guard's.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The exit code, 128 + signal for a signal; `None` while it runs.
    pub fn exit_code(&self) -> Option<i32> {
        *self.exit.borrow()
    }

    /// Whether it hasn't ended yet.
    pub fn is_running(&self) -> bool {
        self.exit_code().is_none()
    }

    /// Fails, with the end of its log, when it has ended.
    pub fn ensure_running(&self) -> Result<()> {
        if let Some(code) = self.exit_code() {
            bail!("{} ended with code {code}; its log ends with\n{}", self.name, self.log_tail(20));
        }
        Ok(())
    }

    /// Sends a signal. One that has ended is left alone: its pid may be another's by now.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(code) = self.exit_code() {
            bail!("{} has ended with code {code}, there is nothing to signal", self.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("can't signal {}", self.name))
    }

    /// Waits for the end and returns the exit code.
    pub async fn wait_exit(&self, deadline: Duration) -> Result<i32> {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(deadline, exit.wait_for(Option::is_some)).await;
        let Ok(code) = ended else {
            bail!(
                "{} (pid {}) still runs after {deadline:?}; its log ends with\n{}",
                self.name,
                self.pid(),
                self.log_tail(20)
            );
        };
        code?.with_context(|| format!("{} has no exit code", self.name))
    }

    /// Kills it as `kill -9` does and waits until it is gone.
    pub async fn kill(&self) -> Result<()> {
        // Closing the pipe is the guard's order to kill.
        self.lifeline.lock().map(|mut lifeline| lifeline.take()).ok();
        self.wait_exit(Duration::from_secs(10)).await.map(drop)
    }

    /// Everything that it wrote to standard output and error so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log(), lines)
    }

    /// Where the log is.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Memory and CPU time used so far.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid()).with_context(|| format!("can't read what {} uses", self.name))
    }
}

/// Runs a command to its end, `input` on its standard input, and returns what it prints; a failure holds what it says.
pub async fn run(command: Command, input: Option<&str>) -> Result<String> {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let mut child = child.with_context(|| format!("can't run {shown}"))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A command that refuses its arguments doesn't read; its own message says more than a broken pipe.
            stdin.write_all(input.as_bytes()).await.ok();
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown} failed with {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last `lines` lines of `text`, each indented.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).fold(String::new(), |mut out, line| {
        writeln!(out, "    {line}").ok();
        out
    })
}

/// What a process uses, read from /proc (so on Linux only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory now.
    pub resident_bytes: u64,
    /// The most resident memory that it ever had.
    pub peak_bytes: u64,
    /// User and system time since it started, in steps of a clock tick (10 ms).
    pub cpu: Duration,
}

impl Usage {
    /// Reads the usage of any process.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))
        };
        let status = read("status")?;
        let bytes = |name: &str| {
            let kib =
                |line: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok();
            let kib = status.lines().find_map(kib);
            Ok::<_, anyhow::Error>(
                kib.with_context(|| format!("no {name} in /proc: the process has ended"))? * 1024,
            )
        };
        let stat = read("stat")?;
        // The command's name, in parentheses, may hold spaces: fields are counted after it. utime and stime are 14 and 15.
        let (_, fields) = stat.rsplit_once(')').context("unreadable /proc/<pid>/stat")?;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let cpu = Duration::from_millis(ticks.saturating_mul(1000) / per_second);
        Ok(Self { resident_bytes: bytes("VmRSS:")?, peak_bytes: bytes("VmHWM:")?, cpu })
    }
}

//! The controller under test: started from its command line, killed and started again, its memory and CPU time.
//!
//! Must not: know which controller it is. Invariant: the CPU time of killed processes is not forgotten.

use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::RngExt;
use tests::process::{Process, Usage};
use tests::{operator, port, wait};
use tokio::sync::Mutex;

use crate::options::Command;

/// Another controller may read a lot before it answers.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How far a kill is off its time at most: a steady beat would always hit the same point of a controller's own rhythm.
const KILL_JITTER: f64 = 0.3;

/// What the controllers have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    /// Of those that run now.
    pub(crate) resident_bytes: u64,
    /// Of any one at any time.
    pub(crate) peak_bytes: u64,
}

/// All controllers.
pub(crate) struct Controllers {
    command: Command,
    aws_url: String,
    kubeconfig: PathBuf,
    directory: PathBuf,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    processes: Vec<Process>,
    /// Of those that were killed.
    before: Used,
    kills: usize,
}

impl Controllers {
    /// Starts `number` controllers and waits until each answers.
    pub(crate) async fn start(
        command: &Command,
        number: usize,
        aws_url: &str,
        kubeconfig: &Path,
        directory: &Path,
    ) -> Result<Self> {
        let controllers = Self {
            command: command.clone(),
            aws_url: aws_url.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            directory: directory.to_owned(),
            running: Mutex::default(),
        };
        controllers.start_all(number).await?;
        Ok(controllers)
    }

    /// Starts so many.
    pub(crate) async fn start_all(&self, number: usize) -> Result<()> {
        for index in 0..number {
            let process = self.spawn(index).await?;
            self.running.lock().await.processes.push(process);
        }
        Ok(())
    }

    /// Ends all as `kill -9` does.
    pub(crate) async fn kill_all(&self) -> Result<()> {
        let mut running = self.running.lock().await;
        for victim in std::mem::take(&mut running.processes) {
            victim.ensure_running()?;
            running.before = running.before.and(victim.usage()?);
            victim.kill().await?;
        }
        Ok(())
    }

    async fn spawn(&self, index: usize) -> Result<Process> {
        let metrics = format!("127.0.0.1:{}", port::free()?);
        let healthz = format!("127.0.0.1:{}", port::free()?);
        let filled: Vec<String> = self
            .command
            .words
            .iter()
            .map(|word| {
                word.replace("{aws_url}", &self.aws_url)
                    .replace("{metrics_addr}", &metrics)
                    .replace("{healthz_addr}", &healthz)
                    .replace("{kubeconfig}", &self.kubeconfig.to_string_lossy())
            })
            .collect();
        let (program, arguments) = filled.split_first().context("the controller's command is empty")?;
        let mut command = process::Command::new(program);
        command.args(arguments);
        operator::set_environment(&mut command, &self.kubeconfig);
        let log = self.directory.join(format!("controller-{index}.log"));
        let process = Process::spawn("the controller", &command, &log)?;
        let url = format!("http://{healthz}/healthz");
        let ready =
            wait::http_ok(&url, READY_WITHIN, "the controller should answer", || process.ensure_running());
        ready.await.with_context(|| format!("the controller's log ends with\n{}", process.log_tail(30)))?;
        Ok(process)
    }

    /// Fails, with its log, when one has ended by itself.
    pub(crate) async fn ensure_running(&self) -> Result<()> {
        self.running.lock().await.processes.iter().try_for_each(Process::ensure_running)
    }

    /// The ends of their logs.
    pub(crate) async fn words(&self) -> String {
        let running = self.running.lock().await;
        let tails = running.processes.iter().map(|process| process.log_tail(30));
        format!("the controller's log ends with\n{}", tails.collect::<String>())
    }

    /// What all have used, those that were killed too.
    pub(crate) async fn used(&self) -> Result<Used> {
        let running = self.running.lock().await;
        let mut used = running.before;
        for process in &running.processes {
            let now = process.usage()?;
            used = used.and(now);
            used.resident_bytes += now.resident_bytes;
        }
        Ok(used)
    }

    /// What those have used that run now.
    pub(crate) async fn used_since_start(&self) -> Result<Used> {
        let running = self.running.lock().await;
        running.processes.iter().try_fold(Used::default(), |used, process| {
            let now = process.usage()?;
            let resident_bytes = used.resident_bytes + now.resident_bytes;
            Ok(Used { resident_bytes, ..used.and(now) })
        })
    }

    /// How many were killed.
    pub(crate) async fn kills(&self) -> usize {
        self.running.lock().await.kills
    }

    /// Kills one after the other, about one in `every`, and starts each again. Returns only when that fails.
    pub(crate) async fn kill_for_ever(&self, every: Duration) -> Result<()> {
        loop {
            let factor = rand::rng().random_range(1.0 - KILL_JITTER..1.0 + KILL_JITTER);
            tokio::time::sleep(every.mul_f64(factor)).await;
            self.kill_one().await?;
        }
    }

    async fn kill_one(&self) -> Result<()> {
        // Held throughout, so that nobody takes the one that is being killed for one that ended by itself.
        let mut running = self.running.lock().await;
        let index = running.kills % running.processes.len().max(1);
        let victim = running.processes.get(index).context("no controller runs")?;
        victim.ensure_running()?;
        let last = victim.usage()?;
        victim.kill().await?;
        running.before = running.before.and(last);
        running.kills += 1;
        let next = self.spawn(index).await?;
        if let Some(place) = running.processes.get_mut(index) {
            *place = next;
        }
        Ok(())
    }
}

impl Used {
    fn and(self, usage: Usage) -> Self {
        Self {
            cpu: self.cpu + usage.cpu,
            resident_bytes: self.resident_bytes,
            peak_bytes: self.peak_bytes.max(usage.peak_bytes),
        }
    }
}

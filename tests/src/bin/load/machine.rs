//! What the load runs on, and how much of it went to whom: figures of a busy machine are no figures.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// The machine, in the words of the report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// The load average of a minute, before anything was started.
    pub(crate) load_average_before: String,
}

impl Machine {
    pub(crate) fn read() -> Result<Self> {
        let cpu = read("/proc/cpuinfo")?;
        let memory = read("/proc/meminfo")?;
        let memory_kib = field(&memory, "MemTotal").and_then(|value| value.strip_suffix(" kB")?.parse().ok());
        let load = read("/proc/loadavg")?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: field(&cpu, "model name").unwrap_or("unknown").to_owned(),
            memory_gib: memory_kib.unwrap_or(0.0) / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_average_before: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{} cores ({}), {:.0} GiB, Linux {}; load average before the start {}",
            self.cores, self.cpu, self.memory_gib, self.kernel, self.load_average_before
        )
    }
}

/// The time of all cores since the machine started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cores {
    /// Spent by processes and the kernel.
    pub(crate) busy: Duration,
    /// Wanted, but taken by other guests of the same host.
    pub(crate) stolen: Duration,
}

impl Cores {
    pub(crate) fn read() -> Result<Self> {
        let stat = read("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).take(8).collect();
        let of = |fields: &[usize]| {
            let sum: u64 = fields.iter().filter_map(|field| ticks.get(*field)).sum();
            Duration::from_millis(sum.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1))
        };
        Ok(Self { busy: of(&[0, 1, 2, 5, 6]), stolen: of(&[7]) })
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("can't read {path}"))
}

/// The value after `name:` in one of the tables of /proc.
fn field<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    table.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

//! What this process takes from its machine, read from /proc at each scrape.
//!
//! Nothing is shown where there is no /proc. The names are those of every Prometheus client library.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::metrics::Described;

const MEMORY: (&str, &str) = ("process_resident_memory_bytes", "Memory of this process that is in RAM.");
const VIRTUAL_MEMORY: (&str, &str) =
    ("process_virtual_memory_bytes", "Memory that this process has addresses for.");
const OPEN_FILES: (&str, &str) = ("process_open_fds", "Files and connections that this process has open.");
const MOST_FILES: (&str, &str) =
    ("process_max_fds", "Files and connections that this process may have open.");
const START: (&str, &str) =
    ("process_start_time_seconds", "When this process was started, in seconds since 1970.");
const CPU: (&str, &str) = ("process_cpu_seconds", "Processor time that this process has taken.");

/// Linux reports processor time in this unit to user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct ProcessMetrics;

impl ProcessMetrics {
    pub(crate) fn describe() -> Vec<Described> {
        let gauge = |(name, help): (&str, _)| Described { name: name.to_owned(), type_: "gauge", help };
        let mut described = [MEMORY, VIRTUAL_MEMORY, OPEN_FILES, MOST_FILES, START].map(gauge).to_vec();
        described.push(Described { name: format!("{}_total", CPU.0), type_: "counter", help: CPU.1 });
        described
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let (status, stat) = (read("self/status"), read("self/stat"));
        let started = stat.as_deref().and_then(start_ticks).zip(read("stat").as_deref().and_then(boot_time));
        for ((name, help), value) in [
            (MEMORY, status.as_deref().and_then(|status| memory_bytes(status, "VmRSS:"))),
            (VIRTUAL_MEMORY, status.as_deref().and_then(|status| memory_bytes(status, "VmSize:"))),
            (OPEN_FILES, open_files()),
            (MOST_FILES, read("self/limits").as_deref().and_then(most_files)),
            (START, started.map(|(ticks, boot)| boot + seconds(ticks))),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        if let Some(seconds) = stat.as_deref().and_then(cpu_seconds) {
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(CPU.0, CPU.1, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{file}")).ok()
}

/// From /proc/self/status, whose kilobytes don't depend on the size of a page.
fn memory_bytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u32 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

/// The entries of /proc/self/fd, of which one is the look itself.
fn open_files() -> Option<f64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u32::try_from(files.saturating_sub(1)).ok().map(f64::from)
}

/// From /proc/self/limits; none where there is no limit.
fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// From /proc/self/stat: field 22, in ticks since the machine was started.
fn start_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// From /proc/stat: when the machine was started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn seconds(ticks: f64) -> f64 {
    ticks / TICKS_PER_SECOND
}

/// From /proc/self/stat: fields 14 and 15, counted from after the name, which may itself contain spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(seconds(f64::from(user) + f64::from(system)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tx\nVmHWM:\t    9 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(memory_bytes(status, "VmRSS:"), Some(12.0 * 1024.0));
        let stat = "1 (a ) b) S 2 3 4 5 6 7 8 9 10 11 250 50 14 15 16 17 18 19 4200 22";
        assert_eq!((cpu_seconds(stat), start_ticks(stat)), (Some(3.0), Some(4200.0)));
        assert_eq!((memory_bytes("", "VmRSS:"), cpu_seconds("1 (x) S 2")), (None, None));
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024  4096  files\n";
        assert_eq!((most_files(limits), most_files("")), (Some(1024.0), None));
        assert_eq!(boot_time("cpu  1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }
}

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
const CPU: (&str, &str) = ("process_cpu_seconds", "Processor time that this process has taken.");

/// Linux reports processor time in this unit to user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(crate) struct ProcessMetrics;

impl ProcessMetrics {
    pub(crate) fn describe() -> [Described; 2] {
        [
            Described { name: MEMORY.0.to_owned(), type_: "gauge", help: MEMORY.1 },
            Described { name: format!("{}_total", CPU.0), type_: "counter", help: CPU.1 },
        ]
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        if let Some(bytes) = read("status").as_deref().and_then(resident_bytes) {
            let gauge = ConstGauge::new(bytes);
            gauge.encode(encoder.encode_descriptor(MEMORY.0, MEMORY.1, None, gauge.metric_type())?)?;
        }
        if let Some(seconds) = read("stat").as_deref().and_then(cpu_seconds) {
            let counter = ConstCounter::new(seconds);
            counter.encode(encoder.encode_descriptor(CPU.0, CPU.1, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{file}")).ok()
}

/// From /proc/self/status, whose kilobytes don't depend on the size of a page.
fn resident_bytes(status: &str) -> Option<i64> {
    let kilobytes: i64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kilobytes * 1024)
}

/// From /proc/self/stat: fields 14 and 15, counted from after the name, which may itself contain spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_the_kernel_writes_it() {
        assert_eq!(resident_bytes("Name:\tx\nVmHWM:\t    9 kB\nVmRSS:\t   12 kB\n"), Some(12 * 1024));
        let stat = "1 (a ) b) S 2 3 4 5 6 7 8 9 10 11 250 50 14 15";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!((resident_bytes(""), cpu_seconds("1 (x) S 2")), (None, None));
    }
}

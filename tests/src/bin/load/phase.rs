//! What happened between two moments: AWS calls, API-server requests, status writes, CPU time.
//!
//! Requests are counted by the API server itself, which doesn't say whose they are: what the load test sent is
//! subtracted, what the API server asks itself (its lease, a few lists) is not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::tests::operator::Metrics;
use ::tests::process::Usage;
use anyhow::{Result, ensure};
use emr_simulator::Counter;
use http::Request;
use serde::Serialize;

use crate::controllers::Used;
use crate::machine::Cores;
use crate::rig::Rig;

/// A moment.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    at: Instant,
    aws: BTreeMap<String, Counter>,
    api: BTreeMap<String, u64>,
    writes: u64,
    used: Used,
    api_server: Duration,
    etcd: Duration,
    load: Duration,
    cores: Cores,
}

impl Mark {
    /// The beginning of a phase.
    pub(crate) async fn begin(rig: &Rig) -> Result<Self> {
        // First what costs the API server time.
        let api = requests(rig).await?;
        Self::take(rig, api).await
    }

    /// The end of a phase.
    pub(crate) async fn end(rig: &Rig) -> Result<Self> {
        let mark = Self::take(rig, BTreeMap::new()).await?;
        Ok(Self { api: requests(rig).await?, ..mark })
    }

    async fn take(rig: &Rig, api: BTreeMap<String, u64>) -> Result<Self> {
        let [etcd, api_server] = rig.plane.pids();
        Ok(Self {
            at: Instant::now(),
            aws: rig.simulator.counters(),
            api,
            writes: rig.watching.progress().borrow().writes,
            used: rig.controllers.used().await?,
            api_server: Usage::of(api_server)?.cpu,
            etcd: Usage::of(etcd)?.cpu,
            load: Usage::of(std::process::id())?.cpu,
            cores: Cores::read()?,
        })
    }

    /// The memory of the controllers at that moment.
    pub(crate) fn used(&self) -> Used {
        self.used
    }
}

/// What happened between two marks.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    pub(crate) aws_calls: u64,
    pub(crate) aws_calls_by_operation: BTreeMap<String, u64>,
    /// Of the calls, those that a quota refused.
    pub(crate) aws_throttled: u64,
    /// Of the calls, those without a reply.
    pub(crate) aws_lost: u64,
    /// Of the calls, those answered by an error, throttles among them.
    pub(crate) aws_errors: BTreeMap<String, u64>,
    /// Requests to the API server, without those of the load test.
    pub(crate) api_requests: u64,
    pub(crate) api_requests_by_kind: BTreeMap<String, u64>,
    /// Changes of JobRuns that the watch saw.
    pub(crate) writes: u64,
    pub(crate) cpu_ms: Cpu,
}

/// CPU time, in milliseconds. The kernel reports it in steps of 10 ms.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Cpu {
    pub(crate) controller: f64,
    pub(crate) api_server: f64,
    pub(crate) etcd: f64,
    /// The load test itself, with the simulated AWS.
    pub(crate) load: f64,
    /// Everything else on the machine.
    pub(crate) others: f64,
    /// Taken by other guests of the host.
    pub(crate) stolen: f64,
}

impl Phase {
    /// `ours` are the JobRuns that the load test created in between.
    pub(crate) fn between(before: &Mark, after: &Mark, ours: u64) -> Self {
        let mut phase = Self {
            seconds: (after.at - before.at).as_secs_f64(),
            writes: after.writes.saturating_sub(before.writes),
            cpu_ms: Cpu::between(before, after),
            api_requests_by_kind: difference(&before.api, &after.api),
            ..Self::default()
        };
        if let Some(creates) = phase.api_requests_by_kind.get_mut(CREATES) {
            *creates = creates.saturating_sub(ours);
        }
        phase.api_requests_by_kind.retain(|_, count| *count > 0);
        phase.api_requests = phase.api_requests_by_kind.values().sum();
        for (operation, counter) in &after.aws {
            let earlier = before.aws.get(operation).cloned().unwrap_or_default();
            let calls = counter.calls - earlier.calls;
            phase.aws_calls += calls;
            phase.aws_throttled += counter.throttled - earlier.throttled;
            phase.aws_lost += counter.lost - earlier.lost;
            if calls > 0 {
                phase.aws_calls_by_operation.insert(operation.clone(), calls);
            }
            for (code, count) in difference(&earlier.errors, &counter.errors) {
                *phase.aws_errors.entry(code).or_default() += count;
            }
        }
        phase.aws_errors.retain(|_, count| *count > 0);
        phase
    }
}

impl Cpu {
    fn between(before: &Mark, after: &Mark) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let of = |pick: fn(&Mark) -> Duration| ms(pick(after).saturating_sub(pick(before)));
        let mut cpu = Self {
            controller: of(|mark| mark.used.cpu),
            api_server: of(|mark| mark.api_server),
            etcd: of(|mark| mark.etcd),
            load: of(|mark| mark.load),
            others: 0.0,
            stolen: of(|mark| mark.cores.stolen),
        };
        let known = cpu.controller + cpu.api_server + cpu.etcd + cpu.load;
        cpu.others = (of(|mark| mark.cores.busy) - known).max(0.0);
        cpu
    }
}

/// What the load test sends.
const CREATES: &str = "POST jobruns";

/// Requests for resources that the API server has answered so far, by verb and resource.
async fn requests(rig: &Rig) -> Result<BTreeMap<String, u64>> {
    let page = rig.client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("apiserver_request_total{")).collect();
    ensure!(!lines.is_empty(), "the API server's /metrics has no apiserver_request_total");
    let mut requests = BTreeMap::new();
    for (series, value) in Metrics::parse(&lines.join("\n")).series() {
        let resource = label(series, "resource");
        if resource.is_empty() {
            continue;
        }
        let (verb, part) = (label(series, "verb"), label(series, "subresource"));
        let part = if part.is_empty() { String::new() } else { format!("/{part}") };
        *requests.entry(format!("{verb} {resource}{part}")).or_default() += whole(*value);
    }
    Ok(requests)
}

fn label<'a>(series: &'a str, name: &str) -> &'a str {
    let value = series.split_once(&format!("{name}=\"")).map(|(_, rest)| rest);
    value.and_then(|value| value.split('"').next()).unwrap_or_default()
}

/// A counter as a number; counters are whole and not negative.
fn whole(value: f64) -> u64 {
    format!("{value:.0}").parse().unwrap_or(0)
}

fn difference(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let change = |(key, now): (&String, &u64)| {
        (key.clone(), now.saturating_sub(before.get(key).copied().unwrap_or(0)))
    };
    after.iter().map(change).filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_in_any_order() {
        let series = "apiserver_request_total{code=\"200\",resource=\"jobruns\",subresource=\"status\",verb=\"APPLY\"}";
        assert_eq!(label(series, "verb"), "APPLY");
        assert_eq!(label(series, "scope"), "");
        assert_eq!(whole(1e6), 1_000_000);
    }
}

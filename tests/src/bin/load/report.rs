//! The figures as text for one load, as a markdown table for several, and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figures::{Figures, Quantiles};
use crate::phase::Phase;
use crate::removal::Removal;
use crate::run::mib;

/// What has no value in a load.
const NOTHING: &str = "–";

/// A figure for each run.
pub(crate) fn per_run(count: u64, runs: usize) -> f64 {
    ratio(float(count), float(u64::try_from(runs).unwrap_or(u64::MAX)))
}

/// One load, a figure on each line.
pub(crate) fn text(figures: &Figures) -> String {
    let mut text = String::new();
    let rows = rows(figures);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        writeln!(text, "{name:width$}  {value}").ok();
    }
    let mut details = vec![
        ("AWS calls by operation", counts(&figures.busy.aws_calls_by_operation)),
        ("AWS errors", counts(&figures.busy.aws_errors)),
        ("API requests by kind", counts(&figures.busy.api_requests_by_kind)),
    ];
    if let Some(steady) = &figures.steady {
        details.push(("steady: AWS calls by operation", counts(&steady.aws_calls_by_operation)));
        details.push(("steady: API requests by kind", counts(&steady.api_requests_by_kind)));
    }
    for (name, value) in details {
        writeln!(text, "{name:width$}  {value}").ok();
    }
    for (name, jobs) in &figures.duplicates {
        writeln!(text, "more than one job: {name}: {}", jobs.join(", ")).ok();
    }
    text += &conditions(figures);
    text
}

/// Several loads, a column for each.
pub(crate) fn markdown(all: &[Figures]) -> String {
    let mut text = "# Load test\n\n".to_owned();
    let Some(first) = all.first() else { return text };
    text += &conditions(first);
    text += "\n";
    let columns: Vec<Vec<(&str, String)>> = all.iter().map(rows).collect();
    let names: Vec<&str> = all.iter().map(|figures| figures.name.as_str()).collect();
    writeln!(text, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(all.len())).ok();
    for (index, (name, _)) in columns.first().into_iter().flatten().enumerate() {
        let values = columns.iter().filter_map(|column| Some(column.get(index)?.1.as_str()));
        writeln!(text, "| {name} | {} |", values.collect::<Vec<_>>().join(" | ")).ok();
    }
    text += "\n";
    for figures in all {
        writeln!(text, "- **{}**: load average before {}", figures.name, figures.machine.load_average_before)
            .ok();
        writeln!(text, "  - AWS calls: {}", counts(&figures.busy.aws_calls_by_operation)).ok();
        writeln!(text, "  - API-server requests: {}", counts(&figures.busy.api_requests_by_kind)).ok();
        for (name, jobs) in &figures.duplicates {
            writeln!(text, "  - more than one job: {name}: {}", jobs.join(", ")).ok();
        }
    }
    text
}

/// Everything, for programs.
pub(crate) fn write_json(figures: &Figures, path: &Path) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(figures)?)
        .with_context(|| format!("can't write {}", path.display()))
}

/// The same rows for every load, so that they can stand side by side.
fn rows(figures: &Figures) -> Vec<(&'static str, String)> {
    let Figures { busy, times, runs, .. } = figures;
    let mut rows = vec![
        ("load", figures.load.clone()),
        ("JobRuns that ended; unfinished", format!("{}; {}", counts(&figures.ended), figures.unfinished)),
        ("apply → StartJobRun", quantiles(times.start)),
        ("the same from the create's answer", quantiles(times.start_from_answer)),
        ("apply → status.id visible", quantiles(times.id)),
        ("true end → final state visible", quantiles(times.end)),
        ("AWS calls a run", format!("{:.2}", per_run(busy.aws_calls, *runs))),
        ("AWS throttle replies; replies lost", format!("{}; {}", busy.aws_throttled, busy.aws_lost)),
        (
            "API-server requests a run; JobRun writes a run",
            format!("{:.2}; {:.2}", per_run(busy.api_requests, *runs), per_run(busy.writes, *runs)),
        ),
        (
            "CPU a run: controller; kube-apiserver",
            format!(
                "{:.2} ms; {:.2} ms",
                of_runs(busy.cpu_ms.controller, *runs),
                of_runs(busy.cpu_ms.api_server, *runs)
            ),
        ),
        (
            "resident after the load; peak",
            format!("{:.1} MiB; {:.1} MiB", figures.resident_mib, figures.peak_mib),
        ),
        (
            "kills; JobRuns with duplicates; duplicate jobs",
            format!("{}; {}; {}", figures.kills, figures.duplicates.len(), figures.extra_jobs),
        ),
    ];
    rows.extend(steady_rows(figures));
    rows.push(("restart: first StartJobRun; resident; peak; list pages", restart(figures)));
    rows.extend(quota_rows(figures));
    rows.extend([
        ("created a second", format!("{:.0}", figures.created_per_second)),
        ("create request", quantiles(times.create)),
        ("create sent late by", quantiles(times.late)),
        ("duration of the load", format!("{:.1} s", busy.seconds)),
        ("CPU meanwhile (% of a core)", shares(busy)),
        ("restarts of the watch", figures.watch_restarts.to_string()),
    ]);
    rows
}

fn quota_rows(figures: &Figures) -> [(&'static str, String); 3] {
    let quota = figures.quota.as_ref();
    let removal = figures.removal.as_ref();
    let nothing = || NOTHING.to_owned();
    [
        (
            "starts; from the first to the last; share of what the quota allows in that time",
            quota.map_or_else(nothing, |quota| {
                format!("{}; {:.1} s; {:.4}", quota.starts, quota.seconds, quota.share)
            }),
        ),
        (
            "last start of each namespace, as a share of that time",
            quota.map_or_else(nothing, |quota| {
                let shown: Vec<String> =
                    quota.last_starts.values().map(|share| format!("{share:.3}")).collect();
                shown.join(", ")
            }),
        ),
        (
            "deletion of all: number, time until they are gone; AWS calls; API-server requests a run; CPU",
            removal.map_or_else(nothing, |Removal { runs, phase }| {
                let requests = per_run(phase.api_requests, *runs);
                format!(
                    "{runs}: {:.1} s; {}; {requests:.2}; {}",
                    phase.seconds,
                    phase.aws_calls,
                    shares(phase)
                )
            }),
        ),
    ]
}

fn steady_rows(figures: &Figures) -> [(&'static str, String); 4] {
    let minute = |phase: &Phase, count: u64| format!("{:.0}", ratio(float(count) * 60.0, phase.seconds));
    let of =
        |pick: &dyn Fn(&Phase) -> String| figures.steady.as_ref().map_or_else(|| NOTHING.to_owned(), pick);
    let resident =
        figures.resident_steady_mib.map_or_else(|| NOTHING.to_owned(), |mib| format!("{mib:.1} MiB"));
    [
        (
            "steady state, a minute: AWS calls; JobRun writes; API-server requests",
            of(&|steady| {
                format!(
                    "{}; {}; {}",
                    minute(steady, steady.aws_calls),
                    minute(steady, steady.writes),
                    minute(steady, steady.api_requests)
                )
            }),
        ),
        (
            "steady state: AWS calls a second",
            of(&|steady| format!("{:.2}", ratio(float(steady.aws_calls), steady.seconds))),
        ),
        ("steady state: CPU (% of a core)", of(&shares)),
        ("steady state: resident", resident),
    ]
}

fn restart(figures: &Figures) -> String {
    figures.restart.as_ref().map_or_else(
        || NOTHING.to_owned(),
        |restart| {
            let pages = restart.phase.api_requests_by_kind.get("LIST jobruns").copied().unwrap_or_default();
            format!(
                "{:.1} s; {:.1} MiB; {:.1} MiB; {pages}",
                restart.first_start_seconds,
                mib(restart.resident_bytes),
                mib(restart.peak_bytes)
            )
        },
    )
}

/// What a reader must know to compare the figures with others.
fn conditions(figures: &Figures) -> String {
    let build = if figures.optimised { "release" } else { "DEBUG" };
    format!(
        "\nMeasured {:.0} on {}.\n\
         Controller: `{}`\n\
         kube-apiserver {} with etcd, the simulated AWS and the load test (version {}, {build} build) run on the same machine.\n\
         Times are p50 / p95 / p99 / max. A run takes the same time from StartJobRun to its end: 0.5 s PENDING, 1 s \
         SUBMITTED, the rest RUNNING. StartJobRun is the arrival of the first one that was accepted. \"Visible\" is the \
         arrival at a watch, so it includes the API server's and the watch's own delay. API-server requests are all \
         requests for resources less the creates of the load test; those of the API server to itself are in them. CPU \
         time is exact to 10 ms. \"Others\" is everything else on the machine.\n",
        figures.at,
        figures.machine.describe(),
        figures.command,
        figures.kubernetes,
        figures.version,
    )
}

fn shares(phase: &Phase) -> String {
    let share = |ms: f64| ratio(ms / 10.0, phase.seconds);
    let cpu = &phase.cpu_ms;
    let mut text = format!(
        "controller {:.2}, kube-apiserver {:.0}, etcd {:.0}, load test and AWS {:.0}, others {:.0}",
        share(cpu.controller),
        share(cpu.api_server),
        share(cpu.etcd),
        share(cpu.load),
        share(cpu.others)
    );
    if cpu.stolen > 0.0 {
        write!(text, ", taken by the host {:.0}", share(cpu.stolen)).ok();
    }
    text
}

fn quantiles(quantiles: Option<Quantiles>) -> String {
    let Some(Quantiles { p50, p95, p99, max }) = quantiles else { return NOTHING.to_owned() };
    let [p50, p95, p99, max] = [p50, p95, p99, max].map(milliseconds);
    format!("{p50} / {p95} / {p99} / {max}")
}

fn milliseconds(ms: f64) -> String {
    match ms.abs() {
        size if size < 10.0 => format!("{ms:.1} ms"),
        size if size < 1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.2} s", ms / 1000.0),
    }
}

fn counts<N: std::fmt::Display>(counts: &BTreeMap<String, N>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    shown.join(", ")
}

fn of_runs(value: f64, runs: usize) -> f64 {
    ratio(value, float(u64::try_from(runs).unwrap_or(u64::MAX)))
}

fn ratio(value: f64, of: f64) -> f64 {
    if of > 0.0 { value / of } else { 0.0 }
}

/// Exact for all counts that a load reaches.
fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

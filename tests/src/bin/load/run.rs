//! One load from its start to its figures.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use crate::expect;
use crate::figures::{Figures, Times, duplicates, pace};
use crate::machine::Machine;
use crate::options::{Command, Scenario};
use crate::phase::{Mark, Phase};
use crate::quota::QuotaUse;
use crate::removal;
use crate::report;
use crate::restart;
use crate::rig::Rig;
use crate::watching::Progress;
use crate::workload::{Created, Workload};

/// How often a line of progress is printed, and everything is checked to be running.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Not in step with looks at whole seconds.
const BETWEEN_ENDS: Duration = Duration::from_millis(1030);
/// Well above what any controller should take.
const ENDS_SHOW_WITHIN: Duration = Duration::from_mins(2);

/// Runs one load, prints its figures and returns what is wrong with them.
pub(crate) async fn one(command: &Command, scenario: &Scenario) -> Result<Vec<String>> {
    let figures = measure("load", command, scenario).await?;
    println!("{}", report::text(&figures));
    if let Some(path) = &scenario.json {
        report::write_json(&figures, path)?;
    }
    Ok(expect::complaints(&figures, scenario))
}

/// Runs one load.
pub(crate) async fn measure(name: &str, command: &Command, scenario: &Scenario) -> Result<Figures> {
    scenario.check()?;
    let machine = Machine::read()?;
    eprintln!("{name}: {}", scenario.describe());
    let rig = Rig::start(command, scenario).await?;
    let workload =
        Workload::prepare(&rig.plane, &scenario.shares(), &rig.clusters, scenario.parallel).await?;

    let begin = Mark::begin(&rig).await?;
    let created = tokio::select! {
        created = load(&rig, scenario, &workload) => created?,
        failed = watch_over(&rig, scenario) => failed?,
    };
    let end = Mark::end(&rig).await?;

    let mut steady = None;
    if scenario.idle_seconds > 0 {
        sleep(scenario.settle).await;
        eprintln!("measuring the steady state for {} s", scenario.idle_seconds);
        let from = Mark::begin(&rig).await?;
        sleep(Duration::from_secs(scenario.idle_seconds)).await;
        let to = Mark::end(&rig).await?;
        steady = Some((Phase::between(&from, &to, 0), to.used()));
    }
    end_some(&rig, scenario).await?;
    rig.ensure_running().await?;
    let last = steady.as_ref().map_or(end.used(), |(_, used)| *used);
    let restart = match rig.clusters.first() {
        Some(namespace) if scenario.restart => Some(restart::measure(&rig, scenario, namespace).await?),
        _ => None,
    };
    let removal = if scenario.delete { Some(removal::measure(&rig, scenario).await?) } else { None };

    let seen = rig.watching.seen();
    let progress = rig.watching.progress().borrow().clone();
    let jobs = rig.simulator.snapshot().job_runs;
    let requests = rig.simulator.requests_since(0);
    let twice = duplicates(&jobs);
    let mut ended = BTreeMap::new();
    for (state, _) in seen.values().filter_map(|seen| seen.end.as_ref()) {
        *ended.entry(state.clone()).or_default() += 1;
    }
    Ok(Figures {
        name: name.to_owned(),
        load: scenario.describe(),
        command: command.words.join(" "),
        at: Timestamp::now(),
        machine,
        kubernetes: rig.kubernetes.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        optimised: !cfg!(debug_assertions),
        runs: scenario.runs,
        ended,
        unfinished: scenario.runs.saturating_sub(finished(&progress, scenario)),
        times: Times::of(&created, &seen, &jobs, &requests, scenario.rate.is_some()),
        created_per_second: pace(&created),
        busy: Phase::between(&begin, &end, created.len().try_into()?),
        resident_mib: mib(end.used().resident_bytes),
        resident_steady_mib: steady.as_ref().map(|(_, used)| mib(used.resident_bytes)),
        steady: steady.map(|(phase, _)| phase),
        removal,
        quota: QuotaUse::of(&scenario.quotas.read, &created, &requests),
        peak_mib: mib(last.peak_bytes),
        restart,
        kills: rig.controllers.kills().await,
        watch_restarts: progress.begins.saturating_sub(1),
        extra_jobs: twice.values().map(|jobs| jobs.len() - 1).sum(),
        duplicates: twice,
    })
}

/// Creates the JobRuns and waits until all are where they should be, or the deadline has passed.
async fn load(rig: &Rig, scenario: &Scenario, workload: &Workload) -> Result<Vec<Created>> {
    let created = workload.create(scenario.rate).await?;
    eprintln!("{} JobRuns created, {:.0} a second", created.len(), pace(&created));
    let deadline = Instant::now() + scenario.deadline;
    let mut progress = rig.watching.progress();
    let all = progress.wait_for(|progress| finished(progress, scenario) >= scenario.runs);
    let Ok(all) = timeout_at(deadline, all).await else {
        // The figures of what was done are still worth printing.
        eprintln!("giving up after {} s", scenario.deadline.as_secs_f64());
        return Ok(created);
    };
    all.context("the watch has ended")?;
    Ok(created)
}

/// Ends runs of 60 minutes before their time, as a user of the AWS console could, and waits until that shows.
async fn end_some(rig: &Rig, scenario: &Scenario) -> Result<()> {
    if scenario.ends == 0 {
        return Ok(());
    }
    eprintln!("ending {} runs, one a second", scenario.ends);
    let ended = rig.watching.progress().borrow().ended;
    let jobs = rig.simulator.snapshot().job_runs;
    // From all virtual clusters in turn, as they were created.
    for job in jobs.iter().filter(|job| job.state == "RUNNING").take(scenario.ends) {
        sleep(BETWEEN_ENDS).await;
        rig.simulator.force_job_run(&job.id, "COMPLETED", None, None)?;
    }
    let mut progress = rig.watching.progress();
    let all = progress.wait_for(|progress| progress.ended >= ended + scenario.ends);
    let all = timeout(ENDS_SHOW_WITHIN, all).await.context("the ends don't show")?;
    all.context("the watch has ended")?;
    Ok(())
}

/// Kills controllers if asked to and prints progress; returns only when something is broken.
async fn watch_over(rig: &Rig, scenario: &Scenario) -> Result<Vec<Created>> {
    let kills = async {
        match scenario.kill_every {
            Some(every) => rig.controllers.kill_for_ever(every).await,
            None => std::future::pending().await,
        }
    };
    let looks = async {
        let mut ticks = interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            rig.ensure_running().await?;
            let now = rig.watching.progress().borrow().clone();
            eprintln!(
                "{} created, {} with an id, {} running, {} ended",
                now.known,
                now.with_id,
                now.running.saturating_sub(now.ended),
                now.ended
            );
            if let Some(error) = now.error {
                eprintln!("the watch failed and began anew: {error}");
            }
        }
    };
    let broken: Result<()> = tokio::select! {
        broken = kills => broken,
        broken = looks => broken,
    };
    broken?;
    bail!("nothing was watched over")
}

/// How many JobRuns are where they should be.
fn finished(progress: &Progress, scenario: &Scenario) -> usize {
    if scenario.long { progress.running } else { progress.ended }
}

pub(crate) fn mib(bytes: u64) -> f64 {
    // A gibibyte in kibibytes fits, which is all that matters here.
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}

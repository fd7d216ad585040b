//! The figures of one load, computed from what was created, what was seen and what the simulator did.
//!
//! Pure but for its types. Invariant: a JobRun that lacks a time is left out of that figure, and counted as unfinished.

use std::collections::{BTreeMap, HashMap};

use emr_simulator::{JobRunSnapshot, LoggedRequest};
use jiff::Timestamp;
use serde::Serialize;

use crate::machine::Machine;
use crate::phase::Phase;
use crate::quota::QuotaUse;
use crate::removal::Removal;
use crate::restart::Restart;
use crate::watching::Seen;
use crate::workload::Created;

/// Everything that a load's report says.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) load: String,
    pub(crate) command: String,
    pub(crate) at: Timestamp,
    pub(crate) machine: Machine,
    pub(crate) kubernetes: String,
    /// Of the load test, the simulator and the operator, which are of one workspace.
    pub(crate) version: String,
    pub(crate) optimised: bool,
    pub(crate) runs: usize,
    /// Final states, as the API server shows them.
    pub(crate) ended: BTreeMap<String, usize>,
    /// JobRuns that didn't get as far as they should.
    pub(crate) unfinished: usize,
    pub(crate) times: Times,
    pub(crate) created_per_second: f64,
    /// From when they are created to when all have ended (with `--long`, are RUNNING).
    pub(crate) busy: Phase,
    pub(crate) resident_mib: f64,
    /// Nothing moves: all have ended (with `--long`, are RUNNING).
    pub(crate) steady: Option<Phase>,
    pub(crate) resident_steady_mib: Option<f64>,
    pub(crate) peak_mib: f64,
    /// With `--delete`: from the request that deletes all to when they are gone.
    pub(crate) removal: Option<Removal>,
    /// With quotas: how much of that of StartJobRun was used.
    pub(crate) quota: Option<QuotaUse>,
    pub(crate) restart: Option<Restart>,
    pub(crate) kills: usize,
    pub(crate) watch_restarts: usize,
    /// JobRuns with more than one Spark job, and those jobs.
    pub(crate) duplicates: BTreeMap<String, Vec<String>>,
    /// Spark jobs beyond one for each JobRun.
    pub(crate) extra_jobs: usize,
}

/// Times in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Times {
    /// From before the create request to the arrival of the StartJobRun that was accepted.
    pub(crate) start: Option<Quantiles>,
    /// The same from the create's answer; below zero when the controller was faster than the answer.
    pub(crate) start_from_answer: Option<Quantiles>,
    /// From before the create request to `status.id` in the watch.
    pub(crate) id: Option<Quantiles>,
    /// From the run's true end to the final state in the watch.
    pub(crate) end: Option<Quantiles>,
    /// The create request itself.
    pub(crate) create: Option<Quantiles>,
    /// How late the load test was with it; at once, all but the first few wait for their turn.
    pub(crate) late: Option<Quantiles>,
}

/// Nearest ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    /// None when there are no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied()
        };
        Some(Self { p50: at(50)?, p95: at(95)?, p99: at(99)?, max: at(100)? })
    }
}

impl Times {
    pub(crate) fn of(
        created: &[Created],
        seen: &HashMap<String, Seen>,
        jobs: &[JobRunSnapshot],
        requests: &[LoggedRequest],
        at_a_rate: bool,
    ) -> Self {
        let started = starts(requests);
        let ends: HashMap<&str, Timestamp> =
            jobs.iter().filter_map(|job| Some((job.id.as_str(), job.finished_at?))).collect();
        let started_at = |run: &Created| started.get(run.name.as_str()).copied();
        let seen_of = |run: &Created| seen.get(&run.name);
        Self {
            start: Quantiles::of(created.iter().filter_map(|run| Some(ms(run.sent, started_at(run)?)))),
            start_from_answer: Quantiles::of(
                created.iter().filter_map(|run| Some(ms(run.replied, started_at(run)?))),
            ),
            id: Quantiles::of(
                created.iter().filter_map(|run| Some(ms(run.sent, seen_of(run)?.id.as_ref()?.1))),
            ),
            end: Quantiles::of(created.iter().filter_map(|run| {
                let seen = seen_of(run)?;
                let (id, _) = seen.id.as_ref()?;
                Some(ms(*ends.get(id.as_str())?, seen.end.as_ref()?.1))
            })),
            create: Quantiles::of(created.iter().map(|run| ms(run.sent, run.replied))),
            late: Quantiles::of(
                created.iter().filter(|_| at_a_rate).map(|run| run.late.as_secs_f64() * 1000.0),
            ),
        }
    }
}

/// When the first StartJobRun that was accepted came in, by the run's name.
pub(crate) fn starts(requests: &[LoggedRequest]) -> HashMap<&str, Timestamp> {
    let mut starts = HashMap::new();
    for request in requests {
        if request.operation != "StartJobRun" || request.error_code.is_some() {
            continue;
        }
        if let Some(name) = request.body.get("name").and_then(serde_json::Value::as_str) {
            starts.entry(name).or_insert(request.at);
        }
    }
    starts
}

/// The jobs of each JobRun that has more than one: their ids and tokens.
pub(crate) fn duplicates(jobs: &[JobRunSnapshot]) -> BTreeMap<String, Vec<String>> {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for job in jobs {
        let shown = format!("{} (token {})", job.id, job.client_token);
        by_name.entry(job.name.clone()).or_default().push(shown);
    }
    by_name.retain(|_, jobs| jobs.len() > 1);
    by_name
}

/// How many are created a second, the first and the last one counted.
pub(crate) fn pace(created: &[Created]) -> f64 {
    let first = created.iter().map(|run| run.sent).min();
    let last = created.iter().map(|run| run.replied).max();
    let (Some(first), Some(last), Ok(number)) = (first, last, u32::try_from(created.len())) else {
        return 0.0;
    };
    f64::from(number) * 1000.0 / ms(first, last).max(1.0)
}

fn ms(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let hundred = Quantiles::of((1..=100).rev().map(f64::from));
        assert_eq!(hundred, Some(Quantiles { p50: 50.0, p95: 95.0, p99: 99.0, max: 100.0 }));
        assert_eq!(Quantiles::of([7.0]), Some(Quantiles { p50: 7.0, p95: 7.0, p99: 7.0, max: 7.0 }));
        assert_eq!(Quantiles::of([]), None);
    }
}

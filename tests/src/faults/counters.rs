//! Whether the operator's own counters add up: its calls are those in AWS's journal, its gauges what the API server has.
//!
//! What a process has counted is lost with it, so those that live in the end are asked, about themselves.
//! Must not: wait. Invariant: an empty list means that every figure was there and equal.

use std::collections::BTreeMap;

use emr_simulator::LoggedRequest;
use kube::api::DynamicObject;

use super::truth::{Kind, Wrong};
use crate::objects::status;
use crate::operator::Metrics;

/// The figures of a process, and the key that it signs with.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Its access key.
    pub access_key: String,
    /// What it counts.
    pub metrics: Metrics,
}

/// Everything in which the figures differ.
pub fn judge(processes: &[Counted], runs: &[DynamicObject], calls: &[LoggedRequest]) -> Vec<Wrong> {
    let mut differ = Vec::new();
    let mut leaders = 0;
    for Counted { access_key, metrics } in processes {
        let mut compare = |what: &str, counted: f64, is: usize| {
            if (counted - as_figure(is)).abs() > 0.5 {
                differ.push(format!("{access_key} counts {counted} {what}, and there are {is}"));
            }
        };
        compare("runs that are observed", metrics.sum("emrcontainers_poller_tracked_runs", &[]), 0);
        compare("calls that wait for quota", metrics.sum("emrcontainers_quota_waiting", &[]), 0);
        let own: Vec<_> = calls.iter().filter(|call| call.access_key.as_ref() == Some(access_key)).collect();
        compare_calls(metrics, &own, &mut compare);
        if metrics.sum("emrcontainers_leader", &[]) > 0.5 {
            leaders += 1;
            compare_states(metrics, runs, &mut compare);
        }
    }
    if leaders != 1 {
        differ.push(format!("{leaders} processes say that they lead"));
    }
    differ.into_iter().map(|what| Wrong { kind: Kind::Counter, what }).collect()
}

fn compare_calls(metrics: &Metrics, calls: &[&LoggedRequest], compare: &mut impl FnMut(&str, f64, usize)) {
    let (mut by_operation, mut by_code) = (BTreeMap::<&str, usize>::new(), BTreeMap::<u16, usize>::new());
    // Calls of STS aren't counted.
    let calls = || calls.iter().filter(|call| !call.operation.starts_with("Get"));
    for call in calls() {
        let Some(code) = call.status else { continue };
        *by_operation.entry(&call.operation).or_default() += 1;
        *by_code.entry(code).or_default() += 1;
    }
    // A call may take two requests.
    let requests = |labels: &[(&str, &str)]| metrics.sum("emrcontainers_aws_attempts_total", labels);
    let unanswered = requests(&[("status_code", "0")]);
    for (operation, is) in &by_operation {
        let answered = requests(&[("op", operation)]) - requests(&[("op", operation), ("status_code", "0")]);
        compare(operation, answered, *is);
    }
    compare("answers of AWS", requests(&[]) - unanswered, by_operation.values().sum());
    for (code, is) in &by_code {
        compare(&format!("answers {code}"), requests(&[("status_code", &code.to_string())]), *is);
    }
    // A request that had no answer may not have arrived.
    let arrived = calls().filter(|call| call.status.is_none()).count();
    if unanswered < as_figure(arrived) {
        compare("calls without an answer", unanswered, arrived);
    }
    let accepted = calls().filter(|call| call.operation == "StartJobRun" && call.status == Some(200));
    compare("submissions", metrics.sum("emrcontainers_job_run_submissions_total", &[]), accepted.count());
}

fn compare_states(metrics: &Metrics, runs: &[DynamicObject], compare: &mut impl FnMut(&str, f64, usize)) {
    for state in [
        "UNSUBMITTED",
        "PENDING",
        "SUBMITTED",
        "RUNNING",
        "CANCEL_PENDING",
        "COMPLETED",
        "FAILED",
        "CANCELLED",
    ] {
        let is = runs.iter().filter(|run| status(run, "state").unwrap_or("UNSUBMITTED") == state).count();
        let counted = metrics.sum("emrcontainers_job_runs", &[("state", state)]);
        compare(&format!("runs that are {state}"), counted, is);
    }
}

fn as_figure(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_that_do_not_add_up_are_found() {
        let call: LoggedRequest = serde_json::from_value(json!({
            "n": 1, "at": Timestamp::UNIX_EPOCH, "account": "1", "region": "r", "operation": "StartJobRun", "query": [],
            "body": null, "status": 200, "accessKey": "K",
        }))
        .unwrap();
        let run: DynamicObject =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"state": "COMPLETED"}}))
                .unwrap();
        let right = "emrcontainers_leader 1\n\
            emrcontainers_job_runs{state=\"COMPLETED\"} 1\nemrcontainers_job_run_submissions_total 1\n\
            emrcontainers_aws_attempts_total{op=\"StartJobRun\",status_code=\"200\"} 1\n";
        let wrong = |page: &str| {
            let counted = Counted { access_key: "K".to_owned(), metrics: Metrics::parse(page) };
            judge(&[counted], std::slice::from_ref(&run), std::slice::from_ref(&call)).len()
        };
        assert_eq!(wrong(right), 0);
        assert_eq!(wrong(&right.replace("leader 1", "leader 0")), 1);
        assert_eq!(wrong(&right.replace("COMPLETED\"} 1", "RUNNING\"} 1")), 2);
        assert_eq!(wrong(&right.replace("submissions_total 1", "submissions_total 2")), 1);
        assert_eq!(wrong(&right.replace("status_code=\"200\"} 1", "status_code=\"200\"} 2")), 3);
        let lost = "emrcontainers_aws_attempts_total{op=\"StartJobRun\",status_code=\"0\"} 1\n";
        assert_eq!(wrong(&format!("{right}{lost}")), 0, "it may not have arrived");
        for more in ["emrcontainers_poller_tracked_runs 1\n", "emrcontainers_quota_waiting 1\n"] {
            assert_eq!(wrong(&format!("{right}{more}")), 1, "{more}");
        }
        let failed = "emrcontainers_aws_attempts_total{op=\"ListJobRuns\",status_code=\"500\"} 1\n";
        assert_eq!(wrong(&format!("{right}{failed}")), 1, "an answer too many");
    }
}

//! The text of the metrics and its description agree.

use super::*;

/// A set in which every metric has a sample.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    metrics.pass(Kind::JobRun, Outcome::Ok, Duration::from_millis(3));
    metrics.set_job_runs(RunState::CancelPending, 2);
    metrics.set_shadow_decisions(Kind::JobRun, Decision::TakeOver, 1);
    metrics.submitted(Duration::from_millis(8));
    metrics.state_lag(Duration::from_secs(1));
    metrics.status_written(Kind::VirtualCluster);
    metrics.event_published();
    metrics.event_dropped(Dropped::QueueFull);
    metrics.looked(Look::Ended, 3);
    metrics.set_tracked_runs(4);
    metrics.hint(HintOutcome::Moved);
    metrics.hint_refuted();
    metrics.hint_queue_failed();
    metrics.set_quota_waiting(5);
    metrics.aws_request("StartJobRun");
    metrics.aws_request_failed("StartJobRun", Some(429));
    metrics.aws_request_failed("ListJobRuns", None);
    metrics.aws_throttled("StartJobRun");
    metrics.set_leader(true);
    metrics.watch_error(Kind::Role);
    metrics.undecodable_object(Kind::JobRun);
    metrics
}

#[test]
fn the_description_lists_exactly_what_is_shown() {
    let text = touched().encode().unwrap();
    let mut shown: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, type_)| match type_ {
            "counter" => (format!("{name}_total"), type_.to_owned()),
            "info" => (format!("{name}_info"), type_.to_owned()),
            _ => (name.to_owned(), type_.to_owned()),
        })
        .collect();
    let mut described: Vec<_> =
        describe().into_iter().map(|metric| (metric.name, metric.type_.to_owned())).collect();
    shown.sort();
    described.sort();
    assert_eq!(described, shown);
}

#[test]
fn upstreams_metrics_keep_their_names_and_labels() {
    let text = touched().encode().unwrap();
    for line in [
        r#"ack_outbound_api_requests_total{service="emrcontainers",op_type="CREATE",op_id="StartJobRun"} 1"#,
        r#"ack_outbound_api_requests_error_total{service="emrcontainers",op_id="StartJobRun",status_code="429"} 1"#,
        r#"ack_outbound_api_requests_error_total{service="emrcontainers",op_id="ListJobRuns",status_code="0"} 1"#,
        r#"emrcontainers_reconcile_passes_total{kind="jobrun",outcome="ok"} 1"#,
        r#"emrcontainers_job_runs{state="CANCEL_PENDING"} 2"#,
        "emrcontainers_poller_runs_woken_total 3",
        "# EOF",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is missing from\n{text}");
    }
    assert!(
        text.contains("HELP emrcontainers_leader 1 while this replica holds the lease, or needs none.\n"),
        "{text}"
    );
}

#[test]
fn every_operation_has_upstreams_type() {
    for (operation, expected) in [
        ("StartJobRun", "CREATE"),
        ("CancelJobRun", "DELETE"),
        ("DescribeJobRun", "READ_ONE"),
        ("ListJobRuns", "READ_MANY"),
        ("TagResource", "UPDATE"),
        ("UntagResource", "UPDATE"),
        ("UpdateVirtualCluster", "UPDATE"),
    ] {
        assert_eq!(operation_type(operation), expected, "{operation}");
    }
}

#[test]
fn a_gauge_can_be_computed_at_the_scrape() {
    let metrics = Metrics::new();
    metrics.on_scrape(|metrics| metrics.set_tracked_runs(7));
    assert!(metrics.encode().unwrap().contains("emrcontainers_poller_tracked_runs 7\n"));
}

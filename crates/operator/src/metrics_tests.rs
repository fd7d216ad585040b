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
    metrics.aws_attempt("StartJobRun", Some(429));
    metrics.aws_throttled("StartJobRun");
    metrics.pass(Kind::JobRun, Outcome::Later, Duration::from_secs(2));
    metrics.pass(Kind::JobRun, Outcome::Panic, Duration::from_secs(2));
    let queue = metrics.queue(Kind::JobRun, 20);
    queue.depth.set(6);
    queue.adds.inc();
    queue.waited.observe(0.5);
    metrics.api_request(&http::Method::PATCH, Arc::new("10.0.0.1:443".to_owned()), Some(409));
    metrics.api_request(&http::Method::GET, Arc::new("10.0.0.1:443".to_owned()), None);
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
        r#"ack_outbound_api_requests_error_total{service="emrcontainers",op_id="ListJobRuns",status_code="-1"} 1"#,
        r#"emrcontainers_aws_attempts_total{op="StartJobRun",status_code="429"} 1"#,
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
fn what_dashboards_for_controller_runtime_look_for_is_there_for_each_controller_that_runs() {
    let text = touched().encode().unwrap();
    for line in [
        r#"controller_runtime_reconcile_total{controller="jobrun",result="success"} 1"#,
        r#"controller_runtime_reconcile_total{controller="jobrun",result="requeue_after"} 1"#,
        r#"controller_runtime_reconcile_total{controller="jobrun",result="requeue"} 0"#,
        r#"controller_runtime_reconcile_total{controller="jobrun",result="error"} 1"#,
        r#"controller_runtime_reconcile_errors_total{controller="jobrun"} 1"#,
        r#"controller_runtime_reconcile_panics_total{controller="jobrun"} 1"#,
        r#"controller_runtime_reconcile_timeouts_total{controller="jobrun"} 0"#,
        r#"controller_runtime_reconcile_time_seconds_count{controller="jobrun"} 3"#,
        r#"controller_runtime_max_concurrent_reconciles{controller="jobrun"} 20"#,
        r#"controller_runtime_active_workers{controller="jobrun"} 0"#,
        r#"workqueue_depth{name="jobrun",controller="jobrun"} 6"#,
        r#"workqueue_adds_total{name="jobrun",controller="jobrun"} 1"#,
        r#"workqueue_queue_duration_seconds_count{name="jobrun",controller="jobrun"} 1"#,
        r#"workqueue_work_duration_seconds_count{controller="jobrun",name="jobrun"} 3"#,
        r#"workqueue_retries_total{controller="jobrun",name="jobrun"} 1"#,
        r#"rest_client_requests_total{code="409",method="PATCH",host="10.0.0.1:443"} 1"#,
        r#"rest_client_requests_total{code="<error>",method="GET",host="10.0.0.1:443"} 1"#,
        r#"leader_election_master_status{name="ack-emrcontainers.services.k8s.aws"} 1"#,
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains(r#"controller="virtualcluster""#), "it has no queue:\n{text}");
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

//! What upstream gets wrong about JobRuns, each by its number: runs are neither lost nor doubled, and none is frozen.
//!
//! Those of a process that ends in between are in `defects_process`.

use anyhow::{Context, Result, ensure};
use emr_simulator::Rule;
use serde_json::json;
use tests::cluster::TestEnv;
use tests::history::History;
use tests::manifest::job_run;
use tests::objects::{condition, status};
use tests::simulator::{all_calls, calls, endless, until};

fn overrides(yaml: &str) -> String {
    let text = yaml.lines().fold(String::new(), |text, line| format!("{text}\n  {line}"));
    format!("configurationOverrides: |{text}")
}

/// One job, its id saved, its end seen.
async fn ensure_one_completed(env: &TestEnv, name: &str) -> Result<()> {
    let run = env.job_run_in(name, "COMPLETED").await?;
    let job = env.the_job(name)?;
    ensure!(status(&run, "id") == Some(job.id.as_str()));
    ensure!(condition(&run, "ACK.Terminal").is_none(), "{run:?}");
    let ready = condition(&run, "Ready").context("a finished run has Ready")?;
    ensure!(ready.status == "True", "{ready:?}");
    Ok(())
}

#[tokio::test]
async fn d1_a_run_without_log_stream_prefix_is_submitted_once() -> Result<()> {
    let env = TestEnv::new("d1").await?;
    env.ready_cluster("vc").await?;
    let text = overrides(
        "monitoringConfiguration:\n  cloudWatchMonitoringConfiguration:\n    logGroupName: /emr/jobs",
    );
    env.apply(&job_run("no-prefix", "vc", &text)).await?;
    ensure_one_completed(&env, "no-prefix").await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn d1_s3_monitoring_without_a_uri_is_refused_once() -> Result<()> {
    let env = TestEnv::new("d1-s3").await?;
    env.ready_cluster("vc").await?;
    let text = overrides("monitoringConfiguration:\n  s3MonitoringConfiguration: {}");
    env.apply(&job_run("no-uri", "vc", &text)).await?;
    let run = env.job_run_in("no-uri", "FAILED").await?;
    let details = status(&run, "stateDetails").unwrap_or_default();
    ensure!(details.to_lowercase().contains("loguri"), "the field should be named: {details}");
    ensure!(env.jobs("no-uri").is_empty() && calls(env.simulator(), "StartJobRun") <= 1);
    Ok(())
}

#[tokio::test]
async fn d7_a_deleted_run_stays_until_its_job_is_cancelled() -> Result<()> {
    let env = TestEnv::new("d7").await?;
    env.simulator().add_outcome(Rule { cancel_seconds: Some(2.0), ..endless("stream") })?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("stream", "vc", "")).await?;
    env.job_run_in("stream", "RUNNING").await?;
    let history = History::record(env.job_runs(), "stream").await?;
    env.delete(env.job_runs(), "stream").await?;
    let job = env.the_job("stream")?;
    ensure!(job.state == "CANCELLED", "the object went while the job was {}", job.state);
    ensure!(calls(env.simulator(), "CancelJobRun") == 1);
    let states = history.statuses("state").await?;
    ensure!(states == ["RUNNING", "CANCEL_PENDING", "CANCELLED"], "a watch saw {states:?}");
    env.event("stream", "Cancelled").await?;
    Ok(())
}

#[tokio::test]
async fn d8_a_run_that_aws_no_longer_knows_is_told_and_released() -> Result<()> {
    let env = TestEnv::new("d8").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&format!("{}---{}", job_run("kept", "vc", ""), job_run("deleted", "vc", ""))).await?;
    env.job_run_in("kept", "RUNNING").await?;
    env.job_run_in("deleted", "RUNNING").await?;
    env.simulator().reset();
    env.delete(env.job_runs(), "deleted").await?;
    let run = env.job_run_in("kept", "FAILED").await?;
    ensure!(status(&run, "failureReason") == Some("INTERNAL_ERROR"));
    env.event("kept", "NotFound").await?;
    let before = all_calls(env.simulator());
    env.delete(env.job_runs(), "kept").await?;
    ensure!(all_calls(env.simulator()) == before, "a lost run should be released without a call");
    Ok(())
}

#[tokio::test]
async fn d10_a_run_without_persistent_app_ui_is_not_frozen() -> Result<()> {
    let env = TestEnv::new("d10").await?;
    env.ready_cluster("vc").await?;
    let text =
        overrides("monitoringConfiguration:\n  s3MonitoringConfiguration:\n    logUri: s3://bucket/logs");
    env.apply(&job_run("default-ui", "vc", &text)).await?;
    ensure_one_completed(&env, "default-ui").await
}

#[tokio::test]
async fn d11_what_the_service_adds_or_drops_is_no_drift() -> Result<()> {
    let env = TestEnv::new("d11").await?;
    env.ready_cluster("vc").await?;
    let empty =
        "applicationConfiguration:\n- classification: spark-defaults\n  properties: {}\n  configurations: []";
    env.apply(&job_run("none", "vc", "")).await?;
    env.apply(&job_run("empty", "vc", &overrides(empty))).await?;
    ensure_one_completed(&env, "none").await?;
    ensure_one_completed(&env, "empty").await?;
    // Taken away after the start: upstream compares it with what the service still has.
    env.simulator().add_outcome(endless("less"))?;
    env.apply(&job_run("less", "vc", &overrides(empty))).await?;
    env.job_run_in("less", "RUNNING").await?;
    let less = json!({"spec": {"configurationOverrides": null, "executionRoleARN": null}});
    let generation = env.patch(env.job_runs(), "less", less).await?.metadata.generation;
    let run = env
        .until(env.job_runs(), "less", "should answer the edit", |run| {
            run.data.pointer("/status/observedGeneration").and_then(serde_json::Value::as_i64) == generation
        })
        .await?;
    ensure!(
        status(&run, "state") == Some("RUNNING") && condition(&run, "ACK.Terminal").is_none(),
        "{:?}",
        run.data
    );
    env.delete(env.job_runs(), "less").await?;
    ensure!(env.the_job("less")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn d12_another_reference_after_the_start_changes_nothing_at_aws() -> Result<()> {
    let env = TestEnv::new("d12").await?;
    env.simulator().add_outcome(Rule { running_seconds: Some(4.0), ..Rule::default() })?;
    let cluster = env.ready_cluster("vc").await?;
    env.apply(&job_run("moved", "vc", "")).await?;
    env.job_run_in("moved", "RUNNING").await?;
    let edited = env.apply(&job_run("moved", "no-such-cluster", "")).await?;
    let generation = edited.first().and_then(|run| run.metadata.generation);
    ensure!(generation == Some(2), "the reference can be changed");
    env.until(env.job_runs(), "moved", "should answer the new generation", |run| {
        run.data.pointer("/status/observedGeneration").and_then(serde_json::Value::as_i64) == generation
    })
    .await?;
    ensure_one_completed(&env, "moved").await?;
    ensure!(env.the_job("moved")?.virtual_cluster_id == cluster);
    ensure!(calls(env.simulator(), "CancelJobRun") == 0);
    // And once it has ended.
    env.apply(&job_run("moved", "another", "")).await?;
    let run = env
        .until(env.job_runs(), "moved", "should answer the third generation", |run| {
            run.data.pointer("/status/observedGeneration").and_then(serde_json::Value::as_i64) == Some(3)
        })
        .await?;
    ensure!(condition(&run, "Ready").is_some_and(|ready| ready.status == "True"), "{run:?}");
    Ok(())
}

#[tokio::test]
async fn d14_a_run_keeps_its_outcome_when_its_cluster_goes() -> Result<()> {
    let mut env = TestEnv::new("d14").await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("done", "vc", "")).await?;
    let before = env.job_run_in("done", "COMPLETED").await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    env.operator().terminate().await?;
    env.restart_operator().await?;
    env.apply(&job_run("waiting", "vc", "")).await?;
    env.event("waiting", "WaitingForReference").await?;
    let after = env.job_runs().get("done").await?;
    ensure!(after.metadata.resource_version == before.metadata.resource_version, "it was written: {after:?}");
    let calls = all_calls(env.simulator());
    env.delete(env.job_runs(), "done").await?;
    ensure!(all_calls(env.simulator()) == calls);
    Ok(())
}

/// A state that no filter of a list names is only told by DescribeJobRun, some seconds later.
#[tokio::test]
async fn d15_a_run_whose_state_is_missing_or_unknown_is_live() -> Result<()> {
    let env = TestEnv::new("d15").await?;
    let reported = |name: &str, state: &str| Rule {
        pending_seconds: Some(3600.0),
        reported_states: [("PENDING".to_owned(), state.to_owned())].into(),
        name: Some(name.to_owned()),
        ..Rule::default()
    };
    env.simulator().add_outcome(reported("empty", ""))?;
    env.simulator().add_outcome(reported("new", "HIBERNATED"))?;
    env.ready_cluster("vc").await?;
    env.apply(&format!("{}---{}", job_run("empty", "vc", ""), job_run("new", "vc", ""))).await?;
    let run = env.job_run_in("new", "HIBERNATED").await?;
    ensure!(condition(&run, "Ready").is_some_and(|ready| ready.status == "False"), "{run:?}");
    let id = env.the_job("empty")?.id;
    until(env.simulator(), "the other one should have been described", |aws| {
        let describes = |request: &emr_simulator::LoggedRequest| {
            request.operation == "DescribeJobRun" && request.id.as_ref() == Some(&id)
        };
        aws.requests_since(0).iter().any(describes)
    })
    .await?;
    for name in ["empty", "new"] {
        env.delete(env.job_runs(), name).await?;
        ensure!(env.the_job(name)?.state == "CANCELLED");
    }
    env.operator().ensure_running()
}

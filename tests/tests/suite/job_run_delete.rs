//! What becomes of the job when its JobRun is deleted.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use emr_simulator::{CancelRace, FaultKind, Rule};
use kube::api::DeleteParams;
use tests::cluster::{PATIENCE, TestEnv};
use tests::history::History;
use tests::manifest::job_run;
use tests::objects::condition;
use tests::simulator::{all_calls, calls, endless, fail, quick, until};
use tests::wait;

#[tokio::test]
async fn a_finished_run_is_released_without_a_call() -> Result<()> {
    let mut env = TestEnv::new("delete-done").await?;
    env.simulator().add_outcome(tests::simulator::failing("failed", "ImportError"))?;
    env.ready_cluster("vc").await?;
    env.apply(&format!("{}---{}", job_run("done", "vc", ""), job_run("failed", "vc", ""))).await?;
    env.job_run_in("done", "COMPLETED").await?;
    env.job_run_in("failed", "FAILED").await?;
    let before = all_calls(env.simulator());
    env.delete(env.job_runs(), "done").await?;
    ensure!(all_calls(env.simulator()) == before, "a call was made");
    // Nor by a process that has never seen it live.
    env.operator().terminate().await?;
    env.restart_operator().await?;
    let before = job_calls(&env);
    env.delete(env.job_runs(), "failed").await?;
    ensure!(job_calls(&env) == before, "a call was made");
    Ok(())
}

/// Calls about job runs: the new process also looks at its identity and the virtual cluster.
fn job_calls(env: &TestEnv) -> u64 {
    ["StartJobRun", "ListJobRuns", "DescribeJobRun", "CancelJobRun"]
        .iter()
        .map(|operation| calls(env.simulator(), operation))
        .sum()
}

#[tokio::test]
async fn a_run_that_was_never_submitted_is_released_without_a_call() -> Result<()> {
    let env = TestEnv::new("delete-wait").await?;
    env.apply(&job_run("waiting", "no-cluster", "")).await?;
    env.condition(env.job_runs(), "waiting", "ACK.ReferencesResolved", "Unknown").await?;
    env.apply(&job_run("refused", "no-cluster", "configurationOverrides: '{'")).await?;
    env.job_run_in("refused", "FAILED").await?;
    let before = all_calls(env.simulator());
    env.delete(env.job_runs(), "waiting").await?;
    env.delete(env.job_runs(), "refused").await?;
    ensure!(all_calls(env.simulator()) == before, "a call was made");
    Ok(())
}

#[tokio::test]
async fn a_cancel_that_is_throttled_is_repeated_and_is_no_error() -> Result<()> {
    let env = TestEnv::new("delete-slow").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("stream", "vc", "")).await?;
    env.job_run_in("stream", "RUNNING").await?;
    fail(env.simulator(), "CancelJobRun", FaultKind::Throttle, 2)?;
    let history = History::record(env.job_runs(), "stream").await?;
    env.delete(env.job_runs(), "stream").await?;
    ensure!(env.the_job("stream")?.state == "CANCELLED" && calls(env.simulator(), "CancelJobRun") == 3);
    let troubled = |run: &_| condition(run, "ACK.Recoverable").is_some();
    ensure!(!history.versions().await?.iter().any(troubled), "a throttle is no error");
    Ok(())
}

#[tokio::test]
async fn a_cancel_that_is_denied_is_told_and_repeated() -> Result<()> {
    let env = TestEnv::new("delete-denied").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("stream", "vc", "")).await?;
    env.job_run_in("stream", "RUNNING").await?;
    fail(env.simulator(), "CancelJobRun", FaultKind::AccessDenied, 2)?;
    env.job_runs().delete("stream", &DeleteParams::default()).await?;
    let run = env.condition(env.job_runs(), "stream", "ACK.Recoverable", "True").await?;
    let told = condition(&run, "ACK.Recoverable").map(|found| found.message.to_owned()).unwrap_or_default();
    ensure!(told.contains("can't be cancelled") && told.contains("AccessDenied"), "{told}");
    wait::deleted(env.job_runs(), "stream", PATIENCE).await?;
    ensure!(env.the_job("stream")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn a_run_may_complete_while_it_is_being_cancelled() -> Result<()> {
    let env = TestEnv::new("delete-race").await?;
    let rule = Rule {
        running_seconds: Some(3.0),
        cancel_race: CancelRace::Completion,
        cancel_seconds: Some(60.0),
        ..Rule::default()
    };
    env.simulator().add_outcome(rule)?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("quick", "vc", "")).await?;
    env.job_run_in("quick", "RUNNING").await?;
    let history = History::record(env.job_runs(), "quick").await?;
    env.delete(env.job_runs(), "quick").await?;
    ensure!(env.the_job("quick")?.state == "COMPLETED" && calls(env.simulator(), "CancelJobRun") == 1);
    ensure!(history.statuses("state").await?.last().map(String::as_str) == Some("COMPLETED"));
    Ok(())
}

#[tokio::test]
async fn a_run_that_ended_unnoticed_is_released() -> Result<()> {
    let env = TestEnv::new("delete-late").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("ended", "vc", "")).await?;
    env.job_run_in("ended", "RUNNING").await?;
    // From here on no list tells, and the cancel meets a run that has ended.
    let id = env.simulator().add_fault(emr_simulator::Fault::new("ListJobRuns", FaultKind::Status503))?;
    env.simulator().force_job_run(&env.the_job("ended")?.id, "COMPLETED", None, None)?;
    env.job_runs().delete("ended", &DeleteParams::default()).await?;
    until(env.simulator(), "a cancel should be tried", |aws| calls(aws, "CancelJobRun") > 0).await?;
    env.simulator().remove_fault(id);
    wait::deleted(env.job_runs(), "ended", PATIENCE).await?;
    ensure!(calls(env.simulator(), "CancelJobRun") == 1, "a run that has ended can't be cancelled again");
    Ok(())
}

#[tokio::test]
async fn with_the_policy_retain_the_job_goes_on() -> Result<()> {
    let env =
        TestEnv::with("retain", quick(), |operator| operator.arguments(&["--deletion-policy", "retain"]))
            .await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&format!("{}---{}", job_run("flag", "vc", ""), job_run("object", "vc", ""))).await?;
    env.job_run_in("flag", "RUNNING").await?;
    env.job_run_in("object", "RUNNING").await?;
    env.delete(env.job_runs(), "flag").await?;
    ensure!(env.the_job("flag")?.state == "RUNNING" && calls(env.simulator(), "CancelJobRun") == 0);
    env.event("flag", "Retained").await?;
    // The object's own word comes before the flag.
    env.annotate(env.job_runs(), "object", "services.k8s.aws/deletion-policy", "delete").await?;
    env.delete(env.job_runs(), "object").await?;
    ensure!(env.the_job("object")?.state == "CANCELLED");
    Ok(())
}

#[tokio::test]
async fn the_annotation_retain_leaves_the_job() -> Result<()> {
    let env = TestEnv::new("retain-one").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("kept", "vc", "")).await?;
    env.job_run_in("kept", "RUNNING").await?;
    env.annotate(env.job_runs(), "kept", "services.k8s.aws/deletion-policy", "retain").await?;
    env.delete(env.job_runs(), "kept").await?;
    ensure!(env.the_job("kept")?.state == "RUNNING" && calls(env.simulator(), "CancelJobRun") == 0);
    Ok(())
}

#[tokio::test]
async fn a_job_whose_id_was_lost_in_a_crash_is_found_and_cancelled() -> Result<()> {
    let mut env = TestEnv::new("delete-crash").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    fail(env.simulator(), "StartJobRun", FaultKind::HoldReply, 1)?;
    env.apply(&job_run("orphan", "vc", "")).await?;
    until(env.simulator(), "a reply should be held", |aws| aws.snapshot().held_replies == 1).await?;
    env.operator().kill9().await?;
    env.job_runs().delete("orphan", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    wait::deleted(env.job_runs(), "orphan", PATIENCE).await?;
    ensure!(env.the_job("orphan")?.state == "CANCELLED", "the job went on");
    ensure!(calls(env.simulator(), "StartJobRun") == 1 && calls(env.simulator(), "CancelJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn a_run_deleted_right_after_a_crash_before_its_start_is_released() -> Result<()> {
    let mut env = TestEnv::new("delete-early").await?;
    env.ready_cluster("vc").await?;
    fail(env.simulator(), "StartJobRun", FaultKind::Hang, 1)?;
    env.apply(&job_run("early", "vc", "")).await?;
    until(env.simulator(), "a start should be tried", |aws| calls(aws, "StartJobRun") == 1).await?;
    env.operator().kill9().await?;
    env.job_runs().delete("early", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    wait::deleted(env.job_runs(), "early", PATIENCE).await?;
    ensure!(env.jobs("early").is_empty() && calls(env.simulator(), "CancelJobRun") == 0);
    Ok(())
}

#[tokio::test]
async fn a_run_whose_start_had_no_answer_is_not_taken_for_missing_while_lists_lag() -> Result<()> {
    // For so long what lists don't show may be there all the same, as the operator has it.
    const LISTS_LAG: Duration = Duration::from_secs(15);
    let env = TestEnv::new("delete-lag").await?;
    env.simulator().add_outcome(Rule { list_delay_seconds: Some(6.0), ..endless("lost") })?;
    env.ready_cluster("vc").await?;
    let ready = Instant::now();
    wait::eventually(PATIENCE, "the operator should run for longer than lists lag", async || {
        Ok((ready.elapsed() > LISTS_LAG).then_some(()))
    })
    .await?;
    fail(env.simulator(), "StartJobRun", FaultKind::ReplyLost, 1)?;
    fail(env.simulator(), "StartJobRun", FaultKind::Status500, 1000)?;
    env.apply(&job_run("lost", "vc", "")).await?;
    until(env.simulator(), "the run should be started", |aws| !aws.snapshot().job_runs.is_empty()).await?;
    env.delete(env.job_runs(), "lost").await?;
    let job = env.the_job("lost")?;
    ensure!(job.state == "CANCELLED", "the object went, and its job is {}", job.state);
    Ok(())
}

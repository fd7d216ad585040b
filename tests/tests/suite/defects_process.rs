//! Upstream's duplicates and losses when a process or a write fails between StartJobRun and the saved id.

use anyhow::{Context, Result, ensure};
use emr_simulator::FaultKind;
use tests::cluster::{PATIENCE, TestEnv};
use tests::manifest::job_run;
use tests::objects::status;
use tests::process::Signal;
use tests::simulator::{calls, fail, until};
use tests::wait;

/// All starts of a run carried one token, and made one job, which the object knows.
async fn ensure_one_job(env: &TestEnv, name: &str) -> Result<()> {
    let run = env.job_run_in(name, "COMPLETED").await?;
    let job = env.the_job(name)?;
    ensure!(status(&run, "id") == Some(job.id.as_str()), "the object should know {}", job.id);
    let requests = env.simulator().requests_since(0);
    let mut tokens: Vec<_> = requests
        .iter()
        .filter(|request| {
            request.operation == "StartJobRun" && request.body.get("name").is_some_and(|sent| sent == name)
        })
        .map(|request| request.client_token.clone().unwrap_or_default())
        .collect();
    tokens.dedup();
    ensure!(tokens.len() == 1, "one token should serve all tries: {tokens:?}");
    Ok(())
}

/// Applies a run whose StartJobRun is carried out and not answered.
async fn start_without_reply(env: &TestEnv, name: &str) -> Result<()> {
    env.ready_cluster("vc").await?;
    fail(env.simulator(), "StartJobRun", FaultKind::HoldReply, 1)?;
    env.apply(&job_run(name, "vc", "")).await?;
    until(env.simulator(), "a reply should be held", |aws| aws.snapshot().held_replies == 1).await
}

#[tokio::test]
async fn d2_a_crash_after_start_job_run_does_not_start_twice() -> Result<()> {
    let mut env = TestEnv::new("d2").await?;
    start_without_reply(&env, "crashed").await?;
    env.operator().kill9().await?;
    env.simulator().release();
    let run = env.job_runs().get("crashed").await?;
    ensure!(status(&run, "id").is_none(), "nothing was saved before the crash");
    env.restart_operator().await?;
    ensure_one_job(&env, "crashed").await
}

#[tokio::test]
async fn d3_a_status_that_can_not_be_written_does_not_start_twice() -> Result<()> {
    let env = TestEnv::new("d3").await?;
    env.ready_cluster("vc").await?;
    env.operator().terminate().await?;
    let rules = |status: &str| {
        format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: operator}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: operator}}
rules:
- {{apiGroups: [emrcontainers.services.k8s.aws], resources: [jobruns, virtualclusters{status}], verbs: ['*']}}
- {{apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: operator}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: operator}}
subjects: [{{kind: ServiceAccount, name: operator}}]
"
        )
    };
    env.apply(&rules("")).await?;
    let kubeconfig = env.plane().kubeconfig_for_service_account(env.namespace(), "operator").await?;
    let limited = env.builder().kubeconfig(kubeconfig).without_waiting();
    let limited = limited.arguments(&["--enable-field-export-reconciler=false"]);
    let limited = limited.start(env.plane().scratch()).await?;
    limited.wait_unready("update jobruns.emrcontainers.services.k8s.aws/status in namespace").await?;
    env.apply(&job_run("unsaved", "vc", "")).await?;
    wait::eventually(PATIENCE, "two writes should be refused", async || {
        Ok((limited.log().matches("is forbidden").count() >= 2).then_some(()))
    })
    .await
    .with_context(|| limited.log())?;
    ensure!(env.jobs("unsaved").len() == 1 && calls(env.simulator(), "StartJobRun") == 1);
    ensure!(status(&env.job_runs().get("unsaved").await?, "id").is_none());
    env.apply(&rules(", jobruns/status, virtualclusters/status")).await?;
    ensure_one_job(&env, "unsaved").await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1, "the id was still known");
    limited.wait_ready(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn d4_two_operators_at_once_start_a_run_once() -> Result<()> {
    let env = TestEnv::new("d4").await?;
    env.ready_cluster("vc").await?;
    let second = env.builder().start(env.plane().scratch()).await?;
    let names: Vec<String> = (0..6).map(|number| format!("run-{number}")).collect();
    let yaml: Vec<String> = names.iter().map(|name| job_run(name, "vc", "")).collect();
    env.apply(&yaml.join("---")).await?;
    for name in &names {
        ensure_one_job(&env, name).await?;
    }
    second.ensure_running()?;
    env.operator().ensure_running()
}

#[tokio::test]
async fn d4_with_leader_election_only_one_of_two_acts() -> Result<()> {
    let env = TestEnv::new("d4-lease").await?;
    env.ready_cluster("vc").await?;
    env.operator().terminate().await?;
    let elected = env.builder().leader_election(env.namespace());
    let leader = elected.clone().start(env.plane().scratch()).await?;
    let follower = elected.without_waiting().start(env.plane().scratch()).await?;
    env.apply(&job_run("elected", "vc", "")).await?;
    ensure_one_job(&env, "elected").await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1);
    leader.ensure_running()?;
    follower.ensure_running()?;
    let metrics = follower.metrics().await?;
    let asked = metrics.sum("ack_outbound_api_requests_total", &[]);
    ensure!(asked < 1.0, "the follower made {asked} calls");
    let asked = leader.metrics().await?.sum("ack_outbound_api_requests_total", &[("op_id", "StartJobRun")]);
    ensure!((0.5..1.5).contains(&asked), "the leader made {asked} starts");
    Ok(())
}

#[tokio::test]
async fn d5_sigterm_lets_a_start_end_and_saves_its_id() -> Result<()> {
    let mut env = TestEnv::new("d5-drain").await?;
    start_without_reply(&env, "drained").await?;
    env.operator().process().signal(Signal::TERM)?;
    wait::eventually(PATIENCE, "the signal should be noticed", async || {
        Ok(env.operator().log().contains("stopping").then_some(()))
    })
    .await?;
    env.simulator().release();
    let code = env.operator().process().wait_exit(PATIENCE).await?;
    ensure!(code == 0, "the exit code is {code}");
    let run = env.job_runs().get("drained").await?;
    ensure!(status(&run, "id").is_some(), "the id was lost: {run:?}");
    env.restart_operator().await?;
    ensure_one_job(&env, "drained").await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn d5_sigterm_while_start_job_run_hangs_does_not_start_twice() -> Result<()> {
    let mut env = TestEnv::new("d5").await?;
    start_without_reply(&env, "interrupted").await?;
    // The call never ends, so the process gives up on it.
    env.operator().terminate().await?;
    let run = env.job_runs().get("interrupted").await?;
    ensure!(status(&run, "id").is_none(), "nothing was saved");
    env.restart_operator().await?;
    ensure_one_job(&env, "interrupted").await
}

#[tokio::test]
async fn d5_lost_replies_and_errors_after_acceptance_do_not_start_twice() -> Result<()> {
    let env = TestEnv::new("d5-lost").await?;
    env.ready_cluster("vc").await?;
    fail(env.simulator(), "StartJobRun", FaultKind::ReplyLost, 1)?;
    fail(env.simulator(), "StartJobRun", FaultKind::FailsAfter, 3)?;
    env.apply(&job_run("lost", "vc", "")).await?;
    ensure_one_job(&env, "lost").await
}

//! What an operator does first when it starts among many objects.

use anyhow::{Result, ensure};
use tests::cluster::{PATIENCE, TestEnv};
use tests::manifest::job_run;
use tests::wait;

#[tokio::test]
async fn a_run_is_started_before_all_runs_are_listed() -> Result<()> {
    let env = TestEnv::new("first-list").await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("old", "vc", "")).await?;
    env.job_run_in("old", "COMPLETED").await?;
    ensure!(env.operator().terminate().await? == 0);
    env.apply(&job_run("new", "vc", "")).await?;

    let (to_api, kubeconfig) = env.plane().line().await?;
    // The list of all; the one that is asked for first has a field selector between the two.
    to_api.hold("/jobruns?&labelSelector=&limit=500");
    let operator =
        env.builder().kubeconfig(kubeconfig).without_waiting().start(env.plane().scratch()).await?;
    env.job_run_in("new", "COMPLETED").await?;
    wait::eventually(PATIENCE, "the list of all should be on its way", async || {
        Ok(to_api.holds().then_some(()))
    })
    .await?;
    to_api.release();
    operator.wait_ready(PATIENCE).await?;
    // What the first list left out is known now.
    env.delete(env.job_runs(), "old").await?;
    env.the_job("old")?;
    env.the_job("new")?;
    Ok(())
}

#[tokio::test]
async fn runs_can_be_selected_by_their_state() -> Result<()> {
    let env = TestEnv::new("selectable").await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("done", "vc", "")).await?;
    env.apply(&job_run("waits", "nowhere", "")).await?;
    env.job_run_in("done", "COMPLETED").await?;
    let named = async |selector: &str| {
        env.kubectl(&["get", "jobruns", "--output=name", "--field-selector", selector]).await
    };
    let done = named("status.state=COMPLETED").await?;
    let open = named("status.state!=COMPLETED").await?;
    ensure!(done.contains("/done") && !done.contains("/waits"), "{done}");
    ensure!(open.contains("/waits") && !open.contains("/done"), "{open}");
    Ok(())
}

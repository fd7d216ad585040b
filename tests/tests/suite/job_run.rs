//! A JobRun from apply to its end, as a user sees it.

use anyhow::{Context, Result, ensure};
use tests::cluster::TestEnv;
use tests::manifest::job_run;
use tests::objects::{condition, status};

#[tokio::test]
async fn a_run_goes_from_apply_to_completed() -> Result<()> {
    let env = TestEnv::new("main-job").await?;
    let cluster = env.ready_cluster("vc").await?;
    env.apply(&job_run("word-count", "vc", "")).await?;
    let run = env.job_run_in("word-count", "COMPLETED").await?;
    let job = env.the_job("word-count")?;
    ensure!(status(&run, "id") == Some(&job.id) && status(&run, "virtualClusterID") == Some(&cluster));
    let ready = condition(&run, "Ready").context("a finished run has Ready")?;
    ensure!(ready.status == "True" && ready.reason == "COMPLETED", "{ready:?}");
    ensure!(condition(&run, "Reconciling").is_none() && condition(&run, "Stalled").is_none());
    env.delete(env.job_runs(), "word-count").await?;
    Ok(())
}

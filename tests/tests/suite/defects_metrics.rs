//! D20: upstream's metric of failed calls has a number of its own for a status code.

use anyhow::{Result, ensure};
use emr_simulator::FaultKind;
use tests::cluster::{PATIENCE, TestEnv};
use tests::manifest::job_run;
use tests::simulator::{fault, quick};
use tests::wait;

#[tokio::test]
async fn d20_failed_calls_are_counted_by_their_http_status_code_and_once_however_often_they_are_repeated()
-> Result<()> {
    let env =
        TestEnv::with("d20", quick(), |operator| operator.arguments(&["--http-client-timeout=1s"])).await?;
    env.ready_cluster("vc").await?;
    // Two in a row make one call: what fails in passing is repeated at once.
    for (kind, count) in [(FaultKind::AccessDenied, 1), (FaultKind::Status500, 2), (FaultKind::Hang, 1)] {
        env.simulator().add_fault(fault("StartJobRun", kind, count))?;
    }
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    let start = ("op_id", "StartJobRun");
    wait::eventually(PATIENCE, "the figures should be right", async || {
        let metrics = env.operator().metrics().await?;
        let errors = "ack_outbound_api_requests_error_total";
        for (code, expected) in [("403", 1.0), ("500", 1.0), ("-1", 1.0), ("0", 0.0), ("1", 0.0), ("2", 0.0)]
        {
            let counted = metrics.sum(errors, &[("service", "emrcontainers"), start, ("status_code", code)]);
            ensure!((counted - expected).abs() < 0.1, "{code}: {counted}");
        }
        let calls = metrics.sum("ack_outbound_api_requests_total", &[("op_type", "CREATE"), start]);
        ensure!((calls - 4.0).abs() < 0.1, "calls: {calls}");
        let requests = metrics.sum("emrcontainers_aws_attempts_total", &[("op", "StartJobRun")]);
        ensure!((requests - 5.0).abs() < 0.1, "requests: {requests}");
        Ok(Some(()))
    })
    .await
}

//! D26: upstream's controller makes no AWS call at all when `AWS_CA_BUNDLE` is set. Here it is honoured.

use anyhow::{Context, Result, ensure};
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::manifest::job_run;
use tests::operator::Operator;
use tests::simulator::{all_calls, calls, quick};
use tests::tls_front::TlsFront;

#[tokio::test]
async fn d26_a_private_authority_in_aws_ca_bundle_is_trusted() -> Result<()> {
    let simulator = emr_simulator::start(quick()).await?;
    let front = TlsFront::start(simulator.url(), shared().await?.scratch()).await?;
    let bundle = front.ca().to_str().context("a path")?.to_owned();
    let env = TestEnv::with("d26", quick(), |operator| {
        operator.aws_url(front.url()).environment("AWS_CA_BUNDLE", &bundle)
    })
    .await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    ensure!(all_calls(env.simulator()) == 0, "everything went through the front");
    ensure!(calls(&simulator, "StartJobRun") == 1 && calls(&simulator, "GetCallerIdentity") == 1);
    Ok(())
}

#[tokio::test]
async fn d26_without_the_bundle_the_operator_says_what_it_does_not_trust() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let simulator = emr_simulator::start(quick()).await?;
    let front = TlsFront::start(simulator.url(), plane.scratch()).await?;
    let operator =
        Operator::builder(plane.kubeconfig(), front.url()).watch_namespace("nobodys").without_waiting();
    let operator = operator.start(plane.scratch()).await?;
    operator.wait_unready("the AWS identity can't be looked up").await?;
    operator.wait_unready("invalid peer certificate: UnknownIssuer").await?;
    ensure!(
        operator.health("/readyz").await?.1.contains("AWS_CA_BUNDLE"),
        "{:?}",
        operator.health("/readyz").await?
    );
    ensure!(all_calls(&simulator) == 0);
    Ok(())
}

#[tokio::test]
async fn d26_a_bundle_that_cannot_be_used_is_an_error_at_the_start() -> Result<()> {
    let plane = shared().await?;
    let text = plane.scratch().join("no-certificates.pem");
    std::fs::write(&text, "there are no certificates in here\n")?;
    let broken = plane.scratch().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n")?;
    let cases = [
        ("/nowhere/ca.pem", "mount the file or unset the variable"),
        (text.to_str().context("a path")?, "it has no certificate"),
        (broken.to_str().context("a path")?, "is not a list of PEM certificates"),
    ];
    for (path, expected) in cases {
        // With an election, in which this one might never be asked to work.
        let operator = Operator::builder(plane.kubeconfig(), "http://127.0.0.1:1")
            .leader_election("nobodys")
            .environment("AWS_CA_BUNDLE", path)
            .without_waiting()
            .start(plane.scratch())
            .await?;
        let code = operator.process().wait_exit(PATIENCE).await?;
        let log = operator.log();
        ensure!(code == 1 && log.contains("AWS_CA_BUNDLE") && log.contains(path), "{path}: {code}: {log}");
        ensure!(log.contains(expected), "{path}: {expected:?} is not in {log}");
    }
    Ok(())
}

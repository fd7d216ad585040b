//! The operator's own credentials as EKS gives them to pods: by IRSA and by Pod Identity, with stand-ins for both endpoints.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use emr_simulator::{LoggedRequest, Options};
use tests::agent::Agent;
use tests::cluster::TestEnv;
use tests::control_plane::shared;
use tests::manifest::job_run;
use tests::operator::Builder;
use tests::simulator::{endless, quick, requests};

/// A file with a token, as the kubelet projects it.
async fn token(name: &str, text: &str) -> Result<PathBuf> {
    let path = shared().await?.scratch().join(format!("{name}-token"));
    std::fs::write(&path, text)?;
    Ok(path)
}

/// A pod has no credentials in its environment.
fn without_keys(operator: Builder) -> Builder {
    operator.environment("AWS_ACCESS_KEY_ID", "").environment("AWS_SECRET_ACCESS_KEY", "")
}

/// The calls to EMR, and the identity that was looked up before them.
fn signed(env: &TestEnv) -> Vec<LoggedRequest> {
    let mut all = env.simulator().requests_since(0);
    all.retain(|request| request.operation != "AssumeRoleWithWebIdentity");
    all
}

#[tokio::test]
async fn with_irsa_calls_are_signed_with_what_sts_gives_for_the_token() -> Result<()> {
    let token = token("irsa", "a.web.token").await?.display().to_string();
    // The stand-in of STS is a simulator of its own, so that who asks for what can be told.
    let sts = emr_simulator::start(Options::default()).await?;
    let env = TestEnv::with("irsa", quick(), |operator| {
        without_keys(operator)
            .environment("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
            .environment("AWS_ROLE_ARN", "arn:aws:iam::222222222222:role/emr-operator")
            .environment("AWS_ENDPOINT_URL_STS", sts.url())
            // As upstream's Deployment has it.
            .environment("AWS_ENDPOINT_URL", "")
            .arguments(&["--aws-identity-endpoint-url", sts.url()])
    })
    .await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    // The SDK reads it for the exchange of the token too, and takes nothing for a URL.
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", env.operator().process().pid()))?;
    ensure!(environment.contains("AWS_ENDPOINT_URL_STS="), "it is the operator's: {environment}");
    ensure!(!environment.contains("AWS_ENDPOINT_URL="), "{environment}");
    let asked = requests(&sts, "AssumeRoleWithWebIdentity");
    ensure!(asked.len() == 1, "the credentials are kept: {asked:?}");
    let identities = requests(&sts, "GetCallerIdentity");
    let key = identities.first().and_then(|request| request.access_key.clone()).unwrap_or_default();
    ensure!(key.starts_with("ASIA"), "the identity is asked for with temporary credentials: {identities:?}");
    ensure!(identities.iter().all(|request| request.account == "222222222222"), "{identities:?}");
    let calls = signed(&env);
    ensure!(calls.len() > 3 && calls.iter().all(|call| call.access_key.as_ref() == Some(&key)), "{calls:?}");
    Ok(())
}

#[tokio::test]
async fn with_pod_identity_calls_are_signed_with_the_agents_keys_and_with_new_ones_in_time() -> Result<()> {
    let file = token("pod-identity", "a.pod.token").await?.display().to_string();
    let (first, second) = ("222222222222", "ASIASECONDKEYOFTHEPOD");
    // The SDK asks anew ten seconds before the end.
    let agent = Agent::start("a.pod.token", &[first, second], Duration::from_secs(13)).await?;
    let keys = vec![(second.to_owned(), first.to_owned())];
    let env = TestEnv::with("pod-identity", Options { access_keys: keys, ..quick() }, |operator| {
        without_keys(operator)
            .environment("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url())
            .environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file)
    })
    .await?;
    env.simulator().add_outcome(endless("run"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "RUNNING").await?;
    let key = |call: &LoggedRequest| call.access_key.clone().unwrap_or_default();
    env.in_aws("calls should be signed with the new key", |_| {
        signed(&env).iter().any(|call| key(call) == second).then_some(())
    })
    .await?;
    let calls = signed(&env);
    ensure!(calls.iter().all(|call| call.account == "222222222222"), "{calls:?}");
    let keys: Vec<String> = calls.iter().map(key).collect();
    ensure!(keys.first().is_some_and(|key| key == first), "{keys:?}");
    ensure!(keys.is_sorted(), "no call goes back to the old key: {keys:?}");
    ensure!(agent.given() >= 2);
    Ok(())
}

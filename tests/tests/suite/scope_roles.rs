//! Roles by account and team (CARM): looked up in config maps, assumed at STS, and told when they are missing.

use anyhow::{Context, Result, ensure};
use emr_simulator::{FaultKind, LoggedRequest};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::cluster::TestEnv;
use tests::control_plane::shared;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace;
use tests::objects::{condition, status};
use tests::simulator::{calls, endless, fault, quick, requests};

use crate::scope_namespaces::annotate;

const OWNER: &str = "services.k8s.aws/owner-account-id";
const TEAM: &str = "services.k8s.aws/team-id";
const OWNED: [(&str, &str); 1] = [(OWNER, "222222222222")];
const ACCOUNTS: &str = "ack-role-account-map";
const TEAMS: &str = "ack-role-team-map";

/// A namespace, and an operator whose config maps are in a namespace of their own.
struct World {
    env: TestEnv,
    system: String,
}

impl World {
    /// The annotations of the namespace are there before the operator starts.
    async fn new(name: &str, arguments: &[&str], annotations: &[(&str, &str)]) -> Result<Self> {
        let system = format!("{name}-system");
        namespace::ensure(&shared().await?.client()?, &system).await?;
        let mut env = TestEnv::with(name, quick(), |operator| {
            operator.environment("ACK_SYSTEM_NAMESPACE", &system).arguments(arguments)
        })
        .await?;
        if !annotations.is_empty() {
            env.operator().terminate().await?;
            for (key, value) in annotations {
                annotate(env.client(), env.namespace(), key, Some(value)).await?;
            }
            env.restart_operator().await?;
        }
        Ok(Self { env, system })
    }

    /// Makes a config map of roles, or changes it.
    async fn roles(&self, name: &str, roles: &[(&str, &str)]) -> Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(self.env.client().clone(), &self.system);
        let data: serde_json::Map<_, _> =
            roles.iter().map(|(key, role)| ((*key).to_owned(), json!(role))).collect();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data,
        });
        maps.patch(name, &PatchParams::apply("admin").force(), &Patch::Apply(map)).await?;
        Ok(())
    }

    /// Applies a virtual cluster, and waits until it says that there is no role, for this reason.
    async fn lacks_a_role(&self, cluster: &str, reason: &str) -> Result<()> {
        self.env.apply(&virtual_cluster(cluster, self.env.namespace())).await?;
        let lacks = |object: &kube::api::DynamicObject| {
            condition(object, "ACK.ResourceSynced").is_some_and(|synced| {
                synced.status == "False"
                    && synced.message == "IAM Role is not available"
                    && synced.reason == reason
            })
        };
        let clusters = self.env.virtual_clusters();
        self.env.until(clusters, cluster, &format!("should lack a role: {reason}"), lacks).await?;
        Ok(())
    }
}

/// The calls that were made in an account, but for STS's.
fn calls_in(env: &TestEnv, account: &str) -> Vec<LoggedRequest> {
    let sts = ["GetCallerIdentity", "AssumeRole"];
    let mut all = env.simulator().requests_since(0);
    all.retain(|request| request.account == account && !sts.contains(&request.operation.as_str()));
    all
}

#[tokio::test]
async fn a_role_that_is_missing_is_told_in_upstreams_words_and_found_when_the_map_has_it() -> Result<()> {
    let world = World::new("carm", &[], &OWNED).await?;
    let why = |what: &str| {
        format!(
            "retrieving role ARN for account/team ID \"222222222222\" from \"ack-role-account-map\" configmap: {what}"
        )
    };
    world.lacks_a_role("vc", &why("CARM configmap not found")).await?;
    world.roles(ACCOUNTS, &[("333333333333", "arn:aws:iam::333333333333:role/emr")]).await?;
    world.lacks_a_role("vc", &why("key not found in CARM configmap")).await?;
    world.roles(ACCOUNTS, &[("222222222222", "")]).await?;
    world.lacks_a_role("vc", &why("role value is empty in CARM configmap")).await?;
    let env = &world.env;
    env.event("vc", "RoleNotAvailable").await?;
    ensure!(env.simulator().snapshot().virtual_clusters.is_empty(), "nothing is made in another account");
    world.roles(ACCOUNTS, &[("222222222222", "arn:aws:iam::222222222222:role/emr")]).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    let run = env.job_run_in("run", "COMPLETED").await?;
    let place = run.data.pointer("/status/ackResourceMetadata").context("a place")?;
    ensure!(place["ownerAccountID"] == "222222222222", "{place}");
    ensure!(env.the_job("run")?.account == "222222222222");
    ensure!(calls_in(env, "123456789012").is_empty(), "nothing is done with the operator's own credentials");
    let assumed = requests(env.simulator(), "AssumeRole");
    ensure!(assumed.len() == 1, "the credentials of the role are kept: {assumed:?}");
    Ok(())
}

#[tokio::test]
async fn without_owners_and_teams_no_config_map_is_read_and_no_role_is_assumed() -> Result<()> {
    let gates = "--feature-gates=TeamLevelCARM=true,ServiceLevelCARM=true";
    let world = World::new("carm-unused", &[gates], &[]).await?;
    let env = &world.env;
    let (line, kubeconfig) = env.plane().line().await?;
    env.operator().terminate().await?;
    line.hold("configmaps");
    // Exports need config maps, and it is asked whether they may be had.
    let operator = env.builder().kubeconfig(kubeconfig);
    let operator = operator.arguments(&["--enable-field-export-reconciler=false"]);
    let _operator = operator.start(env.plane().scratch()).await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    ensure!(!line.holds(), "a config map was asked for");
    ensure!(calls(env.simulator(), "AssumeRole") == 0);
    Ok(())
}

#[tokio::test]
async fn teams_and_roles_for_this_service_decide_behind_their_gates() -> Result<()> {
    let gates = "--feature-gates=TeamLevelCARM=true,ServiceLevelCARM=true";
    let both = [(OWNER, "222222222222"), (TEAM, "etl")];
    let world = World::new("carm-team", &[gates], &both).await?;
    let role = |account: &str| format!("arn:aws:iam::{account}:role/emr");
    let (own, team, owner) = (role("444444444444"), role("555555555555"), role("222222222222"));
    world.roles(ACCOUNTS, &[("222222222222", &owner)]).await?;
    world.roles(TEAMS, &[("etl", &team), ("emrcontainers.etl", &own)]).await?;
    world.env.ready_cluster("vc").await?;
    let clusters = world.env.simulator().snapshot().virtual_clusters;
    let accounts: Vec<&str> = clusters.iter().map(|cluster| cluster.account.as_str()).collect();
    ensure!(accounts == ["444444444444"], "{accounts:?}");

    let plain = World::new("carm-plain", &[], &both).await?;
    plain.roles(ACCOUNTS, &[("222222222222", &owner), ("emrcontainers.222222222222", &own)]).await?;
    plain.env.ready_cluster("vc").await?;
    let clusters = plain.env.simulator().snapshot().virtual_clusters;
    ensure!(clusters.iter().all(|cluster| cluster.account == "222222222222"), "{clusters:?}");
    Ok(())
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_is_told_and_tried_again() -> Result<()> {
    let world = World::new("denied", &[], &OWNED).await?;
    let env = &world.env;
    env.simulator().add_fault(fault("AssumeRole", FaultKind::AccessDenied, 3))?;
    world.roles(ACCOUNTS, &[("222222222222", "arn:aws:iam::222222222222:role/emr")]).await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    let words = "role arn:aws:iam::222222222222:role/emr can't be assumed: AccessDenied";
    let told = env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", words).await?;
    let recoverable = condition(&told, "ACK.Recoverable").context("the condition")?;
    ensure!(!recoverable.message.to_lowercase().contains("request"), "no request id: {recoverable:?}");
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ensure!(calls_in(env, "123456789012").is_empty(), "nothing is done with the operator's own credentials");
    Ok(())
}

#[tokio::test]
async fn a_run_in_another_account_than_its_role_is_left_alone_and_says_so() -> Result<()> {
    let world = World::new("drift", &[], &[]).await?;
    let env = &world.env;
    env.simulator().add_outcome(endless("run"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "RUNNING").await?;
    world.roles(ACCOUNTS, &[("222222222222", "arn:aws:iam::222222222222:role/emr")]).await?;
    annotate(env.client(), env.namespace(), OWNER, Some("222222222222")).await?;
    let words = "Resource already exists in account 123456789012, but the role used for reconciliation is in account \
                 222222222222. ";
    let told = env.message(env.job_runs(), "run", "ACK.Recoverable", words).await?;
    ensure!(status(&told, "state") == Some("RUNNING"), "what was known stays");
    ensure!(calls_in(env, "222222222222").is_empty(), "nothing is asked of the other account");
    annotate(env.client(), env.namespace(), OWNER, None).await?;
    let well = |run: &kube::api::DynamicObject| condition(run, "ACK.Recoverable").is_none();
    env.until(env.job_runs(), "run", "should be observed again", well).await?;
    env.delete(env.job_runs(), "run").await?;
    ensure!(calls(env.simulator(), "CancelJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn another_role_takes_over_a_live_run_at_once() -> Result<()> {
    let world = World::new("turned", &[], &OWNED).await?;
    let env = &world.env;
    env.simulator().add_outcome(endless("run"))?;
    world.roles(ACCOUNTS, &[("222222222222", "arn:aws:iam::222222222222:role/one")]).await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "RUNNING").await?;
    let keys = || -> Vec<String> {
        let listed = requests(env.simulator(), "ListJobRuns");
        listed.into_iter().filter_map(|request| request.access_key).collect()
    };
    let before = keys().pop().context("the run is observed")?;
    world.roles(ACCOUNTS, &[("222222222222", "arn:aws:iam::222222222222:role/two")]).await?;
    env.in_aws("the run should be observed by the other role", |_| {
        keys().last().is_some_and(|key| *key != before).then_some(())
    })
    .await?;
    env.delete(env.job_runs(), "run").await?;
    let cancelled = requests(env.simulator(), "CancelJobRun");
    ensure!(cancelled.iter().all(|request| request.access_key.as_ref() != Some(&before)), "{cancelled:?}");
    Ok(())
}

#[tokio::test]
async fn d25_an_endpoint_of_emr_moves_no_call_of_sts() -> Result<()> {
    let emr = emr_simulator::start(quick()).await?;
    let endpoint = ("services.k8s.aws/endpoint-url", emr.url());
    let world = World::new("d25", &[], &[OWNED[0], endpoint]).await?;
    let env = &world.env;
    world.roles(ACCOUNTS, &[("222222222222", "arn:aws:iam::222222222222:role/emr")]).await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    ensure!(calls(&emr, "AssumeRole") == 0 && calls(&emr, "GetCallerIdentity") == 0, "STS is elsewhere");
    ensure!(calls(env.simulator(), "AssumeRole") == 1, "at --aws-identity-endpoint-url");
    ensure!(calls(env.simulator(), "StartJobRun") == 0 && calls(&emr, "StartJobRun") == 1);
    let started = requests(&emr, "StartJobRun");
    let is_assumed =
        |request: &LoggedRequest| request.access_key.as_deref().is_some_and(|key| key.starts_with("ASIA"));
    ensure!(started.iter().all(is_assumed), "{started:?}");
    Ok(())
}

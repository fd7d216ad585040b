//! The lease is one that others understand who elect by client-go's protocol, as upstream does: by its rules as they are
//! documented, and by client-go's own code in kube-controller-manager.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;
use tests::candidate::Candidate;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::manifest::virtual_cluster;
use tests::namespace::Namespace;
use tests::operator::Operator;
use tests::process::{Process, Signal};
use tests::simulator::{all_calls, calls, quick};
use tests::wait;

use crate::leader::{AT_ONCE, LEASE, SHORT, holder, is_held};

/// What the others claim in these tests, and by [`SHORT`] ours too.
const LEASE_DURATION: Duration = Duration::from_secs(4);
/// Longer than a lease lives that nobody renews.
const LONG: Duration = Duration::from_secs(6);

async fn lease_namespace(name: &str) -> Result<(Namespace, Api<Lease>)> {
    let client = shared().await?.client()?;
    let namespace = Namespace::create(&client, name).await?;
    let leases = Api::namespaced(client, namespace.name());
    Ok((namespace, leases))
}

/// Ours, which isn't waited for, with a virtual cluster to make.
async fn ours_with_work(name: &str, lease: &Namespace) -> Result<TestEnv> {
    let env = TestEnv::with(name, quick(), |operator| {
        operator.leader_election(lease.name()).arguments(&SHORT).without_waiting()
    })
    .await?;
    wait::eventually(PATIENCE, "ours should wait for the lease", async || {
        Ok(env.operator().log().contains("waiting for the lease").then_some(()))
    })
    .await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    Ok(env)
}

/// Nothing is done for as long as a lease lives, while `other` keeps it.
async fn idle(env: &TestEnv, mut other: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    wait::eventually(PATIENCE, "the lease's duration should pass", async || {
        other().await?;
        ensure!(all_calls(env.simulator()) == 0, "it acted: {:?}", env.simulator().counters());
        Ok((began.elapsed() > LONG).then_some(()))
    })
    .await?;
    let cluster = env.virtual_clusters().get("vc").await?;
    ensure!(cluster.metadata.finalizers.is_none(), "it touched an object: {cluster:?}");
    Ok(())
}

async fn transitions(leases: &Api<Lease>) -> Result<i32> {
    let spec = leases.get(LEASE).await?.spec.context("a spec")?;
    spec.lease_transitions.context("transitions are counted")
}

#[tokio::test]
async fn a_lease_that_is_held_by_client_gos_rules_keeps_ours_idle_until_it_expires() -> Result<()> {
    let (namespace, leases) = lease_namespace("proto-held").await?;
    let mut other = Candidate::new(shared().await?.client()?, namespace.name(), LEASE, LEASE_DURATION);
    ensure!(other.try_acquire_or_renew().await?, "nobody has it");
    let env = ours_with_work("proto-idle", &namespace).await?;
    let mut renewed = Instant::now();
    idle(&env, async || {
        ensure!(other.try_acquire_or_renew().await?, "its own lease is renewed");
        renewed = Instant::now();
        Ok(())
    })
    .await?;
    let before = transitions(&leases).await?;
    // The other one goes without giving it back.
    let identity = other.identity().to_owned();
    wait::eventually(PATIENCE, "ours should take the lease", async || {
        let holder = holder(&leases).await?;
        Ok(holder.is_some_and(|holder| holder != identity).then_some(()))
    })
    .await?;
    ensure!(renewed.elapsed() >= LEASE_DURATION, "it was taken {:?} after its renewal", renewed.elapsed());
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ensure!(transitions(&leases).await? == before + 1, "it changed hands once more");
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1);
    ensure!(!other.try_acquire_or_renew().await?, "it is ours now");
    Ok(())
}

#[tokio::test]
async fn a_candidate_by_client_gos_rules_gets_our_lease_when_it_is_given_back_and_not_before() -> Result<()> {
    let (namespace, leases) = lease_namespace("proto-ours").await?;
    let env = ours_with_work("proto-work", &namespace).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ours_is_as_client_go_writes_it(&namespace).await?;
    let mut other = Candidate::new(shared().await?.client()?, namespace.name(), LEASE, LEASE_DURATION);
    let began = Instant::now();
    wait::eventually(PATIENCE, "the lease's duration should pass", async || {
        ensure!(!other.try_acquire_or_renew().await?, "two lead");
        Ok((began.elapsed() > LONG).then_some(()))
    })
    .await?;
    let before = transitions(&leases).await?;
    ensure!(env.operator().terminate().await? == 0);
    ensure!(other.try_acquire_or_renew().await?, "it was given back, and can be taken at once");
    ensure!(transitions(&leases).await? == before + 1);

    let successor = env.builder().start(env.plane().scratch()).await?;
    wait::eventually(PATIENCE, "the successor should have looked", async || {
        ensure!(other.try_acquire_or_renew().await?);
        Ok(successor.log().contains("waiting for the lease").then_some(()))
    })
    .await?;
    ensure!(holder(&leases).await?.as_deref() == Some(other.identity()));
    let released = Instant::now();
    ensure!(other.release().await?);
    leads(&leases, &successor).await?;
    ensure!(released.elapsed() < AT_ONCE, "it took {:?}", released.elapsed());
    ensure!(transitions(&leases).await? == before + 2);
    Ok(())
}

/// The lease's text, which another's parser has to read.
async fn ours_is_as_client_go_writes_it(namespace: &Namespace) -> Result<()> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
    let leases: Api<DynamicObject> = Api::namespaced_with(shared().await?.client()?, namespace.name(), &kind);
    let lease = leases.get(LEASE).await?;
    let spec = lease.data.get("spec").context("a spec")?;
    let text = |field: &str| {
        spec.get(field).and_then(Value::as_str).with_context(|| format!("no {field} in {spec}"))
    };
    for field in ["acquireTime", "renewTime"] {
        let time = text(field)?;
        let micros = time.strip_suffix('Z').and_then(|time| time.split_once('.')).map(|(_, part)| part.len());
        ensure!(micros == Some(6), "{field} is {time}");
    }
    ensure!(text("holderIdentity")?.contains('_'), "a host and something unique: {spec}");
    let number = |field: &str| spec.get(field).and_then(Value::as_i64);
    ensure!([number("leaseDurationSeconds"), number("leaseTransitions")] == [Some(4), Some(0)], "{spec}");
    Ok(())
}

async fn leads(leases: &Api<Lease>, operator: &Operator) -> Result<()> {
    wait::eventually(PATIENCE, "ours should lead", async || {
        ensure!(holder(leases).await?.is_some(), "nobody holds the lease");
        let leads = operator.metrics().await?.sum("leader_election_master_status", &[("name", LEASE)]);
        Ok((leads > 0.5).then_some(()))
    })
    .await
}

#[tokio::test]
async fn client_go_itself_and_ours_take_turns_on_the_lease() -> Result<()> {
    let (namespace, leases) = lease_namespace("proto-go").await?;
    let plane = shared().await?;
    let client_go = |name: &str| {
        plane.client_go_candidate(namespace.name(), LEASE, &format!("{name}-{}", namespace.name()))
    };
    let first = client_go("first")?;
    let theirs = is_held(&leases).await.with_context(|| first.log_tail(20))?;
    let env = ours_with_work("proto-go-work", &namespace).await?;
    idle(&env, async || first.ensure_running()).await?;
    ensure!(holder(&leases).await? == Some(theirs.clone()), "it still leads");

    first.kill().await?;
    let killed = Instant::now();
    leads(&leases, env.operator()).await?;
    // Its last renewal is up to half a second older than its end.
    ensure!(
        killed.elapsed() > LEASE_DURATION.saturating_sub(Duration::from_secs(1)),
        "{:?}",
        killed.elapsed()
    );
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ensure!(transitions(&leases).await? == 1);
    let ours = is_held(&leases).await?;

    let second = client_go("second")?;
    waits(&second).await?;
    let began = Instant::now();
    wait::eventually(PATIENCE, "the lease's duration should pass", async || {
        ensure!(holder(&leases).await? == Some(ours.clone()), "two lead");
        Ok((began.elapsed() > LONG).then_some(()))
    })
    .await?;
    ensure!(env.operator().terminate().await? == 0);
    let given_back = Instant::now();
    is_held(&leases).await.with_context(|| second.log_tail(20))?;
    ensure!(given_back.elapsed() < AT_ONCE, "it waited although it was free: {:?}", given_back.elapsed());

    let successor = env.builder().start(plane.scratch()).await?;
    wait::eventually(PATIENCE, "the successor should wait", async || {
        Ok(successor.log().contains("waiting for the lease").then_some(()))
    })
    .await?;
    second.signal(Signal::TERM)?;
    let given_back = Instant::now();
    leads(&leases, &successor).await?;
    ensure!(given_back.elapsed() < AT_ONCE, "it waited although it was free: {:?}", given_back.elapsed());
    Ok(())
}

async fn waits(candidate: &Process) -> Result<()> {
    wait::eventually(PATIENCE, "client-go should ask for the lease", async || {
        candidate.ensure_running()?;
        Ok(candidate.log().to_lowercase().contains("attempting to acquire leader lease").then_some(()))
    })
    .await
}

//! Who works: the lease of upstream's name, given back at SIGTERM, waited out after a crash unless the pod is the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::manifest::job_run;
use tests::namespace::{self, Namespace};
use tests::operator::{Builder, Operator};
use tests::simulator::{all_calls, quick, requests};
use tests::wait;

pub(crate) const LEASE: &str = "ack-emrcontainers.services.k8s.aws";
/// What client-go gives a lease, and so upstream and we.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// Other times than the defaults.
pub(crate) const SHORT: [&str; 3] = [
    "--leader-election-lease-duration=4s",
    "--leader-election-renew-deadline=3s",
    "--leader-election-retry-period=500ms",
];
/// What takes less didn't wait for a lease, also on a busy machine. On an idle one it is well below a second.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);
/// How long a busy machine may take to notice that a lease has run out.
const SLACK: Duration = Duration::from_secs(15);

pub(crate) async fn holder(leases: &Api<Lease>) -> Result<Option<String>> {
    let lease = leases.get_opt(LEASE).await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
}

pub(crate) async fn is_held(leases: &Api<Lease>) -> Result<String> {
    wait::eventually(PATIENCE, "the lease should be held", async || holder(leases).await).await
}

/// Two operators on one lease; the first leads, and there is a virtual cluster `vc`. The second has `arguments` too.
async fn two(name: &str, arguments: &[&str]) -> Result<(TestEnv, Operator, Api<Lease>)> {
    let lease_namespace = Namespace::create(&shared().await?.client()?, &format!("{name}-lease")).await?;
    let env =
        TestEnv::with(name, quick(), |operator| operator.leader_election(lease_namespace.name())).await?;
    let leases: Api<Lease> = Api::namespaced(env.client().clone(), lease_namespace.name());
    let first = is_held(&leases).await?;
    let second = env.builder().arguments(arguments).without_waiting().start(env.plane().scratch()).await?;
    wait::eventually(PATIENCE, "the second should wait", async || {
        Ok(second.log().contains("waiting for the lease").then_some(()))
    })
    .await?;
    env.ready_cluster("vc").await?;
    ensure!(holder(&leases).await? == Some(first), "the first goes on leading");
    ensure!(second.metrics().await?.sum("emrcontainers_leader", &[]) < 0.5);
    Ok((env, second, leases))
}

/// How long it takes from `began` until a run that is applied now is started.
async fn time_to_start(env: &TestEnv, next: &Operator, began: Timestamp) -> Result<Duration> {
    env.apply(&job_run("next", "vc", "")).await?;
    let start = env.in_aws("a run should be started", |aws| requests(aws, "StartJobRun").into_iter().next());
    let start = start
        .await
        .with_context(|| format!("the next one's log ends with\n{}", next.process().log_tail(20)))?;
    Ok(start.at.duration_since(began).unsigned_abs())
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() -> Result<()> {
    let (env, second, leases) = two("lead-term", &[]).await?;
    let first = is_held(&leases).await?;
    let began = Timestamp::now();
    ensure!(env.operator().terminate().await? == 0);
    let ended = Timestamp::now().duration_since(began);
    let took = time_to_start(&env, &second, began).await?;
    println!(
        "SIGTERM to the leader: it ends after {} ms, the next starts a run after {} ms",
        ended.as_millis(),
        took.as_millis()
    );
    ensure!(took < AT_ONCE, "the hand-over took {took:?}");
    ensure!(is_held(&leases).await? != first);
    ensure!(second.metrics().await?.sum("emrcontainers_leader", &[]) > 0.5);
    Ok(())
}

#[tokio::test]
async fn a_container_that_restarts_in_its_pod_takes_its_own_lease_back_at_once() -> Result<()> {
    let lease_namespace = Namespace::create(&shared().await?.client()?, "lead-pod-lease").await?;
    let mut env = TestEnv::with("lead-restart", quick(), |operator| {
        operator
            .leader_election(lease_namespace.name())
            .environment("POD_NAME", "operator-5d9c-x7k2p")
            .environment("POD_UID", "e2a1b1a4-3f0c-4a63-9d2f-6a0d7c4b3a55")
    })
    .await?;
    env.ready_cluster("vc").await?;
    let leases: Api<Lease> = Api::namespaced(env.client().clone(), lease_namespace.name());
    let pod = is_held(&leases).await?;
    ensure!(pod == "operator-5d9c-x7k2p_e2a1b1a4-3f0c-4a63-9d2f-6a0d7c4b3a55", "{pod}");
    env.operator().kill9().await?;
    let began = Timestamp::now();
    env.restart_operator().await?;
    let took = time_to_start(&env, env.operator(), began).await?;
    println!("kill -9, and a new process in the same pod: it starts a run after {} ms", took.as_millis());
    ensure!(took < AT_ONCE, "it waited for its own lease: {took:?}");
    let lease = leases.get(LEASE).await?.spec.context("a spec")?;
    ensure!(lease.holder_identity == Some(pod) && lease.lease_transitions == Some(0), "{lease:?}");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_lost_is_replaced_when_its_lease_expires() -> Result<()> {
    // What counts is the time that the holder claims, not what the one who waits would claim.
    let (env, second, leases) = two("lead-kill", &SHORT).await?;
    let taken = taken_after_a_kill(&env, &second, &leases).await?;
    ensure!(taken >= LEASE_DURATION, "the lease was not respected: {taken:?}");
    ensure!(taken < LEASE_DURATION + SLACK, "the take-over took {taken:?}");
    let claimed = leases.get(LEASE).await?.spec.and_then(|spec| spec.lease_duration_seconds);
    ensure!(claimed == Some(4), "the second claims {claimed:?}");

    // And now the short times are the holder's.
    let third = env.builder().without_waiting().start(env.plane().scratch()).await?;
    wait::eventually(PATIENCE, "the third should wait", async || {
        Ok(third.log().contains("waiting for the lease").then_some(()))
    })
    .await?;
    second.kill9().await?;
    let last = renewed(&leases).await?;
    let taken = acquired(&leases, last).await?;
    println!("the same with {SHORT:?}: the lease was taken {} ms after its last renewal", taken.as_millis());
    ensure!((Duration::from_secs(4)..LEASE_DURATION).contains(&taken), "{taken:?}");
    Ok(())
}

/// Kills the first; how long after its last renewal the second took the lease.
async fn taken_after_a_kill(env: &TestEnv, second: &Operator, leases: &Api<Lease>) -> Result<Duration> {
    let before = all_calls(env.simulator());
    env.operator().kill9().await?;
    let began = Timestamp::now();
    let last = renewed(leases).await?;
    let took = time_to_start(env, second, began).await?;
    let taken = acquired(leases, last).await?;
    println!(
        "kill -9 of the leader: the lease was taken {} ms after its last renewal, and a run started {} ms after the kill",
        taken.as_millis(),
        took.as_millis()
    );
    ensure!(all_calls(env.simulator()) > before);
    Ok(taken)
}

/// When the lease was renewed last, by its holder's clock, which is ours here.
async fn renewed(leases: &Api<Lease>) -> Result<Timestamp> {
    let spec = leases.get(LEASE).await?.spec.context("a spec")?;
    Ok(spec.renew_time.context("a time of renewal")?.0)
}

/// Waits until the lease is taken after `last`; how long after.
async fn acquired(leases: &Api<Lease>, last: Timestamp) -> Result<Duration> {
    wait::eventually(PATIENCE, "the lease should be taken", async || {
        let spec = leases.get(LEASE).await?.spec.context("a spec")?;
        let taken = spec.acquire_time.context("a time of acquisition")?.0.duration_since(last);
        Ok(taken.is_positive().then(|| taken.unsigned_abs()))
    })
    .await
}

#[tokio::test]
async fn the_leases_namespace_is_the_flags_or_what_the_environment_says() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let simulator = emr_simulator::start(quick()).await?;
    let [flag, system, pod] = ["lead-flag", "lead-system", "lead-pod"]
        .map(|name| async { Namespace::create(&plane.client()?, name).await });
    let (flag, system, pod) = (flag.await?, system.await?, pod.await?);
    let watched = Namespace::create(&client, "lead-watched").await?;
    namespace::ensure(&client, "ack-system").await?;
    let builder = || {
        let url = simulator.url();
        Operator::builder(plane.kubeconfig(), "").bare().arguments(&[
            "--aws-region=us-west-2",
            "--allow-unsafe-aws-endpoint-urls",
            &format!("--aws-endpoint-url={url}"),
            &format!("--aws-identity-endpoint-url={url}"),
            &format!("--watch-namespace={}", watched.name()),
        ])
    };
    let both = |builder: Builder| {
        builder.environment("ACK_SYSTEM_NAMESPACE", system.name()).environment("K8S_NAMESPACE", pod.name())
    };
    let cases = [
        (both(builder()).arguments(&["--leader-election-namespace", flag.name()]), flag.name()),
        (both(builder()), system.name()),
        (builder().environment("K8S_NAMESPACE", pod.name()), pod.name()),
        (builder(), "ack-system"),
    ];
    for (builder, namespace) in cases {
        // Without a flag for it: the election is on by default.
        let operator = builder.start(plane.scratch()).await?;
        let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
        is_held(&leases).await.with_context(|| format!("in {namespace}"))?;
        ensure!(operator.terminate().await? == 0);
        ensure!(holder(&leases).await?.is_none(), "the lease in {namespace} was not given back");
    }
    Ok(())
}

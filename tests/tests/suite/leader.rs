//! Who works: the lease of upstream's name, given back at SIGTERM, waited out after a crash, respected when it is another's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::manifest::virtual_cluster;
use tests::namespace::{self, Namespace};
use tests::operator::{Builder, Operator};
use tests::simulator::{all_calls, calls, quick};
use tests::wait;

const LEASE: &str = "ack-emrcontainers.services.k8s.aws";
/// What client-go gives a lease, and so upstream and we.
const LEASE_DURATION: Duration = Duration::from_secs(15);

async fn holder(leases: &Api<Lease>) -> Result<Option<String>> {
    let lease = leases.get_opt(LEASE).await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
}

async fn is_held(leases: &Api<Lease>) -> Result<String> {
    wait::eventually(PATIENCE, "the lease should be held", async || holder(leases).await).await
}

/// Two operators on one lease; the first leads.
async fn two(name: &str) -> Result<(TestEnv, Operator, Api<Lease>)> {
    let lease_namespace = Namespace::create(&shared().await?.client()?, &format!("{name}-lease")).await?;
    let env =
        TestEnv::with(name, quick(), |operator| operator.leader_election(lease_namespace.name())).await?;
    let leases: Api<Lease> = Api::namespaced(env.client().clone(), lease_namespace.name());
    let first = is_held(&leases).await?;
    let second = env.builder().without_waiting().start(env.plane().scratch()).await?;
    wait::eventually(PATIENCE, "the second should wait", async || {
        Ok(second.log().contains("waiting for the lease").then_some(()))
    })
    .await?;
    env.ready_cluster("before").await?;
    ensure!(holder(&leases).await? == Some(first), "the first goes on leading");
    ensure!(second.metrics().await?.sum("emrcontainers_leader", &[]) < 0.5);
    Ok((env, second, leases))
}

/// How long it takes from now until a new cluster is ready.
async fn time_to_act(env: &TestEnv, next: &Operator, began: Instant) -> Result<Duration> {
    // On another EKS cluster, since the namespace of the first is taken.
    let yaml = virtual_cluster("after", env.namespace()).replace("id: eks,", "id: eks2,");
    env.apply(&yaml).await?;
    let ready = env.condition(env.virtual_clusters(), "after", "Ready", "True").await;
    ready.with_context(|| format!("the next one's log ends with\n{}", next.process().log_tail(20)))?;
    Ok(began.elapsed())
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() -> Result<()> {
    let (env, second, leases) = two("lead-term").await?;
    let first = is_held(&leases).await?;
    let began = Instant::now();
    ensure!(env.operator().terminate().await? == 0);
    let ended = began.elapsed();
    let took = time_to_act(&env, &second, began).await?;
    println!(
        "SIGTERM to the leader: it ends after {} ms, the next acts after {} ms",
        ended.as_millis(),
        took.as_millis()
    );
    ensure!(took < LEASE_DURATION / 2, "the hand-over took {took:?}");
    ensure!(is_held(&leases).await? != first);
    ensure!(second.metrics().await?.sum("emrcontainers_leader", &[]) > 0.5);
    Ok(())
}

#[tokio::test]
async fn a_leader_that_is_lost_is_replaced_when_its_lease_expires() -> Result<()> {
    let (env, second, _leases) = two("lead-kill").await?;
    let before = all_calls(env.simulator());
    let began = Instant::now();
    env.operator().kill9().await?;
    let took = time_to_act(&env, &second, began).await?;
    println!("kill -9 of the leader: the next acts after {} ms", took.as_millis());
    ensure!(took > Duration::from_secs(8), "the lease was not respected: {took:?}");
    ensure!(took < LEASE_DURATION + Duration::from_secs(15), "the take-over took {took:?}");
    ensure!(all_calls(env.simulator()) > before);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_upstreams_controller_holds_keeps_ours_idle() -> Result<()> {
    let lease_namespace = Namespace::create(&shared().await?.client()?, "lead-other").await?;
    let leases: Api<Lease> = Api::namespaced(shared().await?.client()?, lease_namespace.name());
    // As client-go writes it.
    let renew = async || -> Result<()> {
        let now = jiff::Timestamp::now();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE},
            "spec": {
                "holderIdentity": "ack-emrcontainers-controller-7c9f_0b3f", "leaseDurationSeconds": 15,
                "acquireTime": format!("{now:.6}"), "renewTime": format!("{now:.6}"), "leaseTransitions": 4,
            },
        });
        leases.patch(LEASE, &PatchParams::apply("ack").force(), &Patch::Apply(lease)).await?;
        Ok(())
    };
    renew().await?;
    let env =
        TestEnv::with("lead-idle", quick(), |operator| operator.leader_election(lease_namespace.name()))
            .await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    // The whole life of a lease passes while the other renews it.
    let began = Instant::now();
    wait::eventually(PATIENCE, "the lease's duration should pass", async || {
        renew().await?;
        ensure!(all_calls(env.simulator()) == 0, "it acted: {:?}", env.simulator().counters());
        Ok((began.elapsed() > LEASE_DURATION + Duration::from_secs(3)).then_some(()))
    })
    .await?;
    let cluster = env.virtual_clusters().get("vc").await?;
    ensure!(cluster.metadata.finalizers.is_none(), "it touched an object: {cluster:?}");
    // The other one goes without giving it back.
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let lease = leases.get(LEASE).await?.spec.context("a spec")?;
    ensure!(lease.lease_transitions == Some(5), "transitions go on counting: {lease:?}");
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1);
    Ok(())
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

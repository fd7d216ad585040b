//! A VirtualCluster from apply to its end: what is sent, what the status says, what is changed and deleted, and when.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use emr_simulator::{FaultKind, Options, VirtualClusterSnapshot};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, condition, status};
use tests::simulator::{calls, fault, quick, requests};
use tests::wait;

const FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/VirtualCluster";

/// The only virtual cluster in AWS.
pub(crate) fn the_cluster(env: &TestEnv) -> Result<VirtualClusterSnapshot> {
    let mut clusters = env.simulator().snapshot().virtual_clusters;
    ensure!(clusters.len() == 1, "there should be one virtual cluster in AWS: {clusters:?}");
    clusters.pop().context("one cluster")
}

#[tokio::test]
async fn a_cluster_is_created_as_the_spec_says_and_its_status_is_upstreams() -> Result<()> {
    let env = TestEnv::new("vc-create").await?;
    let ns = env.namespace();
    env.simulator().add_fault(fault("CreateVirtualCluster", FaultKind::HoldReply, 1))?;
    let spec =
        "  tags: {team: data}\n  schedulerConfiguration: {maxConcurrentJobRuns: 5, maxInQueueJobRuns: 7}\n";
    let applied = env.apply(&(virtual_cluster("vc", ns) + spec)).await?;
    env.in_aws("the creation should be held", |aws| (aws.snapshot().held_replies == 1).then_some(())).await?;
    let waiting = env.virtual_clusters().get("vc").await?;
    ensure!(waiting.finalizers() == [FINALIZER], "the finalizer comes first: {:?}", waiting.finalizers());
    ensure!(waiting.data.get("status").is_none(), "no status before the id: {}", waiting.data);

    let uid = applied.first().and_then(ResourceExt::uid).context("a UID")?;
    let version = concat!("emrcontainers-v", env!("CARGO_PKG_VERSION"));
    let body = requests(env.simulator(), "CreateVirtualCluster").pop().context("a request")?.body;
    let expected = json!({
        "name": "vc",
        "clientToken": format!("{uid}-1"),
        "containerProvider": {"id": "eks", "type": "EKS", "info": {"eksInfo": {"namespace": ns}}},
        "schedulerConfiguration": {"maxConcurrentJobRuns": 5, "maxInQueueJobRuns": 7},
        "tags": {
            "team": "data",
            "services.k8s.aws/controller-version": version,
            "services.k8s.aws/namespace": ns,
        },
    });
    ensure!(body == expected, "the request is {body}, and should be {expected}");

    env.simulator().release();
    let ready = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let id = the_cluster(&env)?.id;
    let mut seen = ready.data.get("status").cloned().context("a status")?;
    ensure!(seen.get("createdAt").is_some_and(Value::is_string), "{seen}");
    let conditions = seen.get_mut("conditions").and_then(Value::as_array_mut).context("conditions")?;
    for condition in conditions {
        let at = condition.as_object_mut().and_then(|fields| fields.remove("lastTransitionTime"));
        ensure!(at.is_some(), "a condition without a time");
    }
    seen.as_object_mut().and_then(|fields| fields.remove("createdAt"));
    let message = "Resource synced successfully";
    let expected = json!({
        "ackResourceMetadata": {
            "arn": format!("arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/{id}"),
            "ownerAccountID": "123456789012", "partition": "aws", "region": "us-west-2",
        },
        "conditions": [
            {"type": "ACK.ResourceSynced", "status": "True", "message": message},
            {"type": "Ready", "status": "True", "message": message},
        ],
        "id": id, "observedGeneration": 1, "state": "RUNNING",
        "schedulerStatus": {"currentConcurrentJobRuns": 0, "currentInQueueJobRuns": 0},
    });
    ensure!(seen == expected, "the status is {seen}, and should be {expected}");
    env.event("vc", "Created").await?;
    Ok(())
}

#[tokio::test]
async fn tags_follow_the_spec_within_five_seconds_and_awss_own_stay() -> Result<()> {
    let env = TestEnv::new("vc-tags").await?;
    env.apply(&(virtual_cluster("vc", env.namespace()) + "  tags: {a: '1', b: '2'}\n")).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    env.simulator().tag_virtual_cluster(&the_cluster(&env)?.id, "aws:x", "own")?;
    let edits = [
        (json!({"a": "1", "b": "3", "c": "4"}), json!({"a": "1", "b": "3", "c": "4", "aws:x": "own"})),
        (json!({"a": null, "b": null}), json!({"c": "4", "aws:x": "own"})),
    ];
    for (edit, expected) in edits {
        let began = Instant::now();
        env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": edit}})).await?;
        env.in_aws("the tags should follow", |aws| {
            let cluster = aws.snapshot().virtual_clusters.pop()?;
            let own = cluster.tags.into_iter().filter(|(key, _)| !key.starts_with("services.k8s.aws/"));
            (json!(own.collect::<std::collections::BTreeMap<_, _>>()) == expected).then_some(())
        })
        .await?;
        ensure!(began.elapsed() < Duration::from_secs(5), "the tags took {:?}", began.elapsed());
    }
    let cluster = the_cluster(&env)?;
    ensure!(cluster.tags.contains_key("services.k8s.aws/namespace"), "the default tags stay: {cluster:?}");
    env.event("vc", "Updated").await?;
    Ok(())
}

#[tokio::test]
async fn limits_are_replaced_as_a_whole_and_taken_away() -> Result<()> {
    let env = TestEnv::new("vc-limits").await?;
    let limits = "  schedulerConfiguration: {maxConcurrentJobRuns: 5, maxInQueueJobRuns: 7}\n";
    env.apply(&(virtual_cluster("vc", env.namespace()) + limits)).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let edits = [
        (json!({"maxConcurrentJobRuns": 6}), json!({"maxConcurrentJobRuns": 6, "maxInQueueJobRuns": 7})),
        (json!({"maxInQueueJobRuns": null}), json!({"maxConcurrentJobRuns": 6})),
        (Value::Null, json!({})),
    ];
    let mut tokens = Vec::new();
    for (count, (edit, expected)) in edits.into_iter().enumerate() {
        env.patch(env.virtual_clusters(), "vc", json!({"spec": {"schedulerConfiguration": edit}})).await?;
        let sent = env
            .in_aws("the limits should be sent", |aws| {
                requests(aws, "UpdateVirtualCluster").get(count).cloned()
            })
            .await?;
        let body = sent.body.get("schedulerConfiguration").cloned().unwrap_or_else(|| json!({}));
        ensure!(body == expected && sent.status == Some(200), "{body} should be {expected}: {sent:?}");
        ensure!(!tokens.contains(&sent.client_token), "a change needs a token of its own: {sent:?}");
        tokens.push(sent.client_token);
    }
    Ok(())
}

#[tokio::test]
async fn a_deletion_waits_until_the_cluster_is_terminated() -> Result<()> {
    let env = TestEnv::with(
        "vc-delete",
        Options { terminating_for: Duration::from_millis(1500), ..quick() },
        |operator| operator,
    )
    .await?;
    env.ready_cluster("vc").await?;
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    let going = env.virtual_cluster_in("vc", "TERMINATING").await?;
    let ready = condition(&going, "Ready").context("Ready")?;
    ensure!(ready.status == "False" && ready.reason == "TERMINATING", "{ready:?}");
    let state_when_gone = async {
        wait::deleted(env.virtual_clusters(), "vc", tests::cluster::PATIENCE).await?;
        the_cluster(&env)
    };
    let cluster = state_when_gone.await?;
    ensure!(cluster.state == "TERMINATED", "the object went while its cluster was {}", cluster.state);
    ensure!(calls(env.simulator(), "DeleteVirtualCluster") == 1, "{:?}", env.simulator().counters());
    Ok(())
}

#[tokio::test]
async fn a_cluster_without_permission_says_so_in_awss_words_and_is_tried_again() -> Result<()> {
    let env = TestEnv::new("vc-denied").await?;
    let mut denied = fault("CreateVirtualCluster", FaultKind::AccessDenied, 3);
    denied.message =
        Some("User: operator is not authorized to perform: emr-containers:CreateVirtualCluster".into());
    env.simulator().add_fault(denied)?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    let words = "AccessDeniedException: User: operator is not authorized to perform";
    let trouble = env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", words).await?;
    ensure!(condition(&trouble, "ACK.Terminal").is_none(), "it is not for good: {}", trouble.data);
    ensure!(env.event("vc", "AccessDenied").await?.type_ == "Warning");
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let tries = requests(env.simulator(), "CreateVirtualCluster");
    ensure!(tries.len() == 4, "three refusals and a success: {}", tries.len());
    let pauses: Vec<f64> = tries
        .windows(2)
        .filter_map(|pair| match pair {
            [first, second] => Some(second.at.duration_since(first.at).as_secs_f64()),
            _ => None,
        })
        .collect();
    ensure!(pauses.is_sorted() && pauses.first() >= Some(&0.7), "pauses should grow: {pauses:?}");
    Ok(())
}

#[tokio::test]
async fn a_cluster_that_was_never_created_can_be_deleted_without_permission() -> Result<()> {
    let env = TestEnv::new("vc-denied-gone").await?;
    env.simulator().add_fault(fault("CreateVirtualCluster", FaultKind::AccessDenied, 1000))?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", "AccessDenied").await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    ensure!(env.simulator().snapshot().virtual_clusters.is_empty());
    ensure!(calls(env.simulator(), "DeleteVirtualCluster") == 0);
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_being_updated_is_waited_for() -> Result<()> {
    let env = TestEnv::new("vc-updating").await?;
    env.simulator().set_eks_cluster("eks", Some(2), None);
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    let words = "connection is currently being updated";
    let waiting = env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", words).await?;
    ensure!(condition(&waiting, "ACK.Terminal").is_none(), "it passes: {}", waiting.data);
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 3);
    Ok(())
}

#[tokio::test]
async fn a_taken_namespace_is_told_with_the_id_and_not_asked_for_again() -> Result<()> {
    let env = TestEnv::new("vc-taken").await?;
    let id = env.ready_cluster("first").await?;
    env.apply(&virtual_cluster("second", env.namespace())).await?;
    let refused = env.condition(env.virtual_clusters(), "second", "ACK.Terminal", "True").await?;
    let terminal = condition(&refused, "ACK.Terminal").context("ACK.Terminal")?;
    ensure!(terminal.message.contains(&id) && terminal.message.contains("first"), "{terminal:?}");
    ensure!(terminal.message.contains("delete that one, or use another namespace"), "{terminal:?}");
    ensure!(condition(&refused, "Stalled").is_some_and(|stalled| stalled.status == "True"));
    ensure!(env.event("second", "Refused").await?.count == 1);
    // The life of a run passes, and nothing more is asked or written.
    env.apply(&job_run("run", "first", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    let counters =
        (calls(env.simulator(), "CreateVirtualCluster"), calls(env.simulator(), "ListVirtualClusters"));
    ensure!(counters == (2, 1), "calls to create and to list: {counters:?}");
    let now = env.virtual_clusters().get("second").await?;
    ensure!(now.resource_version() == refused.resource_version(), "it was written again: {}", now.data);
    // Other tags are another try; the holder's end makes room.
    env.delete(env.job_runs(), "run").await?;
    env.delete(env.virtual_clusters(), "first").await?;
    env.annotate(env.virtual_clusters(), "second", "emrcontainers.services.k8s.aws/retry", "1").await?;
    env.condition(env.virtual_clusters(), "second", "Ready", "True").await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_follows_one_that_is_being_terminated() -> Result<()> {
    let env = TestEnv::with(
        "vc-follow",
        Options { terminating_for: Duration::from_secs(3), ..quick() },
        |operator| operator,
    )
    .await?;
    let first = env.ready_cluster("first").await?;
    env.virtual_clusters().delete("first", &DeleteParams::default()).await?;
    env.virtual_cluster_in("first", "TERMINATING").await?;
    env.apply(&virtual_cluster("second", env.namespace())).await?;
    let words = format!("{first} is being terminated");
    env.message(env.virtual_clusters(), "second", "ACK.Recoverable", &words).await?;
    let ready = env.condition(env.virtual_clusters(), "second", "Ready", "True").await?;
    ensure!(status(&ready, "id").is_some_and(|id| id != first));
    ensure!(calls(env.simulator(), "CreateVirtualCluster") <= 5, "{:?}", env.simulator().counters());
    Ok(())
}

/// Applies a cluster whose creation is done in AWS while the reply is held, and kills the operator there.
pub(crate) async fn crash_between_creation_and_status(name: &str) -> Result<TestEnv> {
    let env = TestEnv::new(name).await?;
    env.simulator().add_fault(fault("CreateVirtualCluster", FaultKind::HoldReply, 1))?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.in_aws("the reply should be held", |aws| (aws.snapshot().held_replies == 1).then_some(())).await?;
    env.operator().kill9().await?;
    Ok(env)
}

#[tokio::test]
async fn a_crash_after_the_creation_does_not_create_twice() -> Result<()> {
    let mut env = crash_between_creation_and_status("vc-crash").await?;
    let made = the_cluster(&env)?.id;
    env.restart_operator().await?;
    let ready = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ensure!(status(&ready, "id") == Some(&made), "{:?} should be {made}", status(&ready, "id"));
    the_cluster(&env).map(drop)
}

#[tokio::test]
async fn a_deletion_after_such_a_crash_deletes_the_cluster_that_nobody_noted() -> Result<()> {
    let mut env = crash_between_creation_and_status("vc-crash-delete").await?;
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    wait::deleted(env.virtual_clusters(), "vc", tests::cluster::PATIENCE).await?;
    let cluster = the_cluster(&env)?;
    ensure!(cluster.state == "TERMINATED", "{cluster:?}");
    let asked =
        (calls(env.simulator(), "CreateVirtualCluster"), calls(env.simulator(), "DeleteVirtualCluster"));
    ensure!(asked == (2, 1), "calls to create and to delete: {asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_starts_on_the_event_of_its_cluster() -> Result<()> {
    let env = TestEnv::new("vc-event").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    let waiting = env.condition(env.job_runs(), "run", "ACK.ReferencesResolved", "Unknown").await?;
    let why = condition(&waiting, "ACK.ReferencesResolved").context("a condition")?;
    ensure!(
        why.message == "Reference resolution failed" && why.reason.contains("\"vc\" not found"),
        "{why:?}"
    );
    env.ready_cluster("vc").await?;
    env.job_run_in("run", "COMPLETED").await?;
    let at = |operation| requests(env.simulator(), operation).first().map(|request| request.at);
    let (created, started) = (at("CreateVirtualCluster"), at("StartJobRun"));
    let after = started.context("a start")?.duration_since(created.context("a creation")?);
    println!("from CreateVirtualCluster to StartJobRun: {} ms", after.as_millis());
    ensure!(after.as_secs_f64() < 1.0, "the start came {after:?} after the creation");
    ensure!(calls(env.simulator(), "StartJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn a_run_can_use_the_cluster_of_another_namespace() -> Result<()> {
    let plane = tests::control_plane::shared().await?;
    let (clusters, runs) = (
        Namespace::create(&plane.client()?, "vc-far").await?,
        Namespace::create(&plane.client()?, "vc-near").await?,
    );
    let watched = format!("{},{}", clusters.name(), runs.name());
    let env =
        TestEnv::with("vc-cross", quick(), |operator| operator.arguments(&["--watch-namespace", &watched]))
            .await?;
    let run = job_run("run", &format!("vc, namespace: {}", clusters.name()), "");
    objects::apply(env.client(), runs.name(), &run).await?;
    objects::apply(env.client(), clusters.name(), &virtual_cluster("vc", clusters.name())).await?;
    let far = objects::ours(env.client(), clusters.name(), "VirtualCluster");
    let near = objects::ours(env.client(), runs.name(), "JobRun");
    let running = |run: &kube::api::DynamicObject| status(run, "state") == Some("RUNNING");
    let run = env.until(near.clone(), "run", "should be RUNNING", running).await?;
    ensure!(status(&run, "virtualClusterID") == Some(the_cluster(&env)?.id.as_str()));
    // The cluster knows its user by namespace and name.
    far.delete("vc", &DeleteParams::default()).await?;
    env.message(far.clone(), "vc", "Ready", &format!("{}/run", runs.name())).await?;
    wait::deleted(far, "vc", tests::cluster::PATIENCE).await?;
    let run = near.get("run").await?;
    ensure!(status(&run, "state") == Some("COMPLETED"), "it was let to its end: {}", run.data);
    Ok(())
}

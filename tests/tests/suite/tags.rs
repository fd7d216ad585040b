//! Tags at AWS: the operator's own in every form, those of live runs as they are edited, and what an edit costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use emr_simulator::{FaultKind, LoggedRequest};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::control_plane::repository;
use tests::manifest::{job_run, virtual_cluster};
use tests::objects::condition;
use tests::operator::Operator;
use tests::simulator::{all_calls, calls, endless, fault, quick};

/// An operator without tags of its own, and the one run `run` that goes on and on, with these tags.
async fn with_a_live_run(name: &str, tags: &Value) -> Result<TestEnv> {
    let env = TestEnv::with(name, quick(), |operator| operator.arguments(&["--resource-tags="])).await?;
    env.simulator().add_outcome(endless("run"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", &format!("tags: {tags}"))).await?;
    env.job_run_in("run", "RUNNING").await?;
    Ok(env)
}

async fn edit(env: &TestEnv, tags: Value) -> Result<DynamicObject> {
    env.patch(env.job_runs(), "run", json!({"spec": {"tags": tags}})).await
}

/// Waits until the run has these tags at AWS.
async fn tagged(env: &TestEnv, expected: &Value) -> Result<()> {
    env.in_aws(&format!("the run's tags should be {expected}"), |aws| {
        let job = aws.snapshot().job_runs.into_iter().find(|job| job.name == "run")?;
        (json!(job.tags) == *expected).then_some(())
    })
    .await
}

/// Waits until the status answers the newest generation.
async fn answered(env: &TestEnv, generation: i64) -> Result<DynamicObject> {
    let answers =
        |run: &DynamicObject| run.data.pointer("/status/observedGeneration") == Some(&json!(generation));
    env.until(env.job_runs(), "run", &format!("should answer generation {generation}"), answers).await
}

/// The calls about one run or its tags.
fn about(env: &TestEnv, id: &str) -> Vec<LoggedRequest> {
    let mut requests = env.simulator().requests_since(0);
    requests.retain(|request| request.id.as_deref().is_some_and(|of| of.ends_with(id)));
    requests
}

fn names(requests: &[LoggedRequest]) -> Vec<&str> {
    requests.iter().map(|request| request.operation.as_str()).collect()
}

#[tokio::test]
async fn d24_the_tags_of_a_live_run_follow_its_spec_and_nothing_is_asked_without_an_edit() -> Result<()> {
    let mut env = with_a_live_run("d24", &json!({"a": "1", "b": "2"})).await?;
    let id = env.the_job("run")?.id;
    ensure!(about(&env, &id).is_empty(), "{:?}", about(&env, &id));
    let began = Instant::now();
    edit(&env, json!({"a": null, "b": "x=y", "c": ""})).await?;
    tagged(&env, &json!({"b": "x=y", "c": ""})).await?;
    ensure!(began.elapsed() < Duration::from_secs(5), "the tags took {:?}", began.elapsed());
    let run = answered(&env, 2).await?;
    ensure!(condition(&run, "ACK.ResourceSynced").is_some_and(|synced| synced.status == "True"));
    ensure!(env.event("run", "Updated").await?.note == "updated tags");
    let first = ["DescribeJobRun", "UntagResource", "TagResource"];
    ensure!(names(&about(&env, &id)) == first, "{:?}", about(&env, &id));
    // An edit that asks for nothing costs the look, and a new process costs none.
    edit(&env, json!({"b": "x=y", "c": ""})).await?;
    env.patch(env.job_runs(), "run", json!({"spec": {"virtualClusterRef": {"from": {"name": "other"}}}}))
        .await?;
    answered(&env, 3).await?;
    env.operator().terminate().await?;
    env.restart_operator().await?;
    env.apply(&job_run("after", "vc", "")).await?;
    env.job_run_in("after", "COMPLETED").await?;
    ensure!(names(&about(&env, &id)) == [&first[..], &["DescribeJobRun"]].concat(), "{:?}", about(&env, &id));
    // All of them taken away, as server-side apply does it.
    edit(&env, Value::Null).await?;
    tagged(&env, &json!({})).await
}

#[tokio::test]
async fn tags_that_are_edited_while_nobody_works_are_sent_by_the_next_process() -> Result<()> {
    let mut env = with_a_live_run("tags-down", &json!({"a": "1"})).await?;
    env.operator().kill9().await?;
    edit(&env, json!({"a": "2"})).await?;
    env.restart_operator().await?;
    tagged(&env, &json!({"a": "2"})).await?;
    answered(&env, 2).await.map(drop)
}

#[tokio::test]
async fn tags_that_are_edited_during_the_start_are_not_lost() -> Result<()> {
    let env =
        TestEnv::with("tags-start", quick(), |operator| operator.arguments(&["--resource-tags="])).await?;
    env.simulator().add_outcome(endless("run"))?;
    env.ready_cluster("vc").await?;
    env.simulator().add_fault(fault("StartJobRun", FaultKind::HoldReply, 1))?;
    env.apply(&job_run("run", "vc", "tags: {a: '1'}")).await?;
    env.in_aws("the start should be held", |aws| (aws.snapshot().held_replies == 1).then_some(())).await?;
    edit(&env, json!({"a": "2"})).await?;
    env.simulator().release();
    tagged(&env, &json!({"a": "2"})).await?;
    answered(&env, 2).await?;
    env.the_job("run").map(drop)
}

#[tokio::test]
async fn a_run_that_has_ended_is_not_asked_for_when_its_tags_are_edited() -> Result<()> {
    let env = TestEnv::new("tags-ended").await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "tags: {a: '1'}")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    let before = all_calls(env.simulator());
    edit(&env, json!({"a": "2"})).await?;
    let run = answered(&env, 2).await?;
    ensure!(condition(&run, "Ready").is_some_and(|ready| ready.status == "True"), "{}", run.data);
    ensure!(all_calls(env.simulator()) == before, "AWS takes no tags of a run that has ended");
    Ok(())
}

/// Upstream's policy has no right to take tags away: the other tags are set, and both objects say what is missing.
#[tokio::test]
async fn d23_without_the_right_to_untag_it_is_told_and_everything_else_goes_on() -> Result<()> {
    let env = with_a_live_run("d23", &json!({"a": "1", "b": "2"})).await?;
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"a": "1"}}})).await?;
    env.in_aws("the cluster should be tagged", |aws| (calls(aws, "TagResource") == 1).then_some(())).await?;
    let mut denied = fault("UntagResource", FaultKind::AccessDenied, 1000);
    let words = "User: operator is not authorized to perform: emr-containers:UntagResource";
    denied.message = Some(words.to_owned());
    let denied = env.simulator().add_fault(denied)?;
    edit(&env, json!({"a": "3", "b": null})).await?;
    tagged(&env, &json!({"a": "3", "b": "2"})).await?;
    let run = env.message(env.job_runs(), "run", "ACK.Recoverable", words).await?;
    let synced = condition(&run, "ACK.ResourceSynced").context("ACK.ResourceSynced")?;
    ensure!(synced.status == "False" && synced.message == "Resource not synced", "{synced:?}");
    let ready = condition(&run, "Ready").context("Ready")?;
    ensure!(ready.reason == "RUNNING", "the run's own state is told as ever: {ready:?}");
    ensure!(env.event("run", "AccessDenied").await?.type_ == "Warning");
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"a": null}}})).await?;
    env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", words).await?;
    // Neither holds up what the object is for.
    env.apply(&job_run("other", "vc", "")).await?;
    env.job_run_in("other", "COMPLETED").await?;
    // Granting it is enough.
    ensure!(env.simulator().remove_fault(denied));
    tagged(&env, &json!({"a": "3"})).await?;
    let run = answered(&env, 2).await?;
    ensure!(condition(&run, "ACK.Recoverable").is_none(), "{}", run.data);
    env.condition(env.virtual_clusters(), "vc", "ACK.ResourceSynced", "True").await?;
    let operations = std::fs::read_to_string(repository().join("docs/operations.md"))?;
    let policy = operations.split("```").find(|block| block.contains("\"Statement\"")).context("a policy")?;
    ensure!(policy.contains("\"emr-containers:UntagResource\""), "the documented policy has the right");
    Ok(())
}

#[tokio::test]
async fn tags_that_aws_would_refuse_are_told_without_a_call_and_mended_by_an_edit() -> Result<()> {
    let env = with_a_live_run("tags-bad", &json!({"a": "1"})).await?;
    let id = env.the_job("run")?.id;
    edit(&env, json!({"aws:x": "y"})).await?;
    let words = "spec.tags: the key \"aws:x\" begins with aws:";
    let run = env.message(env.job_runs(), "run", "ACK.Recoverable", words).await?;
    ensure!(condition(&run, "ACK.ResourceSynced").is_some_and(|synced| synced.status == "False"));
    ensure!(about(&env, &id).is_empty(), "{:?}", about(&env, &id));
    edit(&env, json!({"aws:x": null, "a": "2"})).await?;
    tagged(&env, &json!({"a": "2"})).await?;
    let run = answered(&env, 3).await?;
    ensure!(condition(&run, "ACK.Recoverable").is_none(), "{}", run.data);
    // A cluster that isn't there yet is refused, and one that is says so.
    env.apply(&(virtual_cluster("bad", "bad") + "  tags: {'aws:x': 'y'}\n")).await?;
    env.message(env.virtual_clusters(), "bad", "ACK.Terminal", words).await?;
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1);
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"aws:x": "y"}}})).await?;
    env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", words).await?;
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": null}})).await?;
    env.condition(env.virtual_clusters(), "vc", "ACK.ResourceSynced", "True").await.map(drop)
}

#[tokio::test]
async fn fifty_tags_are_exchanged_for_fifty_others() -> Result<()> {
    let fifty = |prefix: &str| -> BTreeMap<String, String> {
        (0..50).map(|index| (format!("{prefix}{index}"), "v".to_owned())).collect()
    };
    let env = with_a_live_run("tags-fifty", &json!(fifty("a"))).await?;
    let mut exchange = json!(fifty("b"));
    for key in fifty("a").into_keys() {
        exchange[key] = Value::Null;
    }
    edit(&env, exchange).await?;
    tagged(&env, &json!(fifty("b"))).await
}

#[tokio::test]
async fn d24_the_operators_tags_take_every_format_and_values_with_equals_signs() -> Result<()> {
    let flag = "--resource-tags=service=%CONTROLLER_SERVICE%,version=%CONTROLLER_VERSION%,in=%K8S_NAMESPACE%,\
                name=%K8S_RESOURCE_NAME%,kind=%K8S_RESOURCE_KIND%,by=%MANAGED_BY%,kro=%KRO_VERSION%,query=a=b&c=d,own=flag";
    let env = TestEnv::with("tag-formats", quick(), |operator| operator.arguments(&[flag])).await?;
    env.ready_cluster("vc").await?;
    let mut run: Value = serde_saphyr::from_str(&job_run("run", "vc", "tags: {own: user}"))?;
    run["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "kro", "kro.run/kro-version": "v0.4"});
    env.apply(&run.to_string()).await?;
    env.job_run_in("run", "COMPLETED").await?;
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let common =
        json!({"service": "emrcontainers", "version": version, "in": env.namespace(), "query": "a=b&c=d"});
    let with = |more: Value| {
        let mut tags = common.clone();
        if let (Some(tags), Some(more)) = (tags.as_object_mut(), more.as_object()) {
            tags.extend(more.clone());
        }
        tags
    };
    // Without its labels the cluster has no tags for them.
    let cluster = env.simulator().snapshot().virtual_clusters.pop().context("a cluster")?;
    let expected = with(json!({"name": "vc", "kind": "VirtualCluster", "own": "flag"}));
    ensure!(json!(cluster.tags) == expected, "{:?}", cluster.tags);
    let labelled = json!({"name": "run", "kind": "JobRun", "by": "kro", "kro": "v0.4", "own": "user"});
    let job = env.the_job("run")?;
    ensure!(json!(job.tags) == with(labelled), "{:?}", job.tags);
    // They are in the requests only.
    for object in [env.job_runs().get("run").await?, env.virtual_clusters().get("vc").await?] {
        ensure!(!object.data["spec"].to_string().contains("emrcontainers"), "{}", object.data["spec"]);
    }
    Ok(())
}

#[tokio::test]
async fn other_tags_of_the_operator_are_no_reason_to_tag_anew_and_come_with_the_next_edit() -> Result<()> {
    let with = |flag: &'static str| move |operator: tests::operator::Builder| operator.arguments(&[flag]);
    let env = TestEnv::with("tag-flag", quick(), with("--resource-tags=v=1,gone=1")).await?;
    env.ready_cluster("vc").await?;
    env.operator().terminate().await?;
    let described = calls(env.simulator(), "DescribeVirtualCluster");
    let later = Operator::builder(env.plane().kubeconfig(), env.simulator().url())
        .watch_namespace(env.namespace())
        .arguments(&["--resource-tags=v=2,gone=%MANAGED_BY%"])
        .start(env.plane().scratch())
        .await?;
    env.in_aws("the cluster should be looked at", |aws| {
        (calls(aws, "DescribeVirtualCluster") > described).then_some(())
    })
    .await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    ensure!(calls(env.simulator(), "TagResource") + calls(env.simulator(), "UntagResource") == 0);
    env.patch(env.virtual_clusters(), "vc", json!({"spec": {"tags": {"own": "x"}}})).await?;
    env.in_aws("the edit should bring them along", |aws| {
        let tags = aws.snapshot().virtual_clusters.pop()?.tags;
        (json!(tags) == json!({"v": "2", "own": "x"})).then_some(())
    })
    .await?;
    later.ensure_running()
}

//! Adoption: objects that take over what exists, as their annotations ask; and objects that only look.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::elsewhere::{create_cluster, job, start_job};
use tests::history::History;
use tests::manifest::{annotated, job_run, virtual_cluster};
use tests::objects::{condition, status};
use tests::simulator::{calls, endless, requests};

pub(crate) const ADOPTED: &str = "services.k8s.aws/adopted";
const POLICY: &str = "services.k8s.aws/adoption-policy";
const FIELDS: &str = "services.k8s.aws/adoption-fields";
const READ_ONLY: &str = "services.k8s.aws/read-only";
const FINALIZER: &str = "finalizers.emrcontainers.services.k8s.aws/";

/// An object that has annotations and no spec.
fn bare(kind: &str, name: &str, annotations: &Value) -> String {
    json!({
        "apiVersion": "emrcontainers.services.k8s.aws/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "annotations": annotations},
    })
    .to_string()
}

pub(crate) fn adopting(kind: &str, name: &str, fields: &Value) -> String {
    bare(kind, name, &json!({POLICY: "adopt", FIELDS: fields.to_string()}))
}

/// No call that changes something, other than those of others.
fn ensure_only_read(env: &TestEnv, expected: &[(&str, u64)]) -> Result<()> {
    for operation in [
        "StartJobRun",
        "CancelJobRun",
        "CreateVirtualCluster",
        "UpdateVirtualCluster",
        "DeleteVirtualCluster",
        "TagResource",
        "UntagResource",
    ] {
        let allowed = expected.iter().find(|(name, _)| *name == operation).map_or(0, |(_, count)| *count);
        let made = calls(env.simulator(), operation);
        ensure!(made == allowed, "{operation}: {made} calls, {allowed} of them by others");
    }
    Ok(())
}

pub(crate) fn is_marked(object: &DynamicObject, kind: &str) -> Result<()> {
    ensure!(object.annotations().get(ADOPTED).is_some_and(|value| value == "true"), "{:?}", object.metadata);
    ensure!(object.finalizers() == [format!("{FINALIZER}{kind}")], "{:?}", object.metadata);
    Ok(())
}

#[tokio::test]
async fn a_manifest_without_a_spec_adopts_a_virtual_cluster_and_changes_nothing_of_it() -> Result<()> {
    let env = TestEnv::new("adopt-vc").await?;
    let id = create_cluster(env.simulator(), "shared", env.namespace(), &json!({"team": "a"})).await?;
    let history = History::record(env.virtual_clusters(), "vc").await?;
    env.apply(&adopting("VirtualCluster", "vc", &json!({"id": id}))).await?;
    let cluster = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    ensure!(status(&cluster, "id") == Some(id.as_str()));
    is_marked(&cluster, "VirtualCluster")?;
    // Upstream writes what it sees, too, and a controller that finds less would take the tags away.
    ensure!(
        cluster.data["spec"]
            == json!({
                "name": "shared",
                "containerProvider": {"id": "eks", "type_": "EKS", "info": {"eksInfo": {"namespace": env.namespace()}}},
                "tags": {"team": "a"},
            }),
        "{:?}",
        cluster.data
    );
    env.event("vc", "Adopted").await?;
    // Finalizer, annotation and spec came together, and before the id.
    let versions = history.versions().await?;
    let first = versions.iter().find(|version| !version.finalizers().is_empty()).context("a finalizer")?;
    is_marked(first, "VirtualCluster")?;
    ensure!(status(first, "id").is_none() && first.data["spec"]["name"] == "shared");
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1, "that of the other");
    let tags = env.simulator().snapshot().virtual_clusters[0].tags.clone();
    ensure!(tags.get("team").is_some_and(|team| team == "a"), "{tags:?}");
    // Runs refer to it as to any other, and it goes as any other.
    env.apply(&job_run("r", "vc", "")).await?;
    env.job_run_in("r", "COMPLETED").await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    ensure!(env.simulator().snapshot().virtual_clusters[0].state == "TERMINATED");
    Ok(())
}

#[tokio::test]
async fn runs_are_adopted_by_id_arn_and_token_observed_to_their_end_and_cost_nothing_after_it() -> Result<()>
{
    let env = TestEnv::new("adopt-run").await?;
    let cluster = env.ready_cluster("vc").await?;
    for name in ["by-id", "by-arn", "by-token"] {
        let id =
            start_job(env.simulator(), &cluster, &job(name, &format!("airflow-{name}"), &json!({"a": "b"})))
                .await?;
        let fields = match name {
            "by-id" => json!({"id": id, "virtualClusterID": cluster}),
            "by-arn" => {
                let arn = format!(
                    "arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/{cluster}/jobruns/{id}"
                );
                json!({ "arn": arn })
            }
            _ => json!({"clientToken": format!("airflow-{name}"), "virtualClusterID": cluster}),
        };
        env.apply(&adopting("JobRun", name, &fields)).await?;
        let run = env.job_run_in(name, "COMPLETED").await?;
        ensure!(
            status(&run, "id") == Some(id.as_str())
                && status(&run, "virtualClusterID") == Some(cluster.as_str())
        );
        is_marked(&run, "JobRun")?;
        let spec = &run.data["spec"];
        ensure!(spec["name"] == name && spec["virtualClusterID"] == *cluster, "{spec}");
        ensure!(spec["jobDriver"]["sparkSubmitJobDriver"]["entryPoint"] == "s3://bucket/job.py", "{spec}");
        ensure!(spec["tags"] == json!({"a": "b"}), "{spec}");
        ensure!(condition(&run, "ACK.Advisory").is_none(), "{:?}", run.data);
        env.event(name, "Adopted").await?;
        env.delete(env.job_runs(), name).await?;
        ensure!(env.the_job(name)?.state == "COMPLETED");
    }
    ensure!(calls(env.simulator(), "StartJobRun") == 3 && calls(env.simulator(), "CancelJobRun") == 0);
    Ok(())
}

#[tokio::test]
async fn an_adopted_run_that_lives_is_cancelled_with_its_object_unless_it_is_retained() -> Result<()> {
    let env = TestEnv::new("adopt-delete").await?;
    env.simulator().add_outcome(endless("*"))?;
    let cluster = env.ready_cluster("vc").await?;
    for name in ["cancelled", "retained"] {
        let id = start_job(env.simulator(), &cluster, &job(name, name, &json!({}))).await?;
        env.apply(&adopting("JobRun", name, &json!({"id": id, "virtualClusterID": cluster}))).await?;
        env.job_run_in(name, "RUNNING").await?;
    }
    env.annotate(env.job_runs(), "retained", "services.k8s.aws/deletion-policy", "retain").await?;
    for name in ["cancelled", "retained"] {
        env.delete(env.job_runs(), name).await?;
    }
    ensure!(env.the_job("cancelled")?.state == "CANCELLED" && env.the_job("retained")?.state == "RUNNING");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_told_and_looked_for_again_and_nothing_is_made() -> Result<()> {
    let env = TestEnv::new("adopt-missing").await?;
    let cluster = env.ready_cluster("vc").await?;
    let token = json!({"clientToken": "later", "virtualClusterID": cluster});
    env.apply(&adopting("JobRun", "r", &token)).await?;
    env.apply(&adopting("VirtualCluster", "none", &json!({"id": "0nothere"}))).await?;
    let run = env.message(env.job_runs(), "r", "ACK.Recoverable", "adopted resource not found").await?;
    ensure!(run.finalizers().is_empty() && status(&run, "id").is_none(), "{run:?}");
    env.message(env.virtual_clusters(), "none", "ACK.Recoverable", "adopted resource not found").await?;
    let id = start_job(env.simulator(), &cluster, &job("r", "later", &json!({}))).await?;
    let run = env.job_run_in("r", "COMPLETED").await?;
    ensure!(status(&run, "id") == Some(id.as_str()) && calls(env.simulator(), "StartJobRun") == 1);
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 1, "that of vc");
    Ok(())
}

#[tokio::test]
async fn adopt_or_create_takes_what_is_there_and_else_makes_it_once() -> Result<()> {
    let env = TestEnv::new("adopt-create").await?;
    let cluster = env.ready_cluster("vc").await?;
    let with = |name: &str, fields: Value| {
        annotated(
            &job_run(name, "vc", &format!("name: {name}")),
            &json!({POLICY: "adopt-or-create", FIELDS: fields.to_string()}),
        )
    };
    let id = start_job(env.simulator(), &cluster, &job("there", "there", &json!({}))).await?;
    // The virtual cluster may be in the spec.
    env.apply(&with("there", json!({ "id": id }))).await?;
    env.apply(&with("made", json!({"clientToken": "nobody"}))).await?;
    env.apply(&with("unnamed", json!({}))).await?;
    let there = env.job_run_in("there", "COMPLETED").await?;
    ensure!(status(&there, "id") == Some(id.as_str()));
    is_marked(&there, "JobRun")?;
    ensure!(there.metadata.generation == Some(1), "its spec is left as it is: {:?}", there.data);
    let made = env.job_run_in("made", "COMPLETED").await?;
    ensure!(!made.annotations().contains_key(ADOPTED), "{:?}", made.metadata);
    env.job_run_in("unnamed", "COMPLETED").await?;
    ensure!(["made", "there", "unnamed"].iter().all(|name| env.jobs(name).len() == 1));
    let vc = annotated(
        &virtual_cluster("new", "another-namespace"),
        &json!({POLICY: "adopt-or-create", FIELDS: json!({"id": "0nothere"}).to_string()}),
    );
    env.apply(&vc).await?;
    env.condition(env.virtual_clusters(), "new", "Ready", "True").await?;
    ensure!(calls(env.simulator(), "CreateVirtualCluster") == 2);
    Ok(())
}

#[tokio::test]
async fn annotations_that_ask_for_nothing_possible_are_told_in_upstreams_words_and_mended_at_once()
-> Result<()> {
    let env = TestEnv::new("adopt-wrong").await?;
    let cluster = env.ready_cluster("vc").await?;
    for (name, policy, fields, words) in [
        ("policy", "import", "{}", "unrecognized adoption policy import"),
        ("json", "adopt", "not json", "unmarshalling adoption-fields annotation: "),
        ("id", "adopt", "{}", "Error populating adoption fields: required field missing: id"),
    ] {
        for kind in ["JobRun", "VirtualCluster"] {
            env.apply(&bare(kind, name, &json!({POLICY: policy, FIELDS: fields}))).await?;
        }
        for api in [env.job_runs(), env.virtual_clusters()] {
            let object = env.message(api, name, "ACK.Terminal", words).await?;
            ensure!(condition(&object, "Ready").is_some_and(|ready| ready.status == "False"), "{object:?}");
            ensure!(object.finalizers().is_empty());
        }
    }
    // Long before a retry could be due: nothing else is waited for than the edit.
    let id = start_job(env.simulator(), &cluster, &job("j", "j", &json!({}))).await?;
    let fields = json!({"id": id, "virtualClusterID": cluster}).to_string();
    env.annotate(env.job_runs(), "json", FIELDS, &fields).await?;
    env.job_run_in("json", "COMPLETED").await?;
    env.annotate(env.virtual_clusters(), "json", FIELDS, &json!({ "id": cluster }).to_string()).await?;
    env.condition(env.virtual_clusters(), "json", "Ready", "True").await?;
    Ok(())
}

#[tokio::test]
async fn a_crash_between_mark_and_id_adopts_again_and_starts_nothing() -> Result<()> {
    let mut env = TestEnv::new("adopt-crash").await?;
    env.simulator().add_outcome(endless("*"))?;
    let cluster = env.ready_cluster("vc").await?;
    let id = start_job(env.simulator(), &cluster, &job("r", "r", &json!({}))).await?;
    env.operator().terminate().await?;
    // As a process leaves it that ends after its first write: marked, and without a status.
    let fields = json!({"id": id, "virtualClusterID": cluster}).to_string();
    let mut marked: DynamicObject = serde_json::from_str(&bare(
        "JobRun",
        "r",
        &json!({POLICY: "adopt-or-create", FIELDS: fields, ADOPTED: "true"}),
    ))?;
    marked.metadata.finalizers = Some(vec![format!("{FINALIZER}JobRun")]);
    env.job_runs().create(&kube::api::PostParams::default(), &marked).await?;
    env.restart_operator().await?;
    let run = env.job_run_in("r", "RUNNING").await?;
    ensure!(status(&run, "id") == Some(id.as_str()) && calls(env.simulator(), "StartJobRun") == 1);
    Ok(())
}

#[tokio::test]
async fn a_spec_that_says_something_else_than_the_run_stays_and_is_told() -> Result<()> {
    let env = TestEnv::new("adopt-differs").await?;
    let cluster = env.ready_cluster("vc").await?;
    let id = start_job(env.simulator(), &cluster, &job("actual", "t", &json!({}))).await?;
    let fields = json!({ "id": id }).to_string();
    env.apply(&annotated(&job_run("r", "vc", "name: wanted"), &json!({POLICY: "adopt", FIELDS: fields})))
        .await?;
    let run = env.job_run_in("r", "COMPLETED").await?;
    let advice = condition(&run, "ACK.Advisory").context("it should be told")?;
    ensure!(advice.reason == "SpecDiffers" && advice.message.contains("spec.name"), "{advice:?}");
    ensure!(run.data["spec"]["name"] == "wanted" && run.data["spec"].get("virtualClusterID").is_none());
    ensure!(condition(&run, "ACK.ResourceSynced").is_some_and(|synced| synced.status == "True"));
    Ok(())
}

#[tokio::test]
async fn read_only_objects_follow_what_aws_has_and_change_nothing() -> Result<()> {
    let env = TestEnv::new("read-only").await?;
    env.simulator().add_outcome(endless("*"))?;
    let id = create_cluster(env.simulator(), "shared", env.namespace(), &json!({"team": "a"})).await?;
    let job_id = start_job(env.simulator(), &id, &job("r", "r", &json!({"team": "a"}))).await?;
    let annotations = |fields: Value| json!({POLICY: "adopt", FIELDS: fields.to_string(), READ_ONLY: "true"});
    let mut cluster: Value =
        serde_json::from_str(&bare("VirtualCluster", "vc", &annotations(json!({ "id": id }))))?;
    let provider = json!({"id": "eks", "type_": "EKS", "info": {"eksInfo": {"namespace": env.namespace()}}});
    cluster["spec"] = json!({"name": "other", "containerProvider": provider, "tags": {"team": "b"}});
    env.apply(&cluster.to_string()).await?;
    env.apply(&bare("JobRun", "r", &annotations(json!({"id": job_id, "virtualClusterID": id})))).await?;
    let cluster = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let advice = condition(&cluster, "ACK.Advisory").context("the difference should be told")?;
    ensure!(advice.message.contains("spec.name, spec.tags: the object is read-only"), "{advice:?}");
    env.job_run_in("r", "RUNNING").await?;
    env.simulator().force_job_run(&job_id, "COMPLETED", None, None)?;
    env.job_run_in("r", "COMPLETED").await?;
    env.simulator().force_virtual_cluster(&id, "ARRESTED")?;
    // Any edit is a reason to look.
    env.annotate(env.virtual_clusters(), "vc", "emrcontainers.services.k8s.aws/retry", "1").await?;
    env.virtual_cluster_in("vc", "ARRESTED").await?;
    for api in [(env.job_runs(), "r"), (env.virtual_clusters(), "vc")] {
        env.delete(api.0, api.1).await?;
    }
    ensure_only_read(&env, &[("StartJobRun", 1), ("CreateVirtualCluster", 1)])
}

#[tokio::test]
async fn a_read_only_object_without_a_resource_waits_and_starts_as_soon_as_it_may() -> Result<()> {
    let env = TestEnv::new("read-only-none").await?;
    env.ready_cluster("vc").await?;
    env.apply(&annotated(&job_run("r", "vc", ""), &json!({READ_ONLY: "true"}))).await?;
    env.apply(&annotated(&virtual_cluster("other", "elsewhere"), &json!({READ_ONLY: "True"}))).await?;
    let run = env.message(env.job_runs(), "r", "ACK.Recoverable", "read-only resource not found").await?;
    ensure!(run.finalizers().is_empty(), "{run:?}");
    env.message(env.virtual_clusters(), "other", "ACK.Recoverable", "read-only resource not found").await?;
    ensure_only_read(&env, &[("CreateVirtualCluster", 1)])?;
    env.annotate(env.job_runs(), "r", READ_ONLY, "false").await?;
    env.job_run_in("r", "COMPLETED").await?;
    env.annotate(env.virtual_clusters(), "other", READ_ONLY, "false").await?;
    env.condition(env.virtual_clusters(), "other", "Ready", "True").await?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_becomes_read_only_is_followed_and_let_go_without_a_cancel() -> Result<()> {
    let env = TestEnv::new("read-only-later").await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("r", "vc", "")).await?;
    env.job_run_in("r", "RUNNING").await?;
    env.annotate(env.job_runs(), "r", READ_ONLY, "true").await?;
    env.annotate(env.virtual_clusters(), "vc", READ_ONLY, "true").await?;
    env.delete(env.job_runs(), "r").await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    ensure!(env.the_job("r")?.state == "RUNNING" && requests(env.simulator(), "CancelJobRun").is_empty());
    ensure!(calls(env.simulator(), "DeleteVirtualCluster") == 0);
    Ok(())
}

#[tokio::test]
async fn gates_turn_adoption_and_read_only_off() -> Result<()> {
    let env = TestEnv::with("adopt-gates", tests::simulator::quick(), |operator| {
        operator.arguments(&["--feature-gates=ResourceAdoption=false,ReadOnlyResources=false"])
    })
    .await?;
    let annotations = json!({POLICY: "adopt", FIELDS: r#"{"id": "0nothere"}"#, READ_ONLY: "true"});
    env.apply(&annotated(&virtual_cluster("vc", env.namespace()), &annotations)).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    env.apply(&annotated(&job_run("r", "vc", ""), &annotations)).await?;
    env.job_run_in("r", "COMPLETED").await?;
    Ok(())
}

//! What a run refers to: roles of ACK's IAM controller, and objects of other namespaces.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use emr_simulator::FaultKind;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::control_plane::{repository, shared};
use tests::manifest::{ROLE, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, condition, status};
use tests::simulator::{calls, endless, fault, quick, requests};

/// Makes the API server know ACK's kind Role, and one without a status.
pub(super) async fn role(client: &kube::Client, namespace: &str, name: &str) -> Result<Api<DynamicObject>> {
    objects::install_crds(client, &repository().join("tests/manifests/iam")).await?;
    let role = json!({
        "apiVersion": "iam.services.k8s.aws/v1alpha1", "kind": "Role", "metadata": {"name": name},
        "spec": {"name": name, "assumeRolePolicyDocument": "{}"},
    });
    objects::apply(client, namespace, &role.to_string()).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("iam.services.k8s.aws", "v1alpha1", "Role"));
    Ok(Api::namespaced_with(client.clone(), namespace, &kind))
}

/// Gives a role a status: conditions that are True, and an ARN.
async fn set_status(roles: &Api<DynamicObject>, name: &str, types: &[&str], arn: Option<&str>) -> Result<()> {
    let conditions: Vec<Value> = types.iter().map(|type_| json!({"type": type_, "status": "True"})).collect();
    let mut metadata = json!({"ownerAccountID": "123456789012", "region": "us-west-2"});
    if let (Some(arn), Some(metadata)) = (arn, metadata.as_object_mut()) {
        metadata.insert("arn".to_owned(), json!(arn));
    }
    let patch = json!({"status": {"ackResourceMetadata": metadata, "conditions": conditions}});
    roles.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// A role that is ready.
pub(super) async fn ready_role(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<Api<DynamicObject>> {
    let roles = role(client, namespace, name).await?;
    set_status(&roles, name, &["ACK.ResourceSynced"], Some(ROLE)).await?;
    Ok(roles)
}

/// A JobRun with these references.
pub(super) fn run_with(name: &str, cluster: &Value, role: &Value) -> String {
    json!({
        "apiVersion": "emrcontainers.services.k8s.aws/v1alpha1", "kind": "JobRun", "metadata": {"name": name},
        "spec": {
            "virtualClusterRef": {"from": cluster}, "executionRoleRef": {"from": role},
            "releaseLabel": "emr-7.10.0-latest",
            "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://bucket/job.py"}},
        },
    })
    .to_string()
}

/// Waits until `ACK.ReferencesResolved` has that status and a reason that begins with these words.
async fn waits(env: &TestEnv, name: &str, expected: (&str, &str)) -> Result<DynamicObject> {
    let says = |run: &DynamicObject| {
        condition(run, "ACK.ReferencesResolved").is_some_and(|found| {
            found.status == expected.0
                && found.message == "Reference resolution failed"
                && found.reason.starts_with(expected.1)
        })
    };
    env.until(env.job_runs(), name, &format!("should say {expected:?}"), says).await
}

#[tokio::test]
async fn a_run_waits_for_its_role_in_upstreams_words_and_starts_once_it_has_an_arn() -> Result<()> {
    let env = TestEnv::new("role").await?;
    env.ready_cluster("vc").await?;
    objects::install_crds(env.client(), &repository().join("tests/manifests/iam")).await?;
    env.apply(&run_with("run", &json!({"name": "vc"}), &json!({"name": "job"}))).await?;
    let missing = waits(&env, "run", ("Unknown", "roles.iam.services.k8s.aws \"job\" not found")).await?;
    ensure!(condition(&missing, "ACK.Terminal").is_none() && status(&missing, "state").is_none());
    let ready = condition(&missing, "Ready").context("Ready")?;
    ensure!(ready.status == "False" && ready.reason == "ReferenceNotReady", "{ready:?}");
    env.event("run", "WaitingForReference").await?;

    let place = format!("resource:Role, namespace:{}, name:job", env.namespace());
    let unsynced = format!("the referenced resource is not synced yet. {place}");
    let terminal =
        format!("the referenced resource has 'ACK.Terminal' condition 'True'. Cannot be referenced. {place}");
    let lacking = format!(
        "the referenced resource is missing the target field. {place}, targetField:Status.ACKResourceMetadata.ARN"
    );
    let roles = role(env.client(), env.namespace(), "job").await?;
    waits(&env, "run", ("Unknown", &unsynced)).await?;
    set_status(&roles, "job", &["ACK.Terminal"], None).await?;
    waits(&env, "run", ("False", &terminal)).await?;
    set_status(&roles, "job", &["ACK.ResourceSynced"], None).await?;
    waits(&env, "run", ("Unknown", &lacking)).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 0);
    set_status(&roles, "job", &["ACK.ResourceSynced"], Some(ROLE)).await?;
    let run = env.job_run_in("run", "COMPLETED").await?;
    ensure!(condition(&run, "ACK.ReferencesResolved").is_some_and(|resolved| resolved.status == "True"));
    let request = requests(env.simulator(), "StartJobRun").pop().context("a start")?;
    ensure!(request.body["executionRoleArn"] == ROLE, "{}", request.body);
    env.the_job("run").map(drop)
}

/// The control plane of the other tests may know the kind: this one never does.
#[tokio::test]
async fn a_run_whose_cluster_knows_no_roles_says_what_to_do() -> Result<()> {
    let env = super::bad_input::world::environment("no-roles").await?;
    env.ready_cluster("vc").await?;
    env.apply(&run_with("run", &json!({"name": "vc"}), &json!({"name": "job"}))).await?;
    let run = waits(&env, "run", ("Unknown", "roles.iam.services.k8s.aws \"job\" not found")).await?;
    let why = condition(&run, "ACK.ReferencesResolved").context("a condition")?.reason;
    ensure!(why.contains("no such kind") && why.contains("set spec.executionRoleARN instead"), "{why}");
    env.patch(env.job_runs(), "run", json!({"spec": {"executionRoleRef": null, "executionRoleARN": ROLE}}))
        .await?;
    env.job_run_in("run", "COMPLETED").await.map(drop)
}

#[tokio::test]
async fn d14_a_run_keeps_on_when_its_role_goes() -> Result<()> {
    let mut env = TestEnv::new("d14-role").await?;
    env.simulator().add_outcome(endless("streaming"))?;
    env.ready_cluster("vc").await?;
    let roles = ready_role(env.client(), env.namespace(), "job").await?;
    env.apply(&run_with("streaming", &json!({"name": "vc"}), &json!({"name": "job"}))).await?;
    env.job_run_in("streaming", "RUNNING").await?;
    roles.delete("job", &DeleteParams::default()).await?;
    env.operator().terminate().await?;
    env.restart_operator().await?;
    let id = env.the_job("streaming")?.id;
    env.simulator().force_job_run(&id, "COMPLETED", None, None)?;
    let run = env.job_run_in("streaming", "COMPLETED").await?;
    for kind in ["ACK.ReferencesResolved", "ACK.ResourceSynced", "Ready"] {
        ensure!(condition(&run, kind).is_some_and(|found| found.status == "True"), "{kind}: {}", run.data);
    }
    Ok(())
}

#[tokio::test]
async fn d14_a_run_whose_role_went_before_its_id_was_saved_is_taken_over() -> Result<()> {
    let mut env = TestEnv::new("d14-crash").await?;
    env.simulator().add_outcome(endless("streaming"))?;
    env.ready_cluster("vc").await?;
    let roles = ready_role(env.client(), env.namespace(), "job").await?;
    env.simulator().add_fault(fault("StartJobRun", FaultKind::HoldReply, 1))?;
    env.apply(&run_with("streaming", &json!({"name": "vc"}), &json!({"name": "job"}))).await?;
    env.in_aws("the start should be held", |aws| (aws.snapshot().held_replies == 1).then_some(())).await?;
    env.operator().kill9().await?;
    roles.delete("job", &DeleteParams::default()).await?;
    env.restart_operator().await?;
    let run = env.job_run_in("streaming", "RUNNING").await?;
    ensure!(status(&run, "id") == Some(env.the_job("streaming")?.id.as_str()));
    ensure!(calls(env.simulator(), "StartJobRun") == 1, "{:?}", env.simulator().counters());
    Ok(())
}

/// An operator that watches the test's namespace and another one.
async fn with_two_namespaces(name: &str, flag: &str) -> Result<(TestEnv, Namespace)> {
    let far = Namespace::create(&shared().await?.client()?, &format!("{name}-far")).await?;
    let near = Namespace::create(&shared().await?.client()?, &format!("{name}-near")).await?;
    let watched = format!("{},{}", far.name(), near.name());
    let arguments = ["--watch-namespace", &watched, flag];
    let env = TestEnv::with(name, quick(), |operator| operator.arguments(&arguments)).await?;
    Ok((env.within(near), far))
}

#[tokio::test]
async fn references_to_another_namespace_are_followed_and_advised_of() -> Result<()> {
    let (env, far) = with_two_namespaces("across", "--enable-cross-namespace").await?;
    objects::apply(env.client(), far.name(), &virtual_cluster("vc", far.name())).await?;
    ready_role(env.client(), far.name(), "job").await?;
    let [cluster, role] = ["vc", "job"].map(|name| json!({"name": name, "namespace": far.name()}));
    env.apply(&run_with("run", &cluster, &role)).await?;
    let run = env.job_run_in("run", "COMPLETED").await?;
    let advice = condition(&run, "ACK.Advisory").context("ACK.Advisory")?;
    ensure!(advice.status == "True" && advice.reason == "CrossNamespaceOptInRequired", "{advice:?}");
    for name in ["vc", "job"] {
        let words = format!(
            "Cross-namespace resource reference detected: resource in namespace \"{}\" references \"{name}\" in \
             namespace \"{}\". Cross-namespace behavior will be disabled by default in a future release. Set \
             --enable-cross-namespace=true to preserve this behavior.",
            env.namespace(),
            far.name()
        );
        ensure!(advice.message.contains(&words), "{advice:?}");
    }
    // A reference within the namespace is no reason for it.
    env.ready_cluster("near").await?;
    ready_role(env.client(), env.namespace(), "job").await?;
    let own = json!({"name": "near", "namespace": env.namespace()});
    env.apply(&run_with("own", &own, &json!({"name": "job"}))).await?;
    let own = env.job_run_in("own", "COMPLETED").await?;
    ensure!(condition(&own, "ACK.Advisory").is_none(), "{}", own.data);
    Ok(())
}

#[tokio::test]
async fn where_other_namespaces_are_not_allowed_a_run_waits_until_its_reference_is_changed() -> Result<()> {
    let (env, far) = with_two_namespaces("not-across", "--enable-cross-namespace=false").await?;
    objects::apply(env.client(), far.name(), &virtual_cluster("vc", far.name())).await?;
    ready_role(env.client(), far.name(), "job").await?;
    ready_role(env.client(), env.namespace(), "job").await?;
    env.ready_cluster("near").await?;
    let there = |name: &str| json!({"name": name, "namespace": far.name()});
    let (near, own) = (json!({"name": "near"}), json!({"name": "job"}));
    let cases = BTreeMap::from([
        ("by-cluster", (there("vc"), own.clone(), "vc")),
        ("by-role", (near.clone(), there("job"), "job")),
    ]);
    for (name, (cluster, role, target)) in &cases {
        env.apply(&run_with(name, cluster, role)).await?;
        let words = format!(
            "cross-namespace resource reference is not allowed. Set --enable-cross-namespace=true to allow it. \
             sourceNamespace:{}, targetNamespace:{}, name:{target}",
            env.namespace(),
            far.name()
        );
        let run = waits(&env, name, ("False", &words)).await?;
        ensure!(condition(&run, "ACK.Advisory").is_none() && run.metadata.finalizers.is_none(), "{run:?}");
    }
    ensure!(calls(env.simulator(), "StartJobRun") == 0);
    for name in cases.keys() {
        env.apply(&run_with(name, &near, &own)).await?;
        env.job_run_in(name, "COMPLETED").await?;
    }
    Ok(())
}

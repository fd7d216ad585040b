//! Role selectors: which fits decides the role, before anything is made, and the status says which it was.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use tests::chart;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, condition};
use tests::operator::Builder;
use tests::simulator::{quick, requests};
use tests::wait;

const ARGUMENTS: [&str; 2] = ["--enable-carm=false", "--feature-gates=IAMRoleSelector=true"];

fn with_selectors(operator: Builder) -> Builder {
    operator.arguments(&ARGUMENTS)
}

fn selectors(env: &TestEnv) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("services.k8s.aws", "v1alpha1", "IAMRoleSelector");
    Api::all_with(env.client().clone(), &ApiResource::from_gvk(&kind))
}

/// Applies a selector of the test's namespace; its name is the namespace's with a suffix.
async fn select(env: &TestEnv, suffix: &str, role: &str, more: Value) -> Result<DynamicObject> {
    let name = format!("{}-{suffix}", env.namespace());
    let mut spec = json!({"arn": role, "namespaceSelector": {"names": [env.namespace()]}});
    let more = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().context("an object")?.extend(more);
    let selector = json!({
        "apiVersion": "services.k8s.aws/v1alpha1", "kind": "IAMRoleSelector", "metadata": {"name": name}, "spec": spec,
    });
    objects::apply_one(env.client(), "", &serde_json::from_value(selector)?).await
}

fn role(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/emr")
}

#[tokio::test]
async fn the_definition_of_selectors_is_upstreams_and_a_role_can_not_be_replaced() -> Result<()> {
    let env = TestEnv::new("selector-crd").await?;
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> = Api::all_with(env.client().clone(), &ApiResource::from_gvk(&kind));
    let spec = definitions.get("iamroleselectors.services.k8s.aws").await?.data["spec"].clone();
    ensure!(spec["scope"] == "Cluster" && spec["names"]["shortNames"].is_null(), "{}", spec["names"]);
    let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let required = |place: &str| schema.pointer(place).map_or(Value::Null, |part| part["required"].clone());
    ensure!(required("") == json!(["arn"]), "{}", required(""));
    for (place, fields) in [
        ("/properties/namespaceSelector", json!(["names"])),
        ("/properties/namespaceSelector/properties/labelSelector", json!(["matchLabels"])),
        ("/properties/resourceTypeSelector/items", json!(["group", "kind", "version"])),
        ("/properties/resourceLabelSelector", json!(["matchLabels"])),
    ] {
        ensure!(required(place) == fields, "{place}: {}", required(place));
    }
    select(&env, "fixed", &role("222222222222"), json!({})).await?;
    let other = select(&env, "fixed", &role("333333333333"), json!({})).await;
    let refused = format!("{:#}", other.err().context("another role should be refused")?);
    ensure!(refused.contains("Value is immutable once set"), "{refused}");
    selectors(&env).delete(&format!("{}-fixed", env.namespace()), &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn d19_the_status_says_which_selector_it_was_beside_the_references() -> Result<()> {
    let env = TestEnv::with("d19", quick(), with_selectors).await?;
    let role = role("222222222222");
    let selector = select(&env, "one", &role, json!({})).await?;
    // The selector may come after the cluster is seen: it is known when the cluster is in its account.
    wait::eventually(PATIENCE, "the selector should be used", async || {
        env.apply(&virtual_cluster("vc", env.namespace())).await?;
        let cluster = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
        if condition(&cluster, "ACK.IAMRoleSelected").is_some() {
            return Ok(Some(()));
        }
        env.delete(env.virtual_clusters(), "vc").await?;
        Ok(None)
    })
    .await?;
    env.apply(&job_run("run", "vc", "")).await?;
    let run = env.job_run_in("run", "COMPLETED").await?;
    let selected = condition(&run, "ACK.IAMRoleSelected").context("the selector")?;
    let version = selector.resource_version().context("a version")?;
    let message =
        format!("roleARN: {role}, selectorName: {}, selectorResourceVersion: {version}", selector.name_any());
    ensure!((selected.status, selected.reason) == ("True", "Selected"), "{selected:?}");
    ensure!(selected.message == message, "{selected:?}");
    let resolved = condition(&run, "ACK.ReferencesResolved").context("the references")?;
    ensure!(
        (resolved.status, resolved.reason, resolved.message) == ("True", "", ""),
        "they are told as without a selector: {resolved:?}"
    );
    ensure!(env.the_job("run")?.account == "222222222222");
    Ok(())
}

#[tokio::test]
async fn d21_nothing_is_made_before_the_selectors_are_known() -> Result<()> {
    let env = TestEnv::with("d21", quick(), with_selectors).await?;
    env.operator().terminate().await?;
    select(&env, "one", &role("222222222222"), json!({})).await?;
    let (line, kubeconfig) = env.plane().line().await?;
    line.hold("iamroleselectors?&limit=500");
    let operator =
        env.builder().kubeconfig(kubeconfig).without_waiting().start(env.plane().scratch()).await?;
    wait::eventually(PATIENCE, "the selectors should be asked for", async || Ok(line.holds().then_some(())))
        .await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    env.apply(&job_run("run", "vc", "")).await?;
    operator.wait_unready("stores").await?;
    let cluster = env.virtual_clusters().get("vc").await?;
    ensure!(cluster.finalizers().is_empty() && env.simulator().snapshot().virtual_clusters.is_empty());
    line.release();
    env.job_run_in("run", "COMPLETED").await?;
    let jobs = env.simulator().snapshot();
    ensure!(jobs.virtual_clusters.iter().all(|cluster| cluster.account == "222222222222"), "{jobs:?}");
    ensure!(env.the_job("run")?.account == "222222222222");
    Ok(())
}

#[tokio::test]
async fn the_charts_gate_brings_what_the_operator_needs_for_selectors() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "selectors-chart").await?;
    let (release, folder) = (namespace.name(), chart::folder().display().to_string());
    let gate = "installScope=namespace,enableCARM=false,featureGates.IAMRoleSelector=true";
    let set = ["--set", gate, "--set", "aws.region=us-west-2,leaderElection.enabled=false"];
    chart::helm(plane, &[&["install", release, &folder, "--namespace", release][..], &set].concat()).await?;
    let manifests = chart::manifests(plane, release, release).await?;
    let arn = role("222222222222");
    let selector = format!(
        "
apiVersion: services.k8s.aws/v1alpha1
kind: IAMRoleSelector
metadata: {{name: {release}}}
spec: {{arn: '{arn}', namespaceSelector: {{names: [{release}]}}}}
"
    );
    objects::apply(&client, "", &selector).await?;
    let aws = emr_simulator::start(quick()).await?;
    let _operator =
        chart::operator(plane, &manifests, aws.url(), "pod").await?.start(plane.scratch()).await?;
    objects::apply(&client, release, &virtual_cluster("vc", release)).await?;
    let selected = |cluster: Option<&DynamicObject>| {
        condition(cluster?, "ACK.IAMRoleSelected").map(|selected| selected.message.to_owned())
    };
    let clusters = objects::ours(&client, release, "VirtualCluster");
    let told = wait::object(clusters, "vc", PATIENCE, "should name its selector", selected).await?;
    ensure!(told.starts_with(&format!("roleARN: {arn}, selectorName: {release}, ")), "{told}");
    Ok(())
}

#[tokio::test]
async fn several_selectors_that_fit_withhold_every_call_until_one_is_left() -> Result<()> {
    let env = TestEnv::with("several", quick(), with_selectors).await?;
    env.operator().terminate().await?;
    let one = select(&env, "one", &role("222222222222"), json!({})).await?;
    let kinds = json!([{"group": "", "version": "", "kind": "VirtualCluster"}]);
    let two = select(&env, "two", &role("333333333333"), json!({"resourceTypeSelector": kinds})).await?;
    // One that makes no sense is as if it weren't there.
    select(&env, "three", "not-an-arn", json!({})).await?;
    let operator = env.builder().start(env.plane().scratch()).await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    let words =
        format!("multiple (2) matching IAMRoleSelectors found: {}, {}", one.name_any(), two.name_any());
    env.message(env.virtual_clusters(), "vc", "ACK.Recoverable", &words).await?;
    ensure!(env.simulator().snapshot().virtual_clusters.is_empty());
    ensure!(operator.log().contains("the IAMRoleSelector is invalid and isn't used"), "{}", operator.log());
    selectors(&env).delete(&two.name_any(), &kube::api::DeleteParams::default()).await?;
    let cluster = env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let owner = cluster.data.pointer("/status/ackResourceMetadata/ownerAccountID");
    ensure!(owner == Some(&Value::from("222222222222")), "{owner:?}");
    Ok(())
}

#[tokio::test]
async fn objects_that_no_selector_fits_are_the_operators_own() -> Result<()> {
    let env = TestEnv::with("unfit", quick(), with_selectors).await?;
    let labels = json!({"matchLabels": {"team": "ml"}});
    select(&env, "one", &role("222222222222"), json!({"resourceLabelSelector": labels})).await?;
    let cluster = env.ready_cluster("vc").await?;
    ensure!(!cluster.is_empty());
    let object = env.virtual_clusters().get("vc").await?;
    ensure!(condition(&object, "ACK.IAMRoleSelected").is_none());
    let made = requests(env.simulator(), "CreateVirtualCluster");
    ensure!(made.iter().all(|request| request.account == "123456789012"), "{made:?}");
    Ok(())
}

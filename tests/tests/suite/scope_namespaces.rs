//! What a namespace's annotations do for the objects in it: region, endpoint, deletion policy, at once and everywhere.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tests::chart::{self, helm};
use tests::clock::Clock;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::shared;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, condition, status};
use tests::operator::Operator;
use tests::simulator::{calls, endless, quick, requests};
use tests::wait;

/// Sets an annotation of a namespace, or takes it away.
pub(crate) async fn annotate(client: &Client, namespace: &str, key: &str, value: Option<&str>) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {key: value}}});
    let namespaces: Api<Object> = Api::all(client.clone());
    namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// An account that isn't the operator's, and a role in it.
const OTHER: &str = "222222222222";
const ROLE: &str = "arn:aws:iam::222222222222:role/emr";
const REGION: &str = "services.k8s.aws/default-region";
const ENDPOINT: &str = "services.k8s.aws/endpoint-url";
const POLICY: &str = "emrcontainers.services.k8s.aws/deletion-policy";

/// A test's namespace with annotations, and an operator that was started after they were there.
async fn annotated(name: &str, annotations: &[(&str, &str)], arguments: &[&str]) -> Result<TestEnv> {
    let mut env = TestEnv::with(name, quick(), |operator| operator.arguments(arguments)).await?;
    env.operator().terminate().await?;
    for (key, value) in annotations {
        annotate(env.client(), env.namespace(), key, Some(value)).await?;
    }
    env.restart_operator().await?;
    Ok(env)
}

#[tokio::test]
async fn d22_a_namespaces_annotations_hold_for_one_watched_namespace_and_with_carm_off() -> Result<()> {
    for (name, carm) in [("d22-one", "--enable-carm=true"), ("d22-off", "--enable-carm=false")] {
        let env = annotated(name, &[(REGION, "eu-west-1"), (POLICY, "retain")], &[carm]).await?;
        env.simulator().add_outcome(endless("kept"))?;
        env.ready_cluster("vc").await?;
        env.apply(&job_run("kept", "vc", "")).await?;
        env.job_run_in("kept", "RUNNING").await?;
        ensure!(env.the_job("kept")?.region == "eu-west-1", "{carm}: {:?}", env.the_job("kept")?);
        env.delete(env.job_runs(), "kept").await?;
        env.delete(env.virtual_clusters(), "vc").await?;
        ensure!(calls(env.simulator(), "CancelJobRun") == 0, "{carm}: the run is left as it is");
        ensure!(calls(env.simulator(), "DeleteVirtualCluster") == 0, "{carm}: and the cluster");
    }
    Ok(())
}

#[tokio::test]
async fn d22_roles_alone_are_enough_to_follow_a_namespaces_annotations() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "d22-roles").await?;
    let (release, folder) = (namespace.name(), chart::folder().display().to_string());
    let set = ["--set", "installScope=namespace,aws.region=us-west-2,leaderElection.enabled=false"];
    helm(plane, &[&["install", release, &folder, "--namespace", release][..], &set].concat()).await?;
    let manifests = chart::manifests(plane, release, release).await?;
    annotate(&client, release, REGION, Some("EU_1")).await?;
    let aws = emr_simulator::start(quick()).await?;
    let operator = chart::operator(plane, &manifests, aws.url(), "pod").await?.start(plane.scratch()).await?;
    objects::apply(&client, release, &virtual_cluster("vc", release)).await?;
    let clusters = objects::ours(&client, release, "VirtualCluster");
    let says = |words: &'static str| {
        move |cluster: Option<&kube::api::DynamicObject>| {
            condition(cluster?, "Ready").is_some_and(|ready| ready.message.contains(words)).then_some(())
        }
    };
    let what = "the region should be refused";
    wait::object(clusters.clone(), "vc", PATIENCE, what, says("which is no region")).await?;
    ensure!(calls(&aws, "CreateVirtualCluster") == 0, "nothing is made elsewhere");
    // The edit takes effect by the watch, which the Role grants.
    annotate(&client, release, REGION, Some("eu-west-1")).await?;
    let running = |cluster: Option<&kube::api::DynamicObject>| {
        (status(cluster?, "state") == Some("RUNNING")).then_some(())
    };
    wait::object(clusters.clone(), "vc", PATIENCE, "should be made", running).await?;
    let made = requests(&aws, "CreateVirtualCluster");
    ensure!(made.iter().all(|request| request.region == "eu-west-1"), "{made:?}");
    // So are they for the roles of accounts.
    let map = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: ack-role-account-map}}, data: {{'{OTHER}': {ROLE}}}}}"
    );
    objects::apply(&client, release, &map).await?;
    annotate(&client, release, "services.k8s.aws/owner-account-id", Some(OTHER)).await?;
    let says = says("but the role used for reconciliation is in account 222222222222");
    wait::object(clusters.clone(), "vc", PATIENCE, "should be of another account", says).await?;
    objects::apply(&client, release, &virtual_cluster("other", release)).await?;
    wait::object(clusters, "other", PATIENCE, "should be made", running).await?;
    let last = requests(&aws, "CreateVirtualCluster").pop().context("it was made")?;
    ensure!(last.account == OTHER, "{last:?}");
    let log = operator.log();
    ensure!(!log.contains("can't be read") && !log.contains("can't be watched"), "{log}");
    Ok(())
}

#[tokio::test]
async fn an_edit_of_a_namespace_is_seen_although_the_connection_of_its_watch_fell_silent() -> Result<()> {
    let clock = Clock::create(shared().await?.scratch()).await?;
    let env = TestEnv::new("silent").await?;
    let (line, kubeconfig) = env.plane().line().await?;
    // The one that was started with the environment has had its use.
    ensure!(env.operator().terminate().await? == 0);
    let operator = env.builder().kubeconfig(kubeconfig).clock(&clock).start(env.plane().scratch()).await?;
    env.simulator().add_outcome(endless("kept"))?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("kept", "vc", "")).await?;
    env.job_run_in("kept", "RUNNING").await?;

    line.fall_silent();
    annotate(env.client(), env.namespace(), POLICY, Some("retain")).await?;
    annotate(env.client(), env.namespace(), REGION, Some("eu-west-1")).await?;
    // More than a watch lasts, and less than after what the process is called stuck.
    clock.pass(Duration::from_secs(215))?;
    let drifts = |run: Option<&DynamicObject>| {
        condition(run?, "ACK.Advisory")
            .is_some_and(|advice| advice.message.contains("eu-west-1"))
            .then_some(())
    };
    let what = "should be told to be in another region than its namespace asks for";
    wait::object(env.job_runs(), "kept", PATIENCE, what, drifts)
        .await
        .with_context(|| format!("the operator's log ends with\n{}", operator.process().log_tail(30)))?;
    env.delete(env.job_runs(), "kept").await?;
    ensure!(calls(env.simulator(), "CancelJobRun") == 0, "the run is left as it is");
    Ok(())
}

#[tokio::test]
async fn without_the_permission_the_operator_works_and_says_what_has_no_effect() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "unreadable").await?;
    let name = namespace.name();
    let rules = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: narrow}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: narrow}
rules:
- {apiGroups: [emrcontainers.services.k8s.aws], resources: ['*'], verbs: ['*']}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: narrow}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: narrow}
subjects: [{kind: ServiceAccount, name: narrow}]
";
    objects::apply(&client, name, rules).await?;
    let aws = emr_simulator::start(quick()).await?;
    let kubeconfig = plane.kubeconfig_for_service_account(name, "narrow").await?;
    let operator = Operator::builder(kubeconfig, aws.url()).watch_namespace(name);
    let operator = operator.arguments(&["--enable-field-export-reconciler=false"]);
    let operator = operator.start(plane.scratch()).await?;
    objects::apply(&client, name, &virtual_cluster("vc", name)).await?;
    let running = |cluster: Option<&kube::api::DynamicObject>| {
        (status(cluster?, "state") == Some("RUNNING")).then_some(())
    };
    let clusters = objects::ours(&client, name, "VirtualCluster");
    wait::object(clusters, "vc", PATIENCE, "should be made", running).await?;
    let log = operator.log();
    let said =
        log.matches("its annotations (region, account, endpoint, deletion policy) have no effect").count();
    ensure!(said == 1, "said once, and {said} times in\n{log}");
    Ok(())
}

#[tokio::test]
async fn an_edit_of_a_namespace_or_of_an_object_takes_effect_at_once() -> Result<()> {
    let env = annotated("edited", &[(ENDPOINT, "http://127.0.0.1:1")], &[]).await?;
    let wrong = |value: &'static str| annotate(env.client(), env.namespace(), ENDPOINT, Some(value));
    wrong("not-a-url").await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    let clusters = env.virtual_clusters();
    let refused = env.message(clusters.clone(), "vc", "ACK.Recoverable", "which is no endpoint URL").await?;
    let ready = condition(&refused, "Ready").context("Ready")?;
    ensure!(
        ready.status == "False" && ready.message.contains("annotation services.k8s.aws/endpoint-url of"),
        "{ready:?}"
    );
    ensure!(env.simulator().snapshot().virtual_clusters.is_empty(), "nothing is asked elsewhere");
    annotate(env.client(), env.namespace(), ENDPOINT, None).await?;
    env.condition(clusters, "vc", "Ready", "True").await?;

    // The policy of the namespace turns for a run that is live already, and the object's own goes before it.
    env.simulator().add_outcome(endless("*"))?;
    for name in ["left", "cancelled"] {
        env.apply(&job_run(name, "vc", "")).await?;
        env.job_run_in(name, "RUNNING").await?;
    }
    env.annotate(env.job_runs(), "cancelled", "services.k8s.aws/deletion-policy", "delete").await?;
    annotate(env.client(), env.namespace(), POLICY, Some("retain")).await?;
    // Something that can be seen follows the same annotations: then the policy is known too.
    annotate(env.client(), env.namespace(), REGION, Some("eu-west-1")).await?;
    let told = env.message(env.job_runs(), "left", "ACK.Advisory", "specifies region eu-west-1").await?;
    let advisory = condition(&told, "ACK.Advisory").context("the drift")?;
    ensure!(
        advisory.message.starts_with(
            "Resource already exists in region us-west-2, but the desired state specifies region eu-west-1. "
        ) && advisory.reason == "RegionDrift",
        "{advisory:?}"
    );
    ensure!(status(&told, "state") == Some("RUNNING"), "and the run is observed where it is");
    env.delete(env.job_runs(), "left").await?;
    ensure!(calls(env.simulator(), "CancelJobRun") == 0, "the namespace says retain");
    env.delete(env.job_runs(), "cancelled").await?;
    ensure!(calls(env.simulator(), "CancelJobRun") == 1, "the object says delete");
    env.annotate(env.virtual_clusters(), "vc", "services.k8s.aws/region", "ap-south-1").await?;
    env.message(env.virtual_clusters(), "vc", "ACK.Advisory", "specifies region ap-south-1").await?;
    env.annotate(env.virtual_clusters(), "vc", "services.k8s.aws/region", "us-west-2").await?;
    let gone = |cluster: &kube::api::DynamicObject| condition(cluster, "ACK.Advisory").is_none();
    env.until(env.virtual_clusters(), "vc", "the drift should be gone", gone).await?;
    Ok(())
}

#[tokio::test]
async fn a_deletion_policy_that_can_not_be_read_withholds_the_deletion_until_it_can() -> Result<()> {
    let env = annotated("misspelt", &[(POLICY, "keep")], &[]).await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    for name in ["of-object", "of-namespace"] {
        env.apply(&job_run(name, "vc", "")).await?;
        env.job_run_in(name, "RUNNING").await?;
    }
    let own = "services.k8s.aws/deletion-policy";
    for (api, name) in [(env.job_runs(), "of-object"), (env.virtual_clusters(), "vc")] {
        env.annotate(api, name, own, "Retain").await?;
    }
    let of_object = "annotation services.k8s.aws/deletion-policy is `Retain`: use delete or retain";
    let of_namespace = "is `keep`: use delete or retain; until then nothing is cancelled or deleted";
    for (api, name, words) in [
        (env.job_runs(), "of-object", of_object),
        (env.job_runs(), "of-namespace", of_namespace),
        (env.virtual_clusters(), "vc", of_object),
    ] {
        api.delete(name, &DeleteParams::default()).await?;
        env.message(api, name, "ACK.Recoverable", words).await?;
    }
    ensure!(calls(env.simulator(), "CancelJobRun") + calls(env.simulator(), "DeleteVirtualCluster") == 0);
    // Nobody has to wait once it can be read.
    env.annotate(env.job_runs(), "of-object", own, "retain").await?;
    wait::deleted(env.job_runs(), "of-object", PATIENCE).await?;
    ensure!(calls(env.simulator(), "CancelJobRun") == 0, "it is left as it is");
    annotate(env.client(), env.namespace(), POLICY, Some("delete")).await?;
    wait::deleted(env.job_runs(), "of-namespace", PATIENCE).await?;
    ensure!(
        env.the_job("of-namespace")?.state == "CANCELLED" && env.the_job("of-object")?.state == "RUNNING"
    );
    env.annotate(env.virtual_clusters(), "vc", own, "retain").await?;
    wait::deleted(env.virtual_clusters(), "vc", PATIENCE).await?;
    ensure!(calls(env.simulator(), "DeleteVirtualCluster") == 0);
    Ok(())
}

#[tokio::test]
async fn d18_each_namespace_has_its_own_endpoint() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let usual = emr_simulator::start(quick()).await?;
    let mut worlds = Vec::new();
    for name in ["d18-one", "d18-two"] {
        let namespace = Namespace::create(&client, name).await?;
        let aws = emr_simulator::start(quick()).await?;
        annotate(&client, namespace.name(), ENDPOINT, Some(aws.url())).await?;
        worlds.push((namespace, aws));
    }
    let plain = Namespace::create(&client, "d18-plain").await?;
    let names: Vec<&str> =
        worlds.iter().map(|(namespace, _)| namespace.name()).chain([plain.name()]).collect();
    let _operator = Operator::builder(plane.kubeconfig(), usual.url())
        .watch_namespace(&names.join(","))
        .start(plane.scratch())
        .await?;
    for name in &names {
        objects::apply(&client, name, &virtual_cluster("vc", name)).await?;
        objects::apply(&client, name, &job_run("run", "vc", "")).await?;
    }
    for name in &names {
        let done = |run: Option<&kube::api::DynamicObject>| {
            (status(run?, "state") == Some("COMPLETED")).then_some(())
        };
        let runs = objects::ours(&client, name, "JobRun");
        wait::object(runs, "run", PATIENCE, "should be COMPLETED", done).await?;
    }
    let all = worlds.iter().map(|(namespace, aws)| (namespace.name(), aws)).chain([(plain.name(), &usual)]);
    for (name, aws) in all {
        let made = requests(aws, "CreateVirtualCluster");
        let of = |request: &emr_simulator::LoggedRequest| {
            request.body.pointer("/containerProvider/info/eksInfo/namespace") == Some(&Value::from(name))
        };
        ensure!(made.len() == 1 && made.iter().all(of), "{name}: {made:?}");
        ensure!(calls(aws, "StartJobRun") == 1 && calls(aws, "ListJobRuns") > 0, "{name}");
    }
    for (_, aws) in &worlds {
        ensure!(calls(aws, "GetCallerIdentity") == 0, "STS isn't where emr-containers is");
    }
    Ok(())
}

#[tokio::test]
async fn d21_nothing_is_done_before_the_namespaces_are_known() -> Result<()> {
    let env = annotated("d21-ns", &[(REGION, "eu-west-1")], &[]).await?;
    env.operator().terminate().await?;
    let (line, kubeconfig) = env.plane().line().await?;
    line.hold(&format!("/api/v1/namespaces/{}", env.namespace()));
    let operator =
        env.builder().kubeconfig(kubeconfig).without_waiting().start(env.plane().scratch()).await?;
    wait::eventually(PATIENCE, "the namespace should be asked for", async || Ok(line.holds().then_some(())))
        .await?;
    env.apply(&virtual_cluster("vc", env.namespace())).await?;
    operator.wait_unready("the objects have not been listed yet").await?;
    let cluster = env.virtual_clusters().get("vc").await?;
    ensure!(cluster.finalizers().is_empty() && env.simulator().snapshot().virtual_clusters.is_empty());
    line.release();
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    let made = requests(env.simulator(), "CreateVirtualCluster");
    ensure!(made.iter().all(|request| request.region == "eu-west-1"), "{made:?}");
    env.virtual_clusters().delete("vc", &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn an_operator_of_the_whole_cluster_follows_each_namespace() -> Result<()> {
    // Its own control plane: an operator of all namespaces would act on the other tests' objects.
    let plane = Box::leak(Box::new(tests::control_plane::ControlPlane::start().await?));
    plane.install_crds().await?;
    let client = plane.client()?;
    let aws = emr_simulator::start(quick()).await?;
    let _operator = Operator::builder(plane.kubeconfig(), aws.url()).start(plane.scratch()).await?;
    // Each namespace and what is in it come at the same time: the namespace's word holds all the same.
    for (name, region) in [("west", "us-west-1"), ("north", "eu-north-1"), ("kube-public", "us-west-2")] {
        let yaml = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, annotations: {{{REGION}: {region}}}}}}}"
        );
        let yaml = if name == "kube-public" { yaml.replace(region, "eu-south-1") } else { yaml };
        objects::apply(&client, "", &yaml).await?;
        objects::apply(&client, name, &virtual_cluster("vc", name)).await?;
        let region_of = |cluster: Option<&kube::api::DynamicObject>| {
            cluster?.data.pointer("/status/ackResourceMetadata/region").cloned()
        };
        let clusters = objects::ours(&client, name, "VirtualCluster");
        let found = wait::object(clusters, "vc", PATIENCE, "should be made", region_of).await?;
        ensure!(found == *region, "{name}: {found}");
    }
    Ok(())
}

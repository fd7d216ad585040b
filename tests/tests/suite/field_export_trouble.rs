//! FieldExports where something is in the way: rights, another export, a slow target, labels, a watch that missed a change.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tests::chart;
use tests::clock::Clock;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::{ControlPlane, shared};
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, condition};
use tests::simulator::quick;
use tests::wait;

use crate::field_export::{
    ANNOTATION, config_map, config_maps, export, exports, exports_in, holds, holds_in, ready,
};

/// Lets the account of a release write the config maps of another namespace.
fn grant(account: &str, of: &str) -> String {
    format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: exports}}
rules: [{{apiGroups: [''], resources: [configmaps], verbs: [get, patch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: exports}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: exports}}
subjects: [{{kind: ServiceAccount, name: {account}, namespace: {of}}}]
"
    )
}

async fn message_has(client: &Client, namespace: &str, name: &str, words: &str) -> Result<DynamicObject> {
    let says = |export: Option<&DynamicObject>| {
        let said = condition(export?, "ACK.Recoverable")?.message.contains(words);
        said.then(|| export.cloned()).flatten()
    };
    let what = format!("should say {words}");
    wait::object(exports_in(client, namespace), name, PATIENCE, &what, says).await
}

#[tokio::test]
async fn a_target_that_may_not_be_read_keeps_no_export_from_being_mended_or_deleted() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "fe-rights").await?;
    let (release, folder) = (namespace.name(), chart::folder().display().to_string());
    let set = ["--set", "installScope=namespace,aws.region=us-west-2,leaderElection.enabled=false"];
    chart::helm(plane, &[&["install", release, &folder, "--namespace", release][..], &set].concat()).await?;
    let manifests = chart::manifests(plane, release, release).await?;
    let account = chart::only(&manifests, "ServiceAccount")?.name_any();
    let aws = emr_simulator::start(quick()).await?;
    let _operator =
        chart::operator(plane, &manifests, aws.url(), "pod").await?.start(plane.scratch()).await?;
    let apply = async |namespace: &str, yaml: &str| objects::apply(&client, namespace, yaml).await;
    apply(release, &virtual_cluster("vc", release)).await?;
    apply(release, &config_map("target", "{}")).await?;
    let away = Namespace::create(&client, "fe-forbidden").await?;
    apply(away.name(), &config_map("target", "{}")).await?;
    apply(away.name(), &grant(&account, release)).await?;
    let to = |namespace: &str, key: &str| {
        format!("{{kind: configmap, name: target, namespace: {namespace}, key: {key}}}")
    };
    let targets = |namespace: &str| Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let ours = exports_in(&client, release);

    // What was never written holds nothing: neither in a namespace that isn't there.
    let typo = format!("{release}-tpyo");
    apply(release, &export("mended", "vc", ".spec.name", &to(&typo, "mended"))).await?;
    apply(release, &export("gone", "vc", ".spec.name", &to(&typo, "gone"))).await?;
    for name in ["mended", "gone"] {
        let told = message_has(&client, release, name, "grant the operator's account").await?;
        let claimed = !told.finalizers().is_empty() || told.annotations().contains_key(ANNOTATION);
        ensure!(!claimed, "nothing was written there: {told:?}");
    }
    apply(release, &export("mended", "vc", ".spec.name", &to(release, "mended"))).await?;
    holds_in(targets(release), "target", &[("mended", "vc")]).await?;
    ours.delete("gone", &DeleteParams::default()).await?;
    wait::deleted(ours.clone(), "gone", PATIENCE).await?;

    // What was written is tried for a while, and left then.
    apply(release, &export("moved", "vc", ".spec.name", &to(away.name(), "moved"))).await?;
    apply(release, &export("left", "vc", ".spec.name", &to(away.name(), "left"))).await?;
    holds_in(targets(away.name()), "target", &[("left", "vc"), ("moved", "vc")]).await?;
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::namespaced(client.clone(), away.name());
    bindings.delete("exports", &DeleteParams::default()).await?;
    apply(release, &export("moved", "vc", ".spec.name", &to(release, "moved"))).await?;
    ours.delete("left", &DeleteParams::default()).await?;
    message_has(&client, release, "left", "grant the operator's account").await?;
    wait::deleted(ours, "left", PATIENCE).await?;
    holds_in(targets(release), "target", &[("mended", "vc"), ("moved", "vc")]).await?;
    holds_in(targets(away.name()), "target", &[("left", "vc"), ("moved", "vc")]).await
}

#[tokio::test]
async fn of_two_exports_of_one_value_under_one_key_the_second_is_told_as_well() -> Result<()> {
    let env = TestEnv::new("fe-equal").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&config_map("target", "{}")).await?;
    let to = "{kind: configmap, name: target, key: k}";
    env.apply(&export("first", "vc", ".status.id", to)).await?;
    ready(&env, "first").await?;
    env.apply(&export("second", "vc", ".status.id", to)).await?;
    env.message(exports(&env), "second", "ACK.Recoverable", "is written by FieldExport first").await?;
    holds(&env, "target", &[("k", &id)]).await?;
    // Both have it, as two that once had the same value.
    let uid = exports(&env).get("second").await?.uid().context("a UID")?;
    let applied = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "target"}, "data": {"k": id},
    });
    let manager = PatchParams::apply(&format!("fieldexport-{uid}")).force();
    config_maps(&env).patch("target", &manager, &Patch::Apply(&applied)).await?;
    for name in ["first", "second"] {
        // Both change at once.
        env.patch(
            exports(&env),
            name,
            json!({"spec": {"from": {"path": format!(".spec.name + \"-{name}\"")}}}),
        )
        .await?;
    }
    // One of both gets on, and the other one once it has a key of its own.
    wait::eventually(PATIENCE, "one should have the key, and the other be told", async || {
        let value = config_maps(&env).get("target").await?.data.unwrap_or_default()["k"].clone();
        let Some(owner) = value.strip_prefix("vc-") else { return Ok(None) };
        let other = if owner == "first" { "second" } else { "first" };
        let told = exports(&env).get(other).await?;
        let words = format!("is written by FieldExport {owner}");
        let is_told = condition(&told, "ACK.Recoverable").is_some_and(|why| why.message.contains(&words));
        Ok(is_told.then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_target_that_is_slow_to_write_holds_up_no_other() -> Result<()> {
    let env = TestEnv::new("fe-slow").await?;
    let id = env.ready_cluster("vc").await?;
    env.operator().terminate().await?;
    env.apply(&config_map("slow", "{}")).await?;
    env.apply(&config_map("target", "{}")).await?;
    let (line, kubeconfig) = env.plane().line().await?;
    let _operator = env.builder().kubeconfig(kubeconfig).start(env.plane().scratch()).await?;
    env.apply(&export("gone", "vc", ".status.id", "{kind: configmap, name: target, key: gone}")).await?;
    holds(&env, "target", &[("gone", &id)]).await?;
    line.hold(&format!("PATCH /api/v1/namespaces/{}/configmaps/slow", env.namespace()));
    // More than there may be passes at a time.
    let many: String = (0..25).fold(String::new(), |all, n| {
        let one = export(&format!("slow-{n:02}"), "vc", ".status.id", "{kind: configmap, name: slow}");
        format!("{all}---{one}")
    });
    env.apply(&many).await?;
    wait::eventually(PATIENCE, "a write should be held up", async || Ok(line.holds().then_some(()))).await?;
    env.apply(&export("quick", "vc", ".status.id", "{kind: configmap, name: target, key: quick}")).await?;
    exports(&env).delete("gone", &DeleteParams::default()).await?;
    // Before the write that is held up is given up, which would let others on.
    let meanwhile = tokio::time::timeout(Duration::from_secs(30), async {
        ready(&env, "quick").await?;
        wait::deleted(exports(&env), "gone", PATIENCE).await?;
        holds(&env, "target", &[("quick", &id)]).await
    });
    meanwhile.await.context("others should not wait for the slow target")??;
    ensure!(line.holds());
    line.release();
    for n in 0..25 {
        ready(&env, &format!("slow-{n:02}")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn with_watch_selectors_an_export_needs_the_labels_and_its_source_does_not() -> Result<()> {
    let env = TestEnv::new("fe-labels").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&job_run("bare", "vc", "")).await?;
    env.job_run_in("bare", "COMPLETED").await?;
    env.operator().terminate().await?;
    let _operator =
        env.builder().arguments(&["--watch-selectors=team=data"]).start(env.plane().scratch()).await?;
    env.apply(&config_map("target", "{}")).await?;
    let to = |key: &str| format!("{{kind: configmap, name: target, key: {key}}}");
    let labelled = |name: &str, of: &str, path: &str| {
        let named = format!("{{name: {name}}}");
        export(name, of, path, &to(name))
            .replace(&named, &format!("{{name: {name}, labels: {{team: data}}}}"))
    };
    env.apply(&export("unlabelled", "vc", ".status.id", &to("unlabelled"))).await?;
    env.apply(&labelled("cluster", "vc", ".status.id")).await?;
    env.apply(&labelled("run", "JobRun/bare", ".status.state")).await?;
    env.apply(&labelled("late", "JobRun/late", ".status.state")).await?;
    env.message(exports(&env), "late", "Ready", "doesn't exist").await?;
    holds(&env, "target", &[("cluster", &id), ("run", "COMPLETED")]).await?;
    let late = job_run("late", "vc", "").replace("{name: late", "{labels: {team: data}, name: late");
    env.apply(&late).await?;
    holds(&env, "target", &[("cluster", &id), ("run", "COMPLETED"), ("late", "COMPLETED")]).await?;
    let untouched = exports(&env).get("unlabelled").await?;
    ensure!(untouched.finalizers().is_empty() && untouched.data.get("status").is_none(), "{untouched:?}");
    Ok(())
}

#[tokio::test]
async fn with_one_kind_alone_fields_of_both_are_exported_and_followed() -> Result<()> {
    let env = TestEnv::new("fe-kinds").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    env.operator().terminate().await?;
    let _operator = env
        .builder()
        .arguments(&["--reconcile-resources=VirtualCluster"])
        .start(env.plane().scratch())
        .await?;
    env.apply(&config_map("target", "{}")).await?;
    let to = |key: &str| format!("{{kind: configmap, name: target, key: {key}}}");
    env.apply(&export("id", "vc", ".status.id", &to("id"))).await?;
    env.apply(&export("run", "JobRun/run", ".metadata.labels.stage // .status.state", &to("run"))).await?;
    holds(&env, "target", &[("id", &id), ("run", "COMPLETED")]).await?;
    env.patch(env.job_runs(), "run", json!({"metadata": {"labels": {"stage": "checked"}}})).await?;
    holds(&env, "target", &[("id", &id), ("run", "checked")]).await
}

#[tokio::test]
async fn what_others_take_out_of_a_target_is_put_back_within_the_hour() -> Result<()> {
    let clock = Clock::create(shared().await?.scratch()).await?;
    let env = TestEnv::with("fe-hour", quick(), |operator| operator.clock(&clock)).await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&config_map("target", "{}")).await?;
    env.apply(&export("out", "vc", ".status.id", "{kind: configmap, name: target, key: id}")).await?;
    ready(&env, "out").await?;
    holds(&env, "target", &[("id", &id)]).await?;
    let without = Patch::Merge(json!({"data": {"id": null}}));
    config_maps(&env).patch("target", &PatchParams::default(), &without).await?;
    holds(&env, "target", &[]).await?;
    // An hour at once would look like a process that hangs.
    for minutes in (4..=64).step_by(4) {
        clock.pass(Duration::from_mins(minutes))?;
        env.operator().metrics().await?;
    }
    holds(&env, "target", &[("id", &id)]).await
}

#[tokio::test]
async fn an_edit_of_an_ended_run_that_the_watch_missed_is_exported() -> Result<()> {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await?));
    plane.install_crds().await?;
    let env = TestEnv::on(plane, "fe-missed", quick(), |operator| operator).await?;
    env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    env.operator().terminate().await?;
    let (line, kubeconfig) = plane.line().await?;
    let _operator = env.builder().kubeconfig(kubeconfig).start(plane.scratch()).await?;
    env.apply(&config_map("target", "{}")).await?;
    let to = "{kind: configmap, name: target, key: k}";
    env.apply(&export("out", "JobRun/run", ".metadata.labels.stage // \"none\"", to)).await?;
    holds(&env, "target", &[("k", "none")]).await?;
    // Its pass has ended, and nothing but the watch makes another.
    ready(&env, "out").await?;

    line.hold("/jobruns?&watch=true");
    plane.stop_api_server().await?;
    plane.start_api_server().await?;
    wait::eventually(PATIENCE, "the watch should be asked for", async || Ok(line.holds().then_some(())))
        .await?;
    env.patch(env.job_runs(), "run", json!({"metadata": {"labels": {"stage": "checked"}}})).await?;
    plane.compact_etcd().await?;
    plane.stop_api_server().await?;
    plane.start_api_server().await?;
    line.release();
    holds(&env, "target", &[("k", "checked")]).await
}

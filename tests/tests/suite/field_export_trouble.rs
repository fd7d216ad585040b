//! FieldExports where something is in the way: labels, kinds that are left out, a watch that missed a change.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::ControlPlane;
use tests::manifest::job_run;
use tests::simulator::quick;
use tests::wait;

use crate::field_export::{config_map, export, exports, holds, ready};

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

//! FieldExports from apply to their end: what is written where, when it follows, and what is left behind.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::repository;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{condition, status};
use tests::simulator::{endless, quick};
use tests::wait;

const FINALIZER: &str = "finalizers.services.k8s.aws/FieldExport";
pub(crate) const ANNOTATION: &str = "emrcontainers.services.k8s.aws/exported-to";

/// An export of `path` of an object; `to` is the target in YAML.
pub(crate) fn export(name: &str, of: &str, path: &str, to: &str) -> String {
    let (kind, of) = of.split_once('/').unwrap_or(("VirtualCluster", of));
    let path = json!(path);
    format!(
        "
apiVersion: services.k8s.aws/v1alpha1
kind: FieldExport
metadata: {{name: {name}}}
spec:
  from: {{path: {path}, resource: {{group: emrcontainers.services.k8s.aws, kind: {kind}, name: {of}}}}}
  to: {to}
"
    )
}

pub(crate) fn config_map(name: &str, data: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}, data: {data}}}")
}

pub(crate) fn exports(env: &TestEnv) -> Api<DynamicObject> {
    exports_in(env.client(), env.namespace())
}

pub(crate) fn exports_in(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("services.k8s.aws", "v1alpha1", "FieldExport");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

pub(crate) fn config_maps(env: &TestEnv) -> Api<ConfigMap> {
    Api::namespaced(env.client().clone(), env.namespace())
}

pub(crate) async fn ready(env: &TestEnv, name: &str) -> Result<DynamicObject> {
    env.condition(exports(env), name, "Ready", "True").await
}

type Data = BTreeMap<String, String>;

async fn data(env: &TestEnv, name: &str) -> Result<Data> {
    Ok(config_maps(env).get(name).await?.data.unwrap_or_default())
}

/// Waits until a config map has exactly these keys and values.
pub(crate) async fn holds(env: &TestEnv, name: &str, expected: &[(&str, &str)]) -> Result<()> {
    holds_in(config_maps(env), name, expected)
        .await
        .with_context(|| format!("the operator's log ends with\n{}", env.operator().process().log_tail(30)))
}

pub(crate) async fn holds_in(api: Api<ConfigMap>, name: &str, expected: &[(&str, &str)]) -> Result<()> {
    let expected: Data =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let is = |found: Option<&ConfigMap>| (found?.data.clone().unwrap_or_default() == expected).then_some(());
    wait::object(api, name, PATIENCE, &format!("should hold {expected:?}"), is).await
}

#[tokio::test]
async fn an_id_goes_into_a_config_map_and_is_taken_out_with_the_export() -> Result<()> {
    let env = TestEnv::new("fe-map").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&config_map("target", "{kept: here}")).await?;
    env.apply(&export("out", "vc", ".status.id", "{kind: configmap, name: target}")).await?;
    let done = ready(&env, "out").await?;
    let key = format!("{}.out", env.namespace());
    holds(&env, "target", &[("kept", "here"), (&key, &id)]).await?;
    ensure!(done.finalizers() == [FINALIZER], "{done:?}");
    ensure!(done.annotations()[ANNOTATION] == format!("configmap/{}/target", env.namespace()));
    let types: Vec<_> = done.data["status"]["conditions"]
        .as_array()
        .context("conditions")?
        .iter()
        .map(|c| &c["type"])
        .collect();
    ensure!(types == ["ACK.ResourceSynced", "Ready"], "{types:?}");
    let event = env.event("out", "Exported").await?;
    ensure!(event.note.contains("configmap/") && !event.note.contains(&id), "{event:?}");

    env.delete(exports(&env), "out").await?;
    holds(&env, "target", &[("kept", "here")]).await?;

    // A target that is gone keeps no export from going.
    env.apply(&export("late", "vc", ".status.id", "{kind: configmap, name: target, key: k}")).await?;
    holds(&env, "target", &[("kept", "here"), ("k", &id)]).await?;
    config_maps(&env).delete("target", &DeleteParams::default()).await?;
    env.delete(exports(&env), "late").await?;
    ensure!(config_maps(&env).get_opt("target").await?.is_none(), "none is made");
    Ok(())
}

#[tokio::test]
async fn d17_an_export_that_was_there_first_follows_its_source_to_the_end() -> Result<()> {
    let env = TestEnv::new("d17").await?;
    env.apply(&config_map("target", "{}")).await?;
    env.apply(&export("id", "vc", ".status.id", "{kind: configmap, name: target, key: id}")).await?;
    env.apply(&export("state", "JobRun/run", ".status.state", "{kind: configmap, name: target, key: state}"))
        .await?;
    // Neither is there yet, and the export says so.
    let waiting = env.condition(exports(&env), "id", "Ready", "False").await?;
    let why = condition(&waiting, "Ready").context("Ready")?;
    ensure!(why.reason == "SourceNotReady" && why.message.contains("doesn't exist"), "{why:?}");
    // One that can't be made isn't synced; deleted and made as it should be it is.
    env.apply(&virtual_cluster("vc", "taken")).await?;
    let other = virtual_cluster("other", "taken");
    let id = status(&env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?, "id")
        .context("an id")?
        .to_owned();
    holds(&env, "target", &[("id", &id)]).await?;
    env.apply(&other).await?;
    env.apply(&export("never", "other", ".status.id", "{kind: configmap, name: target, key: never}")).await?;
    env.condition(env.virtual_clusters(), "other", "ACK.ResourceSynced", "False").await?;
    env.message(exports(&env), "never", "Ready", "the source resource is not synced yet").await?;

    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    holds(&env, "target", &[("id", &id), ("state", "COMPLETED")]).await?;
    // The virtual cluster is made anew: another id.
    env.delete(exports(&env), "state").await?;
    env.delete(env.job_runs(), "run").await?;
    env.delete(env.virtual_clusters(), "other").await?;
    env.delete(env.virtual_clusters(), "vc").await?;
    holds(&env, "target", &[("id", &id)]).await?;
    let second = env.ready_cluster("vc").await?;
    ensure!(second != id);
    holds(&env, "target", &[("id", &second)]).await
}

#[tokio::test]
async fn a_secret_has_the_value_and_nothing_else_tells_it() -> Result<()> {
    let env =
        TestEnv::with("fe-secret", quick(), |operator| operator.arguments(&["--log-level=debug"])).await?;
    env.apply("{apiVersion: v1, kind: Secret, metadata: {name: target}, stringData: {kept: here}}").await?;
    env.apply(&(virtual_cluster("vc", env.namespace()) + "  tags: {token: hush-hush-7}\n")).await?;
    env.apply(&export("out", "vc", ".spec.tags.token", "{kind: secret, name: target, key: token}")).await?;
    ready(&env, "out").await?;
    let secrets: Api<Secret> = Api::namespaced(env.client().clone(), env.namespace());
    let found = secrets.get("target").await?.data.unwrap_or_default();
    let text = |key: &str| found.get(key).map(|value| value.0.clone());
    ensure!(
        text("token") == Some(b"hush-hush-7".to_vec()) && text("kept") == Some(b"here".to_vec()),
        "{found:?}"
    );
    // A path that fails, and a target that refuses, neither.
    env.apply(&export("bad", "vc", ".spec.tags.token.x", "{kind: secret, name: target}")).await?;
    env.condition(exports(&env), "bad", "ACK.Recoverable", "True").await?;
    env.apply(&export("odd", "vc", ".spec.tags.token", "{kind: secret, name: target, key: a b}")).await?;
    env.condition(exports(&env), "odd", "ACK.Recoverable", "True").await?;
    for name in ["out", "bad", "odd"] {
        let said = exports(&env).get(name).await?.data["status"].to_string();
        ensure!(!said.contains("hush"), "{said}");
        env.event(name, if name == "out" { "Exported" } else { "Retrying" }).await?;
        let events = format!("{:?}", env.events(name).await?);
        ensure!(!events.contains("hush"), "{events}");
    }
    ensure!(!env.operator().log().contains("hush-hush"), "the log tells a value");
    // What was applied as stringData has no owner in the managed fields, and stays all the same.
    env.patch(exports(&env), "out", json!({"spec": {"to": {"key": "renamed"}}})).await?;
    let keys =
        async || Ok(secrets.get("target").await?.data.unwrap_or_default().into_keys().collect::<Vec<_>>());
    wait::eventually(PATIENCE, "the key should be another", async || {
        let keys: Result<Vec<String>> = keys().await;
        Ok((keys? == ["kept", "renamed"]).then_some(()))
    })
    .await?;
    env.delete(exports(&env), "out").await?;
    let left = secrets.get("target").await?.data.unwrap_or_default();
    ensure!(left.keys().collect::<Vec<_>>() == ["kept"], "{left:?}");
    Ok(())
}

#[tokio::test]
async fn a_target_that_is_missing_is_told_in_upstreams_words_and_written_once_it_is_there() -> Result<()> {
    let env = TestEnv::new("fe-missing").await?;
    let id = env.ready_cluster("vc").await?;
    for (name, kind) in [("a", "configmap"), ("b", "secret")] {
        env.apply(&export(name, "vc", ".status.id", &format!("{{kind: {kind}, name: target, key: k}}")))
            .await?;
        let told = env.condition(exports(&env), name, "ACK.Recoverable", "True").await?;
        let message = condition(&told, "ACK.Recoverable").context("a condition")?.message;
        let words = format!("unable to get existing {kind}: {kind}s \"target\" not found");
        ensure!(message.starts_with(&words), "{message}");
    }
    env.apply(&config_map("target", "{}")).await?;
    ready(&env, "a").await?;
    holds(&env, "target", &[("k", &id)]).await?;
    let secrets: Api<Secret> = Api::namespaced(env.client().clone(), env.namespace());
    ensure!(secrets.get_opt("target").await?.is_none(), "none is made");
    Ok(())
}

#[tokio::test]
async fn exports_share_a_config_map_and_none_takes_the_key_of_another() -> Result<()> {
    let env = TestEnv::new("fe-shared").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&config_map("target", "{mine: '1', b: placeholder}")).await?;
    let to = |key: &str| format!("{{kind: configmap, name: target, key: {key}}}");
    env.apply(&export("a", "vc", ".status.id", &to("a"))).await?;
    // Written over what kubectl put there, as upstream does.
    env.apply(&export("b", "vc", ".metadata.name", &to("b"))).await?;
    holds(&env, "target", &[("mine", "1"), ("a", &id), ("b", "vc")]).await?;
    env.apply(&export("c", "vc", ".spec.name + \"!\"", &to("a"))).await?;
    env.message(exports(&env), "c", "ACK.Recoverable", "is written by FieldExport a").await?;
    // By another key of its own it gets on.
    env.patch(exports(&env), "c", json!({"spec": {"to": {"key": "c"}}})).await?;
    holds(&env, "target", &[("mine", "1"), ("a", &id), ("b", "vc"), ("c", "vc!")]).await?;
    env.delete(exports(&env), "a").await?;
    holds(&env, "target", &[("mine", "1"), ("b", "vc"), ("c", "vc!")]).await?;

    // Many at once.
    let many: String = (0..20).fold(String::new(), |all, n| {
        let one = export(&format!("many-{n:02}"), "vc", ".status.id", "{kind: configmap, name: crowd}");
        format!("{all}---{one}")
    });
    env.apply(&config_map("crowd", "{}")).await?;
    env.apply(&many).await?;
    for n in 0..20 {
        ready(&env, &format!("many-{n:02}")).await?;
    }
    let crowd = data(&env, "crowd").await?;
    ensure!(crowd.len() == 20 && crowd.values().all(|value| *value == id), "{crowd:?}");
    Ok(())
}

#[tokio::test]
async fn an_export_that_is_edited_leaves_nothing_where_it_was() -> Result<()> {
    let env = TestEnv::new("fe-moved").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&config_map("first", "{old: here}")).await?;
    env.apply(&config_map("second", "{}")).await?;
    env.apply(&export("out", "vc", ".status.id", "{kind: configmap, name: first, key: a}")).await?;
    holds(&env, "first", &[("old", "here"), ("a", &id)]).await?;
    env.patch(exports(&env), "out", json!({"spec": {"to": {"key": "b"}}})).await?;
    holds(&env, "first", &[("old", "here"), ("b", &id)]).await?;
    env.patch(exports(&env), "out", json!({"spec": {"to": {"name": "second"}}})).await?;
    holds(&env, "second", &[("b", &id)]).await?;
    holds(&env, "first", &[("old", "here")]).await?;
    env.patch(exports(&env), "out", json!({"spec": {"from": {"path": ".spec.name"}}})).await?;
    holds(&env, "second", &[("b", "vc")]).await?;
    // Another controller's from now on.
    let bucket = json!({"spec": {"from": {"resource": {"group": "s3.services.k8s.aws", "kind": "Bucket"}}}});
    env.patch(exports(&env), "out", bucket).await?;
    holds(&env, "second", &[]).await?;
    env.until(exports(&env), "out", "should be free", |out| {
        out.finalizers().is_empty() && !out.annotations().contains_key(ANNOTATION)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_hostile_path_is_told_and_stops_nothing() -> Result<()> {
    let env = TestEnv::new("fe-hostile").await?;
    env.ready_cluster("vc").await?;
    env.apply(&config_map("target", "{}")).await?;
    let hostile = [
        "repeat(.)",
        "[range(1e12)] | length",
        "$ENV.PATH",
        "env | tojson",
        "def f: f; f",
        "\"x\" * 1e9",
        "((",
    ];
    for (n, path) in hostile.iter().enumerate() {
        env.apply(&export(&format!("h{n}"), "vc", path, "{kind: configmap, name: target}")).await?;
    }
    for n in 0..hostile.len() {
        let name = format!("h{n}");
        let told = env.condition(exports(&env), &name, "ACK.Terminal", "True").await?;
        let message = condition(&told, "ACK.Terminal").context("a condition")?.message;
        ensure!(message.starts_with("unable to parse path: "), "{message}");
        env.event(&name, "Refused").await?;
    }
    env.apply(&export("none", "vc", ".status.gone", "{kind: configmap, name: target}")).await?;
    env.message(exports(&env), "none", "ACK.Recoverable", "path does not exist in this object").await?;
    env.apply(&export("good", "vc", ".spec.name", "{kind: configmap, name: target, key: k}")).await?;
    holds(&env, "target", &[("k", "vc")]).await?;
    env.delete(exports(&env), "h0").await
}

#[tokio::test]
async fn another_namespace_is_written_with_upstreams_notice_unless_that_is_switched_off() -> Result<()> {
    let mut env = TestEnv::new("fe-across").await?;
    let id = env.ready_cluster("vc").await?;
    let away = Namespace::create(env.client(), "fe-away").await?;
    tests::objects::apply(env.client(), away.name(), &config_map("target", "{}")).await?;
    let to = format!("{{kind: configmap, name: target, namespace: {}, key: k}}", away.name());
    env.apply(&export("out", "vc", ".status.id", &to)).await?;
    let done = ready(&env, "out").await?;
    let notice = condition(&done, "ACK.Advisory").context("a notice")?;
    ensure!(
        notice.reason == "CrossNamespaceOptInRequired"
            && notice.message.starts_with("Cross-namespace field export detected: FieldExport in namespace"),
        "{notice:?}"
    );
    let there: Api<ConfigMap> = Api::namespaced(env.client().clone(), away.name());
    holds_in(there.clone(), "target", &[("k", &id)]).await?;

    env.operator().terminate().await?;
    let strict =
        env.builder().arguments(&["--enable-cross-namespace=false"]).start(env.plane().scratch()).await?;
    let refused = env.condition(exports(&env), "out", "ACK.Terminal", "True").await?;
    let message = condition(&refused, "ACK.Terminal").context("a condition")?.message;
    let words =
        "cross-namespace resource reference is not allowed. Set --enable-cross-namespace=true to allow it";
    ensure!(message.starts_with(words), "{message}");
    // What it wrote while it might is its own to take out.
    exports(&env).delete("out", &DeleteParams::default()).await?;
    wait::deleted(exports(&env), "out", PATIENCE).await?;
    holds_in(there, "target", &[]).await?;
    strict.terminate().await?;

    // Where exports are switched off nothing is touched.
    env.apply(&export("unused", "vc", ".status.id", "{kind: configmap, name: none}")).await?;
    let off = env
        .builder()
        .arguments(&["--enable-field-export-reconciler=false"])
        .start(env.plane().scratch())
        .await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "COMPLETED").await?;
    let untouched = exports(&env).get("unused").await?;
    ensure!(untouched.finalizers().is_empty() && untouched.data.get("status").is_none(), "{untouched:?}");
    off.terminate().await?;
    env.restart_operator().await?;
    env.condition(exports(&env), "unused", "ACK.Recoverable", "True").await?;
    Ok(())
}

#[tokio::test]
async fn a_restart_writes_nothing_and_exports_of_others_are_left_alone() -> Result<()> {
    let mut env = TestEnv::new("fe-restart").await?;
    env.simulator().add_outcome(endless("run"))?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&job_run("run", "vc", "")).await?;
    env.job_run_in("run", "RUNNING").await?;
    env.apply(&config_map("target", "{}")).await?;
    env.apply(&export("id", "vc", ".status.id", "{kind: configmap, name: target, key: id}")).await?;
    env.apply(&export("run", "JobRun/run", ".status.state", "{kind: configmap, name: target, key: run}"))
        .await?;
    let foreign =
        export("foreign", "S3Bucket/b", ".status.id", "{kind: configmap, name: target, key: theirs}");
    let foreign = foreign.replace("emrcontainers.services.k8s.aws", "s3.services.k8s.aws");
    env.apply(&foreign).await?;
    ready(&env, "id").await?;
    ready(&env, "run").await?;
    holds(&env, "target", &[("id", &id), ("run", "RUNNING")]).await?;
    let versions = async |env: &TestEnv| -> Result<Vec<Option<String>>> {
        let mut versions = vec![config_maps(env).get("target").await?.resource_version()];
        for name in ["id", "run", "foreign"] {
            versions.push(exports(env).get(name).await?.resource_version());
        }
        Ok(versions)
    };
    let before = versions(&env).await?;
    env.operator().kill9().await?;
    env.restart_operator().await?;
    wait::eventually(PATIENCE, "both should be looked at", async || {
        let passes = env.operator().metrics().await?;
        let passes = passes.sum("emrcontainers_reconcile_passes_total", &[("kind", "fieldexport")]);
        Ok((passes > 1.5).then_some(()))
    })
    .await?;
    let metrics = env.operator().metrics().await?;
    let writes = metrics.sum("emrcontainers_status_writes_total", &[("kind", "fieldexport")]);
    ensure!(writes < 0.5, "{writes} statuses were written");
    ensure!(versions(&env).await? == before, "a restart writes nothing");
    let foreign = exports(&env).get("foreign").await?;
    ensure!(foreign.finalizers().is_empty() && foreign.data.get("status").is_none(), "{foreign:?}");
    Ok(())
}

#[tokio::test]
async fn the_key_goes_also_when_another_controller_takes_the_finalizer_off() -> Result<()> {
    let env = TestEnv::new("fe-family").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&config_map("target", "{}")).await?;
    env.apply(&export("out", "vc", ".status.id", "{kind: configmap, name: target, key: k}")).await?;
    ready(&env, "out").await?;
    holds(&env, "target", &[("k", &id)]).await?;
    // The way of every controller of the family with an export that is deleted, faster than we are.
    env.patch(exports(&env), "out", json!({"metadata": {"finalizers": null}})).await?;
    exports(&env).delete("out", &DeleteParams::default()).await?;
    holds(&env, "target", &[]).await
}

#[tokio::test]
async fn an_export_of_upstreams_is_taken_over_and_can_go_back() -> Result<()> {
    let env = TestEnv::new("fe-takeover").await?;
    let id = env.ready_cluster("vc").await?;
    env.apply(&config_map("target", &format!("{{k: {id}}}"))).await?;
    let of_upstream = export("out", "vc", ".status.id", "{kind: configmap, name: target, key: k}")
        .replace("{name: out}", &format!("{{name: out, finalizers: [{FINALIZER}]}}"));
    env.apply(&of_upstream).await?;
    let taken = ready(&env, "out").await?;
    ensure!(taken.finalizers() == [FINALIZER], "{taken:?}");
    // No other mark that would keep upstream's controller, or nobody, from letting it go.
    env.delete(exports(&env), "out").await?;
    // The key was written by another before: it is not ours alone.
    holds(&env, "target", &[("k", &id)]).await
}

#[tokio::test]
async fn the_manifest_that_we_ship_exports_the_id_of_the_sample() -> Result<()> {
    let env = TestEnv::new("fe-sample").await?;
    env.apply(&std::fs::read_to_string(repository().join("manifests/samples/00-virtual-cluster.yaml"))?)
        .await?;
    let folder = repository().join("manifests/field-export").display().to_string();
    env.kubectl(&["apply", "--validate=strict", "-f", &folder]).await?;
    ready(&env, "analytics-id").await?;
    let cluster = env.virtual_clusters().get("analytics").await?;
    let id = status(&cluster, "id").context("an id")?;
    holds(&env, "emr", &[("virtualClusterId", id)]).await
}

#[tokio::test]
async fn the_definition_is_upstreams() -> Result<()> {
    let env = TestEnv::new("fe-crd").await?;
    let crds: Api<DynamicObject> = Api::all_with(
        env.client().clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        )),
    );
    let crd = crds.get("fieldexports.services.k8s.aws").await?;
    let spec = &crd.data["spec"];
    ensure!(spec["scope"] == "Namespaced");
    ensure!(
        spec["names"]["shortNames"].is_null() && spec["names"]["categories"].is_null(),
        "{}",
        spec["names"]
    );
    let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let at = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or(Value::Null);
    let sorted = |value: Value| -> Result<Vec<String>> {
        let mut names: Vec<String> = serde_json::from_value(value)?;
        names.sort();
        Ok(names)
    };
    ensure!(sorted(at("/spec/required"))? == ["from", "to"]);
    ensure!(sorted(at("/spec/properties/from/required"))? == ["path", "resource"]);
    ensure!(sorted(at("/spec/properties/from/properties/resource/required"))? == ["group", "kind", "name"]);
    ensure!(sorted(at("/spec/properties/to/required"))? == ["kind", "name"]);
    ensure!(at("/spec/properties/to/properties/kind/enum") == json!(["configmap", "secret"]));
    ensure!(at("/status/required") == json!(["conditions"]));
    let status = at("/status/properties");
    let fields: Vec<_> = status.as_object().context("a status")?.keys().collect();
    // One more would be dropped where another controller's chart has installed the definition, and written for ever.
    ensure!(fields == ["conditions"], "{fields:?}");
    Ok(())
}

/// For tests of the suite that only want to see that exports work.
pub(crate) async fn exports_a_name(client: &Client, namespace: &str, cluster: &str) -> Result<()> {
    tests::objects::apply(client, namespace, &config_map("exported", "{}")).await?;
    let out = export("name", cluster, ".spec.name", "{kind: configmap, name: exported, key: name}");
    tests::objects::apply(client, namespace, &out).await?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    holds_in(api, "exported", &[("name", cluster)]).await
}

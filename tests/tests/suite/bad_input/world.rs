//! A control plane whose definitions check nothing, runs to be spoilt, and what a refusal looks like.

#![allow(clippy::indexing_slicing, reason = "a test may end by a panic, and JSON is best read by its keys")]

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::control_plane::{ControlPlane, repository};
use tests::manifest::{ROLE, job_run};
use tests::objects::{self, condition, status};
use tests::simulator::quick;
use tokio::sync::OnceCell;

/// The annotation whose new value tries a refused run again.
pub(super) const RETRY: &str = "emrcontainers.services.k8s.aws/retry";

/// The control plane whose definitions check nothing.
async fn lenient() -> Result<&'static ControlPlane> {
    static PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
    PLANE.get_or_try_init(with_old_definitions).await
}

pub(super) async fn with_old_definitions() -> Result<ControlPlane> {
    let plane = ControlPlane::start().await?;
    let folder = plane.scratch().join("old-definitions");
    std::fs::create_dir(&folder)?;
    for path in objects::yaml_files(&repository().join("manifests/crds"))? {
        for mut crd in objects::parse(&std::fs::read_to_string(&path)?)? {
            let version = crd.data.pointer_mut("/spec/versions/0/schema/openAPIV3Schema");
            let schema = version.context("a schema")?;
            strip(schema);
            // A field without a type, as in a definition that somebody loosened: any value gets through.
            schema["properties"]["spec"]["properties"]["tags"] =
                json!({"x-kubernetes-preserve-unknown-fields": true});
            let name = path.file_name().context("a file name")?;
            // JSON is YAML.
            std::fs::write(folder.join(Path::new(name)), serde_json::to_vec(&crd)?)?;
        }
    }
    objects::install_crds(&plane.client()?, &folder).await?;
    Ok(plane)
}

/// Takes rules, patterns and bounds out of a schema.
fn strip(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    let checks = ["x-kubernetes-validations", "pattern", "minLength", "maxLength", "minItems", "maxItems"];
    members.retain(|key, value| !checks.contains(&key.as_str()) || value.is_object());
    for (key, inner) in members {
        match key.as_str() {
            "properties" => {
                inner.as_object_mut().into_iter().flatten().for_each(|(_, property)| strip(property));
            }
            "items" | "additionalProperties" => strip(inner),
            _ => {}
        }
    }
}

pub(crate) async fn environment(name: &str) -> Result<TestEnv> {
    TestEnv::on(lenient().await?, name, quick(), |operator| operator).await
}

/// A JobRun that is right, as a value to be spoilt.
pub(super) fn right() -> Value {
    json!({
        "virtualClusterRef": {"from": {"name": "vc"}},
        "executionRoleARN": ROLE,
        "releaseLabel": "emr-7.10.0-latest",
        "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://bucket/job.py"}},
    })
}

/// [`right`] with other fields; null takes a field out.
pub(super) fn spoilt(changes: &Value) -> Value {
    let mut spec = right();
    if let (Some(spec), Some(changes)) = (spec.as_object_mut(), changes.as_object()) {
        spec.extend(changes.clone());
        spec.retain(|_, value| !value.is_null());
    }
    spec
}

pub(super) async fn apply(env: &TestEnv, name: &str, spec: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "emrcontainers.services.k8s.aws/v1alpha1", "kind": "JobRun",
        "metadata": {"name": name}, "spec": spec,
    });
    env.apply(&object.to_string()).await.map(drop)
}

fn version(object: &DynamicObject) -> Option<&str> {
    object.metadata.resource_version.as_deref()
}

/// What a run that is refused for good looks like; the message holds all of `words`.
pub(super) async fn is_refused(env: &TestEnv, name: &str, words: &[&str]) -> Result<DynamicObject> {
    let run = env.condition(env.job_runs(), name, "ACK.Terminal", "True").await?;
    let told = |kind: &str| condition(&run, kind).with_context(|| format!("{name} has no {kind}"));
    let message = told("ACK.Terminal")?.message;
    for word in words {
        ensure!(message.contains(word), "{name}: {word:?} is not in {message:?}");
    }
    ensure!(status(&run, "state") == Some("FAILED"), "{name}: {:?}", run.data);
    ensure!(status(&run, "failureReason") == Some("VALIDATION_ERROR"), "{name}: {:?}", run.data);
    ensure!(status(&run, "stateDetails") == Some(message), "{name}: {:?}", run.data);
    ensure!(status(&run, "id").is_none(), "{name} has no job");
    let (ready, stalled, synced) = (told("Ready")?, told("Stalled")?, told("ACK.ResourceSynced")?);
    ensure!(
        ready.status == "False" && ready.reason == "ACK.Terminal" && ready.message == message,
        "{ready:?}"
    );
    ensure!(stalled.status == "True" && stalled.reason == "Refused", "{stalled:?}");
    ensure!(synced.status == "False" && synced.message == "Resource not synced", "{synced:?}");
    ensure!(condition(&run, "Reconciling").is_none(), "{name}: nothing goes on");
    let types = run.data["status"]["conditions"].as_array().into_iter().flatten();
    let mut types: Vec<_> = types.filter_map(|condition| condition["type"].as_str()).collect();
    types.retain(|kind| *kind != "ACK.ReferencesResolved");
    ensure!(types == ["ACK.Terminal", "ACK.ResourceSynced", "Ready", "Stalled"], "{name}: {types:?}");
    let event = env.event(name, "Refused").await?;
    ensure!(event.type_ == "Warning", "{event:?}");
    // Both say how to try again, beside the cause.
    for text in [event.note.as_str(), stalled.message] {
        let remedy =
            text.strip_prefix(message).with_context(|| format!("{name}: {text:?} should tell the cause"))?;
        ensure!(remedy.contains("correct the spec") && remedy.contains(RETRY), "{name}: {text:?}");
    }
    Ok(run)
}

/// A whole life of another run passes: none of `runs` was written, none had another event, and no panic was logged.
pub(super) async fn stays_as_it_is(env: &TestEnv, runs: &[DynamicObject]) -> Result<()> {
    env.apply(&job_run("meanwhile", "vc", "")).await?;
    env.job_run_in("meanwhile", "COMPLETED").await?;
    for run in runs {
        let name = run.metadata.name.as_deref().unwrap_or_default();
        let now = env.job_runs().get(name).await?;
        ensure!(version(&now) == version(run), "{name} was written again: {:?}", now.data);
        // Twice at most: by a retry that was asked for.
        let events = env.events(name).await?;
        ensure!(events.iter().all(|event| event.count <= 2), "{name}: {events:?}");
        ensure!(env.jobs(name).is_empty(), "{name} has no job at AWS");
    }
    ensure!(!env.operator().log().contains("panicked"), "the operator panicked");
    env.operator().ensure_running()
}

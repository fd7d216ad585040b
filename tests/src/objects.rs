//! Objects of any kind from YAML, applied as kubectl does it: server-side, with strict validation.
//!
//! Must not: know our types, so that the suites see what a user of kubectl sees.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
use kube::api::{
    ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, TypeMeta, ValidationDirective,
};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::wait;

/// What kubectl calls itself.
pub const FIELD_MANAGER: &str = "kubectl";
/// The group of all our kinds.
pub const GROUP: &str = "emrcontainers.services.k8s.aws";
/// The version of all our kinds.
pub const VERSION: &str = "v1alpha1";

/// The documents of a YAML file; empty ones are skipped.
pub fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("unreadable YAML")?;
    let objects = documents.into_iter().filter(|document| !document.is_null());
    objects.map(|document| serde_json::from_value(document).context("not a Kubernetes object")).collect()
}

/// Applies every document of `yaml`; those of namespaced kinds without a namespace go to `namespace`.
pub async fn apply(client: &Client, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for object in parse(yaml)? {
        applied.push(apply_one(client, namespace, &object).await?);
    }
    ensure!(!applied.is_empty(), "the YAML holds no object");
    Ok(applied)
}

/// Applies one object.
pub async fn apply_one(client: &Client, namespace: &str, object: &DynamicObject) -> Result<DynamicObject> {
    let name = object.name_any();
    let api = api_for(client, namespace, object).await?;
    let mut params = PatchParams::apply(FIELD_MANAGER).force();
    params.field_validation = Some(ValidationDirective::Strict);
    api.patch(&name, &params, &Patch::Apply(object)).await.with_context(|| format!("can't apply {name}"))
}

/// The API that serves an object's kind and namespace.
pub async fn api_for(client: &Client, namespace: &str, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("the object has no apiVersion and kind")?;
    let gvk = gvk(types)?;
    let (resource, ApiCapabilities { scope, .. }) =
        pinned_kind(client, &gvk).await.with_context(|| format!("the API server doesn't know {types:?}"))?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
    Ok(match scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    })
}

/// One of our kinds, `JobRun` or `VirtualCluster`, in a namespace.
pub fn ours(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// How the API server serves one of our kinds.
pub fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind))
}

/// A string in an object's status, like `state`.
pub fn status<'a>(object: &'a DynamicObject, field: &str) -> Option<&'a str> {
    object.data.get("status")?.get(field)?.as_str()
}

/// The condition of that type: its status, reason and message.
pub fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<Condition<'a>> {
    let conditions = object.data.get("status")?.get("conditions")?.as_array()?;
    let found =
        conditions.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))?;
    let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default();
    Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}

/// A condition as `kubectl describe` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition<'a> {
    /// True, False or Unknown.
    pub status: &'a str,
    /// One word for machines.
    pub reason: &'a str,
    /// One sentence for people.
    pub message: &'a str,
}

/// Applies every CustomResourceDefinition of a folder and waits until the API server serves them.
pub async fn install_crds(client: &Client, folder: &Path) -> Result<()> {
    for path in yaml_files(folder)? {
        let yaml =
            std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        for crd in apply(client, "", &yaml).await.with_context(|| format!("in {}", path.display()))? {
            let what = "the API server should serve the kind";
            let served = |crd: Option<&Crd>| {
                let conditions = crd?.status.as_ref()?.conditions.as_ref()?;
                conditions
                    .iter()
                    .any(|condition| condition.type_ == "Established" && condition.status == "True")
                    .then_some(())
            };
            wait::object(Api::all(client.clone()), &crd.name_any(), Duration::from_secs(30), what, served)
                .await?;
        }
    }
    Ok(())
}

/// The YAML files of a folder by name; none is an error.
pub fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    ensure!(!files.is_empty(), "{} holds no YAML file", folder.display());
    Ok(files)
}

fn gvk(types: &TypeMeta) -> Result<GroupVersionKind> {
    GroupVersionKind::try_from(types).with_context(|| format!("unreadable apiVersion {}", types.api_version))
}

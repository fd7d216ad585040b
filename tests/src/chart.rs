//! The chart, as helm installs it, and the operator as its Deployment would start it: the same arguments and
//! environment under the same ServiceAccount.
//!
//! Must not: grant the ServiceAccount anything that the manifests don't.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::control_plane::{ControlPlane, repository};
use crate::operator::{Builder, Operator};
use crate::process::run;
use crate::{kubelet, objects};

/// The chart's folder.
pub fn folder() -> PathBuf {
    repository().join("charts/emrcontainers-operator")
}

/// Runs helm. A failure holds what it says.
pub async fn helm(plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let mut command = plane.helm()?;
    command.args(arguments);
    run(command, None).await
}

/// The manifests of an installed release.
pub async fn manifests(plane: &ControlPlane, release: &str, namespace: &str) -> Result<Vec<DynamicObject>> {
    objects::parse(&helm(plane, &["get", "manifest", release, "--namespace", namespace]).await?)
}

/// The only object of a kind.
pub fn only<'a>(manifests: &'a [DynamicObject], kind: &str) -> Result<&'a DynamicObject> {
    let mut found = of_kind(manifests, kind);
    match (found.next(), found.next()) {
        (Some(object), None) => Ok(object),
        (None, _) => bail!("the manifests hold no {kind}"),
        _ => bail!("the manifests hold more than one {kind}"),
    }
}

/// All objects of a kind.
pub fn of_kind<'a>(manifests: &'a [DynamicObject], kind: &str) -> impl Iterator<Item = &'a DynamicObject> {
    manifests.iter().filter(move |object| object.types.as_ref().is_some_and(|types| types.kind == kind))
}

/// The operator as a pod of the manifests' Deployment, which is called `pod` and finds AWS at `aws_url`.
pub async fn operator(
    plane: &ControlPlane,
    manifests: &[DynamicObject],
    aws_url: &str,
    pod: &str,
) -> Result<Builder> {
    let deployment = only(manifests, "Deployment")?;
    let namespace = deployment.namespace().context("the Deployment has no namespace")?;
    let spec = deployment.data.pointer("/spec/template/spec").context("the Deployment has no pod")?;
    let account = spec.get("serviceAccountName").and_then(Value::as_str).context("no service account")?;
    let container = spec.pointer("/containers/0").context("the pod has no container")?;
    let field = |path: &str| match path {
        "metadata.namespace" => Some(namespace.clone()),
        "metadata.name" | "metadata.uid" => Some(pod.to_owned()),
        _ => None,
    };
    let (variables, arguments) = kubelet::process(container, field)?;
    let kubeconfig = plane.kubeconfig_for_service_account(&namespace, account).await?;
    let builder = Operator::builder(kubeconfig, aws_url).deployed(arguments);
    Ok(variables.iter().fold(builder, |builder, (name, value)| builder.environment(name, value)))
}

//! The control plane is real: it refuses, deletes and comes back like any other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as NamespaceKind, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tests::control_plane::{ControlPlane, shared};
use tests::namespace::Namespace;
use tests::{objects, wait};

const CONFIG_MAP: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: note}
data: {text: hello}
";

const READER: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
";

#[tokio::test]
async fn each_test_has_its_own_namespace() -> Result<()> {
    let client = shared().await?.client()?;
    let (one, other) = (Namespace::create(&client, "one").await?, Namespace::create(&client, "one").await?);
    ensure!(one.name() != other.name());
    objects::apply(&client, one.name(), CONFIG_MAP).await?;
    let elsewhere: Api<ConfigMap> = Api::namespaced(client, other.name());
    ensure!(elsewhere.get_opt("note").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn kubectl_reads_what_the_client_applied() -> Result<()> {
    let plane = shared().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "kubectl").await?;
    objects::apply(&client, namespace.name(), CONFIG_MAP).await?;
    let read = ["get", "configmap", "note", "-n", namespace.name(), "-o", "jsonpath={.data.text}"];
    ensure!(plane.run_kubectl(&read, None).await? == "hello");
    let changed = CONFIG_MAP.replace("hello", "bye");
    plane.run_kubectl(&["apply", "--server-side", "-n", namespace.name(), "-f", "-"], Some(&changed)).await?;
    ensure!(plane.run_kubectl(&read, None).await? == "bye");
    Ok(())
}

#[tokio::test]
async fn an_unknown_field_is_refused_as_kubectl_refuses_it() -> Result<()> {
    let client = shared().await?.client()?;
    let namespace = Namespace::create(&client, "strict").await?;
    let applied = objects::apply(&client, namespace.name(), &CONFIG_MAP.replace("\ndata:", "\ndatum:")).await;
    let message = format!("{:#}", applied.err().context("a typing mistake should be refused")?);
    ensure!(message.contains("datum"), "the message should name the field: {message}");
    Ok(())
}

#[tokio::test]
async fn a_token_without_a_role_is_denied_and_one_with_a_role_gets_what_it_grants() -> Result<()> {
    let plane = shared().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "rbac").await?;
    // The subject's namespace can't be known to a constant.
    let yaml = READER.replace("name: reader}]", &format!("name: reader, namespace: {}}}]", namespace.name()));
    objects::apply(&client, namespace.name(), &yaml).await?;
    objects::apply(
        &client,
        namespace.name(),
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: nobody}}",
    )
    .await?;

    let token = plane.service_account_token(namespace.name(), "nobody").await?;
    let nobody: Api<ConfigMap> = Api::namespaced(plane.client_for_token(&token)?, namespace.name());
    match nobody.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => ensure!(status.code == 403, "{status:?}"),
        other => anyhow::bail!("should be denied: {other:?}"),
    }

    let token = plane.service_account_token(namespace.name(), "reader").await?;
    let client = plane.client_for_token(&token)?;
    let reader: Api<ConfigMap> = Api::namespaced(client.clone(), namespace.name());
    wait::eventually(Duration::from_secs(10), "the role should be in force", async || {
        Ok(Some(reader.list(&ListParams::default()).await?))
    })
    .await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace.name());
    ensure!(accounts.list(&ListParams::default()).await.is_err(), "the role grants config maps only");

    let kubeconfig = plane.kubeconfig_for_service_account(namespace.name(), "reader").await?;
    let mut kubectl = plane.kubectl();
    kubectl.env("KUBECONFIG", kubeconfig).args(["auth", "can-i", "get", "configmaps"]);
    ensure!(tests::process::run(kubectl, None).await?.trim() == "yes");
    Ok(())
}

#[tokio::test]
async fn with_the_controller_manager_a_deleted_namespace_vanishes() -> Result<()> {
    let plane = shared().await?;
    plane.start_controller_manager().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "vanish").await?;
    objects::apply(&client, namespace.name(), CONFIG_MAP).await?;
    let namespaces: Api<NamespaceKind> = Api::all(client);
    namespaces.delete(namespace.name(), &DeleteParams::default()).await?;
    wait::deleted(namespaces, namespace.name(), Duration::from_mins(1)).await
}

#[tokio::test]
async fn the_api_server_comes_back_at_the_same_address_with_everything_in_it() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let client = plane.client()?;
    objects::apply(&client, "default", CONFIG_MAP).await?;
    plane.stop_api_server().await?;
    let notes: Api<ConfigMap> = Api::namespaced(client, "default");
    ensure!(notes.get("note").await.is_err(), "nothing should answer while the API server is down");
    plane.start_api_server().await?;
    ensure!(notes.get("note").await?.data.is_some_and(|data| data.contains_key("text")));
    Ok(())
}

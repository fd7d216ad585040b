//! What the chart grants while the operator only looks on.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tests::chart::{self, helm};
use tests::control_plane::shared;
use tests::objects;

#[tokio::test]
async fn an_operator_that_only_looks_on_changes_nobodys_rights() -> Result<()> {
    for scope in ["cluster", "namespace"] {
        let manifests =
            rendered(&["--set", "readOnly=true", "--set", &format!("installScope={scope}")]).await?;
        let roles = chart::of_kind(&manifests, "ClusterRole").chain(chart::of_kind(&manifests, "Role"));
        ensure!(roles.count() == bound(&manifests)?.len(), "{scope}: every role is the operator's");
        let verbs = bound(&manifests)?.into_iter().flat_map(verbs).collect::<BTreeSet<_>>();
        let reads = ["get", "list", "watch"].map(str::to_owned);
        ensure!(verbs == BTreeSet::from(reads), "{scope}: {verbs:?}");
    }
    Ok(())
}

/// The manifests that the chart makes of some values.
async fn rendered(values: &[&str]) -> Result<Vec<DynamicObject>> {
    let chart = chart::folder().display().to_string();
    let said = helm(
        shared().await?,
        &[&["template", "release", &chart][..], &["--set", "aws.region=us-west-2"], values].concat(),
    )
    .await?;
    objects::parse(&said)
}

/// The roles that are bound, which can only be to the operator's account.
fn bound(manifests: &[DynamicObject]) -> Result<Vec<&DynamicObject>> {
    let account = chart::only(manifests, "ServiceAccount")?.name_any();
    let mut roles = Vec::new();
    for kind in ["ClusterRole", "Role"] {
        for binding in chart::of_kind(manifests, &format!("{kind}Binding")) {
            let data = &binding.data;
            ensure!(data.pointer("/subjects/0/name") == Some(&json!(account)), "{binding:?}");
            ensure!(data.pointer("/subjects/1").is_none(), "{binding:?}");
            ensure!(data.pointer("/roleRef/kind") == Some(&json!(kind)), "{binding:?}");
            let name = data.pointer("/roleRef/name").and_then(Value::as_str).context("no role")?;
            let mut all = chart::of_kind(manifests, kind);
            roles.push(all.find(|role| role.name_any() == name).context("a role that isn't there")?);
        }
    }
    Ok(roles)
}

/// What a role allows to be done with anything.
fn verbs(role: &DynamicObject) -> Vec<String> {
    let list = |of: &Value, name: &str| of.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let verbs = list(&role.data, "rules").into_iter().flat_map(|rule| list(&rule, "verbs"));
    verbs.filter_map(|verb| verb.as_str().map(str::to_owned)).collect()
}

//! What a release is called, and what else others look for: names, labels, probes, defaults.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::chart::{self, helm};
use tests::control_plane::{ControlPlane, shared};

use super::chart_values::{render, upstreams_defaults};

/// The places in which our default values differ from upstream's.
const OURS: [&str; 5] = [
    "/image/repository",
    "/image/tag",
    "/reconcile/defaultResyncPeriod",
    "/reconcile/defaultMaxConcurrentSyncs",
    "/leaderElection/enabled",
];

fn names(objects: &[Value], kind: &str) -> Vec<String> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    let mut names: Vec<_> = of_kind.filter_map(|object| object.pointer("/metadata/name")?.as_str()).collect();
    names.sort_unstable();
    names.into_iter().map(str::to_owned).collect()
}

async fn under_upstreams_name(plane: &ControlPlane, more: &str) -> Result<Vec<Value>> {
    let values = format!("nameOverride=emrcontainers-chart,metrics.service.create=true{more}");
    render(plane, &["--set", &values]).await
}

#[tokio::test]
async fn a_release_under_upstreams_name_has_upstreams_names_and_labels() -> Result<()> {
    let plane = shared().await?;
    let objects = under_upstreams_name(plane, "").await?;
    ensure!(names(&objects, "Deployment") == ["release-emrcontainers-chart"]);
    ensure!(names(&objects, "ServiceAccount") == ["ack-emrcontainers-controller"]);
    ensure!(names(&objects, "Service") == ["emrcontainers-controller-metrics"]);
    let roles = names(&objects, "Role");
    for suffix in ["reader", "writer", "leaderelection"] {
        ensure!(roles.contains(&format!("release-emrcontainers-chart-{suffix}")), "{roles:?}");
    }
    let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).context("there is one");
    let ports = find("Service")?["spec"]["ports"].clone();
    ensure!(ports[0]["name"] == "metricsport" && ports[0]["port"] == 8080, "{ports}");
    let pod = &find("Deployment")?["spec"]["template"];
    ensure!(pod["spec"]["serviceAccountName"] == "ack-emrcontainers-controller");
    let containers = pod["spec"]["containers"].as_array().context("containers")?;
    ensure!(containers.len() == 1 && containers.iter().all(|container| container["name"] == "controller"));
    let labels: BTreeMap<String, String> = serde_json::from_value(pod["metadata"]["labels"].clone())?;
    for (label, value) in [
        ("app.kubernetes.io/name", "emrcontainers-chart"),
        ("app.kubernetes.io/instance", "release"),
        ("app.kubernetes.io/managed-by", "Helm"),
        ("k8s-app", "emrcontainers-chart"),
    ] {
        ensure!(labels.get(label).is_some_and(|is| is == value), "{label} in {labels:?}");
    }
    for label in ["app.kubernetes.io/version", "helm.sh/chart"] {
        ensure!(labels.contains_key(label), "{label} in {labels:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_users_may_do_is_added_to_the_roles_that_kubernetes_gives_them() -> Result<()> {
    let objects = under_upstreams_name(shared().await?, "").await?;
    let gives = |role: &str, verb: &str| {
        objects.iter().any(|object| {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
            let rules = object["rules"].as_array();
            object["kind"] == "ClusterRole"
                && object["metadata"]["labels"][label.as_str()] == "true"
                && rules.into_iter().flatten().any(|rule| {
                    rule["apiGroups"] == json!(["emrcontainers.services.k8s.aws"])
                        && rule["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!(verb)))
                })
        })
    };
    for role in ["view", "edit", "admin"] {
        ensure!(gives(role, "get") && gives(role, "list") && gives(role, "watch"), "{role}");
        ensure!(gives(role, "create") == (role != "view"), "{role}");
    }
    let namespaced = under_upstreams_name(shared().await?, ",installScope=namespace").await?;
    ensure!(names(&namespaced, "ClusterRole").is_empty(), "{:?}", names(&namespaced, "ClusterRole"));
    Ok(())
}

#[tokio::test]
async fn the_pod_is_probed_as_upstreams_and_has_time_to_end() -> Result<()> {
    let objects = render(shared().await?, &[]).await?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
    let pod = &deployment["spec"]["template"]["spec"];
    ensure!(pod["terminationGracePeriodSeconds"] == 30);
    let container = &pod["containers"][0];
    let ports = container["ports"].as_array().context("ports")?;
    ensure!(ports.iter().any(|port| port["name"] == "health" && port["containerPort"] == 8081), "{ports:?}");
    for (probe, path, first, period) in
        [("livenessProbe", "/healthz", 15, 20), ("readinessProbe", "/readyz", 5, 10)]
    {
        let probe = &container[probe];
        ensure!(probe["httpGet"] == json!({"path": path, "port": "health"}), "{probe}");
        ensure!(probe["initialDelaySeconds"] == first && probe["periodSeconds"] == period, "{probe}");
    }
    Ok(())
}

/// Every value, with its place.
fn leaves(value: &Value, place: &str, into: &mut BTreeMap<String, Value>) {
    match value.as_object().filter(|members| !members.is_empty()) {
        Some(members) => {
            members.iter().for_each(|(name, value)| leaves(value, &format!("{place}/{name}"), into));
        }
        None => drop(into.insert(place.to_owned(), value.clone())),
    }
}

#[tokio::test]
async fn the_default_values_are_upstreams_but_for_those_that_are_told() -> Result<()> {
    let chart = chart::folder().display().to_string();
    let shown = helm(shared().await?, &["show", "values", &chart]).await?;
    let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
    leaves(&serde_saphyr::from_str(&shown)?, "", &mut ours);
    leaves(&upstreams_defaults(), "", &mut theirs);
    let differs = theirs.iter().filter(|(place, value)| ours.get(*place) != Some(*value));
    let differs: Vec<&str> = differs.map(|(place, _)| place.as_str()).collect();
    let mut expected = OURS;
    expected.sort_unstable();
    ensure!(differs == expected, "{differs:?}");
    Ok(())
}

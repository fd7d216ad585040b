//! Every YAML that we ship is accepted by the API server, and what it promises comes true.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::Value;
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::repository;
use tests::simulator::failing;
use tests::{objects, simulator, wait};

/// Says which state a sample is to reach.
const EXPECT: &str = "demo.emrcontainers.services.k8s.aws/expect";

fn folder(name: &str) -> PathBuf {
    repository().join("manifests").join(name)
}

/// The objects of a folder's files, in order.
fn read(name: &str) -> Result<Vec<DynamicObject>> {
    let mut found = Vec::new();
    for path in objects::yaml_files(&folder(name))? {
        let yaml = std::fs::read_to_string(&path)?;
        found.extend(objects::parse(&yaml).with_context(|| format!("in {}", path.display()))?);
    }
    Ok(found)
}

#[tokio::test]
async fn every_sample_is_accepted_and_reaches_the_state_that_it_names() -> Result<()> {
    let env = TestEnv::new("samples").await?;
    env.simulator().add_outcome(failing("meant-to-fail", "division by zero"))?;
    let path = folder("samples").display().to_string();
    let said = env.kubectl(&["apply", "--validate=strict", "-f", &path]).await?;
    let samples = read("samples")?;
    ensure!(said.lines().count() == samples.len(), "{said}");
    for sample in &samples {
        let name = sample.name_any();
        let expected = sample.annotations().get(EXPECT).with_context(|| format!("{name} has no {EXPECT}"))?;
        let api = objects::api_for(env.client(), env.namespace(), sample).await?;
        env.until(api, &name, &format!("should be {expected}"), |object| {
            objects::status(object, "state") == Some(expected)
        })
        .await?;
    }
    let failed = env.job_runs().get("meant-to-fail").await?;
    ensure!(objects::status(&failed, "stateDetails") == Some("division by zero"));
    ensure!(objects::status(&failed, "failureReason") == Some("USER_ERROR"));
    Ok(())
}

#[tokio::test]
async fn argos_workflow_succeeds_with_its_run_and_fails_with_it() -> Result<()> {
    let env = TestEnv::new("argo").await?;
    env.apply(&std::fs::read_to_string(folder("samples").join("00-virtual-cluster.yaml"))?).await?;
    env.apply(&std::fs::read_to_string(folder("argo").join("rbac.yaml"))?).await?;
    let workflow = read("argo")?;
    let workflow = workflow.iter().find(|object| kind(object) == "Workflow").context("no workflow")?;
    ensure!(workflow.data.pointer("/spec/serviceAccountName") == Some(&Value::from("emr-workflow")));
    // Its own service account submits and looks, so its role is tried too.
    let token = env.plane().service_account_token(env.namespace(), "emr-workflow").await?;
    let client = env.plane().client_for_token(&token)?;
    let kubeconfig = env.plane().kubeconfig_for_service_account(env.namespace(), "emr-workflow").await?;
    let resource = workflow.data.pointer("/spec/templates/0/resource").context("no resource template")?;
    ensure!(resource["action"] == "create");

    let good = create(&kubeconfig, &env, resource).await?;
    ensure!(judged(&client, &env, resource, &good).await? == Verdict::Succeeded);
    env.simulator().add_outcome(failing("word-count-*", "no such file"))?;
    let bad = create(&kubeconfig, &env, resource).await?;
    ensure!(judged(&client, &env, resource, &bad).await? == Verdict::Failed);
    env.simulator().clear_outcomes();
    env.simulator().add_outcome(emr_simulator::Rule {
        name: Some("word-count-*".to_owned()),
        start_refused: Some(emr_simulator::Refusal {
            code: "ValidationException".to_owned(),
            message: "Release label is not supported".to_owned(),
            status: 400,
        }),
        ..emr_simulator::Rule::default()
    })?;
    let refused = create(&kubeconfig, &env, resource).await?;
    ensure!(judged(&client, &env, resource, &refused).await? == Verdict::Failed);
    ensure!(simulator::calls(env.simulator(), "StartJobRun") >= 3);

    // The output that the template promises.
    let path = workflow.data.pointer("/spec/templates/0/outputs/parameters/0/valueFrom/jsonPath");
    let path = path.and_then(Value::as_str).context("no output")?;
    let output = format!("jsonpath={path}");
    let id = env.kubectl(&["get", "jobrun.emrcontainers.services.k8s.aws", &good, "-o", &output]).await?;
    ensure!(id == env.the_job(&good)?.id);
    Ok(())
}

/// Creates the manifest of a resource template as Argo does, with kubectl, and returns the name that it got.
async fn create(kubeconfig: &Path, env: &TestEnv, resource: &Value) -> Result<String> {
    let manifest = resource["manifest"].as_str().context("no manifest")?;
    let manifest = manifest.replace("{{workflow.name}}", "word-count-x7k2p");
    ensure!(!manifest.contains("{{"), "a variable is left: {manifest}");
    ensure!(manifest.contains("generateName:"), "each try of the step makes another run");
    // The role may take a moment to be in force.
    wait::eventually(PATIENCE, "the service account should create a run", async || {
        let mut kubectl = env.plane().kubectl();
        kubectl.env("KUBECONFIG", kubeconfig);
        kubectl.args(["create", "--validate=strict", "-f", "-", "-o", "jsonpath={.metadata.name}"]);
        Ok(Some(tests::process::run(kubectl, Some(&manifest)).await?))
    })
    .await
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Waiting,
    Succeeded,
    Failed,
}

/// Looks as Argo's executor does, from the first moment on, until a condition holds.
async fn judged(client: &Client, env: &TestEnv, resource: &Value, name: &str) -> Result<Verdict> {
    let text = |field: &str| resource[field].as_str().with_context(|| format!("no {field}"));
    let success = requirements(text("successCondition")?)?;
    let failure = requirements(text("failureCondition")?)?;
    let runs = objects::ours(client, env.namespace(), "JobRun");
    wait::eventually(PATIENCE, &format!("a condition of {name} should hold"), async || {
        let verdict = judge(&serde_json::to_value(runs.get(name).await?)?, &success, &failure);
        Ok((verdict != Verdict::Waiting).then_some(verdict))
    })
    .await
}

/// Any requirement of the failure condition fails; all of the success condition succeed.
fn judge(object: &Value, success: &[Requirement], failure: &[Requirement]) -> Verdict {
    if failure.iter().any(|requirement| requirement.holds(object)) {
        Verdict::Failed
    } else if success.iter().all(|requirement| requirement.holds(object)) {
        Verdict::Succeeded
    } else {
        Verdict::Waiting
    }
}

/// A positive requirement of a Kubernetes label selector, its key a path into the object.
#[derive(Debug, PartialEq)]
struct Requirement {
    path: Vec<String>,
    values: Vec<String>,
}

impl Requirement {
    fn holds(&self, object: &Value) -> bool {
        let found = self.path.iter().try_fold(object, |value, key| value.get(key));
        let text = found.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        text.is_some_and(|text| self.values.contains(&text))
    }
}

/// Reads a condition by the grammar of `labels.Parse`. Negative forms hold while there is no status: they are refused.
fn requirements(condition: &str) -> Result<Vec<Requirement>> {
    let mut found = Vec::new();
    let mut rest = condition.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || "=!<>,(".contains(c)).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        ensure!(is_label(key, "._-"), "`{key}` in `{condition}` is no label key");
        let after = after.trim_start();
        let (values, left) = if let Some(set) = after.strip_prefix("in") {
            let set =
                set.trim_start().strip_prefix('(').with_context(|| format!("no set in `{condition}`"))?;
            let (set, left) = set.split_once(')').with_context(|| format!("an open set in `{condition}`"))?;
            (set.split(',').map(|value| value.trim().to_owned()).collect(), left)
        } else if let Some(value) = after.strip_prefix("==").or_else(|| after.strip_prefix('=')) {
            let (value, left) = value.split_at(value.find(',').unwrap_or(value.len()));
            (vec![value.trim().to_owned()], left)
        } else {
            bail!("`{condition}` is not a positive condition");
        };
        ensure!(
            values.iter().all(|value: &String| is_label(value, "._-")),
            "`{condition}` has no label values"
        );
        found.push(Requirement { path: key.split('.').map(str::to_owned).collect(), values });
        rest = left.trim_start();
        if let Some(next) = rest.strip_prefix(',') {
            rest = next.trim_start();
            ensure!(!rest.is_empty(), "`{condition}` ends in a comma");
        } else {
            ensure!(rest.is_empty(), "`{rest}` in `{condition}` can't be read");
        }
    }
    ensure!(!found.is_empty(), "an empty condition");
    Ok(found)
}

/// Whether a text can be a label's key or value.
fn is_label(text: &str, inner: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || inner.contains(c))
}

#[test]
fn conditions_are_judged_as_argo_does() -> Result<()> {
    let run = |state: &str| serde_json::json!({"status": {"state": state, "attempts": 1}});
    let success = requirements("status.state == COMPLETED, status.attempts = 1")?;
    let failure = requirements("status.state in (FAILED, CANCELLED)")?;
    ensure!(judge(&serde_json::json!({}), &success, &failure) == Verdict::Waiting);
    ensure!(judge(&run("RUNNING"), &success, &failure) == Verdict::Waiting);
    ensure!(judge(&run("COMPLETED"), &success, &failure) == Verdict::Succeeded);
    ensure!(judge(&run("CANCELLED"), &success, &failure) == Verdict::Failed);
    for refused in [
        "status.state != RUNNING",
        "status.state notin (A)",
        "!status.id",
        "status.state == a b",
        "x in A",
        "",
    ] {
        ensure!(requirements(refused).is_err(), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn fluxs_and_argo_cds_settings_name_our_kinds() -> Result<()> {
    let kinds = ["JobRun", "VirtualCluster"];
    let flux = read("flux")?;
    let checks = flux.first().and_then(|object| object.data.pointer("/spec/healthCheckExprs"));
    let checks = checks.and_then(Value::as_array).context("no health checks")?;
    let checked: Vec<_> = checks.iter().filter_map(|check| check["kind"].as_str()).collect();
    ensure!(checked == kinds, "{checked:?}");
    for check in checks {
        ensure!(check["apiVersion"] == format!("{}/{}", objects::GROUP, objects::VERSION));
    }
    // A patch, not an object: it has no kind of its own.
    let patch: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(folder("argocd").join("argocd-cm-patch.yaml"))?)?;
    for kind in kinds {
        let key = format!("resource.customizations.health.{}_{kind}", objects::GROUP);
        ensure!(patch["data"][&key].as_str().is_some_and(|script| script.contains("return hs")), "no {key}");
    }
    Ok(())
}

fn kind(object: &DynamicObject) -> String {
    object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default()
}

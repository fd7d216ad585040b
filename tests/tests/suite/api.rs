//! The definitions as a real API server serves them: names, columns, fields, and what `kubectl explain` says.
//!
//! Rules and patterns are in [`rules`], the comparison with upstream's fields in [`fields`].

mod fields;
mod rules;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::{ControlPlane, shared};
use tests::manifest::job_run;
use tests::namespace::Namespace;
use tests::{objects, wait};

/// A namespace on the shared control plane, without an operator.
struct Place {
    plane: &'static ControlPlane,
    client: Client,
    namespace: Namespace,
}

impl Place {
    async fn new(name: &str) -> Result<Self> {
        let plane = shared().await?;
        plane.install_crds().await?;
        let client = plane.client()?;
        let namespace = Namespace::create(&client, name).await?;
        Ok(Self { plane, client, namespace })
    }

    /// Applies one object of ours with a spec, strictly and server-side.
    async fn apply(&self, kind: &str, name: &str, spec: &Value) -> Result<DynamicObject> {
        objects::apply_one(&self.client, self.namespace.name(), &object(kind, name, spec)?).await
    }

    /// Creates one object of ours, as `kubectl create` and Argo Workflows do.
    async fn create(&self, kind: &str, name: &str, spec: &Value) -> Result<DynamicObject> {
        let api = objects::ours(&self.client, self.namespace.name(), kind);
        Ok(api.create(&PostParams::default(), &object(kind, name, spec)?).await?)
    }

    /// Applies one object that has to be refused, and returns the API server's words.
    async fn refusal(&self, kind: &str, name: &str, spec: &Value) -> Result<String> {
        match self.apply(kind, name, spec).await {
            Ok(_) => bail!("the API server accepts {kind} {name} with the spec {spec}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    /// Applies one object that has to be refused with all of `words`.
    async fn refuses(&self, kind: &str, name: &str, spec: &Value, words: &[&str]) -> Result<()> {
        let said = self.refusal(kind, name, spec).await?;
        for word in words {
            ensure!(said.contains(word), "{kind} {name} with {spec}: {word:?} is not in {said:?}");
        }
        Ok(())
    }

    async fn set_status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let api = objects::ours(&self.client, self.namespace.name(), kind);
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let namespaced = [&["--namespace", self.namespace.name()], arguments].concat();
        self.plane.run_kubectl(&namespaced, None).await
    }
}

fn object(kind: &str, name: &str, spec: &Value) -> Result<DynamicObject> {
    let api_version = format!("{}/{}", objects::GROUP, objects::VERSION);
    let metadata = json!({ "name": name });
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec});
    Ok(serde_json::from_value(object)?)
}

/// The words of each line.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test]
async fn the_kinds_have_upstreams_names_and_our_short_ones() -> Result<()> {
    let place = Place::new("names").await?;
    let crds: Api<Crd> = Api::all(place.client.clone());
    for (plural, singular, kind, short) in [
        ("jobruns", "jobrun", "JobRun", "emrjr"),
        ("virtualclusters", "virtualcluster", "VirtualCluster", "emrvc"),
    ] {
        let crd = crds.get(&format!("{plural}.{}", objects::GROUP)).await?;
        let accepted = crd.status.context("a served definition has a status")?;
        let names = accepted.accepted_names.context("accepted names")?;
        ensure!(names.plural == plural && names.kind == kind, "{names:?}");
        ensure!(names.singular.as_deref() == Some(singular), "{names:?}");
        ensure!(names.list_kind == Some(format!("{kind}List")), "{names:?}");
        ensure!(names.short_names == Some(vec![short.to_owned()]), "{names:?}");
        ensure!(names.categories == Some(vec!["emr".to_owned()]), "{names:?}");
        let conditions = accepted.conditions.unwrap_or_default();
        ensure!(conditions.iter().all(|c| c.type_ != "NonStructuralSchema"), "{conditions:?}");
        ensure!(
            conditions.iter().any(|c| c.type_ == "NamesAccepted" && c.status == "True"),
            "{conditions:?}"
        );
        ensure!(crd.spec.scope == "Namespaced");
        let [version] = crd.spec.versions.as_slice() else { bail!("one version") };
        ensure!(version.name == "v1alpha1" && version.served && version.storage);
        ensure!(version.subresources.as_ref().is_some_and(|s| s.status.is_some()), "{kind} has a status");
        // Every name leads to the kind.
        for name in [plural, singular, short] {
            place.kubectl(&["get", name]).await?;
        }
    }
    place.apply("JobRun", "a", &json!({})).await?;
    place.apply("VirtualCluster", "b", &json!({"name": "b", "containerProvider": {}})).await?;
    let by_category = place.kubectl(&["get", "emr", "--output=name"]).await?;
    let listed: Vec<_> =
        by_category.lines().filter_map(|line| line.split_once('.')).map(|(kind, _)| kind).collect();
    ensure!(listed == ["jobrun", "virtualcluster"], "{by_category}");
    Ok(())
}

#[tokio::test]
async fn kubectl_get_shows_upstreams_columns_first() -> Result<()> {
    let place = Place::new("columns").await?;
    let spec = json!({"virtualClusterRef": {"from": {"name": "vc"}}});
    place.apply("JobRun", "run", &spec).await?;
    place
        .set_status("JobRun", "run", &json!({"id": "0001", "state": "FAILED", "failureReason": "USER_ERROR"}))
        .await?;
    let eks = json!({"eksInfo": {"namespace": "spark"}});
    let spec = json!({"name": "vc", "containerProvider": {"id": "eks", "type_": "EKS", "info": eks}});
    place.apply("VirtualCluster", "vc", &spec).await?;
    place.set_status("VirtualCluster", "vc", &json!({"id": "abc", "state": "RUNNING"})).await?;
    for (arguments, head, row) in [
        (vec!["get", "jobruns"], vec!["NAME", "JOB-ID", "STATE", "AGE"], vec!["run", "0001", "FAILED"]),
        (
            vec!["get", "jobruns", "--output=wide"],
            vec!["NAME", "JOB-ID", "STATE", "REASON", "CLUSTER", "AGE"],
            vec!["run", "0001", "FAILED", "USER_ERROR", "vc"],
        ),
        (
            vec!["get", "emrvc", "--output=wide"],
            vec!["NAME", "ID", "STATE", "NAMESPACE", "AGE"],
            vec!["vc", "abc", "RUNNING", "spark"],
        ),
    ] {
        let text = place.kubectl(&arguments).await?;
        let lines = table(&text);
        let [first, second] = lines.as_slice() else { bail!("two lines: {text}") };
        let (age, shown) = second.split_last().context("a row has columns")?;
        ensure!(*first == head && *shown == row && age.ends_with('s'), "{arguments:?}: {text}");
    }
    let url = format!("/apis/{}/v1alpha1/namespaces/{}/jobruns", objects::GROUP, place.namespace.name());
    let request = http::Request::get(url).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let answer: Value = place.client.request(request.body(Vec::new())?).await?;
    let columns = answer.get("columnDefinitions").and_then(Value::as_array).context("a table")?;
    let columns: Vec<_> =
        columns.iter().map(|column| (column["name"].as_str(), column["priority"].as_i64())).collect();
    let wanted = [("Name", 0), ("Job-ID", 0), ("STATE", 0), ("REASON", 1), ("CLUSTER", 1), ("AGE", 0)];
    ensure!(columns == wanted.map(|(name, priority)| (Some(name), Some(priority))), "{columns:?}");
    Ok(())
}

#[tokio::test]
async fn kubectl_explain_knows_every_key_of_the_overrides() -> Result<()> {
    let place = Place::new("explain").await?;
    for (path, words) in [
        (
            "jobrun.spec.overrides.monitoringConfiguration",
            vec![
                "cloudWatchMonitoringConfiguration",
                "containerLogRotationConfiguration",
                "managedLogs",
                "persistentAppUI",
                "s3MonitoringConfiguration",
            ],
        ),
        (
            "jobrun.spec.overrides.applicationConfiguration",
            vec!["classification", "configurations", "properties"],
        ),
        (
            "emrjr.spec.overrides.monitoringConfiguration.s3MonitoringConfiguration",
            vec!["encryptionKeyArn", "logUri", "-required-"],
        ),
        ("jobrun.spec.configurationOverrides", vec!["<string>", "YAML or JSON"]),
        ("emrvc.spec.containerProvider", vec!["type_", "id", "info"]),
        (
            "jobrun.status",
            vec!["failureReason", "stateDetails", "createdAt", "finishedAt", "attempts", "logs"],
        ),
    ] {
        // The API server publishes what explain reads a moment after it serves the kind.
        wait::eventually(PATIENCE, &format!("{path} should be explained"), async || {
            let text = place.kubectl(&["explain", path]).await?;
            for word in &words {
                ensure!(text.contains(word), "{word:?} is not in the explanation of {path}: {text}");
            }
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// What somebody pastes from a StartJobRun request: nested configurations and every monitoring member.
const PASTED: &str = r#"{
  "applicationConfiguration": [
    {"classification": "spark-defaults", "properties": {"spark.dynamicAllocation.enabled": "true"}},
    {"classification": "spark-env", "configurations": [
      {"classification": "export", "properties": {"JAVA_HOME": "/usr/lib/jvm"}, "configurations": [
        {"classification": "deeper", "properties": {"K": "V"}}
      ]}
    ]}
  ],
  "monitoringConfiguration": {
    "persistentAppUI": "ENABLED",
    "managedLogs": {"allowAWSToRetainLogs": "DISABLED", "encryptionKeyArn": "arn:aws:kms:us-west-2:123456789012:key/k"},
    "cloudWatchMonitoringConfiguration": {"logGroupName": "/emr", "logStreamNamePrefix": "etl"},
    "s3MonitoringConfiguration": {"logUri": "s3://bucket/logs", "encryptionKeyArn": "arn:aws:kms:us-west-2:123456789012:key/s"},
    "containerLogRotationConfiguration": {"rotationSize": "10MB", "maxFilesToKeep": 3}
  }
}"#;

#[tokio::test]
async fn overrides_pasted_from_a_request_arrive_at_aws_as_they_were_in_either_form() -> Result<()> {
    let env = TestEnv::new("pasted").await?;
    env.ready_cluster("vc").await?;
    let pasted: Value = serde_json::from_str(PASTED)?;
    env.apply(&job_run("typed", "vc", &format!("overrides: {pasted}"))).await?;
    let text = serde_json::to_string(&pasted.to_string())?;
    env.apply(&job_run("text", "vc", &format!("configurationOverrides: {text}"))).await?;
    for name in ["typed", "text"] {
        let run = env
            .until(env.job_runs(), name, "should be submitted", |run| objects::status(run, "id").is_some());
        let logs = run.await?.data["status"]["logs"].clone();
        let requests = env.simulator().requests_since(0);
        let sent = requests.iter().find(|r| r.operation == "StartJobRun" && r.body["name"] == name);
        let sent = &sent.context("a request")?.body["configurationOverrides"];
        ensure!(*sent == pasted, "{name}: {sent:#}");
        let (s3, prefix) = (logs["s3URI"].as_str(), logs["cloudWatchLogStreamPrefix"].as_str());
        ensure!(s3.is_some_and(|s3| s3.starts_with("s3://bucket/logs/")), "{logs}");
        ensure!(
            prefix.is_some_and(|prefix| prefix.starts_with("etl/")) && logs["cloudWatchLogGroup"] == "/emr",
            "{logs}"
        );
    }
    Ok(())
}

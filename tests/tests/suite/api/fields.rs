//! The definitions against the list of upstream's fields: none is missing, none has another type, and what we add is listed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
use kube::Api;
use serde_json::{Value, json};

use super::Place;

/// What upstream's conditions and resource metadata look like, in both kinds.
const SHARED_STATUS: &str = "
status.ackResourceMetadata object
status.ackResourceMetadata.arn string
status.ackResourceMetadata.ownerAccountID string required
status.ackResourceMetadata.partition string
status.ackResourceMetadata.region string required
status.conditions array
status.conditions[].lastTransitionTime string
status.conditions[].message string
status.conditions[].reason string
status.conditions[].status string required
status.conditions[].type string required
status.id string
";

/// JobRun as of upstream's 1.4.1, and its executionRoleRef of a commit later.
const UPSTREAM_JOB_RUN: &str = "
spec.configurationOverrides string
spec.executionRoleARN string
spec.executionRoleRef object
spec.executionRoleRef.from object
spec.executionRoleRef.from.name string
spec.executionRoleRef.from.namespace string
spec.jobDriver object
spec.jobDriver.sparkSubmitJobDriver object
spec.jobDriver.sparkSubmitJobDriver.entryPoint string
spec.jobDriver.sparkSubmitJobDriver.entryPointArguments array
spec.jobDriver.sparkSubmitJobDriver.entryPointArguments[] string
spec.jobDriver.sparkSubmitJobDriver.sparkSubmitParameters string
spec.name string
spec.releaseLabel string
spec.tags object
spec.tags{} string
spec.virtualClusterID string
spec.virtualClusterRef object
spec.virtualClusterRef.from object
spec.virtualClusterRef.from.name string
spec.virtualClusterRef.from.namespace string
status.state string
";

/// What we add to JobRun.
const OUR_JOB_RUN: &str = "
spec.jobDriver.sparkSQLJobDriver object
spec.jobDriver.sparkSQLJobDriver.entryPoint string
spec.jobDriver.sparkSQLJobDriver.sparkSQLParameters string
spec.overrides object
spec.overrides.applicationConfiguration array
spec.overrides.applicationConfiguration[].classification string required
spec.overrides.applicationConfiguration[].configurations array
spec.overrides.applicationConfiguration[].properties object
spec.overrides.applicationConfiguration[].properties{} string
spec.overrides.monitoringConfiguration object
spec.overrides.monitoringConfiguration.cloudWatchMonitoringConfiguration object
spec.overrides.monitoringConfiguration.cloudWatchMonitoringConfiguration.logGroupName string required
spec.overrides.monitoringConfiguration.cloudWatchMonitoringConfiguration.logStreamNamePrefix string
spec.overrides.monitoringConfiguration.containerLogRotationConfiguration object
spec.overrides.monitoringConfiguration.containerLogRotationConfiguration.maxFilesToKeep integer required
spec.overrides.monitoringConfiguration.containerLogRotationConfiguration.rotationSize string required
spec.overrides.monitoringConfiguration.managedLogs object
spec.overrides.monitoringConfiguration.managedLogs.allowAWSToRetainLogs string
spec.overrides.monitoringConfiguration.managedLogs.encryptionKeyArn string
spec.overrides.monitoringConfiguration.persistentAppUI string
spec.overrides.monitoringConfiguration.s3MonitoringConfiguration object
spec.overrides.monitoringConfiguration.s3MonitoringConfiguration.encryptionKeyArn string
spec.overrides.monitoringConfiguration.s3MonitoringConfiguration.logUri string required
spec.retryPolicyConfiguration object
spec.retryPolicyConfiguration.maxAttempts integer required
status.attempts integer
status.createdAt string
status.failureReason string
status.finishedAt string
status.lastHandledRetry string
status.logs object
status.logs.cloudWatchLogGroup string
status.logs.cloudWatchLogStreamPrefix string
status.logs.s3URI string
status.observedGeneration integer
status.refusals integer
status.stateDetails string
status.virtualClusterID string
";

/// VirtualCluster as of upstream's 1.4.1.
const UPSTREAM_VIRTUAL_CLUSTER: &str = "
spec.containerProvider object required
spec.containerProvider.id string
spec.containerProvider.info object
spec.containerProvider.info.eksInfo object
spec.containerProvider.info.eksInfo.namespace string
spec.containerProvider.type_ string
spec.name string required
spec.tags object
spec.tags{} string
";

/// What we add to VirtualCluster.
const OUR_VIRTUAL_CLUSTER: &str = "
spec.containerProvider.info.eksInfo.nodeLabel string
spec.schedulerConfiguration object
spec.schedulerConfiguration.maxConcurrentJobRuns integer
spec.schedulerConfiguration.maxInQueueJobRuns integer
spec.securityConfigurationID string
spec.sessionEnabled boolean
status.createdAt string
status.lastHandledRetry string
status.observedGeneration integer
status.refusals integer
status.schedulerStatus object
status.schedulerStatus.currentConcurrentJobRuns integer
status.schedulerStatus.currentInQueueJobRuns integer
status.state string
";

/// A field of a schema.
struct Field {
    path: String,
    line: String,
    description: String,
    named: bool,
}

/// Every field below `schema`, as `path type` and perhaps `required`.
fn fields(schema: &Value, path: &str, found: &mut Vec<Field>) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        field(inner, path, required.contains(&json!(name)), true, found);
    }
    let items = [("[]", &schema["items"]), ("{}", &schema["additionalProperties"])];
    for (mark, inner) in items.into_iter().filter(|(_, inner)| inner.is_object()) {
        field(inner, format!("{path}{mark}"), false, false, found);
    }
}

fn field(schema: &Value, path: String, required: bool, named: bool, found: &mut Vec<Field>) {
    let mut line = format!("{path} {}", schema["type"].as_str().unwrap_or("none"));
    if required {
        line.push_str(" required");
    }
    let description = schema["description"].as_str().unwrap_or_default().to_owned();
    fields(schema, &path, found);
    found.push(Field { path, line, description, named });
}

async fn served(place: &Place, plural: &str) -> Result<Vec<Field>> {
    let crds: Api<Crd> = Api::all(place.client.clone());
    let crd = serde_json::to_value(crds.get(&format!("{plural}.emrcontainers.services.k8s.aws")).await?)?;
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").context("a schema")?;
    let mut found = Vec::new();
    fields(schema, "", &mut found);
    Ok(found)
}

#[tokio::test]
async fn every_field_of_upstream_is_there_with_its_type_and_ours_are_listed() -> Result<()> {
    let place = Place::new("fields").await?;
    for (plural, upstream, ours) in [
        ("jobruns", UPSTREAM_JOB_RUN, OUR_JOB_RUN),
        ("virtualclusters", UPSTREAM_VIRTUAL_CLUSTER, OUR_VIRTUAL_CLUSTER),
    ] {
        let found = served(&place, plural).await?;
        let roots = ["apiVersion", "kind", "metadata", "spec", "status"];
        let is_told = |field: &&Field| {
            !roots.contains(&field.path.as_str()) && (field.named || !field.line.ends_with(" object"))
        };
        let mut there: BTreeMap<&str, &str> = found
            .iter()
            .filter(is_told)
            .map(|field| (field.line.as_str(), "there, and not listed"))
            .collect();
        let mut wrong = String::new();
        for line in [upstream, SHARED_STATUS, ours].concat().lines().filter(|line| !line.is_empty()) {
            if there.remove(line).is_none() {
                writeln!(wrong, "listed, and not there: {line}")?;
            }
        }
        for (line, problem) in there {
            writeln!(wrong, "{problem}: {line}")?;
        }
        ensure!(wrong.is_empty(), "{plural}:\n{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn every_field_is_described_in_sentences() -> Result<()> {
    let place = Place::new("descriptions").await?;
    for plural in ["jobruns", "virtualclusters"] {
        for field in served(&place, plural).await? {
            let of_kubernetes = ["apiVersion", "kind", "metadata"].contains(&field.path.as_str());
            if of_kubernetes || !field.named {
                continue;
            }
            let text = &field.description;
            let starts = text.starts_with(|c: char| c.is_uppercase() || c == '`');
            ensure!(starts && text.ends_with('.'), "{plural} {}: {text:?}", field.path);
            ensure!(!text.contains("  ") && !text.contains('['), "{plural} {}: {text:?}", field.path);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_with_every_field_of_upstream_is_taken_and_kept_under_strict_validation() -> Result<()> {
    let place = Place::new("upstream").await?;
    let run = json!({
        "configurationOverrides": "ApplicationConfiguration: null\nMonitoringConfiguration:\n  PersistentAppUI: ENABLED\n",
        "executionRoleARN": "arn:aws:iam::123456789012:role/job",
        "executionRoleRef": {"from": {"name": "role", "namespace": "iam"}},
        "jobDriver": {"sparkSubmitJobDriver": {
            "entryPoint": "local:///usr/lib/spark/examples/jars/spark-examples.jar",
            "entryPointArguments": ["10", ""],
            "sparkSubmitParameters": "--class org.apache.spark.examples.SparkPi --conf spark.executor.instances=2",
        }},
        "name": "pi",
        "releaseLabel": "emr-6.3.0-latest",
        "tags": {"team": "data", "empty": ""},
        "virtualClusterID": "0000000abc",
        "virtualClusterRef": {"from": {"name": "vc", "namespace": "other"}},
    });
    let cluster = json!({
        "containerProvider": {"id": "eks", "info": {"eksInfo": {"namespace": "spark"}}, "type_": "EKS"},
        "name": "vc",
        "tags": {"team": "data"},
    });
    for (kind, spec) in [("JobRun", run), ("VirtualCluster", cluster)] {
        let kept = place.apply(kind, "full", &spec).await?;
        ensure!(kept.data["spec"] == spec, "{kind}: {}", kept.data["spec"]);
        let condition = json!({
            "type": "ACK.ResourceSynced", "status": "True", "message": "m", "reason": "r",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        });
        let mut status = json!({
            "ackResourceMetadata": {
                "arn": "arn:x", "ownerAccountID": "123456789012", "partition": "aws", "region": "us-west-2",
            },
            // Upstream writes conditions of one type without reason, message or time.
            "conditions": [condition, {"type": "Ready", "status": "True"}],
            "id": "0001",
        });
        if kind == "JobRun" {
            status["state"] = json!("RUNNING");
        }
        place.set_status(kind, "full", &status).await?;
        let read = place.apply(kind, "full", &spec).await?;
        ensure!(read.data["status"] == status, "{kind}: {}", read.data["status"]);
    }
    Ok(())
}

//! Manifests as users of upstream have them are taken under strict validation, again and again, and reach the state that
//! they are for; what arrives at AWS is what upstream would send.

#![allow(clippy::indexing_slicing, reason = "a test may end by a panic, and JSON is best read by its keys")]

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tests::cluster::{PATIENCE, TestEnv};
use tests::control_plane::repository;
use tests::simulator::requests;
use tests::{objects, wait};

/// Says which state a manifest is for.
const EXPECT: &str = "expect";

fn folder() -> PathBuf {
    repository().join("tests/manifests")
}

/// Fills in what a shell would.
fn filled(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

/// The StartJobRun request of the run of that name.
fn request(env: &TestEnv, name: &str) -> Result<Value> {
    let of_run = requests(env.simulator(), "StartJobRun").into_iter().find(|r| r.body["name"] == name);
    Ok(of_run.with_context(|| format!("{name} should have been started"))?.body)
}

#[tokio::test]
async fn every_manifest_of_upstreams_users_is_taken_and_reaches_its_state() -> Result<()> {
    let env = TestEnv::new("wild").await?;
    let mut cluster = String::new();
    let mut applied = Vec::new();
    for path in objects::yaml_files(&folder().join("wild"))? {
        let text = filled(&std::fs::read_to_string(&path)?, &[("VIRTUAL_CLUSTER_ID", &cluster)]);
        ensure!(!text.contains("${"), "{} has a variable left", path.display());
        // Twice, as GitOps does: what is there already is no reason to complain.
        for _ in 0..2 {
            let arguments = ["apply", "--validate=strict", "--namespace", env.namespace(), "--filename=-"];
            env.plane()
                .run_kubectl(&arguments, Some(&text))
                .await
                .with_context(|| path.display().to_string())?;
        }
        for object in objects::parse(&text)? {
            let name = object.name_any();
            let expected =
                object.annotations().get(EXPECT).with_context(|| format!("{name} has no {EXPECT}"))?;
            let api = objects::api_for(env.client(), env.namespace(), &object).await?;
            let is = |object: &DynamicObject| objects::status(object, "state") == Some(expected);
            let reached = env.until(api, &name, &format!("should be {expected}"), is).await?;
            if name == "my-ack-vc" {
                objects::status(&reached, "id").context("an id")?.clone_into(&mut cluster);
            }
            applied.push(name);
        }
    }
    ensure!(applied.len() > 12, "{applied:?}");
    what_arrives_is_what_upstream_would_send(&env, &cluster)?;
    let aws = env.simulator().snapshot();
    let by_default = aws.virtual_clusters.iter().find(|cluster| cluster.name == "null-tags");
    ensure!(by_default.is_some_and(|cluster| cluster.namespace == "default"), "{by_default:?}");
    Ok(())
}

fn what_arrives_is_what_upstream_would_send(env: &TestEnv, cluster: &str) -> Result<()> {
    let overrides =
        |name: &str| Ok::<_, anyhow::Error>(request(env, name)?["configurationOverrides"].clone());
    let tutorial = request(env, "csv-parquet")?;
    let submit = &tutorial["jobDriver"]["sparkSubmitJobDriver"];
    ensure!(submit.get("entryPointArguments").is_none_or(|none| *none == json!([])), "{tutorial}");
    let monitoring = json!({
        "cloudWatchMonitoringConfiguration": {"logGroupName": "/emr-on-eks-logs/demo", "logStreamNamePrefix": "pi"},
        "s3MonitoringConfiguration": {"logUri": "s3://example-bucket/logs"},
    });
    ensure!(
        tutorial["configurationOverrides"] == json!({ "monitoringConfiguration": monitoring }),
        "{tutorial}"
    );
    let adopted = json!({
        "applicationConfiguration": [
            {"classification": "spark-defaults", "properties": {"spark.dynamicAllocation.enabled": "false"}},
        ],
        "monitoringConfiguration": {
            "containerLogRotationConfiguration": {"maxFilesToKeep": 5, "rotationSize": "10MB"},
            "managedLogs": {"allowAWSToRetainLogs": "ENABLED"}, "persistentAppUI": "ENABLED",
            "s3MonitoringConfiguration": {"logUri": "s3://example-bucket/logs"},
        },
    });
    ensure!(overrides("adopted")? == adopted, "{}", overrides("adopted")?);
    let unquoted = json!({
        "spark.executor.instances": "4", "spark.memory.fraction": "0.6", "spark.executor.cores": "2",
        "spark.speculation": "true", "spark.dynamicAllocation.enabled": "false", "spark.executor.memory": "4g",
    });
    let sent = overrides("unquoted")?["applicationConfiguration"][0]["properties"].clone();
    ensure!(sent == unquoted, "{sent}");
    ensure!(overrides("all-null")?.is_null(), "{}", overrides("all-null")?);
    let by_id = request(env, "citibike-spark-all")?;
    ensure!(by_id["tags"]["note"] == "a=b, c / d" && by_id["tags"]["cost:center"] == "42", "{by_id}");
    ensure!(
        by_id["configurationOverrides"]["monitoringConfiguration"]["persistentAppUI"] == "ENABLED",
        "{by_id}"
    );
    ensure!(env.the_job("citibike-spark-all")?.virtual_cluster_id == cluster);
    let benchmark = request(env, "karpenter-benchmark-4vcpu-7gb")?;
    let arguments = benchmark["jobDriver"]["sparkSubmitJobDriver"]["entryPointArguments"].as_array();
    let arguments = arguments.context("arguments")?;
    ensure!(arguments.len() == 9 && arguments[4] == "3000" && arguments[8] == "true", "{arguments:?}");
    let sql = request(env, "sparksql-test")?["jobDriver"].clone();
    let expected = json!({"sparkSqlJobDriver": {
        "entryPoint": "s3://example-bucket/app_code/job/set-of-hive-queries.sql",
        "sparkSqlParameters": "-hivevar S3Bucket=example-bucket -hivevar Key_ID=238",
    }});
    ensure!(sql == expected, "{sql}");
    Ok(())
}

#[tokio::test]
async fn the_workflows_of_upstreams_users_make_the_same_objects_by_the_same_rights() -> Result<()> {
    let env = TestEnv::new("wild-argo").await?;
    let values = [
        ("EMR_NAMESPACE", env.namespace()),
        ("EKS_CLUSTER_NAME", "ack-emr-eks"),
        ("RANDOM_ID", "x7k2p"),
        ("ACK_JOB_EXECUTION_ROLE_ARN", tests::manifest::ROLE),
        ("S3BUCKET", "example-bucket"),
    ];
    let text = std::fs::read_to_string(folder().join("argo-as-in-the-tutorial.yaml"))?;
    let (rights, workflows): (Vec<_>, Vec<_>) = objects::parse(&filled(&text, &values))?
        .into_iter()
        .partition(|object| object.types.as_ref().is_some_and(|types| types.kind != "Workflow"));
    for object in &rights {
        objects::apply_one(env.client(), env.namespace(), object).await?;
    }
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    env.apply(&account.to_string()).await?;
    let kubeconfig = env.plane().kubeconfig_for_service_account(env.namespace(), "default").await?;
    let templates =
        workflows.iter().filter_map(|workflow| workflow.data.pointer("/spec/templates")?.as_array());
    let manifests: Vec<&str> =
        templates.flatten().filter_map(|template| template["resource"]["manifest"].as_str()).collect();
    ensure!(manifests.len() == 5, "{manifests:?}");
    for manifest in manifests {
        // The rights may take a moment to be in force.
        let name = wait::eventually(PATIENCE, "the account should create it", async || {
            let mut kubectl = env.plane().kubectl();
            kubectl.env("KUBECONFIG", &kubeconfig).args(["--namespace", env.namespace()]);
            kubectl.args(["create", "--validate=strict", "-f", "-", "-o", "jsonpath={.metadata.name}"]);
            Ok(Some(tests::process::run(kubectl, Some(manifest)).await?))
        })
        .await?;
        if name == "my-ack-vc" {
            env.condition(env.virtual_clusters(), &name, "ACK.ResourceSynced", "True").await?;
        } else {
            // What the steps' conditions compare.
            env.job_run_in(&name, "COMPLETED").await?;
        }
    }
    let id = env.kubectl(&["get", "virtualcluster", "-o", "jsonpath={.items..status.id}"]).await?;
    ensure!(id == env.the_job("my-ack-jobrun-ridership-x7k2p")?.virtual_cluster_id, "{id}");
    Ok(())
}

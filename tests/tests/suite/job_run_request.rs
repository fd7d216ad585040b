//! What reaches AWS of a JobRun, and what comes back into its status.

use anyhow::{Context, Result, ensure};
use emr_simulator::{LoggedRequest, Rule};
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::manifest::{ROLE, job_run, virtual_cluster};
use tests::objects::status;
use tests::simulator::{failing, quick, requests};

/// The one StartJobRun of a run.
fn start(env: &TestEnv, name: &str) -> Result<LoggedRequest> {
    let of_run = |request: &LoggedRequest| {
        request.operation == "StartJobRun" && request.body.get("name").is_some_and(|sent| sent == name)
    };
    let mut requests: Vec<_> = env.simulator().requests_since(0).into_iter().filter(of_run).collect();
    ensure!(requests.len() == 1, "there are {} starts of {name}", requests.len());
    requests.pop().context("one start")
}

#[tokio::test]
async fn a_run_reaches_aws_as_it_is_described() -> Result<()> {
    let tags = ["--resource-tags", "team=data,ns=%K8S_NAMESPACE%,origin=default"];
    let env = TestEnv::with("request", quick(), |operator| operator.arguments(&tags)).await?;
    env.ready_cluster("vc").await?;
    let more = "
tags: {origin: mine, cost: '42'}
retryPolicyConfiguration: {maxAttempts: 3}
configurationOverrides: |
  ApplicationConfiguration:
  - Classification: spark-defaults
    Properties: {spark.executor.instances: 2, spark.dynamicAllocation.enabled: false}
  monitoringConfiguration:
    persistentAppUI: DISABLED
    s3MonitoringConfiguration: {logUri: s3://bucket/logs}";
    env.apply(&job_run("whole", "vc", more)).await?;
    let agents: Vec<_> =
        requests(env.simulator(), "CreateVirtualCluster").into_iter().map(|call| call.user_agent).collect();
    let ours = |agent: &Option<String>| {
        agent.as_deref().is_some_and(|agent| agent.contains("app/emrcontainers-operator"))
    };
    ensure!(!agents.is_empty() && agents.iter().all(ours), "{agents:?}");
    env.job_run_in("whole", "COMPLETED").await?;
    let uid = env.job_runs().get("whole").await?.metadata.uid.context("a uid")?;
    let request = start(&env, "whole")?;
    let token = request.client_token.clone().unwrap_or_default();
    ensure!(token.starts_with(&format!("{uid}-")) && token.ends_with("-1") && token.len() <= 64, "{token}");
    let expected = json!({
        "name": "whole",
        "clientToken": token,
        "executionRoleArn": ROLE,
        "releaseLabel": "emr-7.10.0-latest",
        "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://bucket/job.py"}},
        "retryPolicyConfiguration": {"maxAttempts": 3},
        "configurationOverrides": {
            "applicationConfiguration": [{
                "classification": "spark-defaults",
                "properties": {"spark.executor.instances": "2", "spark.dynamicAllocation.enabled": "false"},
            }],
            "monitoringConfiguration": {
                "persistentAppUI": "DISABLED",
                "s3MonitoringConfiguration": {"logUri": "s3://bucket/logs"},
            },
        },
        "tags": {"team": "data", "ns": env.namespace(), "origin": "mine", "cost": "42"},
    });
    ensure!(request.body == expected, "sent {:#}\nand should be {expected:#}", request.body);
    Ok(())
}

#[tokio::test]
async fn a_sql_driver_and_a_given_name_reach_aws() -> Result<()> {
    let env = TestEnv::new("request-sql").await?;
    let cluster = env.ready_cluster("vc").await?;
    let yaml = format!(
        "
apiVersion: emrcontainers.services.k8s.aws/v1alpha1
kind: JobRun
metadata: {{name: query}}
spec:
  name: nightly/report
  virtualClusterID: {cluster}
  executionRoleARN: {ROLE}
  releaseLabel: emr-7.10.0-latest
  jobDriver: {{sparkSQLJobDriver: {{entryPoint: s3://bucket/q.sql, sparkSQLParameters: -hivevar DAY=1}}}}
"
    );
    env.apply(&yaml).await?;
    env.job_run_in("query", "COMPLETED").await?;
    let request = start(&env, "nightly/report")?;
    ensure!(request.virtual_cluster_id.as_ref() == Some(&cluster));
    let driver = json!({"sparkSqlJobDriver": {"entryPoint": "s3://bucket/q.sql", "sparkSqlParameters": "-hivevar DAY=1"}});
    ensure!(request.body["jobDriver"] == driver, "{}", request.body);
    let tags = &request.body["tags"];
    ensure!(tags["services.k8s.aws/namespace"] == env.namespace(), "the default tags are {tags}");
    let version = tags["services.k8s.aws/controller-version"].as_str().unwrap_or_default();
    ensure!(version.starts_with("emrcontainers-v"), "the default tags are {tags}");
    Ok(())
}

#[tokio::test]
async fn what_aws_says_of_a_run_is_in_its_status() -> Result<()> {
    let env = TestEnv::new("status").await?;
    let tried = Rule { attempts: Some(2), ..failing("failed", "the driver ended with exit code 1") };
    env.simulator().add_outcome(tried)?;
    let cluster = env.ready_cluster("vc").await?;
    let more = "
retryPolicyConfiguration: {maxAttempts: 2}
overrides:
  monitoringConfiguration:
    s3MonitoringConfiguration: {logUri: s3://bucket/logs/}
    cloudWatchMonitoringConfiguration: {logGroupName: /emr/jobs, logStreamNamePrefix: nightly}";
    env.apply(&job_run("failed", "vc", more)).await?;
    let run = env.job_run_in("failed", "FAILED").await?;
    let job = env.the_job("failed")?;
    let place = format!("{cluster}/jobs/{}", job.id);
    ensure!(status(&run, "failureReason") == Some("USER_ERROR"));
    ensure!(status(&run, "stateDetails") == Some("the driver ended with exit code 1"));
    let second = |time: jiff::Timestamp| time.as_second();
    let told = |field: &str| -> Result<i64> {
        Ok(second(status(&run, field).with_context(|| format!("no {field}"))?.parse()?))
    };
    ensure!(told("createdAt")? == second(job.created_at));
    ensure!(told("finishedAt")? == second(job.finished_at.context("it has ended")?));
    ensure!(run.data.pointer("/status/attempts") == Some(&Value::from(2)), "{:?}", run.data);
    let logs = json!({
        "s3URI": format!("s3://bucket/logs/{place}/"),
        "cloudWatchLogGroup": "/emr/jobs",
        "cloudWatchLogStreamPrefix": format!("nightly/{place}"),
    });
    ensure!(run.data.pointer("/status/logs") == Some(&logs), "{:?}", run.data);
    let metadata = json!({
        "arn": format!("arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/{cluster}/jobruns/{}", job.id),
        "ownerAccountID": "123456789012",
        "region": "us-west-2",
        "partition": "aws",
    });
    ensure!(run.data.pointer("/status/ackResourceMetadata") == Some(&metadata), "{:?}", run.data);
    let failed = env.event("failed", "Failed").await?;
    ensure!(failed.note.contains("s3://bucket/logs/"), "the event should say where the logs are: {failed:?}");
    Ok(())
}

#[tokio::test]
async fn a_region_annotation_moves_cluster_and_run() -> Result<()> {
    let env = TestEnv::new("region").await?;
    let in_region = |yaml: String, name: &str| {
        let annotated =
            format!("metadata: {{name: {name}, annotations: {{services.k8s.aws/region: eu-west-1}}}}");
        yaml.replace(&format!("metadata: {{name: {name}}}"), &annotated)
    };
    env.apply(&in_region(virtual_cluster("vc", env.namespace()), "vc")).await?;
    env.condition(env.virtual_clusters(), "vc", "Ready", "True").await?;
    env.apply(&in_region(job_run("there", "vc", ""), "there")).await?;
    let run = env.job_run_in("there", "COMPLETED").await?;
    ensure!(env.the_job("there")?.region == "eu-west-1");
    ensure!(run.data.pointer("/status/ackResourceMetadata/region") == Some(&Value::from("eu-west-1")));
    let regions = env.simulator().requests_since(0);
    let of_runs = |request: &&LoggedRequest| request.operation.contains("JobRun");
    ensure!(regions.iter().filter(of_runs).all(|request| request.region == "eu-west-1"));
    env.delete(env.job_runs(), "there").await
}

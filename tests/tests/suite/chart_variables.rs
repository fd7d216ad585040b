//! The chart gives its values as variables by upstream's names, and others can take their place.

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use serde_json::json;
use tests::chart::{self, helm};
use tests::cluster::PATIENCE;
use tests::control_plane::shared;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::{objects, simulator, wait};

use super::chart::in_state;
use super::chart_values::{process, render};

#[tokio::test]
async fn a_variable_that_is_asked_for_replaces_the_value_of_its_name_and_may_refer_to_others() -> Result<()> {
    let plane = shared().await?;
    let values = json!({
        "aws": {"region": "us-west-2", "endpoint_url": "https://one", "identity_endpoint_url": "https://one"},
        "installScope": "namespace", "watchSelectors": "a=one",
        "reconcile": {"resourceResyncPeriods": {"VirtualCluster": 60}, "resourceMaxConcurrentSyncs": {"JobRun": 9}},
    });
    let path = plane.scratch().join("replaced-values.json");
    std::fs::write(&path, values.to_string())?;
    let replaced = [
        ("AWS_REGION", "eu-west-1", "--aws-region"),
        ("AWS_ENDPOINT_URL", "https://two", "--aws-endpoint-url"),
        ("AWS_IDENTITY_ENDPOINT_URL", "https://two", "--aws-identity-endpoint-url"),
        ("ACK_WATCH_NAMESPACE", "two", "--watch-namespace"),
        ("ACK_WATCH_SELECTORS", "a=two", "--watch-selectors"),
        ("RECONCILE_RESOURCES", "JobRun", "--reconcile-resources"),
        ("DELETION_POLICY", "retain", "--deletion-policy"),
        ("LEADER_ELECTION_NAMESPACE", "two", "--leader-election-namespace"),
        ("ACK_LOG_LEVEL", "warn", "--log-level"),
        ("ACK_RESOURCE_TAGS", "a=two,b=$(ACK_WATCH_NAMESPACE)", "--resource-tags"),
        ("RECONCILE_DEFAULT_RESYNC_SECONDS", "2", "--reconcile-default-resync-seconds"),
        (
            "RECONCILE_RESOURCE_RESYNC_SECONDS_VIRTUALCLUSTER",
            "VirtualCluster=2",
            "--reconcile-resource-resync-seconds",
        ),
        ("RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS", "2", "--reconcile-default-max-concurrent-syncs"),
        (
            "RECONCILE_RESOURCE_MAX_CONCURRENT_SYNCS_JOBRUN",
            "JobRun=2",
            "--reconcile-resource-max-concurrent-syncs",
        ),
        ("FEATURE_GATES", "ResourceAdoption=false", "--feature-gates"),
        ("AWS_QUOTAS", "off", "--aws-quotas"),
        ("EVENT_QUEUE_URL", "https://queue", "--event-queue-url"),
    ];
    for (name, value, flag) in replaced {
        let extra = format!("deployment.extraEnvVars={}", json!([{"name": name, "value": value}]));
        let objects = render(plane, &["--values", &path.display().to_string(), "--set-json", &extra]).await?;
        let value = value.replace("$(ACK_WATCH_NAMESPACE)", "home");
        let (variables, arguments) = process(&objects)?;
        ensure!(arguments.contains(&format!("{flag}={value}")), "{name}: {arguments:?}");
        ensure!(variables.get(name) == Some(&value), "{variables:?}");
        // A server-side apply refuses two of a name.
        ensure!(format!("{objects:?}").matches(&format!("\"name\": String(\"{name}\")")).count() == 1);
    }
    let extra = json!([{"name": "ACK_LOG_LEVEL", "value": "$(ACK_LOG_LEVEL)"}, {"name": "NEW", "value": "$(POD_NAME)"}]);
    let objects = render(plane, &["--set-json", &format!("deployment.extraEnvVars={extra}")]).await?;
    let (variables, arguments) = process(&objects)?;
    ensure!(arguments.contains(&"--log-level=info".to_owned()), "what it refers to is kept: {arguments:?}");
    ensure!(variables["NEW"] == "the pod's metadata.name", "{variables:?}");
    Ok(())
}

#[tokio::test]
async fn a_deletion_policy_that_is_given_as_a_variable_is_that_of_the_operator() -> Result<()> {
    let plane = shared().await?;
    plane.install_crds().await?;
    let client = plane.client()?;
    let namespace = Namespace::create(&client, "chart-variable").await?;
    let (release, chart) = (namespace.name(), chart::folder().display().to_string());
    let values = ["--set", "aws.region=us-west-2,installScope=namespace", "--set-json"];
    let extra = [r#"deployment.extraEnvVars=[{"name":"DELETION_POLICY","value":"retain"}]"#];
    helm(plane, &[&["install", release, &chart, "--namespace", release][..], &values, &extra].concat())
        .await?;
    let manifests = chart::manifests(plane, release, release).await?;
    let aws = emr_simulator::start(simulator::quick()).await?;
    aws.add_outcome(simulator::endless("*"))?;
    let operator = chart::operator(plane, &manifests, aws.url(), "pod").await?.start(plane.scratch()).await?;
    objects::apply(&client, release, &virtual_cluster("vc", release)).await?;
    objects::apply(&client, release, &job_run("run", "vc", "")).await?;
    in_state(&client, release, "run", "RUNNING").await?;
    let runs = objects::ours(&client, release, "JobRun");
    runs.delete("run", &DeleteParams::default()).await?;
    wait::deleted(runs, "run", PATIENCE).await?;
    let jobs = aws.snapshot().job_runs;
    ensure!(jobs.iter().all(|job| job.state == "RUNNING") && jobs.len() == 1, "{jobs:?}");
    ensure!(operator.terminate().await? == 0);
    Ok(())
}

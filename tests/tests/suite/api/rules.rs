//! What the API server refuses by itself, so that kubectl answers at once.

#![allow(clippy::indexing_slicing, reason = "a test may end by a panic, and JSON is best read by its keys")]

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Place;

/// Upstream's message; Flux recognises an immutable field by it.
const IMMUTABLE: &str = "Value is immutable once set";

/// A spec with another field.
fn with(spec: &Value, field: &str, value: &Value) -> Value {
    let mut spec = spec.clone();
    spec[field] = value.clone();
    spec
}

fn submit(entry_point: &str) -> Value {
    json!({"sparkSubmitJobDriver": {"entryPoint": entry_point}})
}

fn cluster() -> Value {
    json!({"name": "vc", "containerProvider": {"id": "eks", "type_": "EKS", "info": {"eksInfo": {"namespace": "spark"}}}})
}

#[tokio::test]
async fn what_a_run_was_submitted_with_is_immutable_once_set() -> Result<()> {
    let place = Place::new("immutable").await?;
    let base = json!({"virtualClusterRef": {"from": {"name": "vc"}}});
    let arn = |name: &str| json!(format!("arn:aws:iam::123456789012:role/{name}"));
    let fields = [
        ("configurationOverrides", json!("{}"), json!("ApplicationConfiguration: null")),
        ("executionRoleARN", arn("one"), arn("other")),
        ("jobDriver", submit("s3://b/one.py"), submit("s3://b/other.py")),
        (
            "jobDriver",
            submit("s3://b/one.py"),
            json!({"sparkSQLJobDriver": {"entryPoint": "s3://b/one.sql"}}),
        ),
        ("name", json!("one"), json!("other")),
        ("overrides", json!({}), json!({"monitoringConfiguration": {"persistentAppUI": "DISABLED"}})),
        ("releaseLabel", json!("emr-7.10.0-latest"), json!("emr-7.9.0-latest")),
        ("retryPolicyConfiguration", json!({"maxAttempts": 2}), json!({"maxAttempts": 3})),
        ("virtualClusterID", json!("abc1"), json!("abc2")),
    ];
    for (index, (field, before, after)) in fields.iter().enumerate() {
        let name = format!("run-{index}");
        let (unset, set) = (&base, with(&base, field, before));
        place.apply("JobRun", &name, unset).await?;
        // Setting, clearing and setting anew pass, as upstream: the rule compares two values.
        place.apply("JobRun", &name, &set).await?;
        place.apply("JobRun", &name, unset).await?;
        place.apply("JobRun", &name, &set).await?;
        let changed = with(&base, field, after);
        place.refuses("JobRun", &name, &changed, &[&format!("spec.{field}"), IMMUTABLE]).await?;
        // A change elsewhere passes; references are mutable, as upstream.
        let elsewhere =
            with(&set, "virtualClusterRef", &json!({"from": {"name": "other", "namespace": "n"}}));
        place.apply("JobRun", &name, &elsewhere).await?;
    }
    Ok(())
}

#[tokio::test]
async fn overrides_are_immutable_also_inside_open_configurations() -> Result<()> {
    let place = Place::new("open").await?;
    let nested = |value: &str| {
        let inner = json!({"classification": "export", "properties": {"K": value}});
        let open = json!([{"classification": "spark-env", "configurations": [{"classification": "x", "configurations": [inner]}]}]);
        json!({"overrides": {"applicationConfiguration": open}})
    };
    place.apply("JobRun", "run", &nested("one")).await?;
    place.refuses("JobRun", "run", &nested("other"), &["spec.overrides", IMMUTABLE]).await?;
    let kept = place.apply("JobRun", "run", &nested("one")).await?;
    ensure!(kept.data["spec"] == nested("one"), "{}", kept.data["spec"]);
    Ok(())
}

#[tokio::test]
async fn overrides_in_both_forms_and_two_or_no_drivers_are_refused() -> Result<()> {
    let place = Place::new("one-of").await?;
    let forms = json!({"configurationOverrides": "{}", "overrides": {}});
    let message = "set configurationOverrides (text) or overrides (typed), not both";
    place.refuses("JobRun", "forms", &forms, &[message]).await?;
    place.apply("JobRun", "forms", &json!({"configurationOverrides": "{}"})).await?;
    place.refuses("JobRun", "forms", &forms, &[message]).await?;
    let message = "set exactly one of sparkSubmitJobDriver and sparkSQLJobDriver";
    let both = json!({"sparkSubmitJobDriver": {"entryPoint": "x"}, "sparkSQLJobDriver": {"entryPoint": "x"}});
    for driver in [both, json!({})] {
        place
            .refuses("JobRun", "drivers", &json!({"jobDriver": driver}), &["spec.jobDriver", message])
            .await?;
    }
    // A null is no driver.
    let none = json!({"jobDriver": {"sparkSubmitJobDriver": null}});
    let error =
        place.create("JobRun", "drivers", &none).await.err().context("a null should not be a driver")?;
    ensure!(format!("{error:#}").contains(message), "{error:#}");
    let one = json!({"sparkSQLJobDriver": {"entryPoint": "x"}, "sparkSubmitJobDriver": null});
    place.create("JobRun", "drivers", &json!({"jobDriver": one})).await?;
    Ok(())
}

#[tokio::test]
async fn d16_what_aws_cannot_change_of_a_cluster_is_refused_instead_of_ignored() -> Result<()> {
    let place = Place::new("d16").await?;
    let full =
        with(&with(&cluster(), "securityConfigurationID", &json!("sec1")), "sessionEnabled", &json!(true));
    place.apply("VirtualCluster", "full", &full).await?;
    let provider = |id: &str, namespace: &str, label: Option<&str>| {
        let mut eks = json!({ "namespace": namespace });
        if let Some(label) = label {
            eks["nodeLabel"] = json!(label);
        }
        json!({"id": id, "type_": "EKS", "info": {"eksInfo": eks}})
    };
    for (field, after) in [
        ("name", json!("other")),
        ("containerProvider", provider("other", "spark", None)),
        ("containerProvider", provider("eks", "other", None)),
        ("containerProvider", provider("eks", "spark", Some("gpu"))),
        ("securityConfigurationID", json!("sec2")),
        ("sessionEnabled", json!(false)),
    ] {
        let changed = with(&full, field, &after);
        place.refuses("VirtualCluster", "full", &changed, &[&format!("spec.{field}"), IMMUTABLE]).await?;
    }
    // Until the cluster exists, a field may still be added; afterwards neither added nor taken away.
    place.apply("VirtualCluster", "vc", &cluster()).await?;
    place.apply("VirtualCluster", "vc", &with(&cluster(), "sessionEnabled", &json!(true))).await?;
    place.set_status("VirtualCluster", "vc", &json!({"id": "abc"})).await?;
    let added =
        with(&with(&cluster(), "sessionEnabled", &json!(true)), "securityConfigurationID", &json!("sec1"));
    let words = ["spec.securityConfigurationID", IMMUTABLE];
    place.refuses("VirtualCluster", "vc", &added, &words).await?;
    place.refuses("VirtualCluster", "vc", &cluster(), &["spec.sessionEnabled", IMMUTABLE]).await?;
    Ok(())
}

#[tokio::test]
async fn what_aws_can_change_of_a_cluster_can_be_edited_and_its_bounds_are_aws_own() -> Result<()> {
    let place = Place::new("mutable").await?;
    let spec = |scheduler: Value, tags: Value| {
        with(&with(&cluster(), "schedulerConfiguration", &scheduler), "tags", &tags)
    };
    place.apply("VirtualCluster", "vc", &cluster()).await?;
    place.set_status("VirtualCluster", "vc", &json!({"id": "abc"})).await?;
    for (scheduler, tags) in [
        (json!({"maxConcurrentJobRuns": 10}), json!({"team": "one"})),
        (json!({"maxConcurrentJobRuns": 100_000, "maxInQueueJobRuns": 0}), json!({"team": "other", "x": ""})),
        // Server-side apply makes null of what is emptied.
        (json!({}), json!({})),
        (json!({"maxInQueueJobRuns": 5}), json!({"team": "one"})),
    ] {
        place.apply("VirtualCluster", "vc", &spec(scheduler, tags)).await?;
    }
    place.apply("VirtualCluster", "vc", &cluster()).await?;
    let attempts = json!({"retryPolicyConfiguration": {"maxAttempts": 1_000_000}});
    place.apply("JobRun", "run", &attempts).await?;
    let unheard = json!({"monitoringConfiguration": {"persistentAppUI": "SOMETIMES"}});
    place.apply("JobRun", "enum", &json!({ "overrides": unheard })).await?;
    Ok(())
}

#[tokio::test]
async fn the_tags_of_a_run_can_be_edited_in_every_way_that_manifests_are() -> Result<()> {
    let place = Place::new("run-tags").await?;
    let spec = |tags: &Value| json!({"releaseLabel": "emr-7.10.0-latest", "tags": tags});
    place.apply("JobRun", "run", &spec(&json!({"team": "one"}))).await?;
    place.set_status("JobRun", "run", &json!({"id": "abc", "state": "RUNNING"})).await?;
    for tags in [json!({"team": "two", "more": ""}), json!({}), Value::Null, json!({"team": "three"})] {
        let kept = place.apply("JobRun", "run", &spec(&tags)).await?;
        let is_there = kept.data["spec"]["tags"]["team"].is_string();
        ensure!(is_there == tags["team"].is_string(), "{tags}: {}", kept.data["spec"]);
    }
    place.apply("JobRun", "run", &json!({"releaseLabel": "emr-7.10.0-latest"})).await.map(drop)
}

#[tokio::test]
async fn nulls_that_manifests_in_the_wild_carry_are_taken() -> Result<()> {
    let place = Place::new("nulls").await?;
    let text = "ApplicationConfiguration: null\nMonitoringConfiguration:\n  CloudWatchMonitoringConfiguration: null\n";
    let driver = |more: Value| {
        let mut submit = json!({"entryPoint": "s3://b/job.py", "entryPointArguments": null});
        if let (Some(submit), Some(more)) = (submit.as_object_mut(), more.as_object()) {
            submit.extend(more.clone());
        }
        json!({ "sparkSubmitJobDriver": submit })
    };
    let spec = json!({
        "configurationOverrides": text, "overrides": null, "tags": null, "name": null, "virtualClusterID": null,
        "jobDriver": driver(json!({"sparkSubmitParameters": null})),
    });
    let kept = json!({ "configurationOverrides": text, "jobDriver": driver(json!({})), "tags": null });
    let created = place.create("JobRun", "created", &spec).await?;
    ensure!(created.data["spec"] == kept, "{}", created.data["spec"]);
    // Server-side apply doesn't drop nulls; arguments and tags that were left empty pass there too, and again.
    for _ in 0..2 {
        let applied = place.apply("JobRun", "applied", &kept).await?;
        ensure!(applied.data["spec"] == kept, "{}", applied.data["spec"]);
    }
    // kubectl's client-side apply, twice.
    let manifest = serde_json::to_string(&super::object("JobRun", "kubectl", &spec)?)?;
    for _ in 0..2 {
        let arguments = ["apply", "--namespace", place.namespace.name(), "--filename=-"];
        place.plane.run_kubectl(&arguments, Some(&manifest)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_can_never_be_right_is_refused_at_once() -> Result<()> {
    let place = Place::new("patterns").await?;
    let eks = |field: &str, value: &str| {
        let mut spec = cluster();
        spec["containerProvider"]["info"]["eksInfo"][field] = json!(value);
        spec
    };
    let sql = json!({"sparkSQLJobDriver": {"entryPoint": "x".repeat(257)}});
    for (kind, spec, field) in [
        ("JobRun", json!({"name": "word count"}), "spec.name"),
        ("JobRun", json!({"name": "x".repeat(65)}), "spec.name"),
        ("JobRun", json!({"executionRoleARN": "emr-job-execution-role"}), "spec.executionRoleARN"),
        (
            "JobRun",
            json!({"executionRoleARN": "arn:aws:iam::123456789012:user/somebody"}),
            "spec.executionRoleARN",
        ),
        ("JobRun", json!({"releaseLabel": "emr 7.10.0 latest"}), "spec.releaseLabel"),
        ("JobRun", json!({"virtualClusterID": "ABC123"}), "spec.virtualClusterID"),
        ("JobRun", json!({"jobDriver": submit("")}), "spec.jobDriver.sparkSubmitJobDriver.entryPoint"),
        ("JobRun", json!({"jobDriver": sql}), "spec.jobDriver.sparkSQLJobDriver.entryPoint"),
        ("JobRun", json!({"tags": {"a": 1}}), "spec.tags.a"),
        ("JobRun", json!({"overrides": {"applicationConfiguration": [{}]}}), "classification"),
        ("VirtualCluster", with(&cluster(), "name", &json!("my cluster")), "spec.name"),
        (
            "VirtualCluster",
            with(&cluster(), "securityConfigurationID", &json!("SEC")),
            "spec.securityConfigurationID",
        ),
        ("VirtualCluster", eks("namespace", "Team_A"), "spec.containerProvider.info.eksInfo.namespace"),
        ("VirtualCluster", eks("nodeLabel", "a b"), "spec.containerProvider.info.eksInfo.nodeLabel"),
        ("VirtualCluster", json!({"name": "vc"}), "spec.containerProvider"),
        ("VirtualCluster", json!({"containerProvider": {}}), "spec.name"),
    ] {
        place.refuses(kind, "bad", &spec, &[field]).await?;
    }
    // What looks odd and is right passes: other partitions, paths, a role of a service.
    for (index, arn) in [
        "arn:aws-cn:iam::123456789012:role/emr",
        "arn:aws-us-gov:iam::123456789012:role/team/spark/emr+job=1,x.@-",
    ]
    .iter()
    .enumerate()
    {
        place.apply("JobRun", &format!("good-{index}"), &json!({"executionRoleARN": arn})).await?;
    }
    let name = json!({"name": "team/a#1.2_x-y", "virtualClusterID": "0000000305e814v0bpt"});
    place.apply("JobRun", "good-name", &name).await?;
    Ok(())
}

#[tokio::test]
async fn a_misspelt_field_is_named() -> Result<()> {
    let place = Place::new("strict").await?;
    let monitoring = |field: &str| json!({"overrides": {"monitoringConfiguration": {field: {}}}});
    let mut container = cluster();
    container["containerProvider"]["type"] = json!("EKS");
    for (kind, spec, field) in [
        ("JobRun", json!({"executionRoleArn": "x"}), "spec.executionRoleArn"),
        ("JobRun", json!({"virtualClusterId": "x"}), "spec.virtualClusterId"),
        ("JobRun", json!({"virtualClusterRef": {"name": "vc"}}), "spec.virtualClusterRef.name"),
        (
            "JobRun",
            json!({"jobDriver": {"sparkSubmitJobDriver": {"entrypoint": "x"}}}),
            "spec.jobDriver.sparkSubmitJobDriver.entrypoint",
        ),
        (
            "JobRun",
            json!({"jobDriver": {"sparkSqlJobDriver": {"entryPoint": "x"}}}),
            "spec.jobDriver.sparkSqlJobDriver",
        ),
        (
            "JobRun",
            monitoring("S3MonitoringConfiguration"),
            "spec.overrides.monitoringConfiguration.S3MonitoringConfiguration",
        ),
        (
            "JobRun",
            json!({"retryPolicyConfiguration": {"maxAttempts": 1, "attempts": 1}}),
            "spec.retryPolicyConfiguration.attempts",
        ),
        ("VirtualCluster", container, "spec.containerProvider.type"),
        ("VirtualCluster", with(&cluster(), "schedulerConfig", &json!({})), "spec.schedulerConfig"),
    ] {
        // Server-side apply names the place as a path from the root, another update names it as a field.
        let said = place.refusal(kind, "bad", &spec).await?;
        ensure!(
            said.contains(&format!(".{field}")) || said.contains(&format!("\"{field}\"")),
            "{field}: {said}"
        );
    }
    Ok(())
}

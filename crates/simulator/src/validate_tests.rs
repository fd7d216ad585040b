//! Each constraint by a request that breaks it.

use serde_json::{Value, json};

use crate::validate;

fn start(patch: &Value) -> String {
    let mut request = json!({
        "name": "run", "clientToken": "t",
        "executionRoleArn": "arn:aws:iam::111111111111:role/path/x", "releaseLabel": "emr-7.10.0-latest",
        "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "local:///x.py"}},
    });
    merge(&mut request, patch);
    let request = serde_json::from_value(request).unwrap();
    validate::start_job_run(&request).err().map(|error| error.message).unwrap_or_default()
}

fn create(patch: &Value) -> String {
    let mut request = json!({
        "name": "vc", "clientToken": "t",
        "containerProvider": {"type": "EKS", "id": "eks", "info": {"eksInfo": {"namespace": "ns"}}},
    });
    merge(&mut request, patch);
    let request = serde_json::from_value(request).unwrap();
    validate::create_virtual_cluster(&request).err().map(|error| error.message).unwrap_or_default()
}

fn merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch.as_object()) {
        (Some(target), Some(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        _ => *target = patch.clone(),
    }
}

#[test]
fn good_starts_pass() {
    for patch in [
        json!({}),
        json!({"name": null}),
        json!({"releaseLabel": "emr-spark-8.1.0"}),
        json!({"releaseLabel": "emr-7.9.0-spark-rapids-latest"}),
        json!({"executionRoleArn": "arn:aws-cn:iam::111111111111:role/x"}),
        json!({"unknown": {"member": 1}}),
        json!({"jobDriver": {"sparkSubmitJobDriver": null, "sparkSqlJobDriver": {"entryPoint": "s3://x.sql"}}}),
        json!({"tags": {"a": ""}}),
        json!({"retryPolicyConfiguration": {"maxAttempts": 2_147_483_647}}),
        json!({"configurationOverrides": {
            "applicationConfiguration": [{"classification": "c", "configurations": [{"classification": "d"}]}],
            "monitoringConfiguration": {
                "persistentAppUI": "DISABLED",
                "managedLogs": {"allowAWSToRetainLogs": "ENABLED"},
                "cloudWatchMonitoringConfiguration": {"logGroupName": "/a"},
                "s3MonitoringConfiguration": {"logUri": "s3://b"},
                "containerLogRotationConfiguration": {"rotationSize": "2.5GB", "maxFilesToKeep": 50},
            },
        }}),
    ] {
        assert_eq!(start(&patch), "", "{patch}");
    }
}

#[test]
fn bad_starts_are_told_what_is_wrong() {
    let many: serde_json::Map<_, _> = (0..51).map(|n| (format!("k{n}"), json!("v"))).collect();
    for (patch, expected) in [
        (json!({"name": "bad name!!"}), "Value 'bad name!!' at 'name' failed"),
        (
            json!({"name": "x".repeat(65)}),
            "'name' failed to satisfy constraint: Member must have length less than or equal to 64",
        ),
        (json!({"name": ""}), "length greater than or equal to 1"),
        (json!({"clientToken": null}), "Value null at 'clientToken'"),
        (json!({"executionRoleArn": "arn:aws:iam::1:role/x"}), "'executionRoleArn'"),
        (json!({"executionRoleArn": "arn:aws:iam::111111111111:user/xxx"}), "'executionRoleArn'"),
        (json!({"executionRoleArn": "arn:aws:iam::111111111111:role/"}), "'executionRoleArn'"),
        (json!({"executionRoleArn": null}), "Value null at 'executionRoleArn'"),
        (json!({"releaseLabel": "emr 7"}), "'releaseLabel'"),
        (json!({"jobDriver": null}), "Value null at 'jobDriver'"),
        (json!({"jobDriver": {"sparkSubmitJobDriver": null}}), "Exactly one job driver"),
        (json!({"jobDriver": {"sparkSqlJobDriver": {"entryPoint": "x"}}}), "Exactly one job driver"),
        (
            json!({"jobDriver": {"sparkSubmitJobDriver": {"entryPoint": null}}}),
            "sparkSubmitJobDriver.entryPoint",
        ),
        (json!({"tags": {"AWS:x": "v"}}), "reserved"),
        (json!({"tags": {"": "v"}}), "'tags'"),
        (json!({"tags": many}), "'tags'"),
        (json!({"retryPolicyConfiguration": {}}), "maxAttempts"),
        (
            json!({"retryPolicyConfiguration": {"maxAttempts": 0}}),
            "parameter value of maxAttempts is invalid",
        ),
        (
            json!({"configurationOverrides": {"applicationConfiguration": [{"properties": {}}]}}),
            "applicationConfiguration.1.member.classification",
        ),
        (
            json!({"configurationOverrides": {"applicationConfiguration": [{"classification": "a", "configurations": [{}]}]}}),
            "1.member.configurations.1.member.classification",
        ),
        (
            json!({"configurationOverrides": {"monitoringConfiguration": {"persistentAppUI": "ON"}}}),
            "enum value set: [ENABLED, DISABLED]",
        ),
        (
            json!({"configurationOverrides": {"monitoringConfiguration": {"s3MonitoringConfiguration": {}}}}),
            "logUri",
        ),
        (
            json!({"configurationOverrides": {"monitoringConfiguration": {"cloudWatchMonitoringConfiguration": {}}}}),
            "logGroupName",
        ),
        (
            json!({"configurationOverrides": {"monitoringConfiguration": {"containerLogRotationConfiguration": {"rotationSize": "2X", "maxFilesToKeep": 51}}}}),
            "3 validation errors",
        ),
    ] {
        assert!(start(&patch).contains(expected), "{patch}: {}", start(&patch));
    }
    let secret = json!({"jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "hush".repeat(100)}}});
    assert!(!start(&secret).is_empty() && !start(&secret).contains("hush"));
}

#[test]
fn virtual_clusters_are_checked() {
    assert_eq!(create(&json!({"sessionEnabled": true, "tags": {"a": "b"}})), "");
    for (patch, expected) in [
        (json!({"name": null}), "Value null at 'name'"),
        (json!({"containerProvider": {"type": "ECS"}}), "enum value set: [EKS]"),
        (json!({"containerProvider": {"id": "-x"}}), "'containerProvider.id'"),
        (
            json!({"containerProvider": {"info": null}}),
            "Value null at 'containerProvider.info.eksInfo.namespace'",
        ),
        (json!({"containerProvider": {"info": {"eksInfo": {"namespace": "A"}}}}), "eksInfo.namespace"),
        (json!({"containerProvider": {"info": {"eksInfo": {"nodeLabel": "a-"}}}}), "eksInfo.nodeLabel"),
        (json!({"schedulerConfiguration": {"maxInQueueJobRuns": 0}}), "greater than or equal to 1"),
        (json!({"schedulerConfiguration": {"maxConcurrentJobRuns": 1001}}), "less than or equal to 1000"),
        (json!({"tags": {"aws:x": ""}}), "reserved"),
    ] {
        assert!(create(&patch).contains(expected), "{patch}: {}", create(&patch));
    }
}

//! Every form that overrides come in, and what is refused.

use super::*;

const CAMEL: &str = r#"{"applicationConfiguration":[{"classification":"spark-defaults",
        "properties":{"spark.executor.instances":2,"a":0.5,"b":true,"c":"x","gone":null},
        "configurations":[{"classification":"export","properties":{"K":"V"}}]}],
        "monitoringConfiguration":{"persistentAppUI":"DISABLED",
        "managedLogs":{"allowAWSToRetainLogs":"ENABLED","encryptionKeyArn":"arn:aws:kms:r:1:key/k"},
        "cloudWatchMonitoringConfiguration":{"logGroupName":"/g"},
        "s3MonitoringConfiguration":{"logUri":"s3://b/l","encryptionKeyArn":"arn:aws:kms:r:1:key/s"},
        "containerLogRotationConfiguration":{"rotationSize":"10MB","maxFilesToKeep":3}}}"#;

const PASCAL: &str = r#"
ApplicationConfiguration:
- Classification: spark-defaults
  Properties: {spark.executor.instances: 2, a: 0.5, b: true, c: x, gone: null}
  Configurations:
  - Classification: export
    Properties: {K: V}
    Configurations: null
MonitoringConfiguration:
  PersistentAppUI: DISABLED
  ManagedLogs: {AllowAWSToRetainLogs: ENABLED, EncryptionKeyARN: "arn:aws:kms:r:1:key/k"}
  CloudWatchMonitoringConfiguration: {LogGroupName: /g, LogStreamNamePrefix: null}
  S3MonitoringConfiguration: {LogURI: "s3://b/l", EncryptionKeyARN: "arn:aws:kms:r:1:key/s"}
  ContainerLogRotationConfiguration: {RotationSize: 10MB, MaxFilesToKeep: 3}
"#;

#[test]
fn every_member_is_read_in_every_spelling_and_form() {
    let camel = from_text(CAMEL).unwrap();
    assert_eq!(from_text(PASCAL).unwrap(), camel);
    let typed: Overrides = serde_json::from_str(
        &CAMEL
            .replace(":2,\"a\":0.5,\"b\":true", ":\"2\",\"a\":\"0.5\",\"b\":\"true\"")
            .replace(",\"gone\":null", ""),
    )
    .unwrap();
    assert_eq!(from_typed(&typed).unwrap(), camel);
    let spark = &camel.application_configuration[0];
    assert_eq!(spark.properties["spark.executor.instances"], "2");
    assert_eq!(spark.properties["a"], "0.5");
    assert_eq!(spark.properties["b"], "true");
    assert!(!spark.properties.contains_key("gone"));
    assert_eq!(spark.configurations[0].properties["K"], "V");
    let monitoring = camel.monitoring_configuration.unwrap();
    assert_eq!(monitoring.container_log_rotation_configuration.unwrap().max_files_to_keep, 3);
    assert_eq!(
        monitoring.cloud_watch_monitoring_configuration,
        Some(CloudWatchMonitoringConfiguration { log_group_name: "/g".into(), log_stream_name_prefix: None })
    );
    assert_eq!(
        monitoring.managed_logs,
        Some(ManagedLogs {
            allow_aws_to_retain_logs: Some("ENABLED".into()),
            encryption_key_arn: Some("arn:aws:kms:r:1:key/k".into()),
        })
    );
}

#[test]
fn numbers_and_switches_under_properties_become_the_texts_that_upstream_makes_of_them() {
    for (given, text) in [
        ("2", "2"),
        ("-7", "-7"),
        ("9223372036854775808", "9223372036854775808"),
        ("0.6", "0.6"),
        ("2.0", "2"),
        ("-0.25", "-0.25"),
        ("100000.5", "100000.5"),
        ("1e6", "1e+06"),
        ("1234567.5", "1.2345675e+06"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("0.123456789", "0.12345679"),
        ("true", "true"),
        ("False", "false"),
        ("\"0.50\"", "0.50"),
        ("10m", "10m"),
        ("0x10g", "0x10g"),
    ] {
        let yaml = format!("applicationConfiguration: [{{classification: a, properties: {{k: {given}}}}}]");
        let read = from_text(&yaml).unwrap();
        assert_eq!(read.application_configuration[0].properties["k"], text, "{given}");
    }
}

#[test]
fn what_is_null_or_empty_is_absent() {
    for text in ["", "null", "{}", "ApplicationConfiguration: null\nMonitoringConfiguration: null"] {
        assert_eq!(from_text(text), Ok(ConfigurationOverrides::default()), "{text:?}");
    }
}

#[test]
fn bad_input_names_the_place_and_the_remedy() {
    for (text, place, remedy) in [
        ("{", "spec.configurationOverrides", "neither YAML nor JSON"),
        ("- a", "spec.configurationOverrides", "is a list; it has to be an object"),
        ("monitoring: {}", "spec.configurationOverrides.monitoring", "known are applicationConfiguration"),
        (
            "monitoringConfiguration: {s3MonitoringConfiguration: {logUrl: x}}",
            "spec.configurationOverrides.monitoringConfiguration.s3MonitoringConfiguration.logUrl",
            "known are encryptionKeyArn, logUri",
        ),
        (
            "monitoringConfiguration: {s3MonitoringConfiguration: {}}",
            "spec.configurationOverrides.monitoringConfiguration.s3MonitoringConfiguration.logUri",
            "is missing",
        ),
        (
            "applicationConfiguration: [{classification: a, properties: {k: [1]}}]",
            "spec.configurationOverrides.applicationConfiguration[0].properties.k",
            "is a list",
        ),
        ("applicationConfiguration: [], ApplicationConfiguration: []", "spec.configurationOverrides", ""),
        (
            "monitoringConfiguration: {containerLogRotationConfiguration: {rotationSize: 1K, maxFilesToKeep: x}}",
            "spec.configurationOverrides.monitoringConfiguration.containerLogRotationConfiguration.maxFilesToKeep",
            "whole number",
        ),
    ] {
        let error = from_text(text).unwrap_err();
        assert!(error.path.starts_with(place), "{text:?}: {error}");
        assert!(error.problem.contains(remedy), "{text:?}: {error}");
    }
}

#[test]
fn a_message_repeats_no_more_of_a_text_than_fits_a_status() {
    let long = "é".repeat(1000);
    for text in [
        format!("{long}: 1"),
        format!("applicationConfiguration: [{{classification: a, properties: {{{long}: [1]}}}}]"),
        format!("monitoringConfiguration: {{containerLogRotationConfiguration: {{maxFilesToKeep: {long}}}}}"),
        format!("a{long}: 1\na{long}: 1"),
    ] {
        let error = from_text(&text).unwrap_err().to_string();
        assert!(error.len() < 1024, "{} bytes", error.len());
        assert!(error.contains('…'), "{error}");
    }
}

#[test]
fn nesting_ends_with_an_error_not_a_crash() {
    let nested = |levels: usize| {
        let mut text = "{\"classification\":\"x\"}".to_owned();
        for _ in 0..levels {
            text = format!("{{\"classification\":\"x\",\"configurations\":[{text}]}}");
        }
        from_text(&format!("{{\"applicationConfiguration\":[{text}]}}"))
    };
    assert!(nested(MAX_DEPTH).is_ok());
    let error = nested(MAX_DEPTH + 1).unwrap_err();
    assert!(error.problem.contains("nest deeper"), "{error}");
}

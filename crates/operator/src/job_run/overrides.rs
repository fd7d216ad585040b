//! Reads `configurationOverrides` (text) and `overrides` (typed) into the request's member. Pure.
//!
//! Keys are matched whatever their case, because manifests in the wild carry the spelling of Go structs, of Step
//! Functions and of the AWS CLI. An unknown key is refused with its path: dropped silently, a misspelt log
//! destination is found out after the run. Invariant: the same object in either form gives the same request.

use std::borrow::Cow;
use std::collections::BTreeMap;

use emrcontainers_api::overrides::{
    CloudWatchMonitoringConfiguration, Configuration, ConfigurationOverrides,
    ContainerLogRotationConfiguration, ManagedLogs, MonitoringConfiguration, Overrides,
    S3MonitoringConfiguration,
};
use serde_json::{Map, Value};

/// How deep `configurations` may nest; the service's own examples have two levels.
const MAX_DEPTH: usize = 16;

/// How much of the user's text a message repeats: it goes into a status, several times over.
const QUOTED_CHARS: usize = 80;

/// Why overrides can't be read: names the place, and what would be right there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct OverridesError {
    /// Path from the spec to the offending place.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

type Result<T> = std::result::Result<T, OverridesError>;

fn problem<T>(path: &str, problem: impl Into<String>) -> Result<T> {
    Err(OverridesError { path: path.to_owned(), problem: problem.into() })
}

/// The beginning of a text that may be of any length.
fn quoted(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// Reads the text of `spec.configurationOverrides`: YAML or JSON.
pub fn from_text(text: &str) -> Result<ConfigurationOverrides> {
    let path = "spec.configurationOverrides";
    match serde_saphyr::from_str::<Value>(text) {
        Ok(value) => overrides(&value, path),
        Err(error) => {
            let first = error.to_string();
            let first = quoted(first.lines().next().unwrap_or_default());
            problem(
                path,
                format!("is neither YAML nor JSON ({first}); write the object as in a StartJobRun request"),
            )
        }
    }
}

/// Reads the typed `spec.overrides`, whose inner `configurations` are open.
pub fn from_typed(typed: &Overrides) -> Result<ConfigurationOverrides> {
    let path = "spec.overrides";
    match serde_json::to_value(typed) {
        Ok(value) => overrides(&value, path),
        Err(error) => problem(path, error.to_string()),
    }
}

fn overrides(value: &Value, path: &str) -> Result<ConfigurationOverrides> {
    if value.is_null() {
        return Ok(ConfigurationOverrides::default());
    }
    let object = Object::read(value, path, &["applicationConfiguration", "monitoringConfiguration"])?;
    Ok(ConfigurationOverrides {
        application_configuration: object.list("applicationConfiguration", 0, configuration)?,
        monitoring_configuration: object.member("monitoringConfiguration", monitoring)?,
    })
}

fn configuration(value: &Value, path: &str, depth: usize) -> Result<Configuration> {
    if depth > MAX_DEPTH {
        return problem(path, format!("configurations nest deeper than {MAX_DEPTH} levels"));
    }
    let object = Object::read(value, path, &["classification", "properties", "configurations"])?;
    Ok(Configuration {
        classification: object.required("classification")?,
        properties: object.member("properties", properties)?.unwrap_or_default(),
        configurations: object.list("configurations", depth + 1, configuration)?,
    })
}

fn properties(value: &Value, path: &str) -> Result<BTreeMap<String, String>> {
    let Value::Object(members) = value else {
        return problem(path, format!("is {}; it has to be an object of settings", kind(value)));
    };
    let mut properties = BTreeMap::new();
    for (key, value) in members {
        if let Some(text) = scalar(value, &format!("{path}.{}", quoted(key)))? {
            properties.insert(key.clone(), text);
        }
    }
    Ok(properties)
}

fn monitoring(value: &Value, path: &str) -> Result<MonitoringConfiguration> {
    let object = Object::read(
        value,
        path,
        &[
            "cloudWatchMonitoringConfiguration",
            "containerLogRotationConfiguration",
            "managedLogs",
            "persistentAppUI",
            "s3MonitoringConfiguration",
        ],
    )?;
    Ok(MonitoringConfiguration {
        cloud_watch_monitoring_configuration: object
            .member("cloudWatchMonitoringConfiguration", cloud_watch)?,
        container_log_rotation_configuration: object.member("containerLogRotationConfiguration", rotation)?,
        managed_logs: object.member("managedLogs", managed_logs)?,
        persistent_app_ui: object.text("persistentAppUI")?,
        s3_monitoring_configuration: object.member("s3MonitoringConfiguration", s3)?,
    })
}

fn cloud_watch(value: &Value, path: &str) -> Result<CloudWatchMonitoringConfiguration> {
    let object = Object::read(value, path, &["logGroupName", "logStreamNamePrefix"])?;
    Ok(CloudWatchMonitoringConfiguration {
        log_group_name: object.required("logGroupName")?,
        log_stream_name_prefix: object.text("logStreamNamePrefix")?,
    })
}

fn s3(value: &Value, path: &str) -> Result<S3MonitoringConfiguration> {
    let object = Object::read(value, path, &["encryptionKeyArn", "logUri"])?;
    Ok(S3MonitoringConfiguration {
        encryption_key_arn: object.text("encryptionKeyArn")?,
        log_uri: object.required("logUri")?,
    })
}

fn managed_logs(value: &Value, path: &str) -> Result<ManagedLogs> {
    let object = Object::read(value, path, &["allowAWSToRetainLogs", "encryptionKeyArn"])?;
    Ok(ManagedLogs {
        allow_aws_to_retain_logs: object.text("allowAWSToRetainLogs")?,
        encryption_key_arn: object.text("encryptionKeyArn")?,
    })
}

fn rotation(value: &Value, path: &str) -> Result<ContainerLogRotationConfiguration> {
    let object = Object::read(value, path, &["maxFilesToKeep", "rotationSize"])?;
    let files = object.required("maxFilesToKeep")?;
    let Ok(max_files_to_keep) = files.parse() else {
        let files = quoted(&files);
        return problem(&object.path("maxFilesToKeep"), format!("is {files:?}; it has to be a whole number"));
    };
    Ok(ContainerLogRotationConfiguration {
        max_files_to_keep,
        rotation_size: object.required("rotationSize")?,
    })
}

/// An object whose keys are among the known ones, whatever their case.
struct Object<'a> {
    members: BTreeMap<&'static str, &'a Value>,
    path: &'a str,
}

impl<'a> Object<'a> {
    fn read(value: &'a Value, path: &'a str, known: &[&'static str]) -> Result<Self> {
        let Value::Object(given) = value else {
            return problem(
                path,
                format!("is {}; it has to be an object with {}", kind(value), known.join(", ")),
            );
        };
        Ok(Self { members: Self::members(given, path, known)?, path })
    }

    fn members(
        given: &'a Map<String, Value>,
        path: &str,
        known: &[&'static str],
    ) -> Result<BTreeMap<&'static str, &'a Value>> {
        let mut members = BTreeMap::new();
        for (key, value) in given {
            let Some(name) = known.iter().find(|name| name.eq_ignore_ascii_case(key)) else {
                return problem(
                    &format!("{path}.{}", quoted(key)),
                    format!("is not known; known are {}", known.join(", ")),
                );
            };
            if members.insert(*name, value).is_some() {
                return problem(
                    &format!("{path}.{}", quoted(key)),
                    "is given twice, in different case; keep one",
                );
            }
        }
        members.retain(|_, value| !value.is_null());
        Ok(members)
    }

    fn path(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn member<T>(&self, name: &str, read: impl Fn(&Value, &str) -> Result<T>) -> Result<Option<T>> {
        self.members.get(name).map(|value| read(value, &self.path(name))).transpose()
    }

    fn list<T>(
        &self,
        name: &str,
        depth: usize,
        read: impl Fn(&Value, &str, usize) -> Result<T>,
    ) -> Result<Vec<T>> {
        let Some(value) = self.members.get(name) else { return Ok(Vec::new()) };
        let Value::Array(items) = value else {
            return problem(&self.path(name), format!("is {}; it has to be a list", kind(value)));
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| read(item, &format!("{}.{name}[{index}]", self.path), depth))
            .collect()
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        match self.members.get(name) {
            Some(value) => scalar(value, &self.path(name)),
            None => Ok(None),
        }
    }

    fn required(&self, name: &str) -> Result<String> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => problem(&self.path(name), "is missing"),
        }
    }
}

/// A scalar as text, the way upstream turns numbers and booleans into strings; `None` for null.
fn scalar(value: &Value, path: &str) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Number(number) => Ok(Some(match number.as_f64().filter(|_| number.is_f64()) {
            Some(fraction) => fraction_as_upstream(fraction),
            None => number.to_string(),
        })),
        Value::Array(_) | Value::Object(_) => {
            problem(path, format!("is {}; it has to be a text", kind(value)))
        }
    }
}

/// A number with a fraction, or too great for a whole one, as upstream writes it: the fewest digits that tell a `float32`,
/// `2` for 2.0, and an exponent of two digits or more from a million on and below a ten-thousandth.
fn fraction_as_upstream(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "upstream does the same, and jobs got to know it")]
    let number = number as f32;
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(-4..6) | Err(_) => number.to_string(),
        Ok(exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
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
            Some(CloudWatchMonitoringConfiguration {
                log_group_name: "/g".into(),
                log_stream_name_prefix: None
            })
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
            let yaml =
                format!("applicationConfiguration: [{{classification: a, properties: {{k: {given}}}}}]");
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
            (
                "monitoring: {}",
                "spec.configurationOverrides.monitoring",
                "known are applicationConfiguration",
            ),
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
            format!(
                "monitoringConfiguration: {{containerLogRotationConfiguration: {{maxFilesToKeep: {long}}}}}"
            ),
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
}

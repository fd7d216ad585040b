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
#[path = "overrides_tests.rs"]
mod tests;

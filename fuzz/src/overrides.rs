//! `spec.configurationOverrides`: whatever is in the text, it is either refused with a place and a reason that fit a
//! status, or it means what it says, in every form and spelling.

use emrcontainers_api::overrides::{Configuration, ConfigurationOverrides, Overrides};
use emrcontainers_operator::job_run::overrides::{OverridesError, from_text, from_typed};
use serde_json::{Map, Value, json};

/// What a message may add to the text that it quotes from the input.
const LONGEST_MESSAGE_BYTES: usize = 2048;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = from_text(text);
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        json_means_the_same_as_text(text, &value, &read);
        typed_means_the_same(&value);
    }
    match read {
        Ok(overrides) => accepted(&overrides),
        Err(error) => refused(&error),
    }
}

fn refused(error: &OverridesError) {
    assert!(error.path.starts_with("spec."), "no path: {error}");
    assert!(!error.problem.is_empty(), "no reason: {error}");
    assert!(error.to_string().len() <= LONGEST_MESSAGE_BYTES, "{} bytes", error.to_string().len());
}

/// What was accepted is accepted again as JSON, in any case, and typed: with the same result.
fn accepted(overrides: &ConfigurationOverrides) {
    let value = to_json(overrides);
    assert_eq!(from_text(&write(&value)).as_ref(), Ok(overrides), "as JSON");
    assert_eq!(from_text(&write(&shout(&value))).as_ref(), Ok(overrides), "in capitals");
    let typed: Overrides = serde_json::from_value(value).unwrap();
    assert_eq!(from_typed(&typed).as_ref(), Ok(overrides), "typed");
}

/// JSON is read as JSON is written, whoever wrote it and however it is escaped.
fn json_means_the_same_as_text(
    text: &str,
    value: &Value,
    read: &Result<ConfigurationOverrides, OverridesError>,
) {
    let canonical = from_text(&write(value));
    match (read, &canonical) {
        (Ok(read), Ok(canonical)) => assert_eq!(read, canonical, "{text}"),
        // A key that is given twice is lost in the value; characters that don't print are escaped in it.
        (Err(error), Ok(_)) => {
            let known = ["duplicate", "unexpected character"].iter().any(|why| error.problem.contains(why));
            assert!(known, "{text}: {error}");
        }
        (Ok(_), Err(error)) => panic!("{text}: accepted, and refused in canonical form: {error}"),
        (Err(_), Err(_)) => {}
    }
}

fn typed_means_the_same(value: &Value) {
    let Ok(typed) = serde_json::from_value::<Overrides>(value.clone()) else { return };
    match from_typed(&typed) {
        Ok(read) => accepted(&read),
        Err(error) => refused(&error),
    }
}

/// JSON whose characters all print: YAML takes no others unless they are escaped, also where JSON does.
fn write(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        match u32::from(character) {
            code @ (0x7f..=0x9f | 0xfeff | 0xfffe | 0xffff) => {
                let _ = std::fmt::Write::write_fmt(&mut text, format_args!("\\u{code:04x}"));
            }
            _ => text.push(character),
        }
    }
    text
}

fn to_json(overrides: &ConfigurationOverrides) -> Value {
    let mut members = Map::new();
    if !overrides.application_configuration.is_empty() {
        let list = overrides.application_configuration.iter().map(configuration).collect();
        members.insert("applicationConfiguration".to_owned(), Value::Array(list));
    }
    if let Some(monitoring) = &overrides.monitoring_configuration {
        members.insert("monitoringConfiguration".to_owned(), json!(monitoring));
    }
    Value::Object(members)
}

fn configuration(configuration: &Configuration) -> Value {
    let Configuration { classification, properties, configurations } = configuration;
    let inner: Vec<Value> = configurations.iter().map(self::configuration).collect();
    json!({ "classification": classification, "properties": properties, "configurations": inner })
}

/// Every key in capitals but those of properties, which are the user's.
fn shout(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let value = if key == "properties" { value.clone() } else { shout(value) };
                (key.to_uppercase(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(shout).collect(),
        scalar => scalar.clone(),
    }
}

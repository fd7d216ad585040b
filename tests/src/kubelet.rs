//! A container's process as the kubelet starts it: its variables, and its arguments with `$(VARIABLES)` filled in.
//!
//! Must not: know what is started. Invariant: of two variables with one name the last counts, and a reference sees those
//! before it; what isn't known stays as it is, and `$$` is a dollar sign.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The variables of a container and its arguments; `field` gives what is taken from the pod, by its path.
pub fn process(
    container: &Value,
    field: impl Fn(&str) -> Option<String>,
) -> Result<(BTreeMap<String, String>, Vec<String>)> {
    let mut variables = BTreeMap::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().context("a variable has no name")?;
        let value = match variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str) {
            Some(path) => {
                let value = field(path);
                value.with_context(|| format!("{name} comes from {path}, which isn't filled in here"))?
            }
            None if variable.get("valueFrom").is_some() => bail!("{name} comes from elsewhere"),
            None => expand(variable["value"].as_str().unwrap_or_default(), &variables),
        };
        variables.insert(name.to_owned(), value);
    }
    let arguments: Vec<String> = serde_json::from_value(container["args"].clone()).context("no arguments")?;
    let arguments = arguments.iter().map(|argument| expand(argument, &variables)).collect();
    Ok((variables, arguments))
}

/// Fills in `$(NAME)`.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let known = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        let known = known.and_then(|(name, after)| Some((variables.get(name)?, after)));
        rest = if let Some((value, after)) = known {
            expanded.push_str(value);
            after
        } else {
            expanded.push('$');
            after.strip_prefix('$').unwrap_or(after)
        };
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_filled_in_where_they_are_known_and_the_last_of_a_name_counts() {
        let container = json!({
            "env": [
                {"name": "A", "value": "one"},
                {"name": "HOME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "A", "value": "$(A),$(HOME),$(LATER)"},
                {"name": "LATER"},
            ],
            "args": ["--a=$(A)", "--b=$(UNKNOWN)$$(A)$", "--c=$(LATER)"],
        });
        let (variables, arguments) = process(&container, |_| Some("x".to_owned())).unwrap();
        assert_eq!(variables["A"], "one,x,$(LATER)");
        assert_eq!(arguments, ["--a=one,x,$(LATER)", "--b=$(UNKNOWN)$(A)$", "--c="]);
        assert!(process(&container, |_| None).unwrap_err().to_string().contains("metadata.namespace"));
    }
}

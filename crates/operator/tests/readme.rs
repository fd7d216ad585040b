//! The tables of the README and the reference are the flags and metrics that there are.

#![allow(clippy::unwrap_used, reason = "a test that finds no table has to fail")]

use emrcontainers_operator::{args, metrics};

const README: &str = include_str!("../../../README.md");
const REFERENCE: &str = include_str!("../../../docs/reference.md");

/// The rows of the table between two marks, without its head.
fn rows(document: &str, mark: &str) -> Vec<String> {
    let from = document.split_once(&format!("<!-- {mark} -->")).unwrap().1;
    let table = from.split_once(&format!("<!-- /{mark} -->")).unwrap().0;
    table.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
}

#[test]
fn the_table_of_flags_is_the_command_line() {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}` ") };
    let command = args::command();
    let expected: Vec<_> = command
        .get_arguments()
        .filter(|flag| !flag.is_hide_set() && !matches!(flag.get_id().as_str(), "help" | "version"))
        .map(|flag| {
            let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let default = flag.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let (variable, default) = (code(&variable), code(&default.unwrap_or_default()));
            format!("| `--{}` | {variable}| {default}| {help} |", flag.get_long().unwrap())
        })
        .collect();
    assert_eq!(rows(README, "flags"), expected);
}

#[test]
fn the_table_of_metrics_is_the_registry() {
    let expected: Vec<_> = metrics::describe()
        .iter()
        .map(|metric| format!("| `{}` | {} | {} |", metric.name, metric.type_, metric.help))
        .collect();
    assert_eq!(rows(REFERENCE, "metrics"), expected);
}

#[test]
fn the_readme_is_short_enough_to_be_read() {
    assert!(README.lines().count() <= 200, "move what is long into docs/");
}

//! The README's tables of flags and metrics are what the program has.

use std::fmt::Write;

use emrcontainers_operator::{args, metrics};

const README: &str = include_str!("../../../README.md");

/// The lines of a table between two marks, without its head.
fn rows(section: &str) -> Vec<&'static str> {
    let (begin, end) = (format!("<!-- {section} -->"), format!("<!-- /{section} -->"));
    let text = README.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(table, _)| table);
    text.unwrap_or_else(|| panic!("the README has no section {begin}"))
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .collect()
}

#[test]
fn the_table_of_flags_is_that_of_the_program() {
    let command = args::command();
    let visible = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let rows_of_program: Vec<String> = visible
        .filter_map(|flag| {
            let mut row = format!("| `--{}` |", flag.get_long()?);
            let mut cell = |text: Option<String>| {
                let text = text.filter(|text| !text.is_empty()).map(|text| format!(" `{text}`"));
                write!(row, "{} |", text.unwrap_or_default()).unwrap();
            };
            cell(flag.get_env().map(|name| name.to_string_lossy().into_owned()));
            let defaults: Vec<_> =
                flag.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            cell(Some(defaults.join(",")));
            write!(row, " {} |", flag.get_help()?.to_string().trim_end_matches('.')).unwrap();
            Some(row)
        })
        .collect();
    assert_eq!(rows("flags"), rows_of_program);
}

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    let rows_of_program: Vec<String> = metrics::describe()
        .into_iter()
        .map(|metric| format!("| `{}` | {} | {} |", metric.name, metric.type_, metric.help))
        .collect();
    assert_eq!(rows("metrics"), rows_of_program);
}

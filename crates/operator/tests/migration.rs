//! `docs/migration.md` goes through upstream's contract; each test that it names has to exist, and each defect to have one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops with a message")]

use std::collections::BTreeSet;
use std::path::Path;

/// The names of all tests in the Rust files below a folder.
fn tests_below(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = |after: &str| -> String {
                after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
            };
            for attribute in ["#[test]", "#[tokio::test"] {
                let marked = text.split(attribute).skip(1).filter_map(|after| after.split_once("fn "));
                names.extend(marked.map(|(_, after)| name(after)));
            }
        }
    }
}

/// The tests that the last cell of a line of a table names.
fn tests_of(line: &str) -> Vec<String> {
    let cell = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    let quoted = cell.split('`').skip(1).step_by(2);
    let is_name =
        |text: &&str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let last = |text: &str| text.rsplit("::").next().unwrap_or_default().to_owned();
    quoted.map(last).filter(|text| is_name(&text.as_str()) && text.matches('_').count() >= 3).collect()
}

#[test]
fn every_test_that_the_contract_s_table_names_exists_and_every_defect_has_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut there = BTreeSet::new();
    for folder in ["crates", "tests", "fuzz"] {
        tests_below(&root.join(folder), &mut there);
    }
    let text = std::fs::read_to_string(root.join("docs/migration.md")).unwrap();
    let (_, contract) = text.split_once("## The contract, line by line").unwrap();
    let named: Vec<String> =
        contract.lines().filter(|line| line.starts_with('|')).flat_map(tests_of).collect();
    assert!(named.len() > 100, "only {} tests are named", named.len());
    let missing: Vec<_> = named.iter().filter(|name| !there.contains(*name)).collect();
    assert!(missing.is_empty(), "there are no such tests: {missing:?}");
    for defect in 1..=26 {
        let start = format!("d{defect}_");
        assert!(there.iter().any(|name| name.starts_with(&start)), "no test is named after D{defect}");
        assert!(contract.contains(&format!("| D{defect} |")), "the table has no line for D{defect}");
    }
}

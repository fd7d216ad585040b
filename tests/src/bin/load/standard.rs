//! The standard set of loads, so that two controllers or two versions are compared by the same figures.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::options::{Command, Scenario};
use crate::{expect, report, run};

/// Runs the set one after the other, each on a new control plane, and writes its report into `directory`.
pub(crate) async fn run(command: &Command, base: &Scenario, directory: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
    let mut all = Vec::new();
    let mut complaints = Vec::new();
    for (name, scenario) in set(base) {
        let figures = run::measure(name, command, &scenario).await.with_context(|| format!("in {name}"))?;
        println!("{}", report::text(&figures));
        report::write_json(&figures, &directory.join(format!("{name}.json")))?;
        complaints.extend(expect::complaints(&figures, &scenario));
        all.push(figures);
        // After each, so that an interrupted set has shown what it measured.
        let readme = directory.join("README.md");
        fs::write(&readme, report::markdown(&all))
            .with_context(|| format!("can't write {}", readme.display()))?;
    }
    println!("written to {}", directory.join("README.md").display());
    Ok(complaints)
}

/// Names and loads. What the base says of clusters, namespaces, AWS and the controller holds for all.
fn set(base: &Scenario) -> Vec<(&'static str, Scenario)> {
    let of = |runs: usize, rate: Option<f64>| Scenario {
        runs,
        rate,
        kill_every: None,
        lose: 0.0,
        long: false,
        json: None,
        ..base.clone()
    };
    vec![
        ("1000-at-once", of(1000, None)),
        ("10-a-second", Scenario { idle_seconds: 0, ..of(600, Some(10.0)) }),
        ("5000-finished", of(5000, None)),
        ("10000-finished", of(10_000, None)),
        // Old enough that a controller may look less often.
        ("2000-long", Scenario { long: true, settle: Duration::from_mins(1), ..of(2000, None) }),
        (
            // Slow enough for a dozen kills while runs are being started.
            "kills-and-losses",
            Scenario {
                kill_every: Some(Duration::from_secs(3)),
                lose: 0.02,
                idle_seconds: 0,
                ..of(1000, Some(25.0))
            },
        ),
    ]
}

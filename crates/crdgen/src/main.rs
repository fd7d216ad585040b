//! Prints the CustomResourceDefinitions as YAML, sorted by name: `manifests/crds` and the chart hold its output.
//!
//! `crdgen` prints all of them; `crdgen FOLDER` writes a file for each into the folder.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1);
    let mut out = std::io::stdout().lock();
    for crd in emrcontainers_api::crds() {
        // Through a JSON value, whose keys are sorted, so that the output never depends on field order.
        let value = serde_json::to_value(&crd).context("encoding a definition")?;
        let yaml = serde_saphyr::to_string(&value).context("writing YAML")?;
        if let Some(folder) = &folder {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            let path = Path::new(folder).join(name);
            std::fs::write(&path, yaml).with_context(|| format!("writing {}", path.display()))?;
        } else {
            writeln!(out, "---\n{yaml}")?;
        }
    }
    Ok(())
}

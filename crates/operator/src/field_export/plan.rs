//! Decides the next step for a FieldExport. Pure: no I/O, no clock.
//!
//! Invariants: an export of another controller is never written; nothing is exported before the annotation names the
//! target; the annotation goes, and with it the finalizer, only after the target has been vacated, or been forbidden
//! for long.

use emrcontainers_api::field_export::{FieldExport, FieldExportOutputType};
use emrcontainers_api::{FIELD_EXPORT_FINALIZER, GROUP, annotations};
use kube::ResourceExt;

use super::target::Target;
use crate::scope::role_map::Map;

/// A kind whose fields are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// A run.
    JobRun,
    /// A virtual cluster.
    VirtualCluster,
}

/// The object whose field is exported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Its kind.
    pub kind: SourceKind,
    /// Its namespace, which is the export's.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose field.
    pub source: Source,
    /// Which field.
    pub path: String,
    /// Where to.
    pub target: Target,
    /// Under which key.
    pub key: String,
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// It can't be exported as it is described.
    Refuse(String),
    /// Name the target in the annotation, and put the finalizer on.
    Claim(Target),
    /// The target is no longer wanted: take the key out, and then the annotation off.
    Vacate(Target),
    /// Evaluate the path, and see to it that the target has its value.
    Export(Wanted),
    /// The object goes: take the key out of the target, if there may be one, and let go.
    Release(Option<Target>),
}

/// Where exports may not go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Whether they may leave their namespace.
    pub cross_namespace: bool,
    /// The namespace of the config maps that say which roles act for whom.
    pub system_namespace: &'a str,
}

/// The next step.
pub fn plan(export: &FieldExport, bounds: Bounds<'_>) -> Step {
    let exported_to = exported_to(export);
    if export.metadata.deletion_timestamp.is_some() {
        let releases = has_finalizer(export) && (is_ours(export) || exported_to.is_some());
        return if releases { Step::Release(exported_to) } else { Step::Rest };
    }
    let target = Target::of(export);
    let claimed = exported_to.is_some();
    match exported_to {
        Some(former) if !is_ours(export) || former != target => return Step::Vacate(former),
        None if !is_ours(export) => return Step::Rest,
        Some(_) | None => {}
    }
    let source = match (source(export), reachable(export, &target, bounds)) {
        (Ok(source), Ok(())) => source,
        (Err(why), _) | (_, Err(why)) => return Step::Refuse(why),
    };
    if !claimed || !has_finalizer(export) {
        return Step::Claim(target);
    }
    Step::Export(Wanted { source, path: export.spec.from.path.clone(), key: key(export), target })
}

/// Whether the export is of an object of ours.
pub fn is_ours(export: &FieldExport) -> bool {
    export.spec.from.resource.group == GROUP
}

/// The target that may have a key of the export.
pub fn exported_to(export: &FieldExport) -> Option<Target> {
    Target::parse(export.annotations().get(annotations::EXPORTED_TO)?)
}

/// The object whose field is exported.
pub fn source(export: &FieldExport) -> Result<Source, String> {
    let resource = &export.spec.from.resource;
    let kind = match resource.kind.as_str() {
        kind if kind.eq_ignore_ascii_case("JobRun") => SourceKind::JobRun,
        kind if kind.eq_ignore_ascii_case("VirtualCluster") => SourceKind::VirtualCluster,
        other => {
            return Err(format!(
                "spec.from.resource.kind: {other:?} is not known; set JobRun or VirtualCluster"
            ));
        }
    };
    if resource.name.is_empty() {
        return Err("spec.from.resource.name: is empty; set the name of the object".to_owned());
    }
    Ok(Source { kind, namespace: export.namespace().unwrap_or_default(), name: resource.name.clone() })
}

/// Whether the export may write into its target.
fn reachable(export: &FieldExport, target: &Target, bounds: Bounds<'_>) -> Result<(), String> {
    if target.name.is_empty() {
        return Err("spec.to.name: is empty; set the name of the config map or secret".to_owned());
    }
    let is_role_map = target.kind == FieldExportOutputType::ConfigMap
        && target.namespace == bounds.system_namespace
        && Map::ALL.iter().any(|map| map.name() == target.name);
    if is_role_map {
        // Whoever may write an export would choose the roles that act for others.
        return Err(format!(
            "spec.to: configmap {} in namespace {} says which roles act for whom, and no FieldExport writes it; choose another \
             target",
            target.name, target.namespace
        ));
    }
    let home = export.namespace().unwrap_or_default();
    if bounds.cross_namespace || target.namespace == home {
        return Ok(());
    }
    Err(format!(
        "cross-namespace resource reference is not allowed. Set --enable-cross-namespace=true to allow it. \
         sourceNamespace:{home}, targetNamespace:{}, name:{}",
        target.namespace, target.name
    ))
}

/// The key of the value in the target.
fn key(export: &FieldExport) -> String {
    let given = export.spec.to.key.as_ref().filter(|key| !key.trim().is_empty());
    given
        .cloned()
        .unwrap_or_else(|| format!("{}.{}", export.namespace().unwrap_or_default(), export.name_any()))
}

fn has_finalizer(export: &FieldExport) -> bool {
    export.finalizers().iter().any(|name| name == FIELD_EXPORT_FINALIZER)
}

//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{FieldExport, GROUP, IAMRoleSelector, JobRun, VirtualCluster};

/// Every CustomResourceDefinition, sorted by name.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![FieldExport::crd(), IAMRoleSelector::crd(), JobRun::crd(), VirtualCluster::crd()];
    for crd in &mut crds {
        let is_of_emr = crd.spec.group == GROUP;
        for version in &mut crd.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
                tidy(schema);
                if is_of_emr {
                    // As upstream's: an object that is adopted, or only read, may have no spec.
                    schema.required = None;
                }
            }
        }
    }
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds
}

/// Fields that may be `null`, where no rule speaks of them.
///
/// Server-side apply makes `null` of an object whose last member it takes out (`tags: {a: b}` edited to `tags: {}`), and
/// keeps the `null` of `entryPointArguments:`, as users' manifests have it.
const NULLABLE: [&str; 3] = ["entryPointArguments", "schedulerConfiguration", "tags"];

/// Takes `nullable` out, but for the fields in [`NULLABLE`].
///
/// Upstream's fields are not nullable: the API server drops a `null` that a created object carries. Were it kept, a
/// rule's `has()` would find the field set.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for (name, property) in schema.properties.iter_mut().flatten() {
        let ruled = property.x_kubernetes_validations.is_some();
        let nullable = property.nullable.filter(|_| NULLABLE.contains(&name.as_str()) && !ruled);
        tidy(property);
        property.nullable = nullable;
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => tidy(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

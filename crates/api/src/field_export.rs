//! The kind `FieldExport`: copies a field of one of our objects into a ConfigMap or a Secret.
//!
//! Every controller of the ACK family has this kind, and any of their charts may have installed its definition: nothing is
//! added to upstream's fields here, since the API server would drop it where the definition is another's.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;

/// Which field goes where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "services.k8s.aws",
    version = "v1alpha1",
    kind = "FieldExport",
    plural = "fieldexports",
    singular = "fieldexport",
    namespaced,
    status = "FieldExportStatus",
    derive = "PartialEq",
    doc = "FieldExport copies a field of an AWS resource's object into a ConfigMap or a Secret, and follows it."
)]
pub struct FieldExportSpec {
    /// The field.
    pub from: ResourceFieldSelector,
    /// Where its value goes.
    pub to: FieldExportTarget,
}

/// A field of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceFieldSelector {
    /// The field, as a jq path such as `.status.id`.
    pub path: String,
    /// The object; it is in the same namespace.
    pub resource: NamespacedResource,
}

/// An object in the namespace of whatever refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespacedResource {
    /// API group of the object, such as `emrcontainers.services.k8s.aws`.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
}

/// Where a value goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldExportTarget {
    /// Key of the value; `NAMESPACE.NAME` of the FieldExport when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A ConfigMap or a Secret, which has to exist.
    pub kind: FieldExportOutputType,
    /// Name of the target.
    pub name: String,
    /// Namespace of the target; the FieldExport's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The kinds of targets.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FieldExportOutputType {
    /// A ConfigMap.
    #[default]
    ConfigMap,
    /// A Secret.
    Secret,
}

/// What became of the export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldExportStatus {
    /// Observations of the export.
    pub conditions: Vec<Condition>,
}

//! The kind `IAMRoleSelector`: says which role acts for which objects. Upstream's, for all controllers of its family.
//!
//! The schema is upstream's: the definition may be there already, installed by another controller.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::immutable;

/// Says which role acts for which objects.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "services.k8s.aws",
    version = "v1alpha1",
    kind = "IAMRoleSelector",
    plural = "iamroleselectors",
    singular = "iamroleselector",
    status = "IAMRoleSelectorStatus",
    derive = "PartialEq",
    doc = "IAMRoleSelector is the schema for the IAMRoleSelector API."
)]
#[serde(rename_all = "camelCase")]
pub struct IAMRoleSelectorSpec {
    /// ARN of the role that is assumed.
    #[x_kube(validation = immutable())]
    pub arn: String,
    /// The namespaces; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<NamespaceSelector>,
    /// The kinds, any of them; all when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type_selector: Option<Vec<ResourceType>>,
    /// The labels of the objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_label_selector: Option<LabelSelector>,
}

/// Namespaces by name and by label; both have to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Names, any of them; all when there is none.
    pub names: Vec<String>,
    /// The labels of the namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}

/// Labels that all have to be there; none of them asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// The labels.
    pub match_labels: BTreeMap<String, String>,
}

/// A kind; an empty part stands for any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceType {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Version.
    pub version: String,
}

/// Nothing is told in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IAMRoleSelectorStatus {}

//! References to other objects, as upstream spells them: `…Ref.from.{name,namespace}`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Refers to another custom resource; its id is used once it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceReference {
    /// The object referred to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NamespacedName>,
}

/// Name of an object, in the referring object's namespace unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespacedName {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace of the object; absent means the referring object's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl ResourceReference {
    /// Namespace and name of the target, seen from an object in `namespace`; `None` when no name is given.
    pub fn target<'a>(&'a self, namespace: &'a str) -> Option<(&'a str, &'a str)> {
        let from = self.from.as_ref()?;
        let name = from.name.as_deref().filter(|name| !name.is_empty())?;
        Some((from.namespace.as_deref().filter(|ns| !ns.is_empty()).unwrap_or(namespace), name))
    }
}

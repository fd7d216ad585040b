//! Rules and schemas that several kinds share.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// Upstream's message for a field that can't be changed; Flux recognises it as an immutability error.
pub const IMMUTABLE: &str = "Value is immutable once set";

/// The transition rule of an immutable field: setting it for the first time passes, as upstream.
pub fn immutable() -> Rule {
    Rule::new("self == oldSelf").message(IMMUTABLE)
}

/// A list of open objects: members are kept whatever they are called.
///
/// The service's `Configuration` nests without end, which a structural schema can't say.
pub fn open_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true }
    })
}

/// Name patterns of the service; they are its identity and don't move.
pub mod pattern {
    /// Names of virtual clusters and job runs.
    pub const NAME: &str = r"^[\.\-_/#A-Za-z0-9]+$";
    /// Ids that the service gives.
    pub const ID: &str = r"^[0-9a-z]+$";
    /// Release labels, such as `emr-7.10.0-latest`.
    pub const RELEASE_LABEL: &str = r"^[\.\-_/A-Za-z0-9]+$";
    /// ARN of an IAM role.
    pub const ROLE_ARN: &str =
        r"^arn:(aws[a-zA-Z0-9-]*):iam::(\d{12})?:(role((/)|(/[\x21-\x7F]+/))[\w+=,.@-]+)$";
    /// Name of an EKS cluster.
    pub const EKS_CLUSTER: &str = r"^[0-9A-Za-z][A-Za-z0-9\-_]*$";
    /// Name of a Kubernetes namespace.
    pub const NAMESPACE: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    /// Value of the node label that an EKS namespace is bound to.
    pub const NODE_LABEL: &str = r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$";
}

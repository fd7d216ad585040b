//! Status parts that both kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the AWS resource is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AckResourceMetadata {
    /// ARN of the AWS resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// AWS account that owns the resource.
    #[serde(rename = "ownerAccountID")]
    pub owner_account_id: String,
    /// AWS partition, such as `aws` or `aws-cn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// AWS region of the resource.
    pub region: String,
}

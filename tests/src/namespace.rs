//! A namespace for each test, so that tests share a control plane without seeing each other.
//!
//! Must not: be cleaned up; it goes with the control plane.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace as Kind;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};

/// A namespace that nobody else uses.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates one whose name starts with `prefix`.
    pub async fn create(client: &Client, prefix: &str) -> Result<Self> {
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let namespace = Kind { metadata, ..Kind::default() };
        let created = Api::<Kind>::all(client.clone()).create(&PostParams::default(), &namespace).await;
        let name = created.with_context(|| format!("can't create a namespace {prefix}-…"))?.name_any();
        Ok(Self { name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Creates a namespace of a given name unless it exists.
pub async fn ensure(client: &Client, name: &str) -> Result<()> {
    let yaml = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
    crate::objects::apply(client, "", &yaml).await.map(drop)
}

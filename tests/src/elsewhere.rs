//! AWS as others use it: a script or another controller that starts jobs and creates virtual clusters.
//!
//! Must not: use our client, so that what is adopted or taken over was made by somebody else.

use anyhow::{Context, Result, ensure};
use emr_simulator::Handle;
use serde_json::{Value, json};

use crate::manifest::ROLE;

/// A signature says whose call it is and in which region; the simulator doesn't check it.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=test/20260101/us-west-2/emr-containers/aws4_request, \
    SignedHeaders=host, Signature=0";

/// The tags that upstream's controller gives to what it makes for objects of a namespace.
pub fn upstream_tags(namespace: &str) -> Value {
    json!({
        "services.k8s.aws/controller-version": "emrcontainers-v1.4.1",
        "services.k8s.aws/namespace": namespace,
    })
}

/// The StartJobRun request that upstream makes of [`crate::manifest::job_run`] with that `spec.name`.
pub fn job(name: &str, token: &str, tags: &Value) -> Value {
    json!({
        "name": name,
        "clientToken": token,
        "executionRoleArn": ROLE,
        "releaseLabel": "emr-7.10.0-latest",
        "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://bucket/job.py"}},
        "tags": tags,
    })
}

/// Starts a job; returns its id.
pub async fn start_job(aws: &Handle, virtual_cluster_id: &str, request: &Value) -> Result<String> {
    post(aws, &format!("/virtualclusters/{virtual_cluster_id}/jobruns"), request).await
}

/// Creates a virtual cluster on a namespace of the EKS cluster `eks`; returns its id.
pub async fn create_cluster(aws: &Handle, name: &str, namespace: &str, tags: &Value) -> Result<String> {
    let request = json!({
        "name": name,
        "clientToken": format!("elsewhere-{name}-{namespace}"),
        "containerProvider": {"type": "EKS", "id": "eks", "info": {"eksInfo": {"namespace": namespace}}},
        "tags": tags,
    });
    post(aws, "/virtualclusters", &request).await
}

async fn post(aws: &Handle, path: &str, body: &Value) -> Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let request = client.post(format!("{}{path}", aws.url())).header("authorization", SIGNATURE);
    let reply = request.json(body).send().await?;
    let status = reply.status();
    let body: Value = reply.json().await?;
    ensure!(status.is_success(), "{path} answers {status}: {body}");
    body.get("id").and_then(Value::as_str).map(str::to_owned).context("a reply has an id")
}

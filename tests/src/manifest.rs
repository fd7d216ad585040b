//! The manifests that suites start from.

use serde_json::Value;

use crate::objects::GROUP;

/// The role that jobs run as.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/emr-job";

/// A VirtualCluster on a namespace of the EKS cluster `eks`.
pub fn virtual_cluster(name: &str, namespace: &str) -> String {
    format!(
        "
apiVersion: emrcontainers.services.k8s.aws/v1alpha1
kind: VirtualCluster
metadata: {{name: {name}}}
spec:
  name: {name}
  containerProvider: {{id: eks, type_: EKS, info: {{eksInfo: {{namespace: {namespace}}}}}}}
"
    )
}

/// A JobRun that refers to a VirtualCluster; `more` is YAML of further spec fields.
pub fn job_run(name: &str, cluster: &str, more: &str) -> String {
    let more = more.lines().fold(String::new(), |text, line| format!("{text}\n  {line}"));
    format!(
        "
apiVersion: emrcontainers.services.k8s.aws/v1alpha1
kind: JobRun
metadata: {{name: {name}}}
spec:
  virtualClusterRef: {{from: {{name: {cluster}}}}}
  executionRoleARN: {ROLE}
  releaseLabel: emr-7.10.0-latest
  jobDriver: {{sparkSubmitJobDriver: {{entryPoint: s3://bucket/job.py}}}}{more}
"
    )
}

/// A policy named after a namespace, under which an update of our objects in it is refused unless the expression holds.
pub fn policy(namespace: &str, resources: &str, expression: &str, message: &str) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {namespace}}}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - apiGroups: [{GROUP}]
      apiVersions: ['*']
      operations: [UPDATE]
      resources: [{resources}]
  validations: [{{expression: '{expression}', message: {message}}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {namespace}}}
spec:
  policyName: {namespace}
  validationActions: [Deny]
  matchResources: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}
"
    )
}

/// The same manifest with annotations.
pub fn annotated(yaml: &str, annotations: &Value) -> String {
    yaml.replacen("metadata: {", &format!("metadata: {{annotations: {annotations}, "), 1)
}

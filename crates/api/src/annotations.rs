//! Annotation keys: upstream's, with the same meaning, and ours.

/// On an object: `delete` or `retain`; what becomes of the AWS resource when the object is deleted.
pub const DELETION_POLICY: &str = "services.k8s.aws/deletion-policy";
/// On a namespace: the deletion policy of its objects.
pub const NAMESPACE_DELETION_POLICY: &str = "emrcontainers.services.k8s.aws/deletion-policy";
/// On an object: the AWS region.
pub const REGION: &str = "services.k8s.aws/region";
/// On a namespace: the AWS region of its objects, unless they name one.
pub const NAMESPACE_REGION: &str = "services.k8s.aws/default-region";
/// On a namespace: the AWS account of its objects. The role for it is in a config map.
pub const OWNER_ACCOUNT_ID: &str = "services.k8s.aws/owner-account-id";
/// On a namespace: the team of its objects. The role for it is in a config map.
pub const TEAM_ID: &str = "services.k8s.aws/team-id";
/// On a namespace: where emr-containers is for its objects.
pub const ENDPOINT_URL: &str = "services.k8s.aws/endpoint-url";
/// On an object that was refused for good: any new value makes the operator try again; taking it away doesn't.
pub const RETRY: &str = "emrcontainers.services.k8s.aws/retry";
/// On a JobRun that waits for its turn within the AWS quota: a whole number; in its namespace the greatest goes first.
pub const PRIORITY: &str = "emrcontainers.services.k8s.aws/priority";
/// On a JobRun, written by the operator together with its finalizer: the UID that the object's client tokens are made of.
/// A restore from a backup gives the object another UID and leaves this one as it was.
pub const ORIGIN: &str = "emrcontainers.services.k8s.aws/origin";

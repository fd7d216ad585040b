//! Annotation keys: upstream's, with the same meaning, and ours.

/// On an object: `delete` or `retain`; what becomes of the AWS resource when the object is deleted.
pub const DELETION_POLICY: &str = "services.k8s.aws/deletion-policy";
/// On a namespace: the deletion policy of its objects.
pub const NAMESPACE_DELETION_POLICY: &str = "emrcontainers.services.k8s.aws/deletion-policy";
/// On an object: `adopt` takes over an AWS resource that exists, `adopt-or-create` creates it where there is none.
pub const ADOPTION_POLICY: &str = "services.k8s.aws/adoption-policy";
/// On an object to be adopted: a JSON object of strings that says which resource.
pub const ADOPTION_FIELDS: &str = "services.k8s.aws/adoption-fields";
/// On an object, written by the operator together with its finalizer: `true` once the object has taken a resource over.
pub const ADOPTED: &str = "services.k8s.aws/adopted";
/// On an object: `true` lets the status follow the AWS resource, and nothing of it is ever changed.
pub const READ_ONLY: &str = "services.k8s.aws/read-only";
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
/// On a JobRun, written by the operator together with its finalizer: `ACCOUNT/REGION/VIRTUALCLUSTERID` that it is submitted
/// to, for whoever looks for the run before its id is in the status, or after a restore.
pub const DESTINATION: &str = "emrcontainers.services.k8s.aws/destination";
/// On a FieldExport, written by the operator before anything is exported: `KIND/NAMESPACE/NAME` of the target that may hold
/// a key of it.
pub const EXPORTED_TO: &str = "emrcontainers.services.k8s.aws/exported-to";

//! What an AWS error means to us.
//!
//! Every error of every call gets exactly one [`Class`] here and nowhere else. It keeps AWS's own words, but no request
//! id: a condition that carried one would change with every try.

use std::error::Error as StdError;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::assume::Refusal;
use super::operation::Operation;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The quota is used up: wait. It never shows on an object.
    Throttled,
    /// The service or the network has failed: try again with backoff. The call may have been carried out.
    Transient,
    /// The resource that the call names doesn't exist, or no longer.
    NotFound,
    /// The credentials or their policies don't allow the call, or there are none: tell, and try again with backoff.
    AccessDenied,
    /// Refused for now by a cause outside of the request (a full queue, a connection that is being updated): tell, and
    /// try again with backoff.
    Retryable,
    /// The job run has ended or is being cancelled already.
    NotCancellable,
    /// The virtual cluster has ended already.
    AlreadyTerminated,
    /// Another virtual cluster holds the namespace of the EKS cluster.
    NamespaceTaken,
    /// The request itself is refused: it would be refused again.
    Refused,
}

impl Class {
    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::NotFound => "not_found",
            Self::AccessDenied => "access_denied",
            Self::Retryable => "retryable",
            Self::NotCancellable => "not_cancellable",
            Self::AlreadyTerminated => "already_terminated",
            Self::NamespaceTaken => "namespace_taken",
            Self::Refused => "refused",
        }
    }
}

/// An AWS call that has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct EmrError {
    /// The call.
    pub operation: Operation,
    /// AWS's code such as `ValidationException`; [`REQUEST_ERROR`], [`TIMEOUT`], [`CREDENTIALS_ERROR`] or [`ROLE_ERROR`]
    /// without an answer.
    pub code: String,
    /// AWS's message.
    pub message: String,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// What to do about it.
    pub class: Class,
    /// Whether an attempt before, of the same call, may have been carried out.
    pub in_doubt: bool,
}

/// The longest id of a virtual cluster that the service takes.
const MAX_CLUSTER_ID: usize = 64;

/// The code of a request that never got an answer.
pub const REQUEST_ERROR: &str = "RequestError";
/// The code of a request that wasn't answered in time.
pub const TIMEOUT: &str = "RequestTimeout";
/// The code of a request that couldn't be signed.
pub const CREDENTIALS_ERROR: &str = "CredentialsError";
/// The code of a request that wasn't made because STS refuses the role that was to make it.
pub const ROLE_ERROR: &str = "AssumeRoleError";
/// The code of an answer that has none, such as the page of a proxy.
pub(super) const UNKNOWN: &str = "UnknownError";

/// The codes by which AWS services say "slower", without the ending `Exception`.
const THROTTLES: [&str; 11] = [
    "Throttling",
    "Throttled",
    "TooManyRequests",
    "RequestThrottled",
    "EKSRequestThrottled",
    "EC2Throttled",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "SlowDown",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceeded",
];
/// The codes for a caller that isn't allowed or isn't known, without the ending `Exception`.
const DENIALS: [&str; 18] = [
    super::READ_ONLY,
    "AccessDenied",
    "NotAuthorized",
    "Unauthorized",
    "UnauthorizedOperation",
    "Forbidden",
    "OptInRequired",
    "SubscriptionRequired",
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidClientTokenId",
    "UnrecognizedClient",
    "InvalidSignature",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "RequestExpired",
];
/// The codes of a failing service, without the ending `Exception`.
const FAILURES: [&str; 7] = [
    "InternalServer",
    "InternalServerError",
    "InternalFailure",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "RequestTimeTooSkewed",
];
/// The words next to "queue" with which a full queue can be told from a queue that is only named. The service's text
/// isn't published.
const FULL: [&str; 8] = ["full", "limit", "exceed", "maximum", "max ", "reached", "capacity", "scheduler"];

/// Decides what an error means. `status` is `None` when there was no answer.
pub fn classify(operation: Operation, code: &str, status: Option<u16>, message: &str) -> Class {
    let bare = code.strip_suffix("Exception").unwrap_or(code);
    let text = message.to_lowercase();
    let status_code = status.unwrap_or_default();
    if THROTTLES.contains(&bare) || status_code == 429 || text.contains("rate exceeded") {
        return Class::Throttled;
    }
    if matches!(code, CREDENTIALS_ERROR | ROLE_ERROR)
        || DENIALS.contains(&bare)
        || matches!(status_code, 401 | 403)
    {
        return Class::AccessDenied;
    }
    if status.is_none() || FAILURES.contains(&bare) || status_code >= 500 || status_code == 408 {
        return Class::Transient;
    }
    match bare {
        "ResourceNotFound" | "NotFound" => Class::NotFound,
        // Without a code no service has spoken but a proxy, say. The request may be all right.
        "Conflict" | "ResourceInUse" | "LimitExceeded" | "ServiceQuotaExceeded" | UNKNOWN => Class::Retryable,
        "Validation" => classify_validation(operation, &text),
        _ => Class::Refused,
    }
}

/// A ValidationException says by its text alone what it is. `text` is in lower case.
fn classify_validation(operation: Operation, text: &str) -> Class {
    if text.contains("not in a cancellable state") {
        return Class::NotCancellable;
    }
    if text.contains("currently being updated") {
        return Class::Retryable;
    }
    let missing = ["not found", "doesn't exist", "does not exist"].iter().any(|words| text.contains(words));
    match operation {
        Operation::StartJobRun if queue_is_full(text) => Class::Retryable,
        // Only the cluster is ours to wait for: a role or a bucket that doesn't exist is the request's fault.
        Operation::StartJobRun
            if missing && (text.contains("virtual cluster") || text.contains("virtualcluster")) =>
        {
            Class::NotFound
        }
        Operation::CreateVirtualCluster if text.contains("virtual cluster already exists") => {
            Class::NamespaceTaken
        }
        Operation::DeleteVirtualCluster
            if text.contains("already terminated") || text.contains("already been terminated") =>
        {
            Class::AlreadyTerminated
        }
        Operation::DescribeJobRun
        | Operation::ListJobRuns
        | Operation::CancelJobRun
        | Operation::DescribeVirtualCluster
        | Operation::UpdateVirtualCluster
        | Operation::DeleteVirtualCluster
        | Operation::TagResource
        | Operation::UntagResource
        | Operation::ListTagsForResource
            if missing =>
        {
            Class::NotFound
        }
        Operation::StartJobRun
        | Operation::CancelJobRun
        | Operation::DescribeJobRun
        | Operation::ListJobRuns
        | Operation::CreateVirtualCluster
        | Operation::DescribeVirtualCluster
        | Operation::ListVirtualClusters
        | Operation::UpdateVirtualCluster
        | Operation::DeleteVirtualCluster
        | Operation::TagResource
        | Operation::UntagResource
        | Operation::ListTagsForResource => Class::Refused,
    }
}

fn queue_is_full(text: &str) -> bool {
    text.contains("maxinqueue") || (text.contains("queue") && FULL.iter().any(|word| text.contains(word)))
}

impl EmrError {
    /// Whether the call was not even made, or the service has answered and the answer means that it wasn't carried out.
    pub fn proves_nothing_was_done(&self) -> bool {
        let is_answered = self.status.is_some() && self.class != Class::Transient;
        !self.in_doubt && (self.code == ROLE_ERROR || is_answered)
    }

    /// Whether a list says that no run can be in this virtual cluster: it isn't there, or its id can't be one. Any other
    /// refusal says nothing of runs: that of a page's token, say.
    pub fn proves_no_run_in(&self, virtual_cluster_id: &str) -> bool {
        let can_be = !virtual_cluster_id.is_empty()
            && virtual_cluster_id.len() <= MAX_CLUSTER_ID
            && virtual_cluster_id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        self.class == Class::NotFound || self.class == Class::Refused && !can_be
    }

    /// The error of an attempt that followed another.
    #[must_use]
    pub fn after(self, first: &Self) -> Self {
        Self { in_doubt: !first.proves_nothing_was_done(), ..self }
    }

    /// An error from its parts, classified.
    pub fn new(operation: Operation, code: &str, status: Option<u16>, message: &str) -> Self {
        let class = classify(operation, code, status, message);
        Self {
            operation,
            code: code.to_owned(),
            message: without_request_ids(message).trim().to_owned(),
            status,
            class,
            in_doubt: false,
        }
    }

    /// An answer of the service that lacks what it must have.
    pub(super) fn incomplete(operation: Operation, member: &str) -> Self {
        Self {
            operation,
            code: UNKNOWN.to_owned(),
            message: format!("the reply to {operation} has no {member}"),
            status: Some(200),
            class: Class::Transient,
            in_doubt: false,
        }
    }

    pub(super) fn from_sdk<E>(operation: Operation, error: SdkError<E, Response>) -> Self
    where
        E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match error {
            SdkError::ServiceError(context) => {
                let inner = context.into_err();
                let code = inner.code().unwrap_or(UNKNOWN);
                let message = inner.message().map_or_else(|| no_message(status), str::to_owned);
                Self::new(operation, code, status, &message)
            }
            SdkError::TimeoutError(_) => {
                Self::new(operation, TIMEOUT, None, &format!("{operation} was not answered in time"))
            }
            // The status, when there is one, says nothing about a reply that can't be read.
            SdkError::ResponseError(_) => Self::new(
                operation,
                REQUEST_ERROR,
                None,
                &format!("the reply could not be read: {}", causes(&error)),
            ),
            SdkError::ConstructionFailure(_) | SdkError::DispatchFailure(_) => {
                if let Some(refusal) = refusal(&error) {
                    let code = if refusal.is_answer { ROLE_ERROR } else { REQUEST_ERROR };
                    return Self::new(operation, code, None, &refusal.to_string());
                }
                let text = causes(&error);
                let code = if text.to_lowercase().contains("credential") {
                    CREDENTIALS_ERROR
                } else {
                    REQUEST_ERROR
                };
                Self::new(operation, code, None, &text)
            }
            other => Self::new(operation, REQUEST_ERROR, None, &causes(&other)),
        }
    }
}

/// The refusal of the role that was to make the call, if that is the cause.
fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Refusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        next = error.source();
    }
    None
}

/// Whether words of an error say that the access is denied, by the service or by STS.
pub fn is_denial(words: &str) -> bool {
    words.starts_with("AccessDenied") || words.starts_with(ROLE_ERROR)
}

fn no_message(status: Option<u16>) -> String {
    status.map_or_else(|| "no message".to_owned(), |status| format!("HTTP status {status} without a message"))
}

/// What to do about a certificate that isn't trusted.
const PRIVATE_AUTHORITY: &str = " (if a proxy or a private authority is to be trusted, let AWS_CA_BUNDLE name the file of its certificate)";

/// What another service than EMR said, or why it said nothing.
pub(super) fn words(error: &(impl ProvideErrorMetadata + StdError)) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => causes(error),
    }
}

/// The texts of an error and its causes, each once.
fn causes(error: &dyn StdError) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        next = error.source();
    }
    if text.contains("invalid peer certificate") {
        text.push_str(PRIVATE_AUTHORITY);
    }
    text
}

/// Drops every `request id: …` with its brackets, in the spellings that AWS SDKs and services use.
pub(super) fn without_request_ids(text: &str) -> String {
    let mut kept = text.to_owned();
    for marker in ["request id", "requestid", "request_id", "request-id"] {
        // ASCII only, so that offsets in the lower-case copy are those of the text.
        while let Some(start) = kept.to_ascii_lowercase().find(marker) {
            let tail = kept.get(start..).unwrap_or_default();
            let length = tail.find([',', ';', ')', '\n']).unwrap_or(tail.len());
            let mut end = start + length;
            let head = kept.get(..start).unwrap_or_default();
            let cut = head.trim_end_matches([' ', ',', ';', '(']);
            if head.get(cut.len()..).is_some_and(|gap| gap.contains('('))
                && tail.get(length..).is_some_and(|rest| rest.starts_with(')'))
            {
                end += 1;
            }
            let start = cut.len();
            kept.replace_range(start..end, "");
        }
    }
    kept
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;

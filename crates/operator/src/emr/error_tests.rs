//! Every spelling of an error that AWS is known to send, and the class that it has.

use super::*;

#[test]
fn every_spelling_of_a_throttle_is_one() {
    for (code, status) in [
        ("ThrottlingException", 400),
        ("ThrottlingException", 429),
        ("Throttling", 400),
        ("ThrottledException", 400),
        ("TooManyRequestsException", 429),
        ("RequestThrottledException", 400),
        ("RequestThrottled", 400),
        ("EKSRequestThrottledException", 429),
        ("RequestLimitExceeded", 503),
        ("SlowDown", 503),
        ("UnknownError", 429),
        ("ValidationException", 429),
    ] {
        for operation in Operation::ALL {
            assert_eq!(classify(operation, code, Some(status), ""), Class::Throttled, "{code} {status}");
        }
    }
    assert_eq!(
        classify(Operation::ListJobRuns, "ValidationException", Some(400), "Rate exceeded"),
        Class::Throttled
    );
}

#[test]
fn an_error_that_says_nothing_of_the_request_is_classified_for_every_operation() {
    for (code, status, expected) in [
        ("InternalServerException", Some(500), Class::Transient),
        ("InternalFailure", Some(500), Class::Transient),
        ("ServiceUnavailableException", Some(503), Class::Transient),
        ("UnknownError", Some(502), Class::Transient),
        ("UnknownError", Some(503), Class::Transient),
        ("RequestTimeoutException", Some(400), Class::Transient),
        ("UnknownError", Some(408), Class::Transient),
        (REQUEST_ERROR, None, Class::Transient),
        (TIMEOUT, None, Class::Transient),
        (CREDENTIALS_ERROR, None, Class::AccessDenied),
        ("AccessDeniedException", Some(403), Class::AccessDenied),
        ("AccessDenied", Some(403), Class::AccessDenied),
        ("ExpiredTokenException", Some(403), Class::AccessDenied),
        ("ExpiredToken", Some(400), Class::AccessDenied),
        ("UnrecognizedClientException", Some(403), Class::AccessDenied),
        ("InvalidClientTokenId", Some(403), Class::AccessDenied),
        ("InvalidSignatureException", Some(403), Class::AccessDenied),
        ("UnknownError", Some(401), Class::AccessDenied),
        ("ResourceNotFoundException", Some(400), Class::NotFound),
        ("ResourceNotFoundException", Some(404), Class::NotFound),
        ("UnknownError", Some(404), Class::Retryable),
        ("ServiceQuotaExceededException", Some(402), Class::Retryable),
        ("SerializationException", Some(400), Class::Refused),
        ("ValidationException", Some(400), Class::Refused),
    ] {
        for operation in Operation::ALL {
            assert_eq!(
                classify(operation, code, status, "no hint"),
                expected,
                "{operation} {code} {status:?}"
            );
        }
    }
}

#[test]
fn a_validation_exception_is_told_by_its_text() {
    use Operation as O;
    for (operation, message, expected) in [
        (O::CancelJobRun, "Job run 00000 is not in a cancellable state", Class::NotCancellable),
        (O::CancelJobRun, "Job run 00000 doesn't exist.", Class::NotFound),
        (O::CancelJobRun, "Invalid job run short id", Class::Refused),
        (O::DescribeJobRun, "Job run 00000 doesn't exist.", Class::NotFound),
        (O::DeleteVirtualCluster, "Virtual cluster abc is already terminated", Class::AlreadyTerminated),
        (O::DeleteVirtualCluster, "VirtualCluster does not exist", Class::NotFound),
        (O::DeleteVirtualCluster, "Virtual cluster abc not found", Class::NotFound),
        (O::DeleteVirtualCluster, "There are active job runs", Class::Refused),
        (
            O::CreateVirtualCluster,
            "A virtual cluster already exists in the given namespace",
            Class::NamespaceTaken,
        ),
        (O::CreateVirtualCluster, "EKS cluster demo not found", Class::Refused),
        (O::CreateVirtualCluster, "The connection is currently being updated, try again", Class::Retryable),
        (O::StartJobRun, "The job run queue of virtual cluster abc is full", Class::Retryable),
        (O::StartJobRun, "Queue limit exceeded for the virtual cluster", Class::Retryable),
        (O::StartJobRun, "maxInQueueJobRuns (100) has been reached", Class::Retryable),
        (O::StartJobRun, "Job run can't be queued: scheduler configuration allows 5", Class::Retryable),
        (O::StartJobRun, "Virtual cluster abc doesn't exist.", Class::NotFound),
        (O::StartJobRun, "Role arn:aws:iam::1:role/x does not exist", Class::Refused),
        (O::StartJobRun, "Release label emr-0 is not supported", Class::Refused),
        (O::StartJobRun, "Parameter spark.yarn.queue is not allowed", Class::Refused),
        (O::StartJobRun, "The name exceeds 64 characters", Class::Refused),
        (O::UpdateVirtualCluster, "maxInQueueJobRuns must be at most 1000", Class::Refused),
        (O::UpdateVirtualCluster, "Virtual cluster abc doesn't exist.", Class::NotFound),
    ] {
        assert_eq!(classify(operation, "ValidationException", Some(400), message), expected, "{message}");
    }
}

#[test]
fn an_error_reads_like_upstreams_and_carries_no_request_id() {
    let text = |message| {
        EmrError::new(Operation::StartJobRun, "AccessDeniedException", Some(403), message).to_string()
    };
    assert_eq!(text("User: a is not authorized"), "AccessDeniedException: User: a is not authorized");
    for message in [
        "no access (request id: 12-34)",
        "no access, RequestID: 12-34",
        "no access (Request ID: 12-34)",
        "no access; request_id=12-34",
    ] {
        assert_eq!(text(message), "AccessDeniedException: no access", "{message}");
    }
    assert_eq!(text("no access (a, RequestID: 1-2, b)"), "AccessDeniedException: no access (a, b)");
    assert_eq!(text("no access (a, RequestID: 1-2)"), "AccessDeniedException: no access (a)");
    let without_message = EmrError::new(Operation::StartJobRun, REQUEST_ERROR, None, "");
    assert!(!without_message.proves_nothing_was_done());
    assert_eq!(no_message(Some(502)), "HTTP status 502 without a message");
    assert_eq!(no_message(None), "no message");
}

#[test]
fn only_a_cluster_that_is_not_there_or_can_not_be_proves_that_no_run_is_there() {
    let list = |code: &str, status: u16| EmrError::new(Operation::ListJobRuns, code, Some(status), "no");
    assert!(list("ResourceNotFoundException", 404).proves_no_run_in("vc1"));
    assert!(list("ValidationException", 400).proves_no_run_in("Not An Id"));
    assert!(!list("ValidationException", 400).proves_no_run_in("vc1"), "it may be the token of a page");
    for (id, expected) in [("", true), (&"a".repeat(65), true), (&"a".repeat(64), false)] {
        assert_eq!(list("ValidationException", 400).proves_no_run_in(id), expected, "{id}");
    }
    for (code, status) in [("TeapotException", 418), ("AccessDeniedException", 403), ("InternalServer", 500)]
    {
        assert!(!list(code, status).proves_no_run_in("vc1"), "{code}");
    }
}

#[test]
fn an_attempt_after_one_without_an_answer_proves_nothing() {
    let error = |code: &str, status| EmrError::new(Operation::StartJobRun, code, status, "no");
    let refused = || error("ValidationException", Some(400));
    assert!(refused().proves_nothing_was_done());
    assert!(!refused().after(&error("InternalServer", Some(500))).proves_nothing_was_done());
    assert!(!refused().after(&error(REQUEST_ERROR, None)).proves_nothing_was_done());
    assert!(refused().after(&error("ThrottlingException", Some(429))).proves_nothing_was_done());
}

#[test]
fn the_causes_of_an_error_are_told_each_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }
    let layers = |texts: [&'static str; 3]| {
        let wrap = |source, text| Some(Box::new(Layer { text, source }));
        texts.into_iter().rev().fold(None, wrap).unwrap()
    };
    assert_eq!(causes(&*layers(["dispatch", "connect: refused", "refused"])), "dispatch: connect: refused");
    let told = causes(&*layers(["dispatch", "invalid peer certificate", "x"]));
    assert!(
        told.starts_with("dispatch: invalid peer certificate: x (") && told.contains("AWS_CA_BUNDLE"),
        "{told}"
    );
    let metadata = || aws_smithy_types::error::ErrorMetadata::builder().message("no queue");
    assert_eq!(words(&metadata().code("QueueDoesNotExist").build()), "QueueDoesNotExist: no queue");
    let silent = metadata().build();
    assert_eq!(words(&silent), causes(&silent));
    assert!(is_denial("AccessDeniedException: no") && is_denial(&format!("{ROLE_ERROR}: no")));
    assert!(!is_denial("ThrottlingException: AccessDenied"));
}

#[test]
fn every_class_has_a_name_of_its_own() {
    use Class::{
        AccessDenied, AlreadyTerminated, NamespaceTaken, NotCancellable, NotFound, Refused, Retryable,
        Throttled, Transient,
    };
    let names = [
        (Throttled, "throttled"),
        (Transient, "transient"),
        (NotFound, "not_found"),
        (AccessDenied, "access_denied"),
        (Retryable, "retryable"),
        (NotCancellable, "not_cancellable"),
        (AlreadyTerminated, "already_terminated"),
        (NamespaceTaken, "namespace_taken"),
        (Refused, "refused"),
    ];
    assert_eq!(names.map(|(class, _)| class.name()), names.map(|(_, name)| name));
}

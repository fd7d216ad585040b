//! The AWS client against a server that answers by script: what goes over the wire, and what comes of each answer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops with a message"
)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_sdk_emrcontainers::config::{Credentials, SharedCredentialsProvider};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use emrcontainers_api::job_run::{JobDriver, SparkSubmitJobDriver};
use emrcontainers_api::overrides::{
    Configuration, ConfigurationOverrides, ManagedLogs, MonitoringConfiguration, S3MonitoringConfiguration,
};
use emrcontainers_operator::emr::Client;
use emrcontainers_operator::emr::error::{CREDENTIALS_ERROR, Class, EmrError, REQUEST_ERROR};
use emrcontainers_operator::emr::limit::{Grant, Kind, RunKey, Turn};
use emrcontainers_operator::emr::model::{
    CreateVirtualCluster, JobRunFilter, Pages, StartJobRun, VirtualClusterFilter,
};
use emrcontainers_operator::emr::observe::Observer;
use emrcontainers_operator::emr::operation::Operation;
use emrcontainers_operator::emr::pool::{Pool, PoolConfig, Scope};
use emrcontainers_operator::quotas::Quotas;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

#[derive(Default)]
struct Script {
    replies: VecDeque<(u16, &'static str, Value)>,
    requests: Vec<(String, String, Value)>,
}

type Shared = Arc<Mutex<Script>>;

/// Answers by the script, then with an empty object. The error code goes where the service puts it.
async fn answer(State(script): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut script = script.lock().unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    script.requests.push((method.to_string(), uri.to_string(), body));
    let (status, code, body) = script.replies.pop_front().unwrap_or((200, "", json!({})));
    let headers = [("content-type", "application/json"), ("x-amzn-errortype", code)];
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
    let mut response = (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

#[derive(Default)]
struct Attempts(Mutex<Vec<(Operation, Option<Class>)>>);

impl Observer for Attempts {
    fn attempt(&self, operation: Operation, _took: Duration, error: Option<&EmrError>) {
        self.0.lock().unwrap().push((operation, error.map(|error| error.class)));
    }
}

struct Rig {
    client: Client,
    script: Shared,
    attempts: Arc<Attempts>,
}

fn config(url: &str, observer: Arc<dyn Observer>) -> PoolConfig {
    let credentials = Credentials::new("AKID", "secret", None, None, "test");
    PoolConfig {
        region: "eu-west-1".to_owned(),
        endpoint_url: Some(url.to_owned()),
        identity_endpoint_url: Some(url.to_owned()),
        ca_bundle: None,
        credentials: Some(SharedCredentialsProvider::new(credentials)),
        quotas: Quotas::Off,
        wake: unbounded_channel().0,
        observer,
    }
}

fn scope() -> Scope {
    Scope { account: "111122223333".to_owned(), region: "eu-west-1".to_owned() }
}

async fn rig(replies: impl IntoIterator<Item = (u16, &'static str, Value)>) -> Rig {
    let script = Arc::new(Mutex::new(Script { replies: replies.into_iter().collect(), ..Script::default() }));
    let app = axum::Router::new().fallback(answer).with_state(script.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let attempts = Arc::new(Attempts::default());
    let pool = Pool::new(config(&url, attempts.clone())).await.unwrap();
    Rig { client: pool.client(&scope()), script, attempts }
}

fn grant(client: &Client, kind: Kind) -> Grant {
    match client.limiter().request(kind, &RunKey::new("uid", "default", "run"), 0) {
        Turn::Granted(grant) => grant,
        Turn::Queued { .. } => panic!("no quota"),
    }
}

fn error(message: &str) -> Value {
    json!({ "message": message })
}

fn run() -> StartJobRun {
    let configuration = Configuration {
        classification: "spark-env".to_owned(),
        properties: BTreeMap::new(),
        configurations: vec![Configuration {
            classification: "export".to_owned(),
            properties: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            configurations: Vec::new(),
        }],
    };
    StartJobRun {
        client_token: "uid-1".to_owned(),
        virtual_cluster_id: "vc1".to_owned(),
        name: Some("pi".to_owned()),
        execution_role_arn: Some("arn:aws:iam::111122223333:role/job".to_owned()),
        release_label: Some("emr-7.10.0-latest".to_owned()),
        job_driver: Some(JobDriver {
            spark_submit_job_driver: Some(SparkSubmitJobDriver {
                entry_point: Some("local:///pi.py".to_owned()),
                entry_point_arguments: Some(vec!["10".to_owned()]),
                spark_submit_parameters: None,
            }),
            spark_sql_job_driver: None,
        }),
        configuration_overrides: Some(ConfigurationOverrides {
            application_configuration: vec![configuration],
            monitoring_configuration: Some(MonitoringConfiguration {
                persistent_app_ui: Some("DISABLED".to_owned()),
                managed_logs: Some(ManagedLogs {
                    allow_aws_to_retain_logs: Some("ENABLED".to_owned()),
                    encryption_key_arn: None,
                }),
                s3_monitoring_configuration: Some(S3MonitoringConfiguration {
                    log_uri: "s3://logs".to_owned(),
                    encryption_key_arn: Some("key".to_owned()),
                }),
                ..MonitoringConfiguration::default()
            }),
        }),
        max_attempts: Some(3),
        tags: BTreeMap::new(),
    }
}

#[tokio::test]
async fn a_start_sends_what_it_was_given_and_nothing_else() {
    let rig = rig([(200, "", json!({"id": "r1", "arn": "arn:r1", "virtualClusterId": "vc1"}))]).await;
    let created = rig.client.start_job_run(grant(&rig.client, Kind::Start), run()).await.unwrap();
    assert_eq!((created.id.as_str(), created.arn.as_deref()), ("r1", Some("arn:r1")));
    let expected = json!({
        "clientToken": "uid-1",
        "name": "pi",
        "executionRoleArn": "arn:aws:iam::111122223333:role/job",
        "releaseLabel": "emr-7.10.0-latest",
        "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "local:///pi.py", "entryPointArguments": ["10"]}},
        "configurationOverrides": {
            "applicationConfiguration": [
                {"classification": "spark-env", "configurations": [{"classification": "export", "properties": {"A": "1"}}]},
            ],
            "monitoringConfiguration": {
                "persistentAppUI": "DISABLED",
                "managedLogs": {"allowAWSToRetainLogs": "ENABLED"},
                "s3MonitoringConfiguration": {"logUri": "s3://logs", "encryptionKeyArn": "key"},
            },
        },
        "retryPolicyConfiguration": {"maxAttempts": 3},
    });
    let requests = rig.script.lock().unwrap().requests.clone();
    assert_eq!(requests, [("POST".to_owned(), "/virtualclusters/vc1/jobruns".to_owned(), expected)]);
}

#[tokio::test]
async fn an_unknown_state_is_kept_verbatim() {
    let reply = json!({"jobRun": {
        "id": "r1", "state": "HIBERNATING", "stateDetails": "z".repeat(400), "failureReason": "COSMIC_RAYS",
        "createdAt": "2026-11-21T10:00:00Z", "retryPolicyExecution": {"currentAttemptCount": 2}, "novelty": {},
    }});
    let rig = rig([(200, "", reply)]).await;
    let run = rig.client.describe_job_run("vc1", "r1").await.unwrap();
    assert_eq!((run.state.as_str(), run.failure_reason.as_deref()), ("HIBERNATING", Some("COSMIC_RAYS")));
    assert_eq!((run.state_details.unwrap().len(), run.attempts), (400, Some(2)));
    assert_eq!(run.created_at, Some("2026-11-21T10:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn a_list_reads_all_pages() {
    let page = |ids: [&str; 2], token: Option<&str>| {
        let runs: Vec<_> = ids.iter().map(|id| json!({"id": id, "state": "RUNNING"})).collect();
        (200, "", json!({"jobRuns": runs, "nextToken": token}))
    };
    let rig = rig([page(["a", "b"], Some("t1")), page(["c", "d"], None), page(["a", "b"], Some("t1"))]).await;
    let filter = JobRunFilter {
        name: None,
        virtual_cluster_id: "vc1".to_owned(),
        states: vec!["PENDING", "RUNNING"],
        created_after: Some("2026-11-21T10:00:00.9Z".parse().unwrap()),
    };
    let mut ids = Vec::new();
    assert_eq!(
        rig.client.list_job_runs(&filter, 9, |run| ids.push(run.id)).await,
        Ok(Pages { pages: 2, complete: true })
    );
    assert_eq!(ids, ["a", "b", "c", "d"]);
    let left = rig.client.list_job_runs(&filter, 1, drop).await;
    assert_eq!(left, Ok(Pages { pages: 1, complete: false }));
    let uris: Vec<_> = rig.script.lock().unwrap().requests.iter().map(|request| request.1.clone()).collect();
    let first =
        "/virtualclusters/vc1/jobruns?createdAfter=2026-11-21T10%3A00%3A00Z&states=PENDING&states=RUNNING";
    assert_eq!(uris, [first.to_owned(), format!("{first}&nextToken=t1"), first.to_owned()]);
}

#[tokio::test]
async fn a_throttle_is_not_repeated_and_slows_the_next_call_down() {
    for (status, code) in [(429, "EKSRequestThrottledException"), (400, "ThrottlingException"), (429, "")] {
        let rig = rig([(status, code, error("Rate exceeded"))]).await;
        let throttled = rig.client.describe_virtual_cluster("vc1").await.unwrap_err();
        assert_eq!((throttled.class, throttled.status), (Class::Throttled, Some(status)), "{throttled}");
        assert_eq!(rig.attempts.0.lock().unwrap().len(), 1);
        assert!(rig.client.limiter().per_second(Operation::DescribeVirtualCluster).unwrap() <= 10.1);
        assert_eq!(rig.client.limiter().per_second(Operation::ListJobRuns), None);
    }
}

#[tokio::test]
async fn a_failing_service_is_asked_once_more_with_the_same_token() {
    let failure = || (503, "", json!({}));
    let rig = rig([failure(), (200, "", json!({"id": "r1"})), failure(), failure()]).await;
    rig.client.start_job_run(grant(&rig.client, Kind::Start), run()).await.unwrap();
    let requests = rig.script.lock().unwrap().requests.clone();
    assert_eq!(requests[0], requests[1]);
    let failed = rig.client.start_job_run(grant(&rig.client, Kind::Start), run()).await.unwrap_err();
    assert_eq!((failed.class, failed.status), (Class::Transient, Some(503)));
    assert_eq!(failed.to_string(), "UnknownError: HTTP status 503 without a message");
    let attempts = rig.attempts.0.lock().unwrap().clone();
    let transient = (Operation::StartJobRun, Some(Class::Transient));
    assert_eq!(attempts, [transient, (Operation::StartJobRun, None), transient, transient]);
}

#[tokio::test]
async fn errors_without_a_model_keep_their_code_and_words() {
    let rig = rig([
        (400, "ValidationException", error("Job run r1 is not in a cancellable state")),
        (400, "ResourceNotFoundException", error("Job run r1 doesn't exist.")),
        (
            403,
            "AccessDeniedException",
            error("User: u is not authorized to perform: emr-containers:DeleteVirtualCluster"),
        ),
        (400, "ValidationException", error("Virtual cluster vc1 is already terminated")),
        (400, "ValidationException", error("A virtual cluster already exists in the given namespace")),
    ])
    .await;
    let client = &rig.client;
    let cancelled = client.cancel_job_run(grant(client, Kind::Cancel), "vc1", "r1").await.unwrap_err();
    assert_eq!(cancelled.class, Class::NotCancellable);
    assert_eq!(client.describe_job_run("vc1", "r1").await.unwrap_err().class, Class::NotFound);
    let denied = client.delete_virtual_cluster("vc1").await.unwrap_err();
    assert_eq!((denied.class, denied.status), (Class::AccessDenied, Some(403)));
    assert_eq!(
        denied.to_string(),
        "AccessDeniedException: User: u is not authorized to perform: emr-containers:DeleteVirtualCluster"
    );
    assert_eq!(client.delete_virtual_cluster("vc1").await.unwrap_err().class, Class::AlreadyTerminated);
    let taken = client.create_virtual_cluster(CreateVirtualCluster {
        client_token: "t".to_owned(),
        name: "n".to_owned(),
        eks_cluster: "eks".to_owned(),
        ..CreateVirtualCluster::default()
    });
    assert_eq!(taken.await.unwrap_err().class, Class::NamespaceTaken);
}

#[tokio::test]
async fn tags_and_filters_go_over_the_wire_as_the_service_reads_them() {
    let rig = rig([]).await;
    let arn = "arn:aws:emr-containers:eu-west-1:111122223333:/virtualclusters/abc";
    rig.client.tag_resource(arn, BTreeMap::from([("a".to_owned(), "b".to_owned())])).await.unwrap();
    rig.client.untag_resource(arn, vec!["a:b".to_owned(), "c d".to_owned()]).await.unwrap();
    assert!(rig.client.list_tags(arn).await.unwrap().is_empty());
    let filter = VirtualClusterFilter {
        eks_cluster: Some("eks".to_owned()),
        states: vec!["RUNNING".to_owned(), "ARRESTED".to_owned()],
    };
    assert!(rig.client.list_virtual_clusters(&filter).await.unwrap().is_empty());
    let requests = rig.script.lock().unwrap().requests.clone();
    let path = "/tags/arn%3Aaws%3Aemr-containers%3Aeu-west-1%3A111122223333%3A%2Fvirtualclusters%2Fabc";
    assert_eq!(requests[0], ("POST".to_owned(), path.to_owned(), json!({"tags": {"a": "b"}})));
    assert_eq!(requests[1].1, format!("{path}?tagKeys=a%3Ab&tagKeys=c%20d"));
    assert_eq!(requests[2].0, "GET");
    assert_eq!(
        requests[3].1,
        "/virtualclusters?containerProviderId=eks&containerProviderType=EKS&states=RUNNING&states=ARRESTED"
    );
}

#[tokio::test]
async fn nobody_there_and_no_credentials_are_told_apart() {
    let observer = Arc::new(Attempts::default());
    let pool = Pool::new(config("http://127.0.0.1:1", observer.clone())).await.unwrap();
    let refused = pool.client(&scope()).describe_job_run("vc1", "r1").await.unwrap_err();
    assert_eq!((refused.class, refused.code.as_str()), (Class::Transient, REQUEST_ERROR), "{refused}");

    let nothing = ProfileFileCredentialsProvider::builder().profile_name("a-profile-that-nobody-has").build();
    let nothing = SharedCredentialsProvider::new(nothing);
    let config = PoolConfig { credentials: Some(nothing), ..config("http://127.0.0.1:1", observer) };
    let denied =
        Pool::new(config).await.unwrap().client(&scope()).describe_job_run("vc1", "r1").await.unwrap_err();
    assert_eq!((denied.class, denied.code.as_str()), (Class::AccessDenied, CREDENTIALS_ERROR), "{denied}");
}

/// Answers every TLS connection with one reply, with a certificate that only the returned PEM makes trustworthy.
fn private_server() -> (String, String) {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let chain = vec![key.cert.der().clone()];
    let secret = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = Arc::new(tls.with_no_client_auth().with_single_cert(chain, secret).unwrap());
    let listener = std::net::TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let Ok(session) = rustls::ServerConnection::new(tls.clone()) else { return };
            let mut stream = rustls::StreamOwned::new(session, socket);
            let mut request = [0; 16 * 1024];
            let sts = match stream.read(&mut request) {
                Ok(length) => String::from_utf8_lossy(&request[..length]).contains("POST / "),
                Err(_) => continue,
            };
            let body = if sts {
                "<GetCallerIdentityResponse><GetCallerIdentityResult>\
                 <Arn>arn:aws-cn:sts::111122223333:assumed-role/operator/s</Arn><Account>111122223333</Account>\
                 </GetCallerIdentityResult></GetCallerIdentityResponse>"
            } else {
                r#"{"jobRun":{"id":"r1","state":"RUNNING"}}"#
            };
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (format!("https://localhost:{port}"), key.cert.pem())
}

#[tokio::test]
async fn d26_the_certificates_of_aws_ca_bundle_are_trusted_by_every_client() {
    let (url, pem) = private_server();
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    std::fs::write(&bundle, pem).unwrap();
    let observer = Arc::new(Attempts::default());

    let distrustful = Pool::new(config(&url, observer.clone())).await.unwrap();
    let refused = distrustful.client(&scope()).describe_job_run("vc1", "r1").await.unwrap_err();
    assert!(refused.message.to_lowercase().contains("certificate"), "{refused}");

    let config = PoolConfig { ca_bundle: Some(bundle), ..config(&url, observer) };
    let pool = Pool::new(config).await.unwrap();
    assert_eq!(pool.client(&scope()).describe_job_run("vc1", "r1").await.unwrap().state, "RUNNING");
    let identity = pool.identity().await.unwrap();
    assert_eq!((identity.account.as_str(), identity.partition.as_str()), ("111122223333", "aws-cn"));
}

#[tokio::test]
async fn d26_a_bundle_that_can_not_be_used_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let observer = Arc::new(Attempts::default());
    for (content, expected) in [
        (None, "could not read"),
        (Some(""), "it has no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "is not a list of PEM"),
        (Some("-----BEGIN CERTIFICATE-----\n%%%%\n"), "is not a list of PEM"),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let config =
            PoolConfig { ca_bundle: Some(path.clone()), ..config("https://localhost", observer.clone()) };
        let error = Pool::new(config).await.unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("AWS_CA_BUNDLE") && error.contains("ca.pem"),
            "{error}"
        );
    }
}

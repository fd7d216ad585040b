//! The AWS client against a server that answers by script: what goes over the wire, and what comes of each answer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops with a message"
)]

mod name_lists;
mod rig;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_sdk_emrcontainers::config::SharedCredentialsProvider;
use emrcontainers_api::job_run::{JobDriver, SparkSubmitJobDriver};
use emrcontainers_api::overrides::{
    Configuration, ConfigurationOverrides, ManagedLogs, MonitoringConfiguration, S3MonitoringConfiguration,
};
use emrcontainers_operator::emr::error::{CREDENTIALS_ERROR, Class, REQUEST_ERROR};
use emrcontainers_operator::emr::limit::{Kind, Priority, RunKey, Turn};
use emrcontainers_operator::emr::model::{
    CreateVirtualCluster, JobRunFilter, Pages, StartJobRun, VirtualClusterFilter,
};
use emrcontainers_operator::emr::operation::Operation;
use emrcontainers_operator::emr::pool::{Pool, PoolConfig, Scope};
use emrcontainers_operator::fence::{Fence, Moment};
use emrcontainers_operator::quotas::Quotas;
use serde_json::json;

use crate::rig::{Attempts, config, error, grant, rig, scope};

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
        "tags": {"team": "etl"},
    }});
    let rig = rig([(200, "", reply)]).await;
    let run = rig.client.describe_job_run("vc1", "r1").await.unwrap();
    assert_eq!((run.state.as_str(), run.failure_reason.as_deref()), ("HIBERNATING", Some("COSMIC_RAYS")));
    assert_eq!((run.state_details.unwrap().len(), run.attempts), (400, Some(2)));
    assert_eq!(run.created_at, Some("2026-11-21T10:00:00Z".parse().unwrap()));
    assert_eq!(run.tags, BTreeMap::from([("team".to_owned(), "etl".to_owned())]));
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
        assert!(rig.client.limiter().pace(Operation::DescribeVirtualCluster).unwrap().per_second <= 10.1);
        assert_eq!(rig.client.limiter().pace(Operation::ListJobRuns), None);
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
async fn a_process_that_may_not_act_any_more_asks_for_nothing() {
    let (observer, fence) = (Arc::new(Attempts::default()), Fence::until(Moment::now()));
    let config = PoolConfig { fence: fence.clone(), ..config("http://127.0.0.1:1", observer.clone()) };
    let client = Pool::new(config).await.unwrap().client(&scope());
    tokio::select! {
        biased;
        started = client.start_job_run(grant(&client, Kind::Start), run()) => panic!("{started:?}"),
        () = fence.shut() => {}
    }
    assert!(observer.0.lock().unwrap().is_empty(), "an attempt was made");
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

#[tokio::test]
async fn roles_and_endpoints_share_the_quota_of_their_account_and_region() {
    let quotas = Quotas::parse("StartJobRun=0.001:10,all=0.001:10").unwrap();
    let usual = PoolConfig { quotas, ..config("http://127.0.0.1:1", Arc::new(Attempts::default())) };
    let pool = Pool::new(usual).await.unwrap();
    let ask = |scope: &Scope, uid: &str| {
        let key = RunKey::new(uid, "default", uid);
        match pool.limiter_for(scope, uid).request(Kind::Start, &key, Priority::default()) {
            Turn::Granted(grant) => {
                // As if the call had been made.
                std::mem::forget(grant);
                true
            }
            Turn::Queued(_) => false,
        }
    };
    let all_taken = (0..20).any(|number| !ask(&scope(), &format!("uid-{number}")));
    assert!(all_taken, "ten may be made");
    let role = Some("arn:aws:iam::111122223333:role/other".to_owned());
    let other = Scope { role, endpoint_url: Some("http://127.0.0.1:2".to_owned()), ..scope() };
    assert!(!ask(&other, "late"), "the bucket is the account's and region's");
    assert!(ask(&Scope::new("111122223333", "ap-south-1"), "late"), "another region has its own");
    assert!(!pool.keeps_for("late") && !pool.forget("late"), "who asks in one scope waits in no other");
}

//! The poller and the start queue against the simulator, over HTTP and in real time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops with a message")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_emrcontainers::config::{Credentials, SharedCredentialsProvider};
use emr_simulator::{Fault, FaultKind, Handle, Options, Rule, ThrottleForm, start};
use emrcontainers_api::job_run::{JobDriver, SparkSubmitJobDriver};
use emrcontainers_operator::emr::Client;
use emrcontainers_operator::emr::error::EmrError;
use emrcontainers_operator::emr::limit::{Kind, Priority, RunKey, Turn};
use emrcontainers_operator::emr::model::{CreateVirtualCluster, StartJobRun};
use emrcontainers_operator::emr::observe::{Observer, Unobserved};
use emrcontainers_operator::emr::operation::Operation;
use emrcontainers_operator::emr::poll::{Observation, Poller, Tracked};
use emrcontainers_operator::emr::pool::{Pool, PoolConfig, Scope};
use emrcontainers_operator::fence::Fence;
use emrcontainers_operator::health::Liveness;
use emrcontainers_operator::quotas::Quotas;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, timeout};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

struct Rig {
    simulator: Handle,
    client: Client,
    poller: Poller,
    woken: UnboundedReceiver<RunKey>,
    scope: Scope,
}

async fn rig(options: Options, quotas: &str) -> Rig {
    let simulator = start(options).await.unwrap();
    let (wake, woken) = unbounded_channel();
    let credentials = Credentials::new("111122223333", "secret", None, None, "test");
    let config = PoolConfig {
        region: "eu-west-1".to_owned(),
        endpoint_url: Some(simulator.url().to_owned()),
        identity_endpoint_url: Some(simulator.url().to_owned()),
        attempt_timeout: Duration::from_secs(10),
        ca_bundle: None,
        credentials: Some(SharedCredentialsProvider::new(credentials)),
        quotas: Quotas::parse(quotas).unwrap(),
        wake,
        observer: Arc::new(Unobserved),
        fence: Fence::open(),
    };
    let pool = Arc::new(Pool::new(config).await.unwrap());
    assert_eq!(pool.identity().await.unwrap().account, "111122223333");
    let scope = Scope::new("111122223333", "eu-west-1");
    Rig {
        simulator,
        client: pool.client(&scope),
        poller: Poller::new(pool, Liveness::default()),
        woken,
        scope,
    }
}

fn quick(running_for: Duration) -> Options {
    Options {
        pending_for: Duration::from_millis(300),
        submitted_for: Duration::from_millis(300),
        running_for,
        ..Options::default()
    }
}

fn key(number: usize) -> RunKey {
    RunKey::new(&format!("uid-{number}"), &format!("team-{}", number % 2), &format!("run-{number}"))
}

impl Rig {
    async fn cluster(&self, number: usize) -> String {
        let cluster = CreateVirtualCluster {
            client_token: format!("cluster-{number}"),
            name: format!("cluster-{number}"),
            eks_cluster: "eks".to_owned(),
            namespace: Some(format!("namespace-{number}")),
            ..CreateVirtualCluster::default()
        };
        self.client.create_virtual_cluster(cluster).await.unwrap().id
    }

    /// Starts a run as a pass does: at once when it is granted, else when it is woken.
    async fn start(&self, virtual_cluster_id: &str, number: usize) -> bool {
        let Turn::Granted(grant) =
            self.client.limiter().request(Kind::Start, &key(number), Priority::default())
        else {
            return false;
        };
        let submit = SparkSubmitJobDriver {
            entry_point: Some("local:///pi.py".to_owned()),
            ..SparkSubmitJobDriver::default()
        };
        let run = StartJobRun {
            client_token: format!("uid-{number}-1"),
            virtual_cluster_id: virtual_cluster_id.to_owned(),
            name: Some(format!("run-{number}")),
            execution_role_arn: Some("arn:aws:iam::111122223333:role/job".to_owned()),
            release_label: Some("emr-7.10.0-latest".to_owned()),
            job_driver: Some(JobDriver { spark_submit_job_driver: Some(submit), spark_sql_job_driver: None }),
            ..StartJobRun::default()
        };
        let run_id = self.client.start_job_run(grant, run).await.unwrap().id;
        let tracked = Tracked { key: key(number), run_id, state: None, just_started: true, created_at: None };
        self.poller.track(&self.scope, virtual_cluster_id, tracked);
        true
    }

    async fn next(&mut self) -> RunKey {
        timeout(PATIENCE, self.woken.recv()).await.unwrap().unwrap()
    }

    /// Waits until so many runs have ended, and returns their last states by UID.
    async fn ends(&mut self, runs: usize) -> BTreeMap<String, String> {
        let mut ends = BTreeMap::new();
        while ends.len() < runs {
            let key = self.next().await;
            match self.poller.observed(&key.uid) {
                Some(Observation::Run(run)) if run.has_ended() => ends.insert(key.uid.to_string(), run.state),
                Some(Observation::Gone) => ends.insert(key.uid.to_string(), "GONE".to_owned()),
                _ => continue,
            };
        }
        ends
    }

    fn calls(&self, operation: &str) -> u64 {
        self.simulator.counters().get(operation).map_or(0, |counter| counter.calls)
    }
}

#[tokio::test]
async fn hundreds_of_runs_are_seen_to_their_end_by_a_few_lists_and_then_cost_nothing() {
    let mut rig = rig(quick(Duration::from_secs(4)), "off").await;
    let mut clusters = Vec::new();
    for number in 0..4 {
        clusters.push(rig.cluster(number).await);
    }
    for number in 0..400 {
        assert!(rig.start(clusters.get(number % 4).unwrap(), number).await);
    }
    let ends = rig.ends(400).await;
    assert!(ends.values().all(|state| state == "COMPLETED"), "{ends:?}");
    assert_eq!(rig.poller.tracked(), 0);
    let lists = rig.calls("ListJobRuns");
    assert!(lists <= 60, "{lists} lists");
    assert_eq!(rig.calls("DescribeJobRun"), 0);
    // Nothing is live: for longer than any poller would wait with live runs, no one is woken or asked.
    assert!(timeout(Duration::from_secs(3), rig.woken.recv()).await.is_err());
    assert_eq!(rig.calls("ListJobRuns"), lists);
    rig.poller.untrack("uid-0");
    assert_eq!(rig.poller.observed("uid-0"), None);
}

#[tokio::test]
async fn a_failed_run_comes_with_the_reason_that_lists_leave_out() {
    let mut rig = rig(quick(Duration::from_millis(500)), "off").await;
    let failing = Rule { state: Some("FAILED".to_owned()), ..Rule::default() };
    rig.simulator.add_outcome(failing).unwrap();
    let cluster = rig.cluster(0).await;
    assert!(rig.start(&cluster, 0).await);
    rig.ends(1).await;
    let Some(Observation::Run(run)) = rig.poller.observed("uid-0") else { panic!("not observed") };
    assert_eq!((run.state.as_str(), run.failure_reason.as_deref()), ("FAILED", Some("USER_ERROR")));
    assert!(run.state_details.is_some() && run.created_at.is_some() && run.finished_at.is_some());
    assert_eq!(rig.calls("DescribeJobRun"), 1);
}

#[tokio::test]
async fn a_denial_is_told_until_it_ends_and_no_end_is_missed() {
    let mut rig = rig(quick(Duration::from_secs(2)), "off").await;
    let cluster = rig.cluster(0).await;
    rig.simulator.add_fault(Fault::new("ListJobRuns", FaultKind::AccessDenied)).unwrap();
    assert!(rig.start(&cluster, 0).await);
    assert_eq!(rig.next().await, key(0));
    let problem = rig.poller.problem(&rig.scope, &cluster).unwrap();
    assert!(problem.starts_with("AccessDeniedException: "), "{problem}");
    rig.simulator.clear_faults();
    assert_eq!(rig.ends(1).await.get("uid-0").map(String::as_str), Some("COMPLETED"));
    assert_eq!(rig.poller.problem(&rig.scope, &cluster), None);
}

#[tokio::test]
async fn a_service_in_trouble_delays_ends_and_hides_none() {
    let options = Options {
        throttle_form: ThrottleForm::Bare429,
        list_delay: Duration::from_secs(1),
        page_size: 7,
        ..quick(Duration::from_secs(1))
    };
    let mut rig = rig(options, "off").await;
    let cluster = rig.cluster(0).await;
    for number in 0..30 {
        assert!(rig.start(&cluster, number).await);
    }
    for kind in [FaultKind::Throttle, FaultKind::Status500, FaultKind::ReplyLost] {
        let fault = Fault { probability: 0.1, count: Some(2), ..Fault::new("*", kind) };
        rig.simulator.add_fault(fault).unwrap();
    }
    let ends = rig.ends(30).await;
    assert!(ends.values().all(|state| state == "COMPLETED"), "{ends:?}");
    assert_eq!(rig.poller.problem(&rig.scope, &cluster), None);
}

#[tokio::test]
async fn d8_runs_that_aws_no_longer_knows_are_gone() {
    let mut rig = rig(quick(Duration::from_mins(10)), "off").await;
    let cluster = rig.cluster(0).await;
    for number in 0..3 {
        assert!(rig.start(&cluster, number).await);
    }
    rig.next().await;
    rig.simulator.reset();
    let ends = rig.ends(3).await;
    assert!(ends.values().all(|state| state == "GONE"), "{ends:?}");
}

#[tokio::test]
async fn starts_stay_inside_the_quota_that_aws_enforces_and_are_never_throttled() {
    let quotas = "StartJobRun=3:12,ListJobRuns=5:100,all=100:200";
    let options = Options { quotas: quotas.parse().unwrap(), ..quick(Duration::from_secs(1)) };
    let mut rig = rig(options, quotas).await;
    let cluster = rig.cluster(0).await;
    let began = Instant::now();
    let mut started = 0;
    for number in 0..25 {
        started += usize::from(rig.start(&cluster, number).await);
    }
    assert!(started >= 10, "{started}");
    while started < 25 {
        let woken = rig.next().await;
        let number: usize = woken.uid.trim_start_matches("uid-").parse().unwrap();
        if rig.poller.observed(&woken.uid).is_none() {
            started += usize::from(rig.start(&cluster, number).await);
        }
    }
    assert!(began.elapsed() >= Duration::from_millis(4_900), "{:?}", began.elapsed());
    let throttled: u64 = rig.simulator.counters().values().map(|counter| counter.throttled).sum();
    assert_eq!((rig.calls("StartJobRun"), throttled), (25, 0));
}

/// Ends the task that makes an attempt, once it is told to.
#[derive(Default)]
struct Deadly(AtomicBool);

impl Observer for Deadly {
    fn attempt(&self, operation: Operation, _: Duration, _: Option<&EmrError>) {
        assert!(!self.0.load(Ordering::Relaxed), "the task that made {operation:?} ends here");
    }
}

#[tokio::test(start_paused = true)]
async fn an_aws_that_fails_or_bounds_us_is_no_freeze_and_a_poller_that_is_lost_is_missed() {
    // With the second, looks wait for hours.
    for quotas in ["documented", "ListJobRuns=0.001:1"] {
        let (deadly, liveness) = (Arc::new(Deadly::default()), Liveness::default());
        let config = PoolConfig {
            region: "eu-west-1".to_owned(),
            endpoint_url: Some("http://127.0.0.1:1".to_owned()),
            identity_endpoint_url: None,
            attempt_timeout: Duration::from_secs(10),
            ca_bundle: None,
            credentials: Some(SharedCredentialsProvider::new(Credentials::new("a", "s", None, None, "test"))),
            quotas: Quotas::parse(quotas).unwrap(),
            wake: unbounded_channel().0,
            observer: deadly.clone(),
            fence: Fence::open(),
        };
        let poller = Poller::new(Arc::new(Pool::new(config).await.unwrap()), liveness.clone());
        let scope = Scope::new("111122223333", "eu-west-1");
        let run = Tracked {
            key: key(1),
            run_id: "r1".to_owned(),
            state: None,
            just_started: true,
            created_at: None,
        };
        assert!(!liveness.report().text.contains("looks"), "nothing is to be looked at");
        poller.track(&scope, "vc1", run);
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_mins(1)).await;
            let report = liveness.report();
            assert!(report.good && report.text.contains("[+]looks ok"), "{quotas}: {}", report.text);
        }
        deadly.0.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_hours(3)).await;
        let report = liveness.report();
        let named = report.text.contains("[-]looks of vc1 have had work for");
        assert!(!report.good && named, "{quotas}: {}", report.text);
    }
}

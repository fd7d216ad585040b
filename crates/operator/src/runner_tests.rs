//! The runner under an API server that never answers: passes that hang still move, and a runner that stands still is named.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use emrcontainers_api::JobRun;
use futures::stream;
use kube::{Client, ResourceExt};
use kube_runtime::watcher::Event;
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::busy::Busy;
use crate::context::{Context, Scopes, Waiters, WatchedScope};
use crate::controllers::rules;
use crate::emr::name_lists::NameLists;
use crate::emr::observe::Unobserved;
use crate::emr::poll::Poller;
use crate::emr::pool::{Pool, PoolConfig, Scope};
use crate::fence::Fence;
use crate::field_export::exports::Exports;
use crate::health::{Liveness, Readiness};
use crate::hooks::RunHooks;
use crate::job_run::role::Roles;
use crate::memory::Memories;
use crate::metrics::Metrics;
use crate::quotas::Quotas;
use crate::runner;
use crate::scope::Directory;
use crate::scope::namespace::Namespace;
use crate::settings::Settings;
use crate::store::Store;
use crate::vanished::Vanished;
use crate::watch::Hooks;
use crate::write::{Kind, Writer};
use crate::{event, timing};

/// A runner of JobRuns with one run in its store, and what it works with.
struct Rig {
    liveness: Liveness,
    context: Arc<Context>,
    running: Pin<Box<dyn Future<Output = ()>>>,
}

async fn rig() -> Rig {
    let client = Client::new(Router::new().fallback(std::future::pending::<()>), "default");
    let (liveness, metrics, busy) = (Liveness::default(), Metrics::new(), Busy::default());
    let settings = Settings::from_command_line(["operator", "--aws-region=us-west-2"]).unwrap();
    let config = PoolConfig {
        region: settings.aws_region.clone(),
        endpoint_url: Some("http://127.0.0.1:1".to_owned()),
        identity_endpoint_url: None,
        attempt_timeout: settings.http_client_timeout,
        ca_bundle: None,
        credentials: None,
        quotas: Quotas::Off,
        wake: unbounded_channel().0,
        observer: Arc::new(Unobserved),
        fence: Fence::open(),
    };
    let pool = Arc::new(Pool::new(config).await.unwrap());
    let store = Store::default();
    let run: JobRun = serde_json::from_value(json!({
        "metadata": {"name": "run", "namespace": "ns", "uid": "u", "resourceVersion": "1", "generation": 1},
        "spec": {
            "name": "run", "virtualClusterID": "vc", "releaseLabel": "emr-7.2.0-latest",
            "executionRoleARN": "arn:aws:iam::111122223333:role/job",
            "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://bucket/job.py"}},
        },
    }))
    .unwrap();
    store.take_in(Event::Apply(run));
    let (wake, woken) = unbounded_channel();
    let work = liveness.part("passes", "JobRuns", timing::STUCK);
    let runs =
        WatchedScope { namespace: None, store, wake, passes: work.clone(), listed: CancellationToken::new() };
    let home = Scope::new("111122223333", &settings.aws_region);
    let directory = Directory::new(rules(&settings, &home), unbounded_channel().0);
    directory.set_namespace("ns", Some(Namespace::default()));
    let context = Arc::new(Context {
        poller: Poller::new(Arc::clone(&pool), liveness.clone()),
        name_lists: NameLists::default(),
        pool,
        directory,
        home,
        partition: "aws".to_owned(),
        events: event::channel(client.clone(), "test", busy.clone(), metrics.clone()).0,
        metrics,
        job_runs: Memories::default(),
        clusters: Memories::default(),
        job_run_scopes: Scopes(vec![runs]),
        cluster_scopes: Scopes(Vec::new()),
        waiters: Waiters::default(),
        roles: Roles::new(client.clone()),
        exports: Exports::new(Scopes(Vec::new())),
        access: Access::new(&Readiness::default()),
        started: Instant::now(),
        writer: Writer { client: client.clone(), fence: Fence::open(), vanished: Vanished::default() },
        client,
        settings,
    });
    let woken = stream::unfold(woken, |mut woken| async move { Some((woken.recv().await?, woken)) });
    let running =
        Box::pin(runner::run::<JobRun>(woken, Arc::clone(&context), busy, work, CancellationToken::new()));
    Rig { liveness, context, running }
}

impl Rig {
    /// Lets the runner run for a while.
    async fn go_on(&mut self, time: Duration) {
        tokio::select! {
            () = &mut self.running => panic!("the runner should not end"),
            () = tokio::time::sleep(time) => {}
        }
    }

    fn assert_stuck(&self) {
        let report = self.liveness.report();
        assert!(
            !report.good && report.text.contains("[-]passes of JobRuns have had work"),
            "{}",
            report.text
        );
    }
}

#[tokio::test(start_paused = true)]
async fn passes_that_hang_still_move_and_a_runner_that_stands_still_amid_them_is_stuck() {
    let mut rig = rig().await;
    rig.context.job_run_scopes.wake("ns", "run");
    for _ in 0..60 {
        rig.go_on(timing::STEP / 2).await;
        let report = rig.liveness.report();
        assert!(report.good, "an API server that hangs is no reason to restart: {}", report.text);
    }
    let metrics = rig.context.metrics.encode().unwrap();
    assert!(metrics.contains("timeout"), "passes should have been made: {metrics}");

    // Nobody lets it go on any more, whatever it was at.
    tokio::time::sleep(timing::BACKOFF_LONGEST * 2 + timing::STEP + timing::STUCK).await;
    rig.assert_stuck();
    rig.go_on(timing::STEP * 2).await;
    assert!(rig.liveness.report().good, "it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_stands_still_is_stuck_only_when_there_is_something_to_do() {
    let mut rig = rig().await;
    rig.go_on(timing::STEP).await;
    tokio::time::sleep(timing::STUCK * 12).await;
    assert!(rig.liveness.report().good, "nothing is to be done");
    rig.context.job_run_scopes.wake("ns", "run");
    tokio::time::sleep(timing::STUCK).await;
    assert!(rig.liveness.report().good);
    tokio::time::sleep(timing::STEP).await;
    rig.assert_stuck();
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_an_object_that_is_gone_is_done_at_once() {
    let mut rig = rig().await;
    rig.context.job_run_scopes.wake("ns", "gone");
    rig.go_on(timing::STUCK * 2).await;
    assert!(rig.liveness.report().good);
}

#[tokio::test(start_paused = true)]
async fn lists_are_not_trusted_at_once_for_a_run_that_another_operator_may_have_started() {
    let rig = rig().await;
    let (gone, _) = unbounded_channel();
    let hooks = RunHooks { context: Arc::clone(&rig.context), listed: CancellationToken::new(), gone };
    let doubts = |uid: &str, finalizers: &[&str], status: serde_json::Value| {
        let metadata = json!({"name": uid, "namespace": "ns", "uid": uid, "finalizers": finalizers});
        let run = json!({"metadata": metadata, "spec": {}, "status": status});
        hooks.appeared(&serde_json::from_value(run).unwrap());
        rig.context.job_runs.get(uid).unanswered.is_some()
    };
    let ours = [JobRun::FINALIZER];
    assert!(doubts("unsaved", &ours, json!({})));
    assert!(!doubts("new", &[], json!({})));
    assert!(!doubts("saved", &ours, json!({"id": "jr1", "state": "RUNNING"})));
    assert!(!doubts("refused", &ours, json!({"state": "FAILED"})));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_runs_that_waited_for_a_cluster_and_are_gone() {
    let mut rig = rig().await;
    let run = |name: &str, status: serde_json::Value| -> JobRun {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "generation": 1},
            "spec": {"virtualClusterRef": {"from": {"name": "never"}}},
            "status": status,
        }))
        .unwrap()
    };
    let waiting = run("waiting", json!({}));
    let submitted = run("submitted", json!({"id": "jr1", "virtualClusterID": "vc1", "state": "RUNNING"}));
    for run in [&waiting, &submitted] {
        rig.context.job_run_scopes.0[0].store.take_in(Event::Apply(run.clone()));
        rig.context.job_run_scopes.wake("ns", &run.name_any());
    }
    rig.go_on(timing::STEP).await;
    assert_eq!(rig.context.waiters.names(), ["waiting"], "the other one has all that it needs");
    let (gone, _) = unbounded_channel();
    let hooks = RunHooks { context: Arc::clone(&rig.context), listed: CancellationToken::new(), gone };
    hooks.deleted(&waiting);
    assert!(rig.context.waiters.names().is_empty());
}

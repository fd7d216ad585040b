//! Everything that runs only while this replica leads: the watches, the controllers, and what wakes them.
//!
//! Must not decide anything about an object. Invariant: it ends by itself after `stop`, once the passes that run have
//! ended; a namespace that is watched has one watch a kind.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use emrcontainers_api::field_export::FieldExport;
use emrcontainers_api::job_run::JobRun;
use emrcontainers_api::virtual_cluster::VirtualCluster;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, future, stream};
use kube::Client;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::busy::Busy;
use crate::context::{Context, Scopes, Waiters, WatchedScope};
use crate::emr::hints::Receiver;
use crate::emr::limit::RunKey;
use crate::emr::name_lists::NameLists;
use crate::emr::poll::Poller;
use crate::emr::pool::{Identity, Pool, PoolConfig, Scope};
use crate::event::Events;
use crate::fence::{Fence, Moment};
use crate::field_export::controller::{ExportHooks, once_listable};
use crate::field_export::exports::Exports;
use crate::health::{Gate, Liveness, Readiness, Work};
use crate::hooks::{ClusterHooks, RunHooks};
use crate::job_run::role::Roles;
use crate::memory::Memories;
use crate::metrics::{Metrics, RunState};
use crate::observer::Counting;
use crate::pass::Reconciled;
use crate::runner;
use crate::scope::decide::Rules;
use crate::scope::{Change, Directory, watch as scope_watch};
use crate::settings::Settings;
use crate::shadow;
use crate::store::Store;
use crate::timing;
use crate::vanished::{self, Vanished};
use crate::watch::{Hooks, Watched, watch};
use crate::write;

/// What the process offers its controllers.
#[derive(Clone)]
pub struct Process {
    /// What the user asked for.
    pub settings: Settings,
    /// A file of PEM certificates to trust besides the system's.
    pub ca_bundle: Option<std::path::PathBuf>,
    /// The API server.
    pub client: Client,
    /// Whether this process may still act.
    pub fence: Fence,
    /// Where to count.
    pub metrics: Metrics,
    /// Where to say what /readyz should wait for.
    pub readiness: Readiness,
    /// Who looks up what the API server lets us do.
    pub access: Access,
    /// Where to say what has to move for /healthz.
    pub liveness: Liveness,
    /// Where to hand over Kubernetes Events.
    pub events: Events,
    /// What yields to passes looks at it.
    pub busy: Busy,
}

/// One kind in one watched namespace, before its controller runs.
struct Half<K: Watched> {
    namespace: Option<String>,
    store: Store<K>,
    woken: UnboundedReceiver<ObjectRef<K>>,
    wake: UnboundedSender<ObjectRef<K>>,
    listed: CancellationToken,
    passes: Work,
}

impl<K: Watched> Half<K> {
    fn new(namespace: Option<&str>, passes: Work) -> Self {
        let (wake, woken) = mpsc::unbounded_channel();
        Self {
            namespace: namespace.map(str::to_owned),
            store: Store::default(),
            woken,
            wake,
            listed: CancellationToken::new(),
            passes,
        }
    }

    fn scope(&self) -> WatchedScope<K> {
        WatchedScope {
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            wake: self.wake.clone(),
            listed: self.listed.clone(),
            passes: self.passes.clone(),
        }
    }
}

/// Runs the controllers until `stop`.
pub async fn run(process: Process, stop: CancellationToken) -> anyhow::Result<()> {
    let aws = process.readiness.gate("aws", "the AWS identity has not been looked up yet");
    let stores = process.readiness.gate("stores", "the objects have not been listed yet");
    let (awaken, awakened) = mpsc::unbounded_channel();
    let pool = Arc::new(pool(&process, awaken).await?);
    let Some(((), identity)) =
        until(&stop, future::join(process.access.listable(), identity(&pool, &aws))).await
    else {
        return Ok(());
    };
    tracing::info!(account = identity.account, region = process.settings.aws_region, "controllers start");

    let watched = &process.settings.watch_namespaces;
    let namespaces = places(watched);
    let [run_work, cluster_work, export_work, gone_work] =
        ["JobRuns", "VirtualClusters", "FieldExports", "what is gone"]
            .map(|of| process.liveness.part("passes", of, timing::STUCK));
    let runs: Vec<Half<JobRun>> =
        namespaces.iter().map(|namespace| Half::new(*namespace, run_work.clone())).collect();
    let clusters: Vec<Half<VirtualCluster>> =
        namespaces.iter().map(|namespace| Half::new(*namespace, cluster_work.clone())).collect();
    let exports = namespaces.iter().filter(|_| process.settings.field_exports);
    let exports: Vec<Half<FieldExport>> =
        exports.map(|namespace| Half::new(*namespace, export_work.clone())).collect();
    let home = Scope::new(identity.account, &process.settings.aws_region);
    let (tell, changes) = mpsc::unbounded_channel();
    let context = Arc::new(Context {
        poller: Poller::new(Arc::clone(&pool), process.liveness.clone()),
        name_lists: NameLists::default(),
        pool,
        directory: Directory::new(rules(&process.settings, &home), tell),
        home,
        partition: identity.partition,
        metrics: process.metrics.clone(),
        events: process.events.clone(),
        job_runs: Memories::default(),
        clusters: Memories::default(),
        job_run_scopes: Scopes(runs.iter().map(Half::scope).collect()),
        cluster_scopes: Scopes(clusters.iter().map(Half::scope).collect()),
        waiters: Waiters::default(),
        roles: Roles::new(process.client.clone()),
        exports: Exports::new(Scopes(exports.iter().map(Half::scope).collect())),
        access: process.access.clone(),
        started: Instant::now(),
        client: process.client.clone(),
        writer: write::Writer {
            client: process.client.clone(),
            fence: fence_of_writes(&process),
            vanished: Vanished::default(),
        },
        settings: process.settings.clone(),
    });
    count_runs_on_scrape(&context);
    let (tell, gone) = mpsc::unbounded_channel();
    let hooks = |listed| -> Arc<dyn Hooks<VirtualCluster>> {
        Arc::new(ClusterHooks { context: Arc::clone(&context), listed, gone: tell.clone() })
    };
    let of_clusters = stream::select_all(all_triggers(clusters, &context, hooks));
    let hooks = |listed| -> Arc<dyn Hooks<JobRun>> {
        Arc::new(RunHooks { context: Arc::clone(&context), listed, gone: tell.clone() })
    };
    let of_runs = stream::select_all(all_triggers(runs, &context, hooks));
    let scopes = keep_up(&process, &context, changes);
    if process.settings.read_only {
        let judged = shadow::run(Arc::clone(&context), of_clusters.boxed(), of_runs.boxed(), stores, stop);
        return tokio::select! {
            () = judged => Ok(()),
            error = scopes => Err(error),
        };
    }
    let hooks = |listed| -> Arc<dyn Hooks<FieldExport>> {
        Arc::new(ExportHooks { context: Arc::clone(&context), listed })
    };
    let of_exports = once_listable(&context, all_triggers(exports, &context, hooks));
    let cluster_passes = async {
        // Nobody acts before it is known in whose name.
        if until(&stop, context.directory.known()).await.is_some() {
            runner::run(of_clusters, Arc::clone(&context), process.busy.clone(), cluster_work, stop.clone())
                .await;
        }
    };
    let export_passes =
        runner::run(of_exports, Arc::clone(&context), process.busy.clone(), export_work, stop.clone());
    let run_passes = async {
        // A run must not be judged before the clusters that it may refer to are known.
        if until(&stop, context.cluster_scopes.listed()).await.is_some() {
            runner::run(of_runs, Arc::clone(&context), process.busy.clone(), run_work, stop.clone()).await;
        }
    };
    let listed = future::join(context.job_run_scopes.listed(), context.cluster_scopes.listed());
    let listed = listed.map(|_| stores.open());
    let woken = wake_runs(awakened, Arc::clone(&context));
    let hints = hints(&process, &context);
    tokio::select! {
        _ = future::join3(cluster_passes, run_passes, export_passes) => Ok(()),
        // Never ends by itself: readiness is a remark, not work.
        () = listed.then(|()| future::pending()) => Ok(()),
        // Never ends either: what hints tell, lists tell too.
        () = hints => Ok(()),
        () = vanished::see_off(gone, &context, &gone_work) => anyhow::bail!("nobody sees off what is gone any more"),
        // Nor does this.
        error = scopes => Err(error),
        () = woken => anyhow::bail!("nothing wakes the runs any more"),
    }
}

/// The AWS side.
async fn pool(process: &Process, wake: UnboundedSender<RunKey>) -> anyhow::Result<Pool> {
    let settings = &process.settings;
    let pool = Pool::new(PoolConfig {
        region: settings.aws_region.clone(),
        endpoint_url: settings.aws_endpoint_url.clone(),
        identity_endpoint_url: settings.aws_identity_endpoint_url.clone(),
        attempt_timeout: settings.http_client_timeout,
        ca_bundle: process.ca_bundle.clone(),
        quotas: settings.aws_quotas.clone(),
        credentials: None,
        wake,
        observer: Arc::new(Counting::new(process.metrics.clone())),
        fence: process.fence.clone(),
    })
    .await
    .context("the AWS side can't be set up")?;
    Ok(if settings.read_only { pool.reading_only() } else { pool })
}

/// Whether writes may be made: in shadow mode never.
fn fence_of_writes(process: &Process) -> Fence {
    if process.settings.read_only { Fence::until(Moment::now()) } else { process.fence.clone() }
}

/// Those that are watched; all in one if none is named.
fn places(watched: &[String]) -> Vec<Option<&str>> {
    if watched.is_empty() { vec![None] } else { watched.iter().map(|name| Some(name.as_str())).collect() }
}

/// Receives the events of runs, if there is a queue for them. Not in /readyz: without them runs are observed all the same.
async fn hints(process: &Process, context: &Context) {
    let queue = process.settings.event_queue.as_ref();
    // Messages that are received are deleted.
    let queue = queue.filter(|_| process.settings.worked_on.includes(JobRun::KIND));
    let Some(queue) = queue else { return future::pending().await };
    let work = process.liveness.part("hints", "the event queue", timing::STUCK);
    let poller = context.poller.clone();
    let receiver = Receiver::new(queue, Arc::clone(&context.pool), poller, &context.home.account);
    receiver.run(work).await;
}

/// What asks for passes over the objects of a kind, for each watched namespace.
fn all_triggers<K: Reconciled>(
    halves: Vec<Half<K>>,
    context: &Context,
    hooks: impl Fn(CancellationToken) -> Arc<dyn Hooks<K>>,
) -> Vec<BoxStream<'static, ObjectRef<K>>> {
    let of = |half: Half<K>| {
        let hooks = hooks(half.listed.clone());
        triggers(half, context, hooks)
    };
    halves.into_iter().map(of).collect()
}

/// What asks for passes over the objects of a kind in a watched namespace: its watch, and whoever wakes one.
fn triggers<K: Reconciled>(
    half: Half<K>,
    context: &Context,
    hooks: Arc<dyn Hooks<K>>,
) -> BoxStream<'static, ObjectRef<K>> {
    let Half { namespace, store, woken, wake: _, listed: _, passes: _ } = half;
    let watched = watch(
        &context.client,
        namespace.as_deref(),
        &context.settings.watch_selector,
        store,
        hooks,
        &context.metrics,
    );
    let woken = stream::unfold(woken, |mut woken| async move { Some((woken.recv().await?, woken)) });
    stream::select(watched, woken).boxed()
}

/// Wakes the runs that the poller and the queues name.
async fn wake_runs(mut keys: UnboundedReceiver<RunKey>, context: Arc<Context>) {
    while let Some(key) = keys.recv().await {
        if context.writer.vanished.contains(Some(&key.uid)) {
            continue;
        }
        let stored = context.job_run_scopes.get(&key.namespace, &key.name);
        if stored.is_some_and(|run| run.metadata.uid.as_deref() == Some(&key.uid)) {
            context.job_run_scopes.wake(&key.namespace, &key.name);
        } else {
            // The object went while its run was being started: nobody else ends the watch over the run.
            context.poller.untrack(&key.uid);
        }
    }
}

/// Keeps up with what decides who acts, and wakes the objects that depend on it. It ends only when it can't go on.
async fn keep_up(
    process: &Process,
    context: &Arc<Context>,
    changes: UnboundedReceiver<Change>,
) -> anyhow::Error {
    let Settings { watch_namespaces, system_namespace, .. } = &process.settings;
    future::join(
        scope_watch::keep_up(&context.directory, &process.client, watch_namespaces, system_namespace),
        wake_concerned(changes, Arc::clone(context)),
    )
    .await;
    anyhow::anyhow!("nothing keeps up with namespaces any more")
}

/// Wakes the objects that depend on what has changed.
async fn wake_concerned(mut changes: UnboundedReceiver<Change>, context: Arc<Context>) {
    while let Some(change) = changes.recv().await {
        context.wake_concerned(&change);
    }
}

/// Who acts where, as far as flags and our own credentials decide it.
pub(crate) fn rules(settings: &Settings, home: &Scope) -> Rules {
    let gates = settings.feature_gates;
    Rules {
        home: home.clone(),
        carm: settings.enable_carm,
        teams: gates.team_level_carm,
        of_service: gates.service_level_carm,
        selectors: gates.iam_role_selector,
        allow_unsafe: settings.allow_unsafe_aws_endpoint_urls,
    }
}

/// The gauge of runs by state is counted when somebody asks for it.
fn count_runs_on_scrape(context: &Arc<Context>) {
    let context = Arc::downgrade(context);
    let metrics = context.upgrade().map(|context| context.metrics.clone());
    let Some(metrics) = metrics else { return };
    metrics.on_scrape(move |metrics| {
        let Some(context) = context.upgrade() else { return };
        let mut counts = RunState::ALL.map(|state| (state, 0_usize));
        for scope in &context.job_run_scopes.0 {
            scope.store.each(|run| {
                let state = run.unwrap_or_else(RunState::of);
                if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == state) {
                    *count += 1;
                }
            });
        }
        for (state, count) in counts {
            metrics.set_job_runs(state, count);
        }
    });
}

/// Waits until AWS says who we are, and says on /readyz why it doesn't.
async fn identity(pool: &Pool, gate: &Gate) -> Identity {
    loop {
        match pool.identity().await {
            Ok(identity) => {
                gate.open();
                return identity;
            }
            Err(error) => {
                let why = format!("the AWS identity can't be looked up: {error}");
                tracing::warn!("{why}");
                gate.close(why);
            }
        }
        tokio::time::sleep(timing::START_UP_RETRY).await;
    }
}

/// The outcome of a future, or `None` if the process is to stop first.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        outcome = work => Some(outcome),
        () = stop.cancelled() => None,
    }
}

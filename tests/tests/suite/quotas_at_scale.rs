//! The documented quotas under a load that they bound: used in full, never exceeded, shared fairly.
//!
//! Time passes faster, see [`tests::documented`]; the same at true scale is a load of `make bench`.

use std::iter;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::{LoggedRequest, Options, Rule};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::control_plane::shared;
use tests::documented;
use tests::history::History;
use tests::manifest::{job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, condition, status};
use tests::simulator::{all_calls, calls, endless, quick, requests};
use tests::wait;
use tokio::time::MissedTickBehavior;

/// A thousand starts take 27 s instead of 16 minutes.
const REFILLS: f64 = 30.0;
const BUCKETS: u32 = 8;
/// What is left of the bucket for StartJobRun after the margin of a tenth.
const USABLE: usize = 180;
/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// One owner has most of the runs, nine have these each.
const SMALL: usize = 11;
const RUNS: usize = 1000;
/// Creates in flight, as of ten people with kubectl.
const AT_ONCE: usize = 16;

/// An AWS with these quotas and an operator that knows them.
async fn bounded(name: &str, quotas: &str, more: &[&str]) -> Result<TestEnv> {
    let options = Options { quotas: quotas.parse()?, ..quick() };
    let quotas = format!("--aws-quotas={quotas}");
    TestEnv::with(name, options, |operator| operator.arguments(&[&[quotas.as_str()], more].concat())).await
}

/// The same number of runs, and nothing that happens to them after the start.
fn standing_still() -> Rule {
    Rule { name: Some("*".to_owned()), pending_seconds: Some(3600.0), ..Rule::default() }
}

fn name(request: &LoggedRequest) -> &str {
    request.body.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// Creates JobRuns in this order, some at the same time.
async fn create(runs: Vec<(Api<DynamicObject>, String)>) -> Result<()> {
    let created = stream::iter(runs).map(|(api, name)| async move {
        let run = objects::parse(&job_run(&name, "vc", ""))?.pop().context("a run")?;
        anyhow::Ok(api.create(&PostParams::default(), &run).await?)
    });
    created.buffered(AT_ONCE).try_for_each(async |_| Ok(())).await
}

#[tokio::test]
async fn a_thousand_runs_of_ten_owners_use_the_quota_in_full_and_the_small_owners_go_first() -> Result<()> {
    let client = shared().await?.client()?;
    let mut owners = Vec::new();
    for share in iter::once(RUNS - 9 * SMALL).chain(iter::repeat_n(SMALL, 9)) {
        owners.push((Namespace::create(&client, "owner").await?, share));
    }
    let names: Vec<&str> = owners.iter().map(|(namespace, _)| namespace.name()).collect();
    let quotas = documented::scaled(REFILLS, BUCKETS);
    let env = bounded("thousand", &quotas, &["--watch-namespace", &names.join(",")]).await?;
    env.simulator().add_outcome(standing_still())?;
    for namespace in &names {
        objects::apply(&client, namespace, &virtual_cluster("vc", namespace)).await?;
    }
    for namespace in &names {
        let ready = |vc: &DynamicObject| condition(vc, "Ready").is_some_and(|ready| ready.status == "True");
        let clusters = objects::ours(&client, namespace, "VirtualCluster");
        env.until(clusters, "vc", "should be ready", ready).await?;
    }

    // All owners apply at the same pace, until each has no more.
    let mut runs = Vec::new();
    for number in 0..RUNS {
        for (owner, (namespace, _)) in owners.iter().enumerate().filter(|(_, (_, share))| number < *share) {
            runs.push((objects::ours(&client, namespace.name(), "JobRun"), format!("of-{owner}-{number}")));
        }
    }
    let (last_api, last) = runs.last().cloned().context("a run")?;
    let history = History::record(last_api.clone(), &last).await?;
    let ((), waits) = futures::try_join!(create(runs), times_of_waiting(&env))?;
    let saved = |run: &DynamicObject| status(run, "id").is_some();
    env.until(last_api, &last, "should have its id", saved).await?;

    env.ensure_never_throttled()?;
    let starts = requests(env.simulator(), "StartJobRun");
    ensure!(
        starts.len() == RUNS && env.simulator().snapshot().job_runs.len() == RUNS,
        "{} starts",
        starts.len()
    );
    // Who has few runs has started all when the one with many has started as many, beside what went before anyone waited.
    let small =
        starts.iter().rposition(|start| !name(start).starts_with("of-0-")).context("a small owner")?;
    ensure!(small < USABLE.max(RUNS / 10) + 10, "the last run of a small owner was number {small}");
    // While someone waits the bucket is empty, and what comes in must go out.
    let seconds = waits.iter().fold(0.0, |sum, (from, to)| sum + to.duration_since(*from).as_secs_f64());
    let started =
        |(from, to): &(Timestamp, Timestamp)| starts.iter().filter(|s| *from < s.at && s.at <= *to).count();
    let made = f64::from(u32::try_from(waits.iter().map(started).sum::<usize>())?);
    let writes =
        env.operator().metrics().await?.sum("emrcontainers_status_writes_total", &[("kind", "jobrun")]);
    println!("runs waited for {seconds:.1} s and {made} were started meanwhile; {writes} status writes");
    ensure!(made >= 0.98 * REFILLS * seconds - 1.0, "{made} starts in {seconds} s");
    // One to say that it waits and one for the id: no run writes at every move of the others.
    ensure!((1000.0..=2.1 * 1000.0).contains(&writes), "{writes} status writes");
    let versions = history.versions().await?;
    let told = versions
        .iter()
        .filter_map(|run| condition(run, "Ready"))
        .find(|ready| ready.reason == "WaitingForQuota");
    if let Some(told) = told {
        let words = ["before it", "allows 30 StartJobRun calls"];
        ensure!(words.iter().all(|words| told.message.contains(words)), "{told:?}");
    }
    Ok(())
}

/// The stretches of time in which runs waited for the quota, until all are started.
async fn times_of_waiting(env: &TestEnv) -> Result<Vec<(Timestamp, Timestamp)>> {
    let (mut stretches, mut since, mut looks) = (Vec::new(), None, tokio::time::interval(LOOK));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = tokio::time::Instant::now() + 3 * tests::cluster::PATIENCE;
    while requests(env.simulator(), "StartJobRun").len() < RUNS {
        ensure!(tokio::time::Instant::now() < end, "not all runs are started in time");
        looks.tick().await;
        let before = Timestamp::now();
        let metrics = env.operator().metrics().await?;
        let now = (metrics.sum("emrcontainers_quota_waiting", &[]) >= 1.0).then_some(before);
        stretches.extend(since.zip(now));
        since = now;
    }
    Ok(stretches)
}

#[tokio::test]
async fn a_run_of_greater_priority_goes_first_in_its_namespace_at_once_and_a_bad_one_is_told() -> Result<()> {
    let env = TestEnv::with("priority", quick(), |operator| {
        operator.arguments(&["--aws-quotas=StartJobRun=0.3:1"])
    })
    .await?;
    let annotation = "emrcontainers.services.k8s.aws/priority";
    env.ready_cluster("vc").await?;
    for name in ["first", "a", "b", "c", "d"] {
        env.apply(&job_run(name, "vc", "")).await?;
    }
    let reason = |run: &DynamicObject| condition(run, "Ready").map(|ready| ready.reason.to_owned());
    let waits = |run: &DynamicObject| reason(run).as_deref() == Some("WaitingForQuota");
    for name in ["c", "d"] {
        env.until(env.job_runs(), name, "should wait", waits).await?;
    }
    env.annotate(env.job_runs(), "d", annotation, "10").await?;
    env.annotate(env.job_runs(), "c", annotation, "high").await?;
    env.message(env.job_runs(), "d", "Ready", "it is the next of").await?;
    let misled = env.condition(env.job_runs(), "c", "ACK.Advisory", "True").await?;
    let advice = condition(&misled, "ACK.Advisory").context("the advice")?;
    ensure!(
        advice.reason == "InvalidPriority" && advice.message.contains("\"high\" is not a whole number"),
        "{advice:?}"
    );
    env.annotate(env.job_runs(), "c", annotation, "-1").await?;
    let mended = |run: &DynamicObject| condition(run, "ACK.Advisory").is_none();
    env.until(env.job_runs(), "c", "should not be told of a bad priority any more", mended).await?;
    env.job_run_in("c", "COMPLETED").await?;
    let starts = requests(env.simulator(), "StartJobRun");
    let order: Vec<&str> = starts.iter().map(name).collect();
    // At most one other had its turn before "d" was raised; "a" and "b" may ask in either order.
    ensure!(order.len() == 5 && order[0] == "first" && order[4] == "c", "{order:?}");
    ensure!(order[1..=2].contains(&"d"), "{order:?}");
    let told = env.events("b").await?.into_iter().filter(|event| event.reason == "WaitingForQuota").count();
    ensure!(told <= 1, "one event for a wait, and there are {told}");
    Ok(())
}

#[tokio::test]
async fn live_runs_and_clusters_that_are_deleted_together_go_within_the_quota() -> Result<()> {
    const LIVE: u64 = 200;
    const CLUSTERS: u64 = 60;
    let quotas = "StartJobRun=1000:1000,CreateVirtualCluster=100:100,CancelJobRun=8:50,DeleteVirtualCluster=8:50,\
                  ListJobRuns=100:100,all=2000:2000";
    let env = bounded("mass-cancel", quotas, &[]).await?;
    env.simulator().add_outcome(endless("*"))?;
    env.ready_cluster("vc").await?;
    create((0..LIVE).map(|number| (env.job_runs(), format!("run-{number}"))).collect()).await?;
    for number in 1..CLUSTERS {
        env.apply(&virtual_cluster(&format!("vc-{number}"), &format!("spark-{number}"))).await?;
    }
    let (all, none) = (ListParams::default(), DeleteParams::default());
    let live = async |api: Api<DynamicObject>| {
        wait::eventually(tests::cluster::PATIENCE, "everything should be RUNNING", async || {
            let objects = api.list(&ListParams::default()).await?.items;
            Ok(objects.iter().all(|object| status(object, "state") == Some("RUNNING")).then_some(()))
        })
        .await
    };
    futures::try_join!(live(env.job_runs()), live(env.virtual_clusters()))?;
    let (runs, clusters) = (env.job_runs(), env.virtual_clusters());
    futures::try_join!(runs.delete_collection(&none, &all), clusters.delete_collection(&none, &all))?;
    wait::eventually(tests::cluster::PATIENCE, "a run should say that its cancel waits", async || {
        let runs = env.job_runs().list(&ListParams::default()).await?.items;
        let told = |run: &DynamicObject| {
            condition(run, "Ready")
                .is_some_and(|ready| ready.message.contains("waits for its turn to be cancelled"))
        };
        Ok(runs.iter().any(told).then_some(()))
    })
    .await?;
    wait::eventually(tests::cluster::PATIENCE, "everything should be gone", async || {
        let left = env.job_runs().list(&all).await?.items.len()
            + env.virtual_clusters().list(&all).await?.items.len();
        Ok((left == 0).then_some(()))
    })
    .await?;
    env.ensure_never_throttled()?;
    ensure!(env.simulator().snapshot().job_runs.iter().all(|job| job.state == "CANCELLED"));
    let cancels = calls(env.simulator(), "CancelJobRun");
    let deletes = calls(env.simulator(), "DeleteVirtualCluster");
    ensure!(cancels == LIVE, "{cancels} cancels for {LIVE} runs");
    ensure!(deletes == CLUSTERS, "{deletes} deletes for {CLUSTERS} clusters");
    Ok(())
}

/// A finished run, as an earlier process left it.
fn finished(name: &str) -> Result<(DynamicObject, Value)> {
    let manifest =
        job_run(name, "vc", "").replace("virtualClusterRef: {from: {name: vc}}", "virtualClusterID: vc1");
    let mut run = objects::parse(&manifest)?.pop().context("a run")?;
    run.metadata.finalizers = Some(vec!["finalizers.emrcontainers.services.k8s.aws/JobRun".to_owned()]);
    let arn = "arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/vc1/jobruns/0000000";
    let status = json!({"status": {
        "id": "0000000", "state": "COMPLETED", "observedGeneration": 1,
        "ackResourceMetadata": {"arn": arn, "ownerAccountID": "123456789012", "region": "us-west-2"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "COMPLETED"}],
    }});
    Ok((run, status))
}

#[tokio::test]
async fn finished_runs_that_are_deleted_together_cost_one_write_each_and_no_call() -> Result<()> {
    const FINISHED: usize = 500;
    let mut env = TestEnv::new("mass-delete").await?;
    env.operator().terminate().await?;
    let api = &env.job_runs();
    let made = stream::iter(0..FINISHED).map(|number| async move {
        let name = format!("run-{number}");
        let (run, status) = finished(&name)?;
        api.create(&PostParams::default(), &run).await?;
        let patch = kube::api::Patch::Merge(status);
        anyhow::Ok(api.patch_status(&name, &kube::api::PatchParams::default(), &patch).await?)
    });
    made.buffered(AT_ONCE).try_for_each(async |_| Ok(())).await?;
    env.restart_operator().await?;
    let before = all_calls(env.simulator());
    let written = version_of_all(api).await?;
    let begun = std::time::Instant::now();
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    wait::eventually(tests::cluster::PATIENCE, "all should be gone", async || {
        Ok(api.list(&ListParams::default()).await?.items.is_empty().then_some(()))
    })
    .await?;
    println!("{FINISHED} finished runs are gone after {:.1} s", begun.elapsed().as_secs_f64());
    ensure!(all_calls(env.simulator()) == before, "a call was made");
    let (changes, deletions) = changes_since(api, &written, FINISHED).await?;
    // The one change is the API server's own: it marks the object. The finalizer's removal is the deletion.
    ensure!(deletions == FINISHED && changes == FINISHED, "{changes} changes, {deletions} deletions");
    Ok(())
}

async fn version_of_all(api: &Api<DynamicObject>) -> Result<String> {
    let listed = api.list_metadata(&ListParams::default()).await?;
    listed.metadata.resource_version.context("a list has a resource version")
}

/// How many changes the API server has stored since then, up to so many deletions, and how many deletions.
async fn changes_since(api: &Api<DynamicObject>, version: &str, deletions: usize) -> Result<(usize, usize)> {
    let watched = api.watch(&kube::api::WatchParams::default().timeout(60), version).await?;
    let mut watched = std::pin::pin!(watched);
    let (mut changed, mut deleted) = (0, 0);
    while deleted < deletions {
        match watched.try_next().await?.context("the watch ended early")? {
            kube::api::WatchEvent::Modified(_) => changed += 1,
            kube::api::WatchEvent::Deleted(_) => deleted += 1,
            other => ensure!(matches!(other, kube::api::WatchEvent::Bookmark(_)), "{other:?}"),
        }
    }
    Ok((changed, deleted))
}

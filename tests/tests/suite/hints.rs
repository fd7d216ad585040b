//! Hints: events by EventBridge and SQS, both as moto has them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::{Handle, Options, Rule};
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};
use tests::cluster::TestEnv;
use tests::history::{History, Sightings};
use tests::manifest::job_run;
use tests::moto::{self, EventQueue};
use tests::objects::status;
use tests::relay::{Faults, Relay, detail};
use tests::simulator::{calls, endless, failing, quick, requests};
use tests::wait;
use tokio::time::Instant;

/// How late a state may be, from the call of PutEvents to the watch of a client.
const VISIBLE_WITHIN: Duration = Duration::from_millis(300);
/// So many changes must be told before looks get rare.
const EARNED_BY: usize = 10;

/// A world whose operator reads a queue, and events of its runs.
async fn world(name: &str, options: Options, faults: Faults) -> Result<(TestEnv, EventQueue, Relay)> {
    let queue = moto::shared().await?.event_queue(name).await?;
    let url = queue.url().to_owned();
    let env = TestEnv::with(name, options, |operator| {
        operator.arguments(&["--event-queue-url", &url, "--log-level=debug"])
    })
    .await?;
    let relay = Relay::start(env.simulator().url(), &queue, faults);
    Ok((env, queue, relay))
}

/// Runs that stay as they are until a test says otherwise.
fn still() -> Options {
    Options { pending_for: Duration::from_hours(1), ..quick() }
}

async fn apply_many(env: &TestEnv, names: &[String]) -> Result<()> {
    let yaml: Vec<String> = names.iter().map(|name| job_run(name, "vc", "")).collect();
    env.apply(&yaml.join("---")).await.map(drop)
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// Puts a run into a state in AWS.
fn force(env: &TestEnv, name: &str, state: &str) -> Result<String> {
    let id = env.the_job(name)?.id;
    let reason = (state == "FAILED").then(|| "USER_ERROR".to_owned());
    env.simulator().force_job_run(&id, state, reason, None)?;
    Ok(id)
}

async fn hints(env: &TestEnv, outcome: &str) -> Result<f64> {
    Ok(env.operator().metrics().await?.sum("emrcontainers_hints_total", &[("outcome", outcome)]))
}

/// Lets hints tell so much that looks get rare.
async fn earn_trust(env: &TestEnv) -> Result<()> {
    let runs = names("first", EARNED_BY);
    apply_many(env, &runs).await?;
    for run in &runs {
        env.in_aws("should be started", |_| env.the_job(run).ok()).await?;
    }
    for state in ["SUBMITTED", "RUNNING", "COMPLETED"] {
        for run in &runs {
            force(env, run, state)?;
        }
        for run in &runs {
            env.job_run_in(run, state).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_state_is_visible_within_300_ms_of_its_event() -> Result<()> {
    let (env, queue, relay) = world("hints-fast", still(), Faults::default()).await?;
    env.ready_cluster("vc").await?;
    earn_trust(&env).await?;
    let runs = names("timed", 20);
    apply_many(&env, &runs).await?;
    for run in &runs {
        env.job_run_in(run, "PENDING").await?;
    }
    let sightings = Sightings::record(env.job_runs());
    let before = calls(env.simulator(), "ListJobRuns");
    let mut delays = Vec::new();
    for state in ["SUBMITTED", "RUNNING", "COMPLETED"] {
        // One after the other, as runs move by themselves.
        for run in &runs {
            let state = if run.ends_with('7') && state == "COMPLETED" { "FAILED" } else { state };
            let id = force(&env, run, state)?;
            let what = format!("{run} should be seen {state}");
            let delay = wait::eventually(tests::cluster::PATIENCE, &what, async || {
                let (Some(sent), Some(seen)) = (relay.sent(&id, state), sightings.of(run, state)) else {
                    return Ok(None);
                };
                Ok(Some(seen.saturating_duration_since(sent)))
            });
            delays.push(delay.await?);
        }
    }
    delays.sort();
    let at = |percent: usize| delays.get((delays.len() - 1) * percent / 100).copied().unwrap_or_default();
    let lists = calls(env.simulator(), "ListJobRuns") - before;
    println!("visible after {:?} (p50), {:?} (p99), with {lists} lists", at(50), at(99));
    ensure!(at(50) <= VISIBLE_WITHIN, "half of the states took longer than {:?}", at(50));
    // A machine that runs all suites at once is sometimes slower than AWS.
    ensure!(at(90) <= 4 * VISIBLE_WITHIN, "a tenth of the states took longer than {:?}", at(90));
    let failed = env.job_run_in("timed-17", "FAILED").await?;
    ensure!(status(&failed, "failureReason") == Some("USER_ERROR"), "{failed:?}");
    ensure!(status(&failed, "finishedAt").is_some(), "the end is dated by the service: {failed:?}");
    wait::eventually(tests::cluster::PATIENCE, "the queue should be emptied", async || {
        let left = queue.len().await?;
        ensure!(left == 0, "{left} messages are left");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn lost_late_doubled_reordered_foreign_and_broken_events_do_no_harm() -> Result<()> {
    let faults = Faults {
        lost: 0.3,
        late: 0.1,
        late_by: Duration::from_secs(10),
        doubled: 0.3,
        shuffled_by: Duration::from_secs(2),
    };
    let (env, queue, relay) = world("hints-bad", quick(), faults).await?;
    env.simulator().add_outcome(failing("bad-*", "it broke"))?;
    env.simulator().add_outcome(endless("live-*"))?;
    env.ready_cluster("vc").await?;
    let mut watched = Vec::new();
    for name in ["good-0", "good-1", "bad-0", "bad-1"] {
        watched.push((name, History::record(env.job_runs(), name).await?));
    }
    let runs = [names("good", 25), names("bad", 10), names("live", 5)].concat();
    apply_many(&env, &runs).await?;
    rubbish(&queue).await?;
    for run in names("live", 5) {
        env.job_run_in(&run, "RUNNING").await?;
    }
    // Two that live are cancelled by their deletion, and end as everybody else does.
    for run in ["live-3", "live-4"] {
        env.job_runs().delete(run, &DeleteParams::default()).await?;
    }
    for (prefix, count, state) in [("good", 25, "COMPLETED"), ("bad", 10, "FAILED"), ("live", 3, "RUNNING")] {
        for run in names(prefix, count) {
            env.job_run_in(&run, state).await?;
        }
    }
    for run in ["live-3", "live-4"] {
        wait::deleted(env.job_runs(), run, tests::cluster::PATIENCE).await?;
    }
    ensure!(relay.count() > 50, "only {} events were sent", relay.count());
    for run in env.simulator().snapshot().job_runs {
        let Some(object) = env.job_runs().get_opt(&run.name).await? else {
            ensure!(run.state == "CANCELLED", "{} is gone, and its run is {}", run.name, run.state);
            continue;
        };
        let told = ["state", "failureReason"].map(|field| status(&object, field).map(str::to_owned));
        ensure!(told == [Some(run.state), run.failure_reason], "{} says {told:?}", run.name);
    }
    for (name, history) in watched {
        never_goes_back(name, &history).await?;
    }
    for outcome in ["foreign", "unreadable", "untracked"] {
        ensure!(hints(&env, outcome).await? > 0.0, "no hint was {outcome}");
    }
    let log = env.operator().log();
    let words = log.lines().filter(|line| line.contains("\"WARN\"") && line.contains("queue")).count();
    ensure!(words == 0, "rubbish is counted and not logged");
    Ok(())
}

/// States only ever follow one another.
async fn never_goes_back(name: &str, history: &History) -> Result<()> {
    const ORDER: [&str; 5] = ["PENDING", "SUBMITTED", "RUNNING", "COMPLETED", "FAILED"];
    let versions = history.versions().await?;
    let states = versions.iter().filter_map(|run| status(run, "state"));
    let places: Vec<_> = states.map(|state| ORDER.iter().position(|known| *known == state)).collect();
    ensure!(places.is_sorted(), "{name} went back: {places:?} in {ORDER:?}");
    Ok(())
}

/// Messages that are none of our business.
async fn rubbish(queue: &EventQueue) -> Result<()> {
    let event = |account: &str, region: &str| {
        json!({
            "version": "0", "id": "1", "detail-type": moto::DETAIL_TYPE, "source": moto::SOURCE, "account": account,
            "time": Timestamp::now(), "region": region, "resources": [],
            "detail": {"id": "0000000", "virtualClusterId": "vc", "state": "FAILED"},
        })
        .to_string()
    };
    let foreign = event("999999999999", moto::REGION);
    for body in [
        "not json".to_owned(),
        "{}".to_owned(),
        json!({"Type": "Notification", "Message": foreign}).to_string(),
        "x".repeat(200_000),
        event(moto::ACCOUNT, "mars-north-1"),
        foreign,
    ] {
        queue.send(&body).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_forged_event_is_not_believed() -> Result<()> {
    let (env, queue, _relay) = world("hints-forged", quick(), Faults::default()).await?;
    env.simulator().add_outcome(endless("live"))?;
    env.simulator().add_outcome(Rule {
        name: Some("waits".to_owned()),
        pending_seconds: Some(3600.0),
        ..Rule::default()
    })?;
    env.ready_cluster("vc").await?;
    apply_many(&env, &["live".to_owned(), "waits".to_owned()]).await?;
    env.job_run_in("live", "RUNNING").await?;
    env.job_run_in("waits", "PENDING").await?;
    let history = History::record(env.job_runs(), "live").await?;
    for state in ["COMPLETED", "FAILED", "SUBMITTED", "PENDING", "ODD"] {
        queue.put_events(&[(Timestamp::now(), detail(&env.the_job("live")?, state))]).await?;
    }
    queue.put_events(&[(Timestamp::now(), detail(&env.the_job("waits")?, "RUNNING"))]).await?;
    wait::eventually(
        tests::cluster::PATIENCE,
        "the service should be asked, and the hint given up",
        async || {
            let refuted = env.operator().metrics().await?.sum("emrcontainers_hints_refuted_total", &[]);
            Ok((refuted >= 1.0).then_some(()))
        },
    )
    .await?;
    // The state that a live run was moved to wrongly is shown for some seconds, and taken back by a look.
    env.job_run_in("waits", "RUNNING").await?;
    env.job_run_in("waits", "PENDING").await?;
    let versions = history.versions().await?;
    ensure!(versions.iter().all(|run| status(run, "state") == Some("RUNNING")), "{versions:?}");
    let described = calls(env.simulator(), "DescribeJobRun");
    ensure!(described <= 5, "five lies cost {described} calls");
    Ok(())
}

#[tokio::test]
async fn looks_get_rare_while_hints_come_and_take_over_when_the_queue_is_gone() -> Result<()> {
    let (env, queue, _relay) = world("hints-pace", still(), Faults::default()).await?;
    env.ready_cluster("vc").await?;
    let runs = names("run", 12);
    let lists = || calls(env.simulator(), "ListJobRuns");
    earn_trust(&env).await?;
    let before = lists();
    apply_many(&env, &runs).await?;
    let started = Instant::now();
    for run in &runs {
        env.in_aws("should be started", |_| env.the_job(run).ok()).await?;
    }
    // Without hints there would be a look a second all the while.
    for state in ["SUBMITTED", "RUNNING"] {
        for run in &runs {
            force(&env, run, state)?;
            env.job_run_in(run, state).await?;
        }
    }
    for run in runs.iter().skip(2) {
        force(&env, run, "COMPLETED")?;
        env.job_run_in(run, "COMPLETED").await?;
    }
    let (taken, looks) = (started.elapsed(), lists() - before);
    println!("{looks} lists in {taken:?} for 12 runs");
    // The one that was planned before trust was earned, and one a minute.
    ensure!(looks <= 2 + taken.as_secs() / 50, "{looks} lists in {taken:?}");
    queue.delete().await?;
    wait::eventually(
        tests::cluster::PATIENCE,
        "the operator should see that the queue is gone",
        async || {
            let errors = env.operator().metrics().await?.sum("emrcontainers_hint_queue_errors_total", &[]);
            Ok((errors >= 1.0).then_some(()))
        },
    )
    .await?;
    let gone = Instant::now();
    for run in runs.iter().take(2) {
        force(&env, run, "COMPLETED")?;
        env.job_run_in(run, "COMPLETED").await?;
    }
    ensure!(gone.elapsed() < Duration::from_secs(30), "lists took {:?} to take over", gone.elapsed());
    let (code, text) = env.operator().health("/readyz").await?;
    ensure!(code == 200, "a queue is no condition of being ready: {text}");
    let log = env.operator().log();
    let told = log.lines().filter(|line| line.contains("the event queue can't be read")).count();
    ensure!(told == 1, "told {told} times");
    Ok(())
}

#[tokio::test]
async fn looks_take_over_when_events_stop_without_a_trace() -> Result<()> {
    let (env, _queue, relay) = world("hints-silent", still(), Faults::default()).await?;
    env.ready_cluster("vc").await?;
    earn_trust(&env).await?;
    let runs = names("run", 2);
    apply_many(&env, &runs).await?;
    for run in &runs {
        env.in_aws("should be started", |_| env.the_job(run).ok()).await?;
        force(&env, run, "RUNNING")?;
        env.job_run_in(run, "RUNNING").await?;
    }
    // The look that was planned before trust was earned may still be to come: without trust there is one a second.
    let rare = |aws: &Handle| {
        let last = requests(aws, "ListJobRuns").last().map(|request| request.at);
        last.is_some_and(|at| aws.snapshot().now.duration_since(at).as_secs() >= 4).then_some(())
    };
    env.in_aws("looks should be rare", rare).await?;
    drop(relay);
    let mut taken = Vec::new();
    for run in &runs {
        let since = Instant::now();
        force(&env, run, "COMPLETED")?;
        let ended = |run: Option<&DynamicObject>| {
            run.filter(|run| status(run, "state") == Some("COMPLETED")).map(drop)
        };
        // The look that proves the events comes once a minute.
        wait::object(env.job_runs(), run, Duration::from_secs(90), "should be COMPLETED", ended).await?;
        taken.push(since.elapsed());
    }
    println!("seen after {taken:?}");
    let late = |taken: &Duration| *taken > Duration::from_secs(15);
    ensure!(taken.first().is_some_and(late), "looks were not rare: {taken:?}");
    ensure!(!taken.iter().skip(1).any(late), "looks did not take over: {taken:?}");
    Ok(())
}

#[tokio::test]
async fn the_documented_stack_brings_events_to_the_queue() -> Result<()> {
    let template = snippet("yaml", "AWS::SQS::Queue").context("a CloudFormation template in the docs")?;
    let moto = moto::shared().await?;
    let name = format!("documented-{:08x}", rand::random::<u32>());
    let described = moto.create_stack(&name, &template).await?;
    let url = described
        .split("<OutputValue>")
        .skip(1)
        .filter_map(|rest| rest.split("</OutputValue>").next())
        .find(|value| value.starts_with("http"));
    let url = url.with_context(|| format!("the stack has no URL among its outputs: {described}"))?;
    let put = |source: &str, detail_type: &str| {
        let entry =
            json!({"Source": source, "DetailType": detail_type, "Detail": "{\"id\":\"r\"}", "Resources": []});
        json!({ "Entries": [entry] })
    };
    moto.call("AWSEvents.PutEvents", put("aws.emr-containers", "EMR Job Run New Driver Attempt")).await?;
    moto.call("AWSEvents.PutEvents", put(moto::SOURCE, moto::DETAIL_TYPE)).await?;
    let received = moto
        .call(
            "AmazonSQS.ReceiveMessage",
            json!({"QueueUrl": url, "WaitTimeSeconds": 5, "MaxNumberOfMessages": 10}),
        )
        .await?;
    let bodies: Vec<_> =
        received.pointer("/Messages").and_then(Value::as_array).into_iter().flatten().collect();
    ensure!(
        bodies.len() == 1 && bodies.iter().all(|body| body.to_string().contains(moto::DETAIL_TYPE)),
        "{received}"
    );
    // moto has no QueuePolicy and enforces none: of that, and of Terraform, only the words can be compared.
    let terraform = snippet("hcl", "aws_sqs_queue").context("a Terraform snippet in the docs")?;
    for words in [moto::SOURCE, moto::DETAIL_TYPE, "events.amazonaws.com", "aws:SourceArn"] {
        ensure!(terraform.contains(words) && template.contains(words), "{words} is missing in a snippet");
    }
    ensure!(terraform.matches(['{', '[', '(']).count() == terraform.matches(['}', ']', ')']).count());
    Ok(())
}

/// The block of the operations manual in that language that has these words.
fn snippet(language: &str, words: &str) -> Option<String> {
    const MANUAL: &str = include_str!("../../../docs/operations.md");
    let fence = format!("```{language}\n");
    let blocks = MANUAL.split(&fence).skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("\n```").next());
    blocks.find(|block| block.contains(words)).map(str::to_owned)
}

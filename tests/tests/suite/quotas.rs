//! The quota is kept on our side, fairly; and what AWS answers when it has too much to do never becomes anyone's error.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::{Fault, FaultKind, LoggedRequest, Options, ThrottleForm};
use kube::api::{DynamicObject, ListParams};
use serde_json::json;
use tests::cluster::TestEnv;
use tests::control_plane::shared;
use tests::manifest::{ROLE, job_run, virtual_cluster};
use tests::namespace::Namespace;
use tests::objects::{self, condition, status};
use tests::simulator::{calls, quick, requests};

/// Starts a second that the quota allows.
const REFILL: f64 = 4.0;
/// How many at once.
const BUCKET: usize = 3;

/// Fails when more starts came in any stretch of time than a bucket gives.
fn within_quota(starts: &[LoggedRequest]) -> Result<()> {
    for (first, request) in starts.iter().enumerate() {
        for (count, later) in starts.iter().skip(first).enumerate() {
            let passed = later.at.duration_since(request.at).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let allowed = BUCKET as f64 + passed * REFILL;
            // A request that was sent in time may be decided a little earlier than its elders by the network's whim.
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let made = count as f64 + 1.0;
            ensure!(made <= allowed + 0.5, "{made} starts in {passed} s, and {allowed} are allowed");
        }
    }
    Ok(())
}

#[tokio::test]
async fn starts_never_exceed_the_quota_and_namespaces_take_turns() -> Result<()> {
    let client = shared().await?.client()?;
    let many = Namespace::create(&client, "quota-many").await?;
    let few = Namespace::create(&client, "quota-few").await?;
    let (list, quotas) =
        (format!("{},{}", many.name(), few.name()), format!("--aws-quotas=StartJobRun={REFILL}:{BUCKET}"));
    let env = TestEnv::with("quota", quick(), |operator| {
        operator.arguments(&["--watch-namespace", &list, &quotas])
    })
    .await?;
    for namespace in [many.name(), few.name()] {
        objects::apply(&client, namespace, &virtual_cluster("vc", namespace)).await?;
        let ready = |vc: &DynamicObject| condition(vc, "Ready").is_some_and(|ready| ready.status == "True");
        env.until(objects::ours(&client, namespace, "VirtualCluster"), "vc", "should be ready", ready)
            .await?;
    }
    let names: Vec<String> = (0..24).map(|number| format!("many-{number:02}")).collect();
    for name in &names {
        objects::apply(&client, many.name(), &job_run(name, "vc", "")).await?;
    }
    let late: Vec<String> = (0..3).map(|number| format!("few-{number}")).collect();
    for name in &late {
        objects::apply(&client, few.name(), &job_run(name, "vc", "")).await?;
    }
    let hindmost = names.last().context("a name")?;
    let runs = objects::ours(&client, many.name(), "JobRun");
    let told =
        |run: &DynamicObject| condition(run, "Ready").is_some_and(|ready| ready.reason == "WaitingForQuota");
    let waiting = env.until(runs.clone(), hindmost, "should say that it waits", told).await?;
    let ready = condition(&waiting, "Ready").context("Ready")?;
    ensure!(ready.message.contains("the AWS quota allows") && ready.status == "False", "{ready:?}");
    ensure!(env.operator().metrics().await?.sum("emrcontainers_quota_waiting", &[]) >= 1.0);
    let completed = |run: &DynamicObject| status(run, "state") == Some("COMPLETED");
    for name in &late {
        env.until(objects::ours(&client, few.name(), "JobRun"), name, "should end", completed).await?;
    }
    for name in &names {
        env.until(runs.clone(), name, "should end", completed).await?;
    }
    let starts = requests(env.simulator(), "StartJobRun");
    ensure!(starts.len() == names.len() + late.len(), "{} starts", starts.len());
    within_quota(&starts)?;
    let name = |request: &LoggedRequest| {
        request.body.get("name").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let order: Vec<String> = starts.iter().map(name).collect();
    let position = order.iter().rposition(|name| name.starts_with("few")).context("few started")?;
    // What had started before they were applied comes first; then each waits for one of the others at most.
    ensure!(position < names.len() - 3, "those of the small namespace waited for the big one: {order:?}");
    let first = order.iter().position(|name| name.starts_with("few")).context("few started")?;
    ensure!(position - first <= 5, "turns: {order:?}");
    ensure!(env.operator().metrics().await?.sum("emrcontainers_quota_waiting", &[]) < 0.5);
    Ok(())
}

/// Applies runs and waits for the end of all of them; fails if a status ever spoke of an error.
async fn all_complete_without_an_error(env: &TestEnv, count: usize) -> Result<()> {
    env.ready_cluster("vc").await?;
    let names: Vec<String> = (0..count).map(|number| format!("run-{number}")).collect();
    for name in &names {
        env.apply(&job_run(name, "vc", "")).await?;
    }
    for name in &names {
        let ended = |run: &DynamicObject| status(run, "state") == Some("COMPLETED");
        let seen = Mutex::new(None);
        let look = |run: &DynamicObject| {
            if condition(run, "ACK.Recoverable").is_some() || condition(run, "ACK.Terminal").is_some() {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.data.to_string());
            }
            ended(run)
        };
        env.until(env.job_runs(), name, "should end", look).await?;
        let seen = seen.into_inner().ok().flatten();
        ensure!(seen.is_none(), "an error became visible: {seen:?}");
        env.the_job(name)?;
    }
    Ok(())
}

async fn no_event_of_trouble(env: &TestEnv) -> Result<()> {
    for run in env.job_runs().list(&ListParams::default()).await?.items {
        let events = env.events(run.metadata.name.as_deref().unwrap_or_default()).await?;
        ensure!(events.iter().all(|event| event.type_ == "Normal"), "{events:?}");
    }
    Ok(())
}

/// AWS's quota is smaller than the operator was told, so that it answers with throttles.
async fn throttled_by(name: &str, throttle_form: ThrottleForm) -> Result<()> {
    let options = Options {
        quotas: "StartJobRun=4:2,ListJobRuns=4:1,CreateVirtualCluster=1:1,DescribeVirtualCluster=1:1"
            .parse()?,
        throttle_form,
        ..quick()
    };
    let env = TestEnv::with(name, options, |operator| operator.arguments(&["--aws-quotas=off"])).await?;
    all_complete_without_an_error(&env, 6).await?;
    let counters = env.simulator().counters();
    let throttled: u64 = counters.values().map(|counter| counter.throttled).sum();
    println!("{name}: {throttled} throttle replies for 6 runs");
    ensure!(throttled > 0, "nothing was throttled: {counters:?}");
    let metrics = env.operator().metrics().await?;
    ensure!(metrics.sum("emrcontainers_aws_throttled_total", &[]) >= 1.0, "throttles are counted");
    no_event_of_trouble(&env).await
}

#[tokio::test]
async fn a_throttling_exception_is_no_error() -> Result<()> {
    throttled_by("throttle-a", ThrottleForm::ThrottlingException).await
}

#[tokio::test]
async fn a_too_many_requests_exception_is_no_error() -> Result<()> {
    throttled_by("throttle-b", ThrottleForm::TooManyRequestsException).await
}

#[tokio::test]
async fn a_429_without_a_code_is_no_error() -> Result<()> {
    throttled_by("throttle-c", ThrottleForm::Bare429).await
}

#[tokio::test]
async fn a_request_throttled_exception_is_no_error() -> Result<()> {
    throttled_by("throttle-d", ThrottleForm::RequestThrottledException).await
}

#[tokio::test]
async fn an_eks_request_throttled_exception_is_no_error() -> Result<()> {
    throttled_by("throttle-e", ThrottleForm::EksRequestThrottledException).await
}

/// Somebody else with the same account: starts runs and lists them, as fast as the quota lets one.
async fn another_caller(url: &str, cluster: &str) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let runs = format!("{url}/virtualclusters/{cluster}/jobruns");
    let signed = |request: reqwest::RequestBuilder| {
        request.header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIAHUMAN/20261121/us-west-2/emr-containers/aws4_request, SignedHeaders=host, Signature=0",
        )
    };
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(2.0 / REFILL));
    for number in 0_u64.. {
        ticks.tick().await;
        let body = json!({
            "name": "of-a-human", "clientToken": format!("human-{number}"), "releaseLabel": "emr-7.10.0-latest",
            "executionRoleArn": ROLE, "jobDriver": {"sparkSubmitJobDriver": {"entryPoint": "s3://bucket/job.py"}},
        });
        // That it is throttled in its turn is its own affair.
        signed(http.post(&runs)).json(&body).send().await?;
        signed(http.get(&runs)).send().await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_caller_of_the_same_account_only_slows_it_down() -> Result<()> {
    let quotas = format!("StartJobRun={REFILL}:{BUCKET},ListJobRuns=5:10");
    let options = Options { quotas: quotas.parse()?, ..quick() };
    let quotas = format!("--aws-quotas={quotas}");
    let env = TestEnv::with("shared", options, |operator| operator.arguments(&[&quotas])).await?;
    let cluster = env.ready_cluster("vc").await?;
    tokio::select! {
        ended = all_complete_without_an_error(&env, 20) => ended?,
        ended = another_caller(env.simulator().url(), &cluster) => ended?,
    }
    let humans = env.jobs("of-a-human").len();
    let throttled: u64 = env.simulator().counters().values().map(|counter| counter.throttled).sum();
    println!("{humans} starts of another caller, {throttled} throttle replies in all");
    ensure!(humans > 0 && throttled > 0, "{humans} starts of the other caller, {throttled} throttle replies");
    ensure!(env.simulator().snapshot().job_runs.len() == humans + 20);
    no_event_of_trouble(&env).await
}

#[tokio::test]
async fn with_a_third_of_all_answers_errors_every_run_completes_once() -> Result<()> {
    let env =
        TestEnv::with("faults", Options { running_for: Duration::from_millis(500), ..quick() }, |operator| {
            operator.arguments(&["--aws-quotas=off"])
        })
        .await?;
    env.simulator().add_fault(Fault { probability: 0.3, ..Fault::new("*", FaultKind::Status500) })?;
    env.ready_cluster("vc").await?;
    let names: Vec<String> = (0..12).map(|number| format!("run-{number}")).collect();
    for name in &names {
        env.apply(&job_run(name, "vc", "")).await?;
    }
    for name in &names {
        env.job_run_in(name, "COMPLETED").await?;
        env.the_job(name)?;
    }
    let jobs = env.simulator().snapshot().job_runs.len();
    ensure!(jobs == names.len(), "{jobs} jobs for {} runs", names.len());
    println!("{} calls to StartJobRun for {} runs", calls(env.simulator(), "StartJobRun"), names.len());
    Ok(())
}

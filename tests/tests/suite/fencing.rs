//! A leader that stands still until another leads, and requests of its that are late by as much: one job, and no newer
//! status overwritten. Late requests have passed every check of the process that sent them; what holds then is the token
//! in AWS and the resource version in the API server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use emr_simulator::FaultKind;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use tests::cluster::{PATIENCE, TestEnv};
use tests::line::Line;
use tests::manifest::job_run;
use tests::namespace::Namespace;
use tests::objects::{GROUP, status};
use tests::operator::Operator;
use tests::process::Signal;
use tests::simulator::{calls, endless, fail, quick, requests};
use tests::wait;

use crate::leader::LEASE;

/// Short, so that a test doesn't take long, and long enough that a busy machine renews in time.
const LEASE_DURATION: Duration = Duration::from_secs(8);
const TIMES: [&str; 3] = [
    "--leader-election-lease-duration=8s",
    "--leader-election-renew-deadline=6s",
    "--leader-election-retry-period=1s",
];
/// When another must have taken a lease that has run out, on a busy machine.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Two operators on one lease. The first leads, and reaches AWS and the API server by lines on which its requests can be
/// held up.
struct Pair {
    env: TestEnv,
    first: Operator,
    second: Operator,
    leases: Api<Lease>,
    to_aws: Line,
    to_api: Line,
}

impl Pair {
    /// Starts both, with a virtual cluster `vc` that is ready.
    async fn start(name: &str) -> Result<Self> {
        let of_lease =
            Namespace::create(&tests::control_plane::shared().await?.client()?, &format!("{name}-lease"))
                .await?;
        let env = TestEnv::with(name, quick(), |operator| {
            operator.leader_election(of_lease.name()).arguments(&TIMES).without_waiting()
        })
        .await?;
        let leases: Api<Lease> = Api::namespaced(env.client().clone(), of_lease.name());
        let to_aws = Line::to(env.simulator().url()).await?;
        let (to_api, kubeconfig) = env.plane().line().await?;
        leads(env.operator()).await?;
        let first = env
            .builder()
            .aws_url(to_aws.url())
            .kubeconfig(kubeconfig)
            // Shows each request.
            .environment("RUST_LOG", "info,kube_client=debug")
            .start(env.plane().scratch())
            .await?;
        // The lines could only be laid once there was an AWS; the one that was started with it has had its use.
        ensure!(env.operator().terminate().await? == 0);
        leads(&first).await?;
        let second = env.builder().start(env.plane().scratch()).await?;
        env.ready_cluster("vc").await?;
        Ok(Self { env, first, second, leases, to_aws, to_api })
    }

    async fn lease(&self) -> Result<LeaseSpec> {
        self.leases.get(LEASE).await?.spec.context("a lease without a spec")
    }

    /// Stops the first where it is, until its lease has run out and the second leads.
    async fn first_stands_still(&self) -> Result<()> {
        self.first.process().signal(Signal::STOP)?;
        let last = self.lease().await?;
        leads(&self.second).await?;
        let next = self.lease().await?;
        let renewed = last.renew_time.context("no time of the last renewal")?.0;
        let taken = next.acquire_time.as_ref().context("no time of the take-over")?.0.duration_since(renewed);
        println!("the lease was taken {:.2} s after its last renewal", taken.as_secs_f64());
        let taken = taken.unsigned_abs();
        ensure!(taken >= LEASE_DURATION, "it was not respected");
        ensure!(taken < LEASE_DURATION + TAKEN_WITHIN, "it was waited for too long");
        ensure!(next.lease_transitions == last.lease_transitions.map(|before| before + 1), "{next:?}");
        Ok(())
    }

    /// Lets the first go on, which must end by itself at once.
    async fn first_wakes_and_ends(&self) -> Result<()> {
        let before = self.first.log().len();
        let woken = std::time::Instant::now();
        self.first.process().signal(Signal::CONT)?;
        let code = self.first.process().wait_exit(PATIENCE).await?;
        println!("the first ended {} ms after it woke", woken.elapsed().as_millis());
        let log = self.first.log();
        let last = log.get(before..).unwrap_or_default();
        ensure!(code == 1 && last.contains("the lease is lost"), "it ended with {code}:\n{last}");
        // Nothing came of what it was at, and it sent no other write of an object.
        let writes =
            |line: &str| line.contains(GROUP) && ["PUT", "PATCH"].iter().any(|method| line.contains(method));
        ensure!(!last.contains("job run submitted") && !last.lines().any(writes), "it went on:\n{last}");
        Ok(())
    }

    async fn until(&self, what: &str, is: impl Fn() -> bool) -> Result<()> {
        wait::eventually(PATIENCE, what, async || Ok(is().then_some(()))).await
    }
}

async fn leads(operator: &Operator) -> Result<()> {
    let leading = wait::eventually(PATIENCE, "it should lead", async || {
        if let Err(ended) = operator.ensure_running() {
            return Ok(Some(Err(ended)));
        }
        Ok((operator.metrics().await?.sum("emrcontainers_leader", &[]) > 0.5).then_some(Ok(())))
    });
    leading.await?
}

#[tokio::test]
async fn a_start_that_reaches_aws_when_another_leads_makes_no_second_job() -> Result<()> {
    let pair = Pair::start("fence-late").await?;
    let env = &pair.env;
    pair.to_aws.hold("/jobruns HTTP/1.1");
    env.apply(&job_run("late", "vc", "")).await?;
    pair.until("a start should be under way", || pair.to_aws.holds()).await?;
    pair.first_stands_still().await?;
    let run =
        env.until(env.job_runs(), "late", "should have an id", |run| status(run, "id").is_some()).await?;
    ensure!(calls(env.simulator(), "StartJobRun") == 1, "the second one has started it");

    pair.to_aws.release();
    pair.until("the first one's start should arrive", || calls(env.simulator(), "StartJobRun") == 2).await?;
    let tokens: Vec<_> =
        requests(env.simulator(), "StartJobRun").into_iter().map(|r| r.client_token).collect();
    ensure!(tokens[0].is_some() && tokens[0] == tokens[1], "{tokens:?}");
    pair.first_wakes_and_ends().await?;
    let done = env.job_run_in("late", "COMPLETED").await?;
    ensure!(status(&done, "id") == status(&run, "id"));
    ensure!(status(&done, "id") == Some(env.the_job("late")?.id.as_str()));
    ensure!(calls(env.simulator(), "StartJobRun") == 2, "nobody starts it again");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_wakes_with_the_answer_to_its_start_does_not_act_on_it() -> Result<()> {
    let pair = Pair::start("fence-answer").await?;
    let env = &pair.env;
    fail(env.simulator(), "StartJobRun", FaultKind::HoldReply, 1)?;
    env.apply(&job_run("answered", "vc", "")).await?;
    env.in_aws("a reply should be held", |aws| (aws.snapshot().held_replies > 0).then_some(())).await?;
    pair.first_stands_still().await?;
    let run = |run: &_| status(run, "id").is_some();
    env.until(env.job_runs(), "answered", "should have an id", run).await?;
    let starts = calls(env.simulator(), "StartJobRun");

    ensure!(env.simulator().release() == 1);
    pair.first_wakes_and_ends().await?;
    let done = env.job_run_in("answered", "COMPLETED").await?;
    ensure!(status(&done, "id") == Some(env.the_job("answered")?.id.as_str()));
    ensure!(calls(env.simulator(), "StartJobRun") == starts, "nobody starts it again");
    Ok(())
}

#[tokio::test]
async fn a_status_that_reaches_the_api_server_when_another_leads_overwrites_nothing() -> Result<()> {
    let pair = Pair::start("fence-status").await?;
    let env = &pair.env;
    env.simulator().add_outcome(endless("late"))?;
    env.apply(&job_run("late", "vc", "")).await?;
    env.job_run_in("late", "RUNNING").await?;
    let job = env.the_job("late")?;
    pair.to_api.hold("/jobruns/late/status");
    env.simulator().force_job_run(&job.id, "CANCEL_PENDING", None, None)?;
    pair.until("a status should be under way", || pair.to_api.holds()).await?;
    pair.first_stands_still().await?;
    env.simulator().force_job_run(&job.id, "COMPLETED", None, None)?;
    let newer = env.job_run_in("late", "COMPLETED").await?;

    let refused = conflicts(env).await?;
    pair.to_api.release();
    wait::eventually(PATIENCE, "the first one's status should be refused", async || {
        Ok((conflicts(env).await? > refused).then_some(()))
    })
    .await?;
    pair.first_wakes_and_ends().await?;
    let now = env.job_runs().get("late").await?;
    ensure!(now.metadata.resource_version == newer.metadata.resource_version, "{now:?}");
    ensure!(status(&now, "state") == Some("COMPLETED"));
    Ok(())
}

/// How many statuses of JobRuns the API server has refused because they were decided on an older version. Other tests may
/// add to it, so a wait for it can end early, and never late.
async fn conflicts(env: &TestEnv) -> Result<f64> {
    let page = env.client().request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let labels = [("code", "409"), ("resource", "jobruns"), ("subresource", "status"), ("verb", "PUT")];
    Ok(tests::operator::Metrics::parse(&page).sum("apiserver_request_total", &labels))
}

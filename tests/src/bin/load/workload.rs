//! The JobRuns: their bodies are made before the clock runs, and enough connections are open, so that creating them is
//! not what is measured.
//!
//! Must not: wait for what the controller does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http::Request;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use kube::Client;
use serde_json::json;
use tests::control_plane::ControlPlane;
use tests::objects::{GROUP, VERSION};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Each has a queue of its own in front of its connections.
const CLIENTS: usize = 4;
/// A short pause before the first create, for the workers to be in place.
const RUN_UP: Duration = Duration::from_millis(50);

/// What the names of the JobRuns of a load begin with.
pub(crate) const PREFIX: &str = "run-";

/// A JobRun to be created.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    name: String,
    namespace: String,
    path: String,
    body: Vec<u8>,
}

/// A JobRun that was created.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Just before the request.
    pub(crate) sent: Timestamp,
    /// Just after its answer.
    pub(crate) replied: Timestamp,
    /// How long after its turn it was sent.
    pub(crate) late: Duration,
}

/// The JobRuns of a load, ready to be sent.
pub(crate) struct Workload {
    jobs: Arc<Vec<Job>>,
    clients: Vec<Client>,
    parallel: usize,
}

/// The name of a VirtualCluster.
pub(crate) fn cluster_name(index: usize) -> String {
    format!("cluster-{index}")
}

impl Workload {
    /// Makes as many bodies for each of `clusters` (their namespaces) as its share is, in turns, and opens connections.
    pub(crate) async fn prepare(
        plane: &ControlPlane,
        shares: &[usize],
        clusters: &[String],
        parallel: usize,
    ) -> Result<Self> {
        let rounds = 0..shares.iter().copied().max().unwrap_or_default();
        let turns = rounds.flat_map(|round| {
            let owners = clusters.iter().zip(shares).enumerate();
            owners
                .filter(move |(_, (_, share))| round < **share)
                .map(|(index, (namespace, _))| (index, namespace))
        });
        let jobs: Result<Vec<Job>> = turns
            .enumerate()
            .map(|(run, (cluster, namespace))| {
                Job::new(&format!("{PREFIX}{run:06}"), &cluster_name(cluster), namespace)
            })
            .collect();
        let clients: Result<Vec<Client>> = (0..CLIENTS).map(|_| plane.client()).collect();
        let workload = Self { jobs: Arc::new(jobs?), clients: clients?, parallel };
        let opened = (0..parallel).zip(workload.clients.iter().cycle()).map(|(_, client)| async move {
            client.request_text(Request::get("/version").body(Vec::new())?).await.map_err(anyhow::Error::from)
        });
        futures::future::try_join_all(opened).await?;
        Ok(workload)
    }

    /// Creates them all, at once or at a rate, with a bounded number in flight.
    pub(crate) async fn create(&self, rate: Option<f64>) -> Result<Vec<Created>> {
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now() + RUN_UP;
        let gap = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        let mut workers = JoinSet::new();
        for (_, client) in (0..self.parallel).zip(self.clients.iter().cycle()) {
            let (jobs, next, client) = (Arc::clone(&self.jobs), Arc::clone(&next), client.clone());
            workers.spawn(async move {
                let mut created = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { return Ok::<_, anyhow::Error>(created) };
                    let turn = start + gap.mul_f64(f64::from(u32::try_from(index)?));
                    tokio::time::sleep_until(turn).await;
                    created.push(job.send(&client, turn).await?);
                }
            });
        }
        let mut created = Vec::with_capacity(self.jobs.len());
        while let Some(ended) = workers.join_next().await {
            created.extend(ended??);
        }
        Ok(created)
    }
}

impl Job {
    /// A run as users of the ACK controller write it, so that every controller of this group reads it.
    pub(crate) fn new(name: &str, cluster: &str, namespace: &str) -> Result<Self> {
        let overrides = format!(
            "MonitoringConfiguration:\n  CloudWatchMonitoringConfiguration:\n    LogGroupName: /emr-on-eks/load\n    \
             LogStreamNamePrefix: {name}\n  S3MonitoringConfiguration:\n    LogURI: s3://example-bucket/logs/\n"
        );
        let body = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "JobRun",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "name": name,
                "virtualClusterRef": {"from": {"name": cluster}},
                "executionRoleARN": "arn:aws:iam::111122223333:role/emr-job-execution",
                "releaseLabel": "emr-7.9.0-latest",
                "jobDriver": {"sparkSubmitJobDriver": {
                    "entryPoint": "s3://example-bucket/scripts/word_count.py",
                    "entryPointArguments": ["s3://example-bucket/input/", "s3://example-bucket/output/"],
                    "sparkSubmitParameters": "--conf spark.executor.instances=2 --conf spark.executor.memory=2G",
                }},
                "configurationOverrides": overrides,
            },
        });
        Ok(Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            path: format!("/apis/{GROUP}/{VERSION}/namespaces/{namespace}/jobruns?fieldManager=load"),
            body: serde_json::to_vec(&body)?,
        })
    }

    /// Creates it. `turn` is when that should have been.
    pub(crate) async fn send(&self, client: &Client, turn: Instant) -> Result<Created> {
        let request = Request::post(&self.path).header(CONTENT_TYPE, "application/json");
        let request = request.body(self.body.clone())?;
        let late = turn.elapsed();
        let sent = Timestamp::now();
        let answer = client.request_text(request).await;
        let replied = Timestamp::now();
        answer.with_context(|| format!("can't create JobRun {}", self.name))?;
        Ok(Created { name: self.name.clone(), namespace: self.namespace.clone(), sent, replied, late })
    }
}

//! JobRuns that have ended before the load: copies of one that the controller under test brought to its end, status and all.
//!
//! Must not: know what a controller writes. Invariant: while they are made no controller runs, so none takes them for new.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use emr_simulator::{Handle, Rule};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tests::{objects, wait};
use tokio::time::Instant as TokioInstant;

use crate::controllers::Controllers;
use crate::options::Scenario;
use crate::workload::{Job, cluster_name};

/// Upstream looks every 15 s, and the run takes its time before.
const LOOKED_AT_WITHIN: Duration = Duration::from_mins(1);
const TEMPLATE: &str = "template";
/// Whatever the load's own runs take.
const TEMPLATE_RUNS: Duration = Duration::from_secs(2);

/// Makes `scenario.finished` of them, spread over `clusters` (the namespace of each).
pub(crate) async fn make(
    client: &Client,
    simulator: &Handle,
    scenario: &Scenario,
    controllers: &Controllers,
    clusters: &[String],
) -> Result<()> {
    let from = Instant::now();
    simulator.add_outcome(Rule {
        name: Some(TEMPLATE.to_owned()),
        running_seconds: Some(TEMPLATE_RUNS.as_secs_f64()),
        ..Rule::default()
    })?;
    let template = template(client, clusters).await?;
    controllers.kill_all().await?;
    let template = &template;
    let copies = stream::iter(0..scenario.finished).zip(stream::iter(clusters.iter().enumerate().cycle()));
    copies
        .map(|(number, (cluster, namespace))| copy(client, template, number, cluster, namespace))
        .buffer_unordered(scenario.parallel)
        .try_collect::<Vec<()>>()
        .await?;
    eprintln!("{} JobRuns that have ended made in {:.0} s", scenario.finished, from.elapsed().as_secs_f64());
    controllers.start_all(scenario.controllers).await
}

/// A run that the controller has brought to its end.
async fn template(client: &Client, clusters: &[String]) -> Result<DynamicObject> {
    let namespace = clusters.first().context("no cluster")?;
    Job::new(TEMPLATE, &cluster_name(0), namespace)?.send(client, TokioInstant::now()).await?;
    let api = objects::ours(client, namespace, "JobRun");
    let within = TEMPLATE_RUNS + LOOKED_AT_WITHIN;
    wait::object(api, TEMPLATE, within, "the template should be COMPLETED", |run| {
        run.filter(|run| objects::status(run, "state") == Some("COMPLETED")).cloned()
    })
    .await
}

async fn copy(
    client: &Client,
    template: &DynamicObject,
    number: usize,
    cluster: usize,
    namespace: &str,
) -> Result<()> {
    let mut run = template.clone();
    let name = format!("old-{number:06}");
    run.metadata.name = Some(name.clone());
    run.metadata.namespace = Some(namespace.to_owned());
    (run.metadata.uid, run.metadata.resource_version) = (None, None);
    (run.metadata.creation_timestamp, run.metadata.managed_fields) = (None, None);
    for (pointer, value) in [
        ("/spec/virtualClusterRef/from/name", cluster_name(cluster)),
        ("/status/id", format!("{number:019}")),
    ] {
        *run.data.pointer_mut(pointer).with_context(|| format!("the template has no {pointer}"))? =
            json!(value);
    }
    let api: Api<DynamicObject> = objects::ours(client, namespace, "JobRun");
    let params = PostParams::default();
    let created = api.create(&params, &run).await.with_context(|| format!("can't create {name}"))?;
    run.metadata.resource_version = created.resource_version();
    let stored = api.replace_status(&name, &params, &run).await;
    let stored = stored.with_context(|| format!("can't write the status of {name}"))?;
    ensure!(objects::status(&stored, "id").is_some(), "{name} has no status");
    Ok(())
}

//! Deletes all JobRuns at once and waits until they are gone.
//!
//! Must not: delete them one by one, which would measure the load test's own requests.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use futures::future;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use serde::Serialize;
use tests::objects;
use tokio::time::timeout;

use crate::options::Scenario;
use crate::phase::{Mark, Phase};
use crate::rig::Rig;

/// JobRuns that were deleted together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Removal {
    pub(crate) runs: usize,
    pub(crate) phase: Phase,
}

/// What it took from the request to the disappearance of the last one.
pub(crate) async fn measure(rig: &Rig, scenario: &Scenario) -> Result<Removal> {
    let namespaces: BTreeSet<&str> = rig.clusters.iter().map(String::as_str).collect();
    let apis: Vec<Api<DynamicObject>> =
        namespaces.into_iter().map(|namespace| objects::ours(&rig.client, namespace, "JobRun")).collect();
    let all = ListParams::default();
    let listed = future::try_join_all(apis.iter().map(|api| api.list_metadata(&all))).await?;
    let runs = listed.iter().map(|list| list.items.len()).sum();
    eprintln!("deleting {runs} JobRuns");
    let mut progress = rig.watching.progress();
    let gone = progress.borrow().gone + runs;
    let before = Mark::begin(rig).await?;
    let how = DeleteParams::default();
    let deletions = future::try_join_all(apis.iter().map(|api| api.delete_collection(&how, &all)));
    let gone = timeout(scenario.deadline, progress.wait_for(|progress| progress.gone >= gone));
    let (deleted, gone) = future::join(deletions, gone).await;
    deleted.context("can't delete the JobRuns")?;
    gone.context("the JobRuns are not gone in time")?.context("the watch has ended")?;
    let after = Mark::end(rig).await?;
    Ok(Removal { runs, phase: Phase::between(&before, &after, 0) })
}

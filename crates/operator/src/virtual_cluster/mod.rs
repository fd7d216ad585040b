//! The kind VirtualCluster: observe, plan, act, report.
//!
//! This file makes one step of a pass; [`plan`] decides, [`act`] makes the calls, [`status`] builds the status.
//! Invariant: every step ends in a write, a call, or the end of the pass.

pub mod act;
mod adopt;
pub mod adoption;
mod differences;
mod end;
mod hand_over;
#[cfg(test)]
mod model_tests;
pub mod plan;
#[cfg(test)]
mod plan_ask_tests;
#[cfg(test)]
mod plan_tests;
mod report;
mod shadow;
pub mod status;
mod taken;

use std::convert::Infallible;
use std::sync::Arc;

use emrcontainers_api::virtual_cluster::{VirtualCluster, VirtualClusterSpec, VirtualClusterStatus};
use emrcontainers_api::{JobRun, VIRTUAL_CLUSTER_FINALIZER};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use kube::core::SelectorExt;

use crate::adoption::Adopted;
use crate::context::Context;
use crate::decode::Assembled;
use crate::job_run::destination::Destination;
use crate::job_run::plan::{may_be_live, virtual_cluster_of};
use crate::memory::{Memories, Memory};
use crate::pass::{Next, PassError, Progress, Reconciled};
use crate::scope::decide::Acting;
use crate::timing;
use crate::watch::{Watched, prune_metadata};
use crate::write::Kind;
use plan::{Step, View};

impl Kind for VirtualCluster {
    const FINALIZER: &'static str = VIRTUAL_CLUSTER_FINALIZER;
}

impl Assembled for VirtualCluster {
    type Spec = VirtualClusterSpec;
    type Status = VirtualClusterStatus;

    fn assemble(
        metadata: ObjectMeta,
        spec: VirtualClusterSpec,
        status: Option<VirtualClusterStatus>,
    ) -> Self {
        Self { metadata, spec, status }
    }
}

impl Watched for VirtualCluster {
    const KIND: crate::metrics::Kind = crate::metrics::Kind::VirtualCluster;

    const IS_REFERRED_TO: bool = true;

    const UNSETTLED: Option<&'static str> = None;

    type End = Infallible;

    fn prune(&mut self) {
        prune_metadata(&mut self.metadata);
    }

    fn settled(&self) -> Option<Infallible> {
        // Also a refused cluster is looked at now and then: what stood in its way may have gone.
        None
    }

    fn is_start(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
            && self.status.as_ref().is_none_or(|status| status.id.is_none())
    }
}

impl Reconciled for VirtualCluster {
    fn memories(context: &Context) -> &Memories<Self> {
        &context.clusters
    }

    fn stored(context: &Context, namespace: &str, name: &str) -> Option<Arc<Self>> {
        let settings = &context.settings;
        let is_ours = |cluster: &Arc<Self>| {
            settings.worked_on.includes(Self::KIND) && settings.watch_selector.matches(cluster.labels())
        };
        context.cluster_scopes.get(namespace, name).filter(is_ours)
    }

    async fn step(object: &Arc<Self>, context: &Context) -> Result<Progress<Self>, PassError> {
        step(object, context).await
    }
}

async fn step(
    cluster: &Arc<VirtualCluster>,
    context: &Context,
) -> Result<Progress<VirtualCluster>, PassError> {
    let uid = cluster.uid().unwrap_or_default();
    if cluster.metadata.deletion_timestamp.is_some() && !context.job_run_scopes.are_listed() {
        // A cluster must not be deleted because its runs aren't known yet.
        return Ok(Progress::End(Next::After(timing::LISTS_LAG_CHECK)));
    }
    let memory = context.clusters.get(&uid);
    let users = users(cluster, context);
    let tags_problem = differences::tags_problem(cluster, context);
    let place = cluster.status.as_ref().and_then(|status| status.ack_resource_metadata.as_ref());
    let step = plan::plan(&view(cluster, &memory, &users, tags_problem.as_deref(), context));
    let (acting, withheld) = match context.acting(&**cluster, place, step.is_idle()) {
        Ok(acting) => (acting, None),
        Err(withheld) => (Acting::nobody(&context.home), Some(withheld)),
    };
    let Acting { scope, told } = &acting;
    let pass = act::Pass { cluster, uid: &uid, scope, told, context };
    if let Some(withheld) = withheld {
        return pass.withhold(&withheld).await;
    }
    perform(&pass, step, &users).await
}

/// All that the next step is decided on.
fn view<'a>(
    cluster: &'a VirtualCluster,
    memory: &'a Memory<VirtualCluster>,
    users: &'a [String],
    tags_problem: Option<&'a str>,
    context: &Context,
) -> View<'a> {
    View {
        cluster,
        memory,
        users,
        tags_problem,
        retain: context.retain(cluster),
        read_only: context.is_read_only(cluster),
        adoption: context.adoption(),
    }
}

/// Makes the calls that the step names.
async fn perform(
    pass: &act::Pass<'_>,
    step: Step,
    users: &[String],
) -> Result<Progress<VirtualCluster>, PassError> {
    match step {
        Step::Rest | Step::Settled => Ok(Progress::End(Next::Await)),
        Step::LookAgain { token } => pass.look_again(token).await,
        Step::Refuse(why) => pass.unfit(&why).await,
        Step::Misask(why) => pass.misasked(&why).await,
        Step::Adopt(existing, otherwise) => match pass.adopt(&existing, otherwise.map(|step| *step)).await {
            Adopted::Progress(progress) => progress,
            Adopted::Otherwise(step) => Box::pin(perform(pass, step, users)).await,
        },
        Step::Missing => pass.missing_read_only().await,
        Step::Reopen => pass.reopen().await,
        Step::AddFinalizer | Step::RestoreFinalizer(_) => pass.add_finalizer().await,
        Step::Create { token } => pass.create(token).await,
        Step::Sync(id) => pass.sync(&id).await,
        Step::AwaitUsers => pass.await_users(users).await,
        Step::Delete(id) => pass.delete(&id).await,
        Step::AwaitTermination(id) => pass.await_termination(&id).await,
        Step::Recover { token } => pass.recover(token).await,
        Step::Release => pass.release().await,
    }
}

/// Names of the runs that use the cluster and may be live, sorted; only a cluster that is being deleted needs them.
fn users(cluster: &VirtualCluster, context: &Context) -> Vec<String> {
    if cluster.metadata.deletion_timestamp.is_none() {
        return Vec::new();
    }
    let home = cluster.namespace();
    let mut names: Vec<_> = context
        .job_run_scopes
        .filter(|run| uses(run, cluster))
        .into_iter()
        .map(|run| context.job_runs.freshest(run))
        .filter(|run| may_be_live(run) && !is_unstarted(run, context))
        .map(|run| match run.namespace() {
            namespace if namespace == home => run.name_any(),
            namespace => format!("{}/{}", namespace.unwrap_or_default(), run.name_any()),
        })
        .collect();
    names.sort_unstable();
    names
}

/// Whether it is certain that no job belongs to the run. One that waits for its start would wait for its cluster, and the
/// cluster for the run.
fn is_unstarted(run: &JobRun, context: &Context) -> bool {
    let memory = context.job_runs.get(&run.uid().unwrap_or_default());
    let has_id = run.status.as_ref().is_some_and(|status| status.id.is_some());
    memory.is_unstarted() && memory.submission.is_none() && !has_id
}

/// Wakes a virtual cluster that is being deleted, and may wait for the run.
pub fn wake_deleting(run: &JobRun, context: &Context) {
    if virtual_cluster_of(run).is_none() && run.spec.virtual_cluster_ref.is_none() {
        return;
    }
    let deleting =
        |cluster: &VirtualCluster| cluster.metadata.deletion_timestamp.is_some() && uses(run, cluster);
    for cluster in context.cluster_scopes.filter(deleting) {
        context.cluster_scopes.wake(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    }
}

/// Whether a run is in a cluster, may be, or is about to be.
pub fn uses(run: &JobRun, cluster: &VirtualCluster) -> bool {
    let id = cluster.status.as_ref().and_then(|status| status.id.as_deref());
    let has_id = run.status.as_ref().is_some_and(|status| status.id.is_some());
    let tried = Destination::of(run).filter(|_| !has_id);
    if tried.is_some_and(|tried| Some(tried.virtual_cluster_id.as_str()) == id) {
        return true;
    }
    if let Some(used) = virtual_cluster_of(run) {
        return Some(used) == id;
    }
    let namespace = run.namespace().unwrap_or_default();
    let target = run.spec.virtual_cluster_ref.as_ref().and_then(|reference| reference.target(&namespace));
    target.is_some_and(|(namespace, name)| {
        Some(namespace) == cluster.namespace().as_deref() && name == cluster.name_any()
    })
}

#[cfg(test)]
mod tests {
    use emrcontainers_api::annotations;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_used_by_what_is_in_it_may_be_in_it_or_names_it() {
        let cluster: VirtualCluster = serde_json::from_value(json!({
            "metadata": {"name": "vc", "namespace": "ns"}, "status": {"id": "vc1"},
            "spec": {"name": "vc", "containerProvider": {"id": "eks", "type_": "EKS"}},
        }))
        .unwrap();
        let run = |reference: &str, tried: &str, status: serde_json::Value| -> JobRun {
            serde_json::from_value(json!({
                "metadata": {"name": "r", "namespace": "ns", "finalizers": [emrcontainers_api::JOB_RUN_FINALIZER],
                    "annotations": {annotations::ORIGIN: "u", annotations::DESTINATION: format!("1/r/{tried}")}},
                "spec": {"virtualClusterRef": {"from": {"name": reference}}},
                "status": status,
            }))
            .unwrap()
        };
        let (none, there) = (json!({}), json!({"id": "jr1", "virtualClusterID": "vc1"}));
        let elsewhere = json!({"id": "jr1", "virtualClusterID": "vc2"});
        for (what, run, is_used) in [
            ("it is in it", run("other", "vc2", there), true),
            ("it may be in it", run("other", "vc1", none.clone()), true),
            ("it names it", run("vc", "vc2", none.clone()), true),
            ("it is elsewhere", run("vc", "vc1", elsewhere), false),
            ("it is about others", run("other", "vc2", none), false),
        ] {
            assert_eq!(uses(&run, &cluster), is_used, "{what}");
        }
    }
}

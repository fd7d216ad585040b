//! Decides the next step for a VirtualCluster. Pure: no I/O, no clock.
//!
//! Invariants: the state TERMINATED means that nothing is being created; a cluster that may have been created is never
//! created with another token; it is not deleted while a live run refers to it; the finalizer comes off only when no live
//! cluster can belong to the object.

use emrcontainers_api::virtual_cluster::{
    SchedulerConfiguration, TERMINATED, TERMINATING, VirtualCluster, VirtualClusterStatus,
};
use emrcontainers_api::{VIRTUAL_CLUSTER_FINALIZER, annotations, condition};
use kube::ResourceExt;

use super::adoption::{Existing, existing};
use crate::adoption;
use crate::job_run::plan::asks_again;
use crate::memory::Memory;

/// Everything that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The object, as fresh as we know it.
    pub cluster: &'a VirtualCluster,
    /// What this process did for the object and may not have read back yet.
    pub memory: &'a Memory<VirtualCluster>,
    /// Names of the JobRuns that refer to it and may be live.
    pub users: &'a [String],
    /// What AWS would refuse of its tags.
    pub tags_problem: Option<&'a str>,
    /// Whether the cluster outlives the object.
    pub retain: bool,
    /// Whether nothing may be changed at AWS.
    pub read_only: bool,
    /// Whether annotations may ask to take a cluster over.
    pub adoption: bool,
}

/// The one thing to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is to be done until the object changes.
    Rest,
    /// It is gone at AWS, or its own spec forbids it, and stays so until the object changes.
    Settled,
    /// AWS refused it: what stood in its way may have gone since.
    LookAgain {
        /// The token of the next try.
        token: String,
    },
    /// It can't be created as it is described.
    Refuse(String),
    /// The annotations ask for what can't be done.
    Misask(String),
    /// The object names a cluster: take it over, or else do that.
    Adopt(Existing, Option<Box<Step>>),
    /// No cluster may be created, and none is known.
    Missing,
    /// It is gone and is to be created anew: say so before anything is created.
    Reopen,
    /// It may be created once the finalizer is there.
    AddFinalizer,
    /// The cluster lives and the finalizer is gone: put it back, or the deletion of the object leaves the cluster behind.
    RestoreFinalizer(String),
    /// Create it.
    Create {
        /// The same for every try of the same creation.
        token: String,
    },
    /// Read it, and make AWS agree with the spec.
    Sync(String),
    /// The object goes, and live runs refer to it: wait for them.
    AwaitUsers,
    /// The object goes: delete the cluster.
    Delete(String),
    /// The object goes and the deletion was asked for: read the cluster until it is gone.
    AwaitTermination(String),
    /// The object goes, and an earlier process may have created the cluster without saving its id: if one has the
    /// namespace, the same request again says whether it is this one.
    Recover {
        /// The token of that creation.
        token: String,
    },
    /// No live cluster can belong to the object: let it go.
    Release,
}

impl Step {
    /// Whether it takes no call: what is let go or can't be followed doesn't need anybody who may act.
    pub(super) fn is_idle(&self) -> bool {
        matches!(
            self,
            Self::Rest
                | Self::Settled
                | Self::Misask(_)
                | Self::Missing
                | Self::RestoreFinalizer(_)
                | Self::Release
        )
    }

    /// Whether it changes something at AWS, or leads to that. What a read is followed by looks for itself.
    fn changes_aws(&self) -> bool {
        match self {
            Self::LookAgain { .. }
            | Self::Create { .. }
            | Self::Delete(_)
            | Self::Recover { .. }
            | Self::Reopen
            | Self::AddFinalizer => true,
            Self::Adopt(_, otherwise) => otherwise.as_deref().is_some_and(Self::changes_aws),
            Self::Rest
            | Self::Settled
            | Self::Refuse(_)
            | Self::Misask(_)
            | Self::Missing
            | Self::RestoreFinalizer(_)
            | Self::Sync(_)
            | Self::AwaitUsers
            | Self::AwaitTermination(_)
            | Self::Release => false,
        }
    }
}

/// The next step.
pub fn plan(view: &View<'_>) -> Step {
    match decide(view) {
        Step::Adopt(existing, Some(otherwise)) if view.read_only && otherwise.changes_aws() => {
            Step::Adopt(existing, Some(Box::new(Step::Missing)))
        }
        step if view.read_only && step.changes_aws() => Step::Missing,
        step => step,
    }
}

fn decide(view: &View<'_>) -> Step {
    let cluster = view.cluster;
    if cluster.metadata.deletion_timestamp.is_some() {
        return plan_deletion(view);
    }
    match adoption(view) {
        Ok(None) => unadopted(view),
        Ok(Some((existing, or_create))) => {
            Step::Adopt(existing, or_create.then(|| Box::new(unadopted(view))))
        }
        Err(why) => Step::Misask(why),
    }
}

/// The cluster that the object asks to take over, and whether one is created if there is none.
fn adoption(view: &View<'_>) -> Result<Option<(Existing, bool)>, String> {
    let cluster = view.cluster;
    let has_id = cluster.status.as_ref().is_some_and(|status| status.id.is_some());
    if has_id || !view.adoption {
        return Ok(None);
    }
    // `adopt` never creates, so that it holds for a cluster that couldn't be created, too.
    let is_managed = has_finalizer(cluster) && !adoption::is_adopt(cluster);
    let Some(asked) = adoption::asked(cluster, is_managed)? else { return Ok(None) };
    Ok(Some((existing(&asked.fields)?, asked.or_create)))
}

/// The next step for a cluster that doesn't ask for another's.
fn unadopted(view: &View<'_>) -> Step {
    let cluster = view.cluster;
    let unfit = unfit(cluster).or_else(|| view.tags_problem.map(str::to_owned));
    let is_absent = live_id(cluster).is_none() && state(cluster) != Some(TERMINATED);
    // A try after the refusal may be unanswered, whatever the spec says by now.
    let was_asked = cluster.status.as_ref().is_some_and(|status| status.refusals.is_some());
    let may_come = was_asked || settled(cluster) && unfit.is_none();
    if is_absent && may_come && !has_finalizer(cluster) {
        return Step::AddFinalizer;
    }
    if settled(cluster) {
        return match unfit {
            None if is_absent => Step::LookAgain { token: token(cluster) },
            None | Some(_) => Step::Settled,
        };
    }
    if let Some(id) = live_id(cluster) {
        return if has_finalizer(cluster) || view.read_only {
            Step::Sync(id.to_owned())
        } else {
            Step::RestoreFinalizer(id.to_owned())
        };
    }
    if view.read_only {
        return Step::Missing;
    }
    if state(cluster) == Some(TERMINATED) {
        return Step::Reopen;
    }
    if let Some(why) = unfit {
        return Step::Refuse(why);
    }
    if has_finalizer(cluster) { Step::Create { token: token(cluster) } } else { Step::AddFinalizer }
}

fn plan_deletion(view: &View<'_>) -> Step {
    let cluster = view.cluster;
    if !has_finalizer(cluster) {
        return Step::Rest;
    }
    if view.retain || view.read_only || state(cluster) == Some(TERMINATED) {
        return Step::Release;
    }
    let Some(id) = cluster.status.as_ref().and_then(|status| status.id.clone()) else {
        if adoption::is_adopted(cluster)
            && let Ok(Some((existing, _))) = adoption(view)
        {
            return Step::Adopt(existing, Some(Box::new(Step::Release)));
        }
        // A cluster that was refused before may have been created by a later try whose reply was lost. What is wrong with
        // the tags may be so since an edit that came after the creation.
        let never_created = view.memory.never_started || unfit(cluster).is_some();
        return if never_created { Step::Release } else { Step::Recover { token: token(cluster) } };
    };
    if !view.users.is_empty() {
        return Step::AwaitUsers;
    }
    match state(cluster) {
        Some(TERMINATING) => Step::AwaitTermination(id),
        _ if view.memory.cancel_asked => Step::AwaitTermination(id),
        // Also a deletion that has failed is asked for again, with backoff, in case access was given back.
        _ => Step::Delete(id),
    }
}

/// Whether nothing can have been asked of the service for an object that is given the finalizer now: one that somebody has
/// replaced by its manifest has lost it, but not its status.
pub fn never_asked(cluster: &VirtualCluster, memory: &Memory<VirtualCluster>) -> bool {
    let is_told = |status: &VirtualClusterStatus| status.id.is_some() || status.refusals.is_some();
    memory.asked_at.is_none() && !cluster.status.as_ref().is_some_and(is_told)
}

/// Whether the limits have to be sent. A limit that the spec leaves out is the service's: it shows a default of its own.
/// It is taken back only when the spec has just been edited, which is when it may have been removed.
pub fn limits_differ(
    wanted: &SchedulerConfiguration,
    observed: &SchedulerConfiguration,
    edited: bool,
) -> bool {
    let differs = |wanted: Option<i32>, observed: Option<i32>| match wanted {
        Some(_) => wanted != observed,
        None => edited && observed.is_some(),
    };
    differs(wanted.max_concurrent_job_runs, observed.max_concurrent_job_runs)
        || differs(wanted.max_in_queue_job_runs, observed.max_in_queue_job_runs)
}

/// Whether the cluster was refused, or is gone, and neither the spec nor the retry annotation says to try again.
pub fn settled(cluster: &VirtualCluster) -> bool {
    let Some(status) = &cluster.status else { return false };
    cluster.metadata.deletion_timestamp.is_none()
        && is_terminal(cluster)
        && status.observed_generation == cluster.metadata.generation
        && !asks_again(retry(cluster), status.last_handled_retry.as_deref())
        && !is_misasked(status)
}

/// Whether all that stands in the way are annotations, as they were.
fn is_misasked(status: &VirtualClusterStatus) -> bool {
    let stalled = condition::find(&status.conditions, condition::STALLED);
    stalled.is_some_and(|stalled| stalled.reason.as_deref() == Some(condition::INVALID_ANNOTATION))
}

/// The value of the retry annotation.
pub fn retry(cluster: &VirtualCluster) -> Option<&str> {
    cluster.annotations().get(annotations::RETRY).map(String::as_str)
}

/// The token: the object's UID, and which try it is where earlier ones ended for good.
pub fn token(cluster: &VirtualCluster) -> String {
    let refusals = cluster.status.as_ref().and_then(|status| status.refusals).unwrap_or_default();
    format!("{}-{}", cluster.uid().unwrap_or_default(), refusals.saturating_add(1))
}

/// The id of a cluster that isn't known to be gone.
fn live_id(cluster: &VirtualCluster) -> Option<&str> {
    if state(cluster) == Some(TERMINATED) {
        return None;
    }
    cluster.status.as_ref()?.id.as_deref()
}

fn state(cluster: &VirtualCluster) -> Option<&str> {
    cluster.status.as_ref()?.state.as_deref()
}

fn is_terminal(cluster: &VirtualCluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| condition::is_true(&status.conditions, condition::TERMINAL))
}

fn has_finalizer(cluster: &VirtualCluster) -> bool {
    cluster.finalizers().iter().any(|name| name == VIRTUAL_CLUSTER_FINALIZER)
}

/// What keeps the cluster from being created, if anything: the field and the remedy.
fn unfit(cluster: &VirtualCluster) -> Option<String> {
    let provider = &cluster.spec.container_provider;
    if provider.id.is_none() {
        return Some("spec.containerProvider.id: is missing; set the name of the EKS cluster".to_owned());
    }
    match provider.type_.as_deref() {
        None | Some("EKS") => None,
        Some(other) => Some(format!("spec.containerProvider.type_: {other:?} is not known; set EKS")),
    }
}

/// Namespace of the EKS cluster; upstream's default where none is given.
pub fn namespace(cluster: &VirtualCluster) -> &str {
    let info = cluster.spec.container_provider.info.as_ref();
    info.and_then(|info| info.eks_info.as_ref()).and_then(|eks| eks.namespace.as_deref()).unwrap_or("default")
}

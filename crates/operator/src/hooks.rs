//! What happens beside the watches of runs and clusters: memory is brought up to date, and who waits is woken.
//!
//! Must not make a call or decide a step. Invariant: whoever waits for another object is woken by each change of it.

use std::sync::Arc;
use std::time::Instant;

use emrcontainers_api::job_run::is_final;
use emrcontainers_api::{JobRun, VirtualCluster};
use kube::{Resource, ResourceExt};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::field_export::plan::SourceKind;
use crate::job_run::plan;
use crate::vanished::{self, Gone};
use crate::virtual_cluster;
use crate::watch::Hooks;

/// Of JobRuns.
pub struct RunHooks {
    /// Everything.
    pub context: Arc<Context>,
    /// Cancelled once the store is filled.
    pub listed: CancellationToken,
    /// Where to hand over what went without us.
    pub gone: UnboundedSender<Gone>,
}

impl Hooks<JobRun> for RunHooks {
    fn applied(&self, run: &JobRun) {
        is_back(run, &self.context);
        self.context.job_runs.caught_up(run);
        wake_exports(SourceKind::JobRun, run, &self.context);
        let ended = run.status.as_ref().and_then(|status| status.state.as_deref()).is_some_and(is_final);
        if ended || run.metadata.deletion_timestamp.is_some() {
            virtual_cluster::wake_deleting(run, &self.context);
        }
    }

    /// One that comes from another operator's labels may have been asked for just now.
    fn appeared(&self, run: &JobRun) {
        let has_id = run.status.as_ref().is_some_and(|status| status.id.is_some());
        let may_exist = plan::may_be_live(run) && !has_id;
        let Some(uid) = run.metadata.uid.as_deref().filter(|_| may_exist) else { return };
        self.context.job_runs.update(uid, |memory| {
            memory.unanswered = memory.unanswered.or_else(|| Some(Instant::now()));
        });
    }

    fn deleted(&self, run: &JobRun) {
        if let Some(uid) = &run.metadata.uid
            && !vanished::take_in(run, &self.context, &self.gone)
        {
            self.context.job_runs.forget(uid);
            self.context.poller.untrack(uid);
            self.context.pool.forget(uid);
        }
        self.context.waiters.forget(&run.namespace().unwrap_or_default(), &run.name_any());
        virtual_cluster::wake_deleting(run, &self.context);
        wake_exports(SourceKind::JobRun, run, &self.context);
    }

    /// Of a run that had ended before, a list says nothing: an edit of it or its deletion may have been missed.
    fn listed(&self) {
        self.listed.cancel();
        self.context.exports.all_changed(SourceKind::JobRun);
    }

    fn failed(&self) {
        self.context.access.doubt();
    }
}

/// Of VirtualClusters.
pub struct ClusterHooks {
    /// Everything.
    pub context: Arc<Context>,
    /// Cancelled once the store is filled.
    pub listed: CancellationToken,
    /// Where to hand over what went without us.
    pub gone: UnboundedSender<Gone>,
}

impl ClusterHooks {
    /// Runs that wait for the cluster look at it again.
    fn wake_waiters(&self, cluster: &VirtualCluster) {
        for (namespace, name) in
            self.context.waiters.take(&cluster.namespace().unwrap_or_default(), &cluster.name_any())
        {
            self.context.job_run_scopes.wake(&namespace, &name);
        }
    }
}

impl Hooks<VirtualCluster> for ClusterHooks {
    fn applied(&self, cluster: &VirtualCluster) {
        is_back(cluster, &self.context);
        self.context.clusters.caught_up(cluster);
        self.wake_waiters(cluster);
        wake_exports(SourceKind::VirtualCluster, cluster, &self.context);
    }

    fn deleted(&self, cluster: &VirtualCluster) {
        if let Some(uid) = &cluster.metadata.uid
            && !vanished::take_in(cluster, &self.context, &self.gone)
        {
            self.context.clusters.forget(uid);
        }
        self.wake_waiters(cluster);
        wake_exports(SourceKind::VirtualCluster, cluster, &self.context);
    }

    fn listed(&self) {
        self.listed.cancel();
    }

    fn failed(&self) {
        self.context.access.doubt();
    }
}

/// One whose labels are again those that are watched hadn't gone: what is written of it counts.
fn is_back<K: Resource>(object: &K, context: &Context) {
    if let Some(uid) = &object.meta().uid {
        context.writer.vanished.remove(uid);
    }
}

/// Whatever exports a field of the object looks at it again.
fn wake_exports<K: Resource>(kind: SourceKind, object: &K, context: &Context) {
    let meta = object.meta();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    context.exports.source_changed(kind, namespace, meta.name.as_deref().unwrap_or_default());
}

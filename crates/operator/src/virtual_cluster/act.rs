//! Makes the calls that a step names, and reports what came of them.
//!
//! Must not decide what to do: `plan` does. Invariant: an AWS error is classified by `emr` and only mapped here to one
//! of wait, tell and repeat, or refuse.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use emrcontainers_api::condition;
use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::virtual_cluster::{RUNNING, SchedulerStatus, TERMINATED, TERMINATING, VirtualCluster};

use super::status::{SeenCluster, Situation};
use super::{adoption, plan};
use crate::context::Context;
use crate::emr::Client;
use crate::emr::error::{Class, EmrError};
use crate::emr::model::{self, CreateVirtualCluster};
use crate::emr::pool::Scope;
use crate::pass::{Next, PassError, Progress, is_stored};
use crate::scope::decide::{Told, Withheld};
use crate::timing;
use crate::watch::Watched;
use crate::write::{self, Written};

pub(super) type Result<T = Progress<VirtualCluster>> = std::result::Result<T, PassError>;

/// Appended when the service no longer has the cluster.
const GONE: &str = "the virtual cluster was terminated outside of this object, or has expired; to create it anew, delete \
                    and apply the object, or set the annotation emrcontainers.services.k8s.aws/retry to a new value";

/// One step of a pass over a virtual cluster.
pub struct Pass<'a> {
    /// The object.
    pub cluster: &'a Arc<VirtualCluster>,
    /// Its UID.
    pub uid: &'a str,
    /// Who acts, and where.
    pub scope: &'a Scope,
    /// What is told of who acts.
    pub told: &'a Told,
    /// Everything else.
    pub context: &'a Context,
}

impl Pass<'_> {
    /// Says why nobody may act for the cluster; what it lacks wakes it.
    pub async fn withhold(&self, withheld: &Withheld) -> Result {
        let situation = match withheld {
            // It is known in a moment.
            Withheld::UnknownNamespace | Withheld::UnknownMap(_) => return Ok(Progress::End(Next::Await)),
            Withheld::NoRole(why) => Situation::NoRole(why),
            Withheld::Unfit(why) => Situation::Trouble(why),
        };
        self.report_then(&situation, Next::Await).await
    }

    /// Says why the cluster isn't even asked for.
    pub async fn unfit(&self, why: &str) -> Result {
        self.report_then(&Situation::Unfit(why), Next::After(timing::CLUSTER_RESYNC)).await
    }

    /// Says why the service doesn't create the cluster.
    pub async fn refuse(&self, why: &str) -> Result {
        self.report_then(&Situation::Refused(why), Next::After(timing::CLUSTER_RESYNC)).await
    }

    /// A cluster that was refused: whether what stood in its way has gone is found out by the same request.
    pub async fn look_again(&self, token: String) -> Result {
        if self.refused_recently() {
            return Ok(Progress::End(Next::After(timing::CLUSTER_RESYNC)));
        }
        self.create(token).await
    }

    fn refused_recently(&self) -> bool {
        let conditions =
            self.cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let since = condition::find(conditions, condition::TERMINAL).and_then(|c| c.last_transition_time);
        let asked = self.context.clusters.get(self.uid).asked_at;
        let latest = since.into_iter().chain(asked).max();
        latest.is_some_and(|at| {
            self.context.now().duration_since(at).unsigned_abs() < timing::CLUSTER_RESYNC / 2
        })
    }

    /// Says that a cluster that is gone is created anew. The status must not say TERMINATED while a creation is under
    /// way: a terminated cluster is released without a look.
    pub async fn reopen(&self) -> Result {
        match self.report(&Situation::Reopened).await? {
            Some(Written::Done(newer) | Written::Conflict(newer)) => Ok(Progress::Again(newer)),
            Some(Written::Gone) | None => Ok(Progress::End(Next::Await)),
        }
    }

    /// Puts the finalizer on, and goes on with the object as it is then.
    pub async fn add_finalizer(&self) -> Result {
        match write::add_finalizer(&self.context.writer, &**self.cluster, &BTreeMap::new()).await? {
            Written::Done(cluster) => {
                self.context.clusters.wrote(&cluster);
                self.context.clusters.update(self.uid, |memory| {
                    memory.never_started = plan::never_asked(&cluster, memory);
                });
                Ok(Progress::Again(cluster))
            }
            Written::Conflict(newer) => {
                self.context.clusters.wrote(&newer);
                Ok(Progress::Again(newer))
            }
            Written::Gone => Ok(Progress::End(Next::Await)),
        }
    }

    /// Creates the cluster.
    pub async fn create(&self, token: String) -> Result {
        // As for a run: nothing is waited for between this and what is remembered.
        if !is_stored(&**self.cluster, self.context) {
            return Ok(Progress::End(Next::Await));
        }
        let now = self.context.now();
        let never_started = self.context.clusters.get(self.uid).never_started;
        self.context.clusters.update(self.uid, |memory| {
            memory.never_started = false;
            memory.asked_at = Some(now);
            // It has ended by then, also where the pass is given up.
            memory.unanswered = Some(Instant::now() + timing::STEP);
        });
        let created = match self.client().create_virtual_cluster(self.request(token)).await {
            Ok(created) => created,
            Err(error) => {
                let is_unstarted = never_started && error.proves_nothing_was_done();
                self.context.clusters.update(self.uid, |memory| {
                    memory.never_started = is_unstarted;
                    memory.unanswered = (!is_unstarted).then(Instant::now);
                });
                return self.create_failed(&error).await;
            }
        };
        let described = self.client().describe_virtual_cluster(&created.id).await;
        let described = described.unwrap_or_else(|_| just_created(created));
        // The token is that of an earlier try whose cluster is gone by now.
        if described.state == TERMINATED {
            return self.report_then(&Situation::Gone(GONE), Next::Await).await;
        }
        // A creation that is repeated brings the cluster of the first request, which an edit may have followed.
        let is_as_edited = never_started || self.cluster.metadata.generation == Some(1);
        let is_equal = is_as_edited || self.tag_change(&described.tags).is_empty();
        let next = if is_equal { self.resync_period() } else { timing::LISTS_LAG_CHECK };
        let seen = SeenCluster { unsent: !is_as_edited, ..self.seen(described) };
        self.report_then(&Situation::Seen(&seen), Next::After(next)).await
    }

    async fn create_failed(&self, error: &EmrError) -> Result {
        let message = error.to_string();
        match error.class {
            Class::Throttled => Ok(Progress::End(Next::After(timing::AFTER_THROTTLE))),
            Class::NamespaceTaken => self.taken(&message).await,
            Class::Refused => self.refuse(&message).await,
            Class::Transient
            | Class::NotFound
            | Class::AccessDenied
            | Class::Retryable
            | Class::NotCancellable
            | Class::AlreadyTerminated => {
                self.report_then(&Situation::Trouble(&message), Next::Backoff).await
            }
        }
    }

    /// Makes AWS agree with the spec, and says what the cluster is like.
    pub async fn sync(&self, id: &str) -> Result {
        let described = match self.client().describe_virtual_cluster(id).await {
            Ok(described) => described,
            Err(error) if error.class == Class::NotFound && !self.is_new() => {
                return self.report_then(&Situation::Gone(GONE), Next::Await).await;
            }
            Err(error) => return self.failed(&error).await,
        };
        if described.state == TERMINATED {
            return self.report_then(&Situation::Gone(GONE), Next::Await).await;
        }
        // A difference that can't be sent is told, and doesn't keep runs from being submitted.
        let problem = match described.state.as_str() {
            RUNNING if !self.is_read_only() => self.update(&described).await.err(),
            _ => None,
        };
        if problem.as_ref().is_some_and(|error| error.class == Class::Throttled) {
            return Ok(Progress::End(Next::After(timing::AFTER_THROTTLE)));
        }
        let seen = self.seen(described);
        if let Some(problem) = problem {
            return self.report_then(&Situation::Unequal(&seen, &problem.to_string()), Next::Backoff).await;
        }
        let next = if seen.state == TERMINATING { timing::TERMINATION_CHECK } else { self.resync_period() };
        match self.tags_problem() {
            // Only an edit helps, and that brings a pass.
            Some(why) => self.report_then(&Situation::Unequal(&seen, &why), Next::After(next)).await,
            None => self.report_then(&Situation::Seen(&seen), Next::After(next)).await,
        }
    }

    /// Whether the service may not show the cluster everywhere yet.
    fn is_new(&self) -> bool {
        let status = self.cluster.status.as_ref();
        let asked = self.context.clusters.get(self.uid).asked_at;
        let latest = status.and_then(|status| status.created_at).into_iter().chain(asked).max();
        latest.is_some_and(|at| self.context.now().duration_since(at).unsigned_abs() < timing::CREATION_LAG)
    }

    /// Tells of an error and tries again later; a throttle is only waited for.
    pub(super) async fn failed(&self, error: &EmrError) -> Result {
        match error.class {
            Class::Throttled => Ok(Progress::End(Next::After(timing::AFTER_THROTTLE))),
            _ => self.trouble(&error.to_string()).await,
        }
    }

    /// Says what is wrong, and tries again later each time.
    pub async fn trouble(&self, message: &str) -> Result {
        self.report_then(&Situation::Trouble(message), Next::Backoff).await
    }

    pub(super) fn request(&self, client_token: String) -> CreateVirtualCluster {
        let spec = &self.cluster.spec;
        let info = spec.container_provider.info.as_ref().and_then(|info| info.eks_info.as_ref());
        CreateVirtualCluster {
            client_token,
            name: spec.name.clone(),
            eks_cluster: spec.container_provider.id.clone().unwrap_or_default(),
            namespace: Some(plan::namespace(self.cluster).to_owned()),
            node_label: info.and_then(|eks| eks.node_label.clone()),
            security_configuration_id: spec.security_configuration_id.clone(),
            session_enabled: spec.session_enabled,
            scheduler_configuration: spec.scheduler_configuration.clone(),
            tags: self.tags(),
        }
    }

    pub(super) fn seen(&self, described: model::VirtualCluster) -> SeenCluster {
        let scope = self.scope.clone();
        let read_only = self.is_read_only();
        let mut differs = adoption::fixed_differences(&self.cluster.spec, &described);
        let unsent = if read_only { self.unsent_differences(&described) } else { Vec::new() };
        let is_known = self.cluster.status.as_ref().is_some_and(|status| status.id.is_some());
        let is_unsent = is_known && !unsent.is_empty();
        differs.extend(unsent);
        let counts = (described.current_concurrent_job_runs, described.current_in_queue_job_runs);
        SeenCluster {
            place: AckResourceMetadata {
                arn: Some(described.arn.unwrap_or_else(|| self.arn(&described.id))),
                owner_account_id: scope.account,
                partition: Some(self.context.partition.clone()),
                region: scope.region,
            },
            id: described.id,
            state: described.state,
            created_at: described.created_at,
            scheduler: (counts != (None, None)).then_some(SchedulerStatus {
                current_concurrent_job_runs: counts.0,
                current_in_queue_job_runs: counts.1,
            }),
            advice: adoption::advice(&differs, read_only),
            unsent: is_unsent,
        }
    }

    pub(super) fn arn(&self, id: &str) -> String {
        let Scope { account, region, .. } = self.scope;
        format!("arn:{}:emr-containers:{region}:{account}:/virtualclusters/{id}", self.context.partition)
    }

    /// When a cluster that is as it should be is read again.
    fn resync_period(&self) -> Duration {
        self.context.settings.resync_period.of(VirtualCluster::KIND)
    }

    fn is_read_only(&self) -> bool {
        self.context.is_read_only(&**self.cluster)
    }

    pub(super) fn client(&self) -> Client {
        let client = self.context.pool.client(self.scope);
        if self.is_read_only() { client.reading_only() } else { client }
    }
}

/// Creation is synchronous: what can't be read yet is RUNNING.
pub(super) fn just_created(created: model::Created) -> model::VirtualCluster {
    model::VirtualCluster {
        arn: created.arn,
        state: RUNNING.to_owned(),
        id: created.id,
        ..model::VirtualCluster::default()
    }
}

//! Every AWS call that we make: the only place that names operations.
//!
//! [`Client`] has one method an operation, in our own types. A call passes the limiter before each attempt, is reported to
//! the observer after each, and fails with an error of exactly one class; an attempt is made only while this process may
//! act. Nothing here knows a Kubernetes object: keys are opaque.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_emrcontainers::Client as Sdk;
use aws_sdk_emrcontainers::types as sdk;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::error::operation::BuildError;
use emrcontainers_api::virtual_cluster::SchedulerConfiguration;
use tokio::time::Instant;

mod assume;
mod bucket;
mod convert;
pub mod details;
pub mod error;
pub mod hint;
pub mod hints;
pub mod limit;
pub mod model;
pub mod name_lists;
pub mod observe;
pub mod operation;
pub mod poll;
mod poll_hear;
mod poll_hint;
mod poll_look;
mod poll_pace;
mod poll_plan;
mod poll_run;
mod poll_trust;
mod poll_watch;
pub mod pool;
mod queue;
pub mod tls;

use details::JobRunDetails;
use error::{Class, EmrError, TIMEOUT};
use limit::{Grant, Limiter};
use model::{
    CreateVirtualCluster, Created, JobRun, JobRunFilter, Pages, StartJobRun, VirtualCluster,
    VirtualClusterFilter,
};
use observe::Observer;
use operation::Operation;

use crate::fence::Fence;
use crate::health::Work;
use crate::tags::TagChange;

/// The code of a call that is never made.
const READ_ONLY: &str = "ReadOnly";

/// How long after a failure without an answer the call is repeated, plus as much again at random.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The emr-containers API of one account and region. Clones share everything.
#[derive(Clone)]
pub struct Client {
    sdk: Sdk,
    limiter: Limiter,
    observer: Arc<dyn Observer>,
    fence: Fence,
    work: Option<Work>,
    reads_only: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(sdk: Sdk, limiter: Limiter, observer: Arc<dyn Observer>, fence: Fence) -> Self {
        Self { sdk, limiter, observer, fence, work: None, reads_only: false }
    }

    /// The same client, with which nothing can be changed.
    #[must_use]
    pub fn reading_only(self) -> Self {
        Self { reads_only: true, ..self }
    }

    /// The same client for one whose work has to move: it does with each attempt that ends, however it ends, and while a
    /// call waits for its quota there is none to do.
    pub(super) fn telling(self, work: Work) -> Self {
        Self { work: Some(work), ..self }
    }

    /// The limiter of the account and region, where starts and cancels ask for their turn.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Starts a job run. The same token gives the same run, also after an answer was lost.
    pub async fn start_job_run(&self, grant: Grant, run: StartJobRun) -> Result<Created, EmrError> {
        let operation = Operation::StartJobRun;
        let built = |error: BuildError| unbuilt(operation, &error);
        let request = self
            .sdk
            .start_job_run()
            .virtual_cluster_id(run.virtual_cluster_id)
            .client_token(run.client_token)
            .set_name(run.name)
            .set_execution_role_arn(run.execution_role_arn)
            .set_release_label(run.release_label)
            .set_job_driver(run.job_driver.map(convert::job_driver).transpose().map_err(built)?)
            .set_configuration_overrides(
                run.configuration_overrides.map(convert::overrides).transpose().map_err(built)?,
            )
            .set_retry_policy_configuration(run.max_attempts.map(retry_policy).transpose().map_err(built)?)
            .set_tags(convert::tags(run.tags));
        let reply = self.call(operation, Some(grant), || request.clone().send()).await?;
        let id = reply.id.ok_or_else(|| EmrError::incomplete(operation, "id"))?;
        Ok(Created { id, arn: reply.arn, virtual_cluster_id: reply.virtual_cluster_id })
    }

    /// Asks a job run to end; it does so later.
    pub async fn cancel_job_run(
        &self,
        grant: Grant,
        virtual_cluster_id: &str,
        id: &str,
    ) -> Result<(), EmrError> {
        let request = self.sdk.cancel_job_run().virtual_cluster_id(virtual_cluster_id).id(id);
        self.call(Operation::CancelJobRun, Some(grant), || request.clone().send()).await.map(drop)
    }

    /// Reads one job run.
    pub async fn describe_job_run(&self, virtual_cluster_id: &str, id: &str) -> Result<JobRun, EmrError> {
        self.describe_job_run_in_detail(virtual_cluster_id, id).await.map(|(run, _)| run)
    }

    /// Reads one job run, and what it was asked for with.
    pub async fn describe_job_run_in_detail(
        &self,
        virtual_cluster_id: &str,
        id: &str,
    ) -> Result<(JobRun, JobRunDetails), EmrError> {
        let operation = Operation::DescribeJobRun;
        let request = self.sdk.describe_job_run().virtual_cluster_id(virtual_cluster_id).id(id);
        let reply = self.call(operation, None, || request.clone().send()).await?;
        let described = reply.job_run.and_then(|run| {
            let details = JobRunDetails::from(&run);
            Some((convert::job_run(run)?, details))
        });
        described.ok_or_else(|| EmrError::incomplete(operation, "job run"))
    }

    /// Reads job runs page by page, up to a number of pages, and hands over each. After an error, an unknown part has
    /// been handed over.
    pub async fn list_job_runs(
        &self,
        filter: &JobRunFilter,
        max_pages: u32,
        mut each: impl FnMut(JobRun),
    ) -> Result<Pages, EmrError> {
        let states: Vec<_> = filter.states.iter().map(|state| sdk::JobRunState::from(*state)).collect();
        let mut request = self
            .sdk
            .list_job_runs()
            .virtual_cluster_id(&filter.virtual_cluster_id)
            .set_name(filter.name.clone())
            .set_states((!states.is_empty()).then_some(states))
            .set_created_after(filter.created_after.map(convert::date_time));
        let mut pages = 0;
        loop {
            let reply = self.call(Operation::ListJobRuns, None, || request.clone().send()).await?;
            pages += 1;
            reply.job_runs.into_iter().flatten().filter_map(convert::job_run).for_each(&mut each);
            let token = reply.next_token.filter(|token| !token.is_empty());
            let complete = token.is_none();
            let Some(token) = token.filter(|_| pages < max_pages) else {
                return Ok(Pages { pages, complete });
            };
            request = request.next_token(token);
        }
    }

    /// Creates a virtual cluster. The same token gives the same virtual cluster.
    pub async fn create_virtual_cluster(&self, cluster: CreateVirtualCluster) -> Result<Created, EmrError> {
        let operation = Operation::CreateVirtualCluster;
        let provider =
            convert::container_provider(cluster.eks_cluster, cluster.namespace, cluster.node_label)
                .map_err(|error| unbuilt(operation, &error))?;
        let request = self
            .sdk
            .create_virtual_cluster()
            .client_token(cluster.client_token)
            .name(cluster.name)
            .container_provider(provider)
            .set_security_configuration_id(cluster.security_configuration_id)
            .set_session_enabled(cluster.session_enabled)
            .set_scheduler_configuration(cluster.scheduler_configuration.as_ref().map(convert::scheduler))
            .set_tags(convert::tags(cluster.tags));
        let reply = self.call(operation, None, || request.clone().send()).await?;
        let id = reply.id.ok_or_else(|| EmrError::incomplete(operation, "id"))?;
        Ok(Created { id, arn: reply.arn, virtual_cluster_id: None })
    }

    /// Reads one virtual cluster; also one that has ended.
    pub async fn describe_virtual_cluster(&self, id: &str) -> Result<VirtualCluster, EmrError> {
        let operation = Operation::DescribeVirtualCluster;
        let request = self.sdk.describe_virtual_cluster().id(id);
        let reply = self.call(operation, None, || request.clone().send()).await?;
        let cluster = reply.virtual_cluster.and_then(convert::virtual_cluster);
        cluster.ok_or_else(|| EmrError::incomplete(operation, "virtual cluster"))
    }

    /// Reads all virtual clusters that the filter lets through.
    pub async fn list_virtual_clusters(
        &self,
        filter: &VirtualClusterFilter,
    ) -> Result<Vec<VirtualCluster>, EmrError> {
        let states: Vec<_> =
            filter.states.iter().map(|state| sdk::VirtualClusterState::from(state.as_str())).collect();
        let mut request = self
            .sdk
            .list_virtual_clusters()
            .container_provider_type(sdk::ContainerProviderType::Eks)
            .set_container_provider_id(filter.eks_cluster.clone())
            .set_states((!states.is_empty()).then_some(states));
        let mut clusters = Vec::new();
        loop {
            let reply = self.call(Operation::ListVirtualClusters, None, || request.clone().send()).await?;
            clusters
                .extend(reply.virtual_clusters.into_iter().flatten().filter_map(convert::virtual_cluster));
            let Some(token) = reply.next_token.filter(|token| !token.is_empty()) else { return Ok(clusters) };
            request = request.next_token(token);
        }
    }

    /// Replaces the scheduler configuration as a whole: a limit that is left out is removed.
    pub async fn update_virtual_cluster(
        &self,
        id: &str,
        client_token: &str,
        scheduler: &SchedulerConfiguration,
    ) -> Result<(), EmrError> {
        let request = self
            .sdk
            .update_virtual_cluster()
            .id(id)
            .client_token(client_token)
            .scheduler_configuration(convert::scheduler(scheduler));
        self.call(Operation::UpdateVirtualCluster, None, || request.clone().send()).await.map(drop)
    }

    /// Asks a virtual cluster to end; it does so later.
    pub async fn delete_virtual_cluster(&self, id: &str) -> Result<(), EmrError> {
        let request = self.sdk.delete_virtual_cluster().id(id);
        self.call(Operation::DeleteVirtualCluster, None, || request.clone().send()).await.map(drop)
    }

    /// Adds tags to a resource, or replaces their values.
    pub async fn tag_resource(&self, arn: &str, tags: BTreeMap<String, String>) -> Result<(), EmrError> {
        let request = self.sdk.tag_resource().resource_arn(arn).set_tags(Some(tags.into_iter().collect()));
        self.call(Operation::TagResource, None, || request.clone().send()).await.map(drop)
    }

    /// Removes tags from a resource.
    pub async fn untag_resource(&self, arn: &str, keys: Vec<String>) -> Result<(), EmrError> {
        let request = self.sdk.untag_resource().resource_arn(arn).set_tag_keys(Some(keys));
        self.call(Operation::UntagResource, None, || request.clone().send()).await.map(drop)
    }

    /// Takes tags from a resource and sets others: in this order, since a resource has room for fifty. What can't be taken
    /// away keeps nothing from being set.
    pub async fn change_tags(&self, arn: &str, change: TagChange) -> Result<(), EmrError> {
        let TagChange { set, remove } = change;
        let removed = if remove.is_empty() { Ok(()) } else { self.untag_resource(arn, remove).await };
        let was_set = if set.is_empty() { Ok(()) } else { self.tag_resource(arn, set).await };
        removed.and(was_set)
    }

    /// Reads the tags of a resource.
    pub async fn list_tags(&self, arn: &str) -> Result<BTreeMap<String, String>, EmrError> {
        let request = self.sdk.list_tags_for_resource().resource_arn(arn);
        let reply = self.call(Operation::ListTagsForResource, None, || request.clone().send()).await?;
        Ok(reply.tags.unwrap_or_default().into_iter().collect())
    }

    /// Makes a call: with a grant at once, else when the limiter lets it through. A failure that took no long time is
    /// tried once more if quota is left; more patience is the caller's, who knows for whom it waits. The SDK's futures are
    /// boxed, because each is several kilobytes that would be part of every pass.
    async fn call<T, E, F>(
        &self,
        operation: Operation,
        grant: Option<Grant>,
        send: impl Fn() -> F,
    ) -> Result<T, EmrError>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E, Response>>>,
    {
        if self.reads_only && operation.is_write() {
            return Err(EmrError::new(operation, READ_ONLY, None, "nothing may be changed here"));
        }
        match grant {
            Some(grant) => grant.used(),
            None => self.acquire(operation).await,
        }
        let result = self.attempts(operation, send).await;
        self.observer.call(operation, result.as_ref().err());
        result
    }

    async fn attempts<T, E, F>(&self, operation: Operation, send: impl Fn() -> F) -> Result<T, EmrError>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E, Response>>>,
    {
        let error = match self.attempt(operation, Box::pin(send())).await {
            Err(error) if error.class == Class::Transient && error.code != TIMEOUT => error,
            result => return result,
        };
        tokio::time::sleep(RETRY_AFTER.mul_f64(1.0 + rand::random::<f64>())).await;
        if self.limiter.try_acquire(operation) {
            self.attempt(operation, Box::pin(send())).await.map_err(|again| again.after(&error))
        } else {
            Err(error)
        }
    }

    async fn acquire(&self, operation: Operation) {
        self.work.as_ref().inspect(|work| work.done());
        self.limiter.acquire(operation).await;
        self.work.as_ref().inspect(|work| work.due());
    }

    async fn attempt<T, E>(
        &self,
        operation: Operation,
        reply: impl Future<Output = Result<T, SdkError<E, Response>>>,
    ) -> Result<T, EmrError>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let started = Instant::now();
        let result = self.fence.within(reply).await.map_err(|error| EmrError::from_sdk(operation, error));
        self.work.as_ref().inspect(|work| work.moved());
        self.observer.attempt(operation, started.elapsed(), result.as_ref().err());
        if result.as_ref().is_err_and(|error| error.class == Class::Throttled) {
            self.limiter.slow_down(operation);
        }
        result
    }
}

fn retry_policy(max_attempts: i32) -> Result<sdk::RetryPolicyConfiguration, BuildError> {
    sdk::RetryPolicyConfiguration::builder().max_attempts(max_attempts).build()
}

/// A request that lacks a member which the SDK insists on; the service would refuse it with this code.
fn unbuilt(operation: Operation, error: &BuildError) -> EmrError {
    EmrError::new(operation, "ValidationException", Some(400), &error.to_string())
}

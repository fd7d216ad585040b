//! The four operations on job runs.
//!
//! Decisions where AWS documents nothing:
//! - a `clientToken` that was used before returns the first run, whatever the rest of the request
//!   says, for as long as the simulator lives, also when the virtual cluster isn't RUNNING any more;
//! - a refused start doesn't use up its token;
//! - unknown ids are ResourceNotFoundException in all four, also where the model doesn't name it;
//! - the name filter is exact; states that the model doesn't have are refused as filters;
//! - a start from a job template is answered like the operations that are not simulated.
//!
//! Invariant: a token gives one run.

use jiff::Timestamp;
use serde_json::json;

use crate::error::ApiError;
use crate::lifecycle::JobState;
use crate::operation::Operation;
use crate::options::Options;
use crate::outcome::Outcomes;
use crate::paging::{Page, Query};
use crate::resource::{ClusterState, JobRun};
use crate::service::{Reply, reply};
use crate::state::Store;
use crate::validate;
use crate::wire::{JobRunView, MonitoringConfiguration, RetryPolicyExecution, StartJobRun};

impl Store {
    pub(crate) fn start_job_run(
        &mut self,
        cluster_id: &str,
        mut request: StartJobRun,
        outcomes: &mut Outcomes,
        options: &Options,
        (caller, now): (&str, Timestamp),
    ) -> Reply {
        if request.job_template_id.is_some() {
            return Err(not_simulated("StartJobRun from a job template"));
        }
        validate::start_job_run(&request)?;
        let token = request.client_token.clone().unwrap_or_default();
        let key = (Operation::StartJobRun, token);
        if let Some(index) = self.tokens.get(&key) {
            return self.started(*index);
        }
        let cluster = self.cluster(cluster_id)?;
        let limit = self.clusters.get(cluster).and_then(|cluster| {
            let scheduler = cluster.scheduler.as_ref()?;
            usize::try_from(scheduler.max_in_queue_job_runs?).ok()
        });
        if let Some(cluster) = self.clusters.get(cluster) {
            if cluster.state != ClusterState::Running {
                return Err(ApiError::validation(format!(
                    "Virtual cluster {cluster_id} is not in RUNNING state. Current state: {}",
                    cluster.state.name()
                )));
            }
            let queued = cluster.count(JobState::Pending) + cluster.count(JobState::Submitted);
            if let Some(limit) = limit.filter(|limit| queued >= *limit) {
                return Err(ApiError::validation(format!(
                    "Virtual cluster {cluster_id} has reached its maximum number of job runs in queue: {limit}"
                )));
            }
        }
        let script = outcomes.decide(&request, options)?;
        let overrides = request.configuration_overrides.get_or_insert_default();
        let monitoring =
            overrides.monitoring_configuration.get_or_insert_with(MonitoringConfiguration::default);
        monitoring.persistent_app_ui.get_or_insert_with(|| "ENABLED".to_owned());
        let index = self.accept(request, script, cluster, caller, now);
        self.tokens.insert(key, index);
        // A run without any waiting is in its next state at once.
        self.advance(now);
        self.started(index)
    }

    fn started(&self, index: usize) -> Reply {
        let run = self.runs.get(index).ok_or_else(|| ApiError::not_found("Job run doesn't exist."))?;
        let cluster = self.clusters.get(run.cluster).map_or("", |cluster| cluster.id.as_str());
        reply(&json!({
            "id": run.id,
            "name": run.request.name,
            "arn": self.arn(&format!("{cluster}/jobruns/{}", run.id)),
            "virtualClusterId": cluster,
        }))
    }

    pub(crate) fn describe_job_run(&self, cluster: &str, id: &str, now: Timestamp) -> Reply {
        let index = self.run(cluster, id)?;
        let run = self
            .runs
            .get(index)
            .ok_or_else(|| ApiError::not_found(format!("Job run {id} doesn't exist.")))?;
        let mut view = self.view(run, now);
        view.job_driver = run.request.job_driver.as_ref();
        view.configuration_overrides = run.request.configuration_overrides.as_ref();
        view.failure_reason = run.failure_reason.as_deref();
        view.retry_policy_configuration =
            retries(run).then_some(()).and(run.request.retry_policy_configuration.as_ref());
        reply(&json!({ "jobRun": view }))
    }

    pub(crate) fn cancel_job_run(&mut self, cluster: &str, id: &str, now: Timestamp) -> Reply {
        let index = self.run(cluster, id)?;
        if !self.cancel(index, now) {
            return Err(ApiError::validation(format!("Job run {id} is not in a cancellable state")));
        }
        self.advance(now);
        reply(&json!({ "id": id, "virtualClusterId": cluster }))
    }

    pub(crate) fn list_job_runs(
        &self,
        cluster_id: &str,
        query: &Query,
        options: &Options,
        now: Timestamp,
    ) -> Reply {
        validate::id("virtualClusterId", cluster_id)?;
        validate::name_filter(query.first("name"))?;
        let mut states = query.all("states");
        validate::states_filter(&states, &JobState::NAMES)?;
        states.sort();
        states.dedup();
        let page = Page::parse(query, cluster_id, options.page_size)?;
        let cluster = self.clusters.get(self.cluster(cluster_id)?);
        let (low, high) = page.range(&self.runs, |run| run.created_at);
        let name = query.first("name");
        // The runs of each wanted state are sorted; merging them costs what the page holds.
        let mut sources: Vec<_> = cluster
            .into_iter()
            .flat_map(|cluster| &cluster.runs)
            .filter(|(state, _)| states.is_empty() || states.iter().any(|name| name == state.name()))
            .map(|(_, runs)| runs.range(low..high).rev().copied().peekable())
            .collect();
        let newest_first = std::iter::from_fn(move || {
            let best = sources.iter_mut().filter_map(|source| source.peek().copied()).max()?;
            sources.iter_mut().find_map(|source| source.next_if_eq(&best))
        });
        let shown = newest_first.filter(|index| {
            self.runs.get(*index).is_some_and(|run| {
                run.listed_from <= now
                    && name.is_none_or(|name| run.request.name.as_ref() == Some(name))
                    && (states.is_empty() || states.iter().any(|state| state == run.reported()))
            })
        });
        let (indexes, token) = page.take(shown);
        let views: Vec<_> = indexes
            .iter()
            .filter_map(|index| self.runs.get(*index))
            .map(|run| {
                let mut view = self.view(run, now);
                view.failure_reason = run.failure_reason.as_deref().filter(|_| options.list_failure_reason);
                view
            })
            .collect();
        reply(&crate::wire::JobRunPage { job_runs: views, next_token: token })
    }

    /// What both lists and DescribeJobRun say of a run.
    fn view<'a>(&'a self, run: &'a JobRun, now: Timestamp) -> JobRunView<'a> {
        let cluster = self.clusters.get(run.cluster).map_or("", |cluster| cluster.id.as_str());
        JobRunView {
            id: &run.id,
            name: run.request.name.as_deref(),
            virtual_cluster_id: cluster,
            arn: self.arn(&format!("{cluster}/jobruns/{}", run.id)),
            state: run.reported(),
            client_token: run.request.client_token.as_deref(),
            execution_role_arn: run.request.execution_role_arn.as_deref(),
            release_label: run.request.release_label.as_deref(),
            configuration_overrides: None,
            job_driver: None,
            created_at: run.created_at,
            created_by: &run.created_by,
            finished_at: run.finished_at,
            state_details: run.state_details.as_deref(),
            failure_reason: None,
            tags: &run.tags,
            retry_policy_configuration: None,
            retry_policy_execution: retries(run)
                .then(|| RetryPolicyExecution { current_attempt_count: attempt(run, now) }),
        }
    }

    /// The index of a run of a virtual cluster.
    pub(crate) fn run(&self, cluster: &str, id: &str) -> Result<usize, ApiError> {
        validate::id("virtualClusterId", cluster)?;
        validate::id("id", id)?;
        let of = |run: &JobRun| self.clusters.get(run.cluster).map(|cluster| cluster.id.as_str());
        self.run_index
            .get(id)
            .copied()
            .filter(|index| self.runs.get(*index).and_then(of) == Some(cluster))
            .ok_or_else(|| ApiError::not_found(format!("Job run {id} doesn't exist.")))
    }
}

/// Whether the run retries; one attempt is no retry.
fn retries(run: &JobRun) -> bool {
    let policy = run.request.retry_policy_configuration.as_ref();
    policy.and_then(|policy| policy.max_attempts).is_some_and(|attempts| attempts > 1)
}

/// The attempt that the run is at: its attempts share its running time evenly.
fn attempt(run: &JobRun, now: Timestamp) -> u32 {
    let most = run.request.retry_policy_configuration.as_ref().and_then(|policy| policy.max_attempts);
    let attempts =
        run.script.attempts.min(most.and_then(|most| u32::try_from(most).ok()).unwrap_or(1)).max(1);
    let Some(since) = run.running_since else { return 1 };
    let until = run.finished_at.unwrap_or(now);
    let ran = until.duration_since(since).unsigned_abs();
    let each = (run.script.plan.running_for / attempts).max(std::time::Duration::from_millis(1));
    let done = u32::try_from(ran.as_millis() / each.as_millis().max(1)).unwrap_or(u32::MAX);
    done.saturating_add(1).min(attempts)
}

/// The answer to what the simulator doesn't do.
pub(crate) fn not_simulated(what: &str) -> ApiError {
    ApiError::new(501, "NotImplementedException", format!("the simulator does not answer {what}"))
}

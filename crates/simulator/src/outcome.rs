//! Scripted outcomes: which runs end how, chosen by globs when they are started.
//!
//! Must not know the state of runs. Invariant: the first rule that matches decides everything
//! that it names; the rest comes from the options.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::seconds;
use crate::error::ApiError;
use crate::lifecycle::{CancelRace, JobState, Plan};
use crate::options::Options;
use crate::wire::StartJobRun;

/// How long the service lets a run wait for capacity, if its configuration doesn't say.
const START_TIMEOUT: Duration = Duration::from_mins(15);

const COMPLETED_DETAILS: &str = "JobRun completed successfully. It ran for";
/// What a run that failed says without a rule.
pub(crate) const FAILED_DETAILS: &str =
    "JobRun failed. Please refer logs uploaded to S3/CloudWatch based on your monitoring configuration.";
const NO_CAPACITY_DETAILS: &str = "JobRun timed out before job controller pod started running due to lack of \
cluster resources. Last event from default-scheduler: FailedScheduling, message: 0/2 nodes are available: 2 \
Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims \
found for incoming pod.. Please refer logs uploaded to S3/CloudWatch based on your monitoring configuration.";

/// A rule for runs that are yet to be started. All globs that are given must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Glob (`*`, `?`) on the run's name.
    pub name: Option<String>,
    /// Glob on the driver's entry point.
    pub entry_point: Option<String>,
    /// Glob on the release label.
    pub release_label: Option<String>,
    /// Glob on the execution role's ARN.
    pub execution_role_arn: Option<String>,
    /// How many starts the rule serves before it is spent; without it, all.
    pub count: Option<u64>,
    /// The final state, `COMPLETED` (default) or `FAILED`.
    pub state: Option<String>,
    /// The state in which a run that fails does so: `PENDING`, `SUBMITTED` or `RUNNING` (default).
    pub fails_in: Option<String>,
    /// The failure reason of a run that fails; `USER_ERROR` by default. Unknown ones are passed on.
    pub failure_reason: Option<String>,
    /// The details of the final state; the service's own words by default.
    pub state_details: Option<String>,
    /// Seconds in PENDING.
    #[serde(alias = "pending_seconds")]
    pub pending_seconds: Option<f64>,
    /// Seconds in SUBMITTED.
    #[serde(alias = "submitted_seconds")]
    pub submitted_seconds: Option<f64>,
    /// Seconds in RUNNING.
    #[serde(alias = "running_seconds")]
    pub running_seconds: Option<f64>,
    /// Seconds from CANCEL_PENDING to CANCELLED.
    #[serde(alias = "cancel_seconds")]
    pub cancel_seconds: Option<f64>,
    /// Answers StartJobRun with this error.
    #[serde(alias = "start_refused")]
    pub start_refused: Option<Refusal>,
    /// The cluster has no room: SUBMITTED until the job start timeout, then FAILED with USER_ERROR.
    #[serde(alias = "no_capacity")]
    pub no_capacity: bool,
    /// Seconds after the start in which lists don't show the run.
    #[serde(alias = "list_delay_seconds")]
    pub list_delay_seconds: Option<f64>,
    /// State to what is reported in its place, for states that a client doesn't know.
    #[serde(alias = "reported_states")]
    pub reported_states: BTreeMap<String, String>,
    /// Driver attempts that a run with a retry policy makes, spread over its running time.
    pub attempts: Option<u32>,
    /// Who wins when the run ends while it is being cancelled.
    #[serde(alias = "cancel_race")]
    pub cancel_race: CancelRace,
}

/// An error in place of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The error code.
    #[serde(default = "validation")]
    pub code: String,
    /// The message.
    #[serde(default)]
    pub message: String,
    /// The HTTP status.
    #[serde(default = "bad_request")]
    pub status: u16,
}

fn validation() -> String {
    "ValidationException".to_owned()
}

fn bad_request() -> u16 {
    400
}

/// What the rules make of a start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    pub(crate) plan: Plan,
    pub(crate) list_delay: Duration,
    pub(crate) reported: BTreeMap<String, String>,
    pub(crate) attempts: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Outcomes(Vec<(Rule, u64)>);

impl Outcomes {
    /// Adds a rule behind the others.
    pub(crate) fn add(&mut self, rule: Rule) -> anyhow::Result<()> {
        rule.check()?;
        self.0.push((rule, 0));
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.0.iter().map(|(rule, _)| rule.clone()).collect()
    }

    /// Chooses the outcome of a start, or its refusal.
    pub(crate) fn decide(&mut self, request: &StartJobRun, options: &Options) -> Result<Script, ApiError> {
        let found = self
            .0
            .iter_mut()
            .find(|(rule, used)| rule.count.is_none_or(|count| *used < count) && rule.matches(request));
        let rule = match found {
            Some((rule, used)) => {
                *used += 1;
                rule.clone()
            }
            None => Rule::default(),
        };
        if let Some(refusal) = &rule.start_refused {
            return Err(ApiError::new(refusal.status, &refusal.code, &refusal.message));
        }
        Ok(rule.script(request, options))
    }
}

impl Rule {
    fn check(&self) -> anyhow::Result<()> {
        if let Some(state) = &self.state {
            anyhow::ensure!(
                matches!(state.as_str(), "COMPLETED" | "FAILED"),
                "a rule's state is COMPLETED or FAILED, not {state}"
            );
        }
        if let Some(state) = &self.fails_in {
            anyhow::ensure!(
                JobState::parse(state).is_some_and(JobState::is_cancellable),
                "a rule's failsIn is PENDING, SUBMITTED or RUNNING, not {state}"
            );
        }
        for state in self.reported_states.keys() {
            anyhow::ensure!(JobState::parse(state).is_some(), "reportedStates names no state: {state}");
        }
        for value in [
            self.pending_seconds,
            self.submitted_seconds,
            self.running_seconds,
            self.cancel_seconds,
            self.list_delay_seconds,
        ]
        .into_iter()
        .flatten()
        {
            seconds(value)?;
        }
        Ok(())
    }

    fn matches(&self, request: &StartJobRun) -> bool {
        let matches = |pattern: &Option<String>, text: Option<&String>| {
            pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| glob(pattern, text)))
        };
        matches(&self.name, request.name.as_ref())
            && matches(&self.entry_point, entry_point(request))
            && matches(&self.release_label, request.release_label.as_ref())
            && matches(&self.execution_role_arn, request.execution_role_arn.as_ref())
    }

    fn script(self, request: &StartJobRun, options: &Options) -> Script {
        let or = |given: Option<f64>, default| given.and_then(|s| seconds(s).ok()).unwrap_or(default);
        let mut fails_in = self.fails_in.as_deref().and_then(JobState::parse);
        let mut submitted_for = or(self.submitted_seconds, options.submitted_for);
        let mut details = self.state_details;
        if self.no_capacity {
            fails_in = Some(JobState::Submitted);
            submitted_for = self
                .submitted_seconds
                .and_then(|s| seconds(s).ok())
                .or_else(|| start_timeout(request))
                .unwrap_or(START_TIMEOUT);
            details.get_or_insert_with(|| NO_CAPACITY_DETAILS.to_owned());
        }
        let failed = fails_in.is_some() || self.state.as_deref() == Some("FAILED");
        let running_for = or(self.running_seconds, options.running_for);
        let plan = Plan {
            pending_for: or(self.pending_seconds, options.pending_for),
            submitted_for,
            running_for,
            cancel_for: or(self.cancel_seconds, options.cancel_for),
            fails_in,
            end: if failed { JobState::Failed } else { JobState::Completed },
            failure_reason: failed.then(|| self.failure_reason.unwrap_or_else(|| "USER_ERROR".to_owned())),
            state_details: details.or_else(|| {
                Some(if failed {
                    FAILED_DETAILS.to_owned()
                } else {
                    format!("{COMPLETED_DETAILS} {} Seconds", running_for.as_secs())
                })
            }),
            race: self.cancel_race,
        };
        Script {
            plan,
            list_delay: or(self.list_delay_seconds, options.list_delay),
            reported: self.reported_states,
            attempts: self.attempts.unwrap_or(1),
        }
    }
}

fn entry_point(request: &StartJobRun) -> Option<&String> {
    let driver = request.job_driver.as_ref()?;
    let submit = driver.spark_submit_job_driver.as_ref().and_then(|driver| driver.entry_point.as_ref());
    submit.or_else(|| driver.spark_sql_job_driver.as_ref().and_then(|driver| driver.entry_point.as_ref()))
}

/// The run's own start timeout, from the classification that sets it.
fn start_timeout(request: &StartJobRun) -> Option<Duration> {
    let overrides = request.configuration_overrides.as_ref()?;
    let configurations = overrides.application_configuration.as_ref()?;
    let defaults = configurations
        .iter()
        .find(|configuration| configuration.classification.as_deref() == Some("emr-containers-defaults"))?;
    let value = defaults.properties.as_ref()?.get("job-start-timeout")?;
    value.parse().ok().map(Duration::from_secs)
}

/// Whether `text` matches `pattern`, in which `*` stands for any text and `?` for one character.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern.chars().count() == text.chars().count() && starts_with(pattern, text).is_some();
    };
    let Some(mut text) = starts_with(head, text) else { return false };
    loop {
        if glob(rest, text) {
            return true;
        }
        let mut chars = text.chars();
        if chars.next().is_none() {
            return false;
        }
        text = chars.as_str();
    }
}

/// What follows `pattern` (without `*`) at the start of `text`.
fn starts_with<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
    let mut rest = text.chars();
    for wanted in pattern.chars() {
        let found = rest.next()?;
        if wanted != '?' && wanted != found {
            return None;
        }
    }
    Some(rest.as_str())
}

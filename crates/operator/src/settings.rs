//! What the operator was told to do: the arguments, read and checked.
//!
//! Reads no file and opens no connection. Invariant: a [`Settings`] is fit to run with; everything that is wrong with
//! the arguments is in one [`SettingsError`], each line naming the flag and the remedy.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use kube::core::Selector;

use crate::args::{Args, WithoutEffect};
use crate::event_queue::EventQueue;
use crate::feature_gates::FeatureGates;
use crate::leader::times::LeaseTimes;
use crate::per_kind::{PerKind, WorkedOn};
use crate::quotas::Quotas;
use crate::selector;
use crate::settings_check::{Check, Reconcile};
use crate::settings_values::{
    address, bounded_timeout, level, metrics_address, namespaces, ready, request_timeout, switch,
    system_namespace, tags,
};
pub(crate) use crate::settings_values::{deletion, endpoint, region};
use crate::timing;

/// Everything that the command line and the environment decide.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line, and none bears on another"
)]
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Region of the AWS resources, unless the object names another; never empty.
    pub aws_region: String,
    /// Endpoint of the EMR on EKS API, if it isn't the region's own.
    pub aws_endpoint_url: Option<String>,
    /// Endpoint of the STS API, if it isn't the region's own.
    pub aws_identity_endpoint_url: Option<String>,
    /// Whether endpoints that are not https are accepted, also those that a namespace names.
    pub allow_unsafe_aws_endpoint_urls: bool,
    /// The queue with events of job runs, if there is one.
    pub event_queue: Option<EventQueue>,
    /// What bounds our AWS calls.
    pub aws_quotas: Quotas,
    /// Where the metrics are served.
    pub metrics_addr: Option<SocketAddr>,
    /// Where /healthz and /readyz are served.
    pub healthz_addr: Option<SocketAddr>,
    /// How long one HTTP request to AWS may take.
    pub http_client_timeout: Duration,
    /// The least severe messages that are logged.
    pub log_level: LogLevel,
    /// Whether the log is text even where there is no terminal.
    pub development_logging: bool,
    /// The namespaces that are watched; all when empty.
    pub watch_namespaces: Vec<String>,
    /// The labels of the objects that are worked on.
    pub watch_selector: Selector,
    /// The tags of every AWS resource in the order given; values still contain their %VARIABLES%.
    pub resource_tags: Vec<(String, String)>,
    /// What becomes of the AWS resource of a deleted object, unless the object says otherwise.
    pub deletion_policy: DeletionPolicy,
    /// The kinds that are worked on.
    pub worked_on: WorkedOn,
    /// How often what AWS has is read again although nothing has changed.
    pub resync_period: PerKind<Duration>,
    /// Passes that run at the same time for each kind; at least one.
    pub max_concurrent_syncs: PerKind<u16>,
    /// Whether a lease decides who works.
    pub leader_election: LeaderElection,
    /// Namespace of the lease, if it was named.
    pub leader_election_namespace: Option<String>,
    /// How long the lease is valid, and how often it is renewed.
    pub lease_times: LeaseTimes,
    /// Whether references may lead to objects of other namespaces.
    pub cross_namespace: bool,
    /// Whether FieldExports are acted upon.
    pub field_exports: bool,
    /// What `Ready` of a JobRun follows.
    pub job_ready_policy: JobReadyPolicy,
    /// Which features are on.
    pub feature_gates: FeatureGates,
    /// Whether nothing is written, and it is said what would be done.
    pub read_only: bool,
    /// Whether roles are looked up by account and team.
    pub enable_carm: bool,
    /// Where the config maps with these roles are.
    pub system_namespace: String,
    /// What to tell the user once the log works.
    pub warnings: Vec<String>,
}

/// The least severe messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the levels")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// What becomes of the AWS resource of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// It is deleted, or cancelled if it is a run.
    Delete,
    /// It is left as it is.
    Retain,
}

/// Whether a lease decides who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderElection {
    /// It does.
    On,
    /// It does where the account may use the lease; upstream's chart grants that only to who asks for an election.
    IfAllowed,
    /// Everyone works at once.
    Off,
}

/// What `Ready` of a JobRun follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobReadyPolicy {
    /// True once the run is COMPLETED.
    Outcome,
    /// True once the run is submitted, as upstream has it.
    Synced,
}

/// Why the operator doesn't start.
#[derive(Debug)]
pub enum SettingsError {
    /// clap's own answer: an unknown flag, or `--help` and `--version`.
    Usage(clap::Error),
    /// Everything that is wrong with the values.
    Problems(Vec<String>),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(formatter),
            Self::Problems(problems) => {
                writeln!(formatter, "the operator can't start with these arguments:")?;
                problems.iter().try_for_each(|problem| writeln!(formatter, "  {problem}"))
            }
        }
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads the command line, the program's name first, and the environment variables that stand in for flags.
    pub fn from_command_line(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, SettingsError> {
        Self::from_command(Args::command(), arguments)
    }

    fn from_command(
        command: clap::Command,
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, SettingsError> {
        let matches = command.try_get_matches_from(arguments).map_err(SettingsError::Usage)?;
        Self::try_from(Args::from_arg_matches(&matches).map_err(SettingsError::Usage)?)
    }
}

impl TryFrom<Args> for Settings {
    type Error = SettingsError;

    #[expect(clippy::too_many_lines, reason = "a few lines for each flag, and nothing else")]
    fn try_from(args: Args) -> Result<Self, SettingsError> {
        // Without `..`, so that a flag that nothing reads doesn't compile.
        let Args {
            aws_region,
            aws_endpoint_url,
            aws_identity_endpoint_url,
            allow_unsafe_aws_endpoint_urls,
            event_queue_url,
            aws_quotas,
            metrics_addr,
            healthz_addr,
            http_client_timeout,
            log_level,
            enable_development_logging,
            watch_namespace,
            watch_selectors,
            resource_tags,
            deletion_policy,
            reconcile,
            election,
            enable_cross_namespace,
            enable_field_export_reconciler,
            job_ready_policy,
            feature_gates,
            read_only,
            enable_carm,
            ack_system_namespace,
            k8s_namespace,
            without_effect: WithoutEffect { warnings, problems },
        } = args;
        let mut check = Check { problems, warnings };
        let Reconcile { worked_on, resync_period, max_concurrent_syncs } = check.reconcile(&reconcile);
        let (leader_election, leader_election_namespace, lease_times) = check.election(&election);
        let allow_unsafe_aws_endpoint_urls =
            check.or("--allow-unsafe-aws-endpoint-urls", false, switch(&allow_unsafe_aws_endpoint_urls));
        let wanted_timeout =
            check.or("--http-client-timeout", timing::STEP, request_timeout(&http_client_timeout));
        let read_only = check.or("--read-only", false, switch(&read_only));
        let feature_gates =
            check.or("--feature-gates", FeatureGates::default(), FeatureGates::parse(&feature_gates));
        let enable_carm = check.or("--enable-carm", true, switch(&enable_carm));
        check.accounts(feature_gates, enable_carm);
        let settings = Self {
            read_only,
            feature_gates,
            enable_carm,
            system_namespace: check.or(
                "--ack-system-namespace",
                String::new(),
                system_namespace(&ack_system_namespace, &k8s_namespace),
            ),
            aws_region: check.or("--aws-region", String::new(), region(&aws_region)),
            aws_endpoint_url: check.or(
                "--aws-endpoint-url",
                None,
                endpoint(&aws_endpoint_url, allow_unsafe_aws_endpoint_urls),
            ),
            aws_identity_endpoint_url: check.or(
                "--aws-identity-endpoint-url",
                None,
                endpoint(&aws_identity_endpoint_url, allow_unsafe_aws_endpoint_urls),
            ),
            allow_unsafe_aws_endpoint_urls,
            event_queue: check.or(
                "--event-queue-url",
                None,
                EventQueue::parse(&event_queue_url, allow_unsafe_aws_endpoint_urls),
            ),
            aws_quotas: check.or(
                "--aws-quotas",
                Quotas::Off,
                Quotas::parse(&aws_quotas).map_err(|error| error.to_string()),
            ),
            metrics_addr: check.or("--metrics-addr", None, metrics_address(&metrics_addr)),
            healthz_addr: check.or("--healthz-addr", None, address(&healthz_addr)),
            http_client_timeout: check.or_warn(
                "--http-client-timeout",
                timing::STEP,
                bounded_timeout(wanted_timeout, &http_client_timeout),
            ),
            // Upstream takes it without a word; not to start is worse than to log too much or too little.
            log_level: check.or_warn("--log-level", LogLevel::Info, level(&log_level)),
            development_logging: check.or(
                "--enable-development-logging",
                false,
                switch(&enable_development_logging),
            ),
            watch_namespaces: check.or("--watch-namespace", Vec::new(), namespaces(&watch_namespace)),
            watch_selector: check.or(
                "--watch-selectors",
                Selector::default(),
                selector::parse(&watch_selectors),
            ),
            resource_tags: check.or("--resource-tags", Vec::new(), tags(&resource_tags)),
            deletion_policy: check.or(
                "--deletion-policy",
                DeletionPolicy::Delete,
                deletion(&deletion_policy),
            ),
            worked_on,
            resync_period,
            max_concurrent_syncs,
            // Who writes nothing needs no lease, and must not keep it from the one that does.
            leader_election: if read_only { LeaderElection::Off } else { leader_election },
            leader_election_namespace,
            lease_times,
            cross_namespace: check.or("--enable-cross-namespace", true, switch(&enable_cross_namespace)),
            field_exports: check.or(
                "--enable-field-export-reconciler",
                true,
                switch(&enable_field_export_reconciler),
            ),
            job_ready_policy: check.or(
                "--job-ready-policy",
                JobReadyPolicy::Outcome,
                ready(&job_ready_policy),
            ),
            warnings: check.warnings,
        };
        if check.problems.is_empty() { Ok(settings) } else { Err(SettingsError::Problems(check.problems)) }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;

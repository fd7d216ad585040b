//! What the operator was told to do: the arguments, read and checked.
//!
//! Reads no file and opens no connection. Invariant: a [`Settings`] is fit to run with; everything that is wrong with
//! the arguments is in one [`SettingsError`], each line naming the flag and the remedy.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use axum::http::Uri;
use clap::{CommandFactory, FromArgMatches};
use kube::core::Selector;

use crate::args::{Args, WithoutEffect, go_bool};
use crate::event_queue::EventQueue;
use crate::feature_gates::FeatureGates;
use crate::leader::times::LeaseTimes;
use crate::quotas::Quotas;
use crate::selector;

/// Everything that the command line and the environment decide.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the user's switches")]
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
    /// Passes that run at the same time for each kind; at least one.
    pub max_concurrent_syncs: u16,
    /// Whether a lease decides who works.
    pub leader_election: bool,
    /// Namespace of the lease, if it was named.
    pub leader_election_namespace: Option<String>,
    /// How long the lease is valid, and how often it is renewed.
    pub lease_times: LeaseTimes,
    /// What `Ready` of a JobRun follows.
    pub job_ready_policy: JobReadyPolicy,
    /// Which features are on.
    pub feature_gates: FeatureGates,
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
            log_level,
            enable_development_logging,
            watch_namespace,
            watch_selectors,
            resource_tags,
            deletion_policy,
            reconcile_default_max_concurrent_syncs,
            enable_leader_election,
            leader_election_namespace,
            leader_election_lease_duration,
            leader_election_renew_deadline,
            leader_election_retry_period,
            job_ready_policy,
            feature_gates,
            enable_carm,
            ack_system_namespace,
            k8s_namespace,
            without_effect: WithoutEffect { warnings, problems },
        } = args;
        let mut check = Problems(problems);
        let allow_unsafe_aws_endpoint_urls =
            check.or("--allow-unsafe-aws-endpoint-urls", false, switch(&allow_unsafe_aws_endpoint_urls));
        let mut settings = Self {
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
            metrics_addr: check.or("--metrics-addr", None, address(&metrics_addr)),
            healthz_addr: check.or("--healthz-addr", None, address(&healthz_addr)),
            log_level: check.or("--log-level", LogLevel::Info, level(&log_level)),
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
            max_concurrent_syncs: check.or(
                "--reconcile-default-max-concurrent-syncs",
                1,
                concurrency(&reconcile_default_max_concurrent_syncs),
            ),
            leader_election: check.or("--enable-leader-election", true, switch(&enable_leader_election)),
            leader_election_namespace: check.or(
                "--leader-election-namespace",
                None,
                optional_namespace(&leader_election_namespace),
            ),
            lease_times: LeaseTimes::parse(
                &leader_election_lease_duration,
                &leader_election_renew_deadline,
                &leader_election_retry_period,
            )
            .unwrap_or_else(|problems| {
                check.0.extend(problems);
                LeaseTimes::default()
            }),
            job_ready_policy: check.or(
                "--job-ready-policy",
                JobReadyPolicy::Outcome,
                ready(&job_ready_policy),
            ),
            feature_gates: check.or(
                "--feature-gates",
                FeatureGates::default(),
                FeatureGates::parse(&feature_gates),
            ),
            enable_carm: check.or("--enable-carm", true, switch(&enable_carm)),
            system_namespace: check.or(
                "--ack-system-namespace",
                String::new(),
                system_namespace(&ack_system_namespace, &k8s_namespace),
            ),
            warnings,
        };
        let gates = settings.feature_gates;
        if (gates.team_level_carm || gates.service_level_carm) && !settings.enable_carm {
            let of_carm = "the feature gates TeamLevelCARM and ServiceLevelCARM have no effect with --enable-carm=false";
            settings.warnings.push(of_carm.to_owned());
        }
        if gates.iam_role_selector && settings.enable_carm {
            check.0.push(
                "cannot enable feature gate 'IAMRoleSelector' when flag 'enable-carm' is set to true: add --enable-carm=false"
                    .to_owned(),
            );
        }
        if check.0.is_empty() { Ok(settings) } else { Err(SettingsError::Problems(check.0)) }
    }
}

/// Collects what is wrong, so that a user repairs everything at once.
struct Problems(Vec<String>);

impl Problems {
    /// The value, or a stand-in that is never used because the problem is kept.
    fn or<T>(&mut self, flag: &str, stand_in: T, value: Result<T, String>) -> T {
        value.unwrap_or_else(|problem| {
            self.0.push(format!("{flag} {problem}"));
            stand_in
        })
    }
}

fn switch(text: &str) -> Result<bool, String> {
    go_bool(text).ok_or_else(|| format!("is `{text}`: use true or false"))
}

pub(crate) fn region(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty: give the region, such as eu-central-1, here or in AWS_REGION".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        Ok(text.to_owned())
    } else {
        Err(format!("is `{text}`, which is no region: use a code such as eu-central-1"))
    }
}

/// Checks an endpoint URL; empty is none.
pub(crate) fn endpoint(text: &str, allow_unsafe: bool) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let malformed =
        || format!("is `{text}`, which is no endpoint URL: use the form https://host[:port][/path]");
    let uri: Uri = text.parse().map_err(|_| malformed())?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty()
        || uri.query().is_some()
        || uri.authority().is_some_and(|part| part.as_str().contains('@'))
    {
        return Err(malformed());
    }
    match uri.scheme_str() {
        Some("https") => Ok(Some(text.to_owned())),
        Some("http") if allow_unsafe => Ok(Some(text.to_owned())),
        Some("http") => {
            Err(format!("is `{text}`, which is not https: add --allow-unsafe-aws-endpoint-urls to accept it"))
        }
        _ => Err(malformed()),
    }
}

/// Reads `host:port` or Go's `:port`; Go's `0` and nothing at all mean that nothing is served.
fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    let text = text.trim();
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let parsed = match text.split_once(':') {
        Some(("", port)) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        Some(("localhost", port)) => {
            port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        }
        _ => text.parse().ok(),
    };
    parsed
        .map(Some)
        .ok_or_else(|| format!("is `{text}`, which is no address: use the form 0.0.0.0:8080, or 0 for none"))
}

fn level(text: &str) -> Result<LogLevel, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "trace" => Ok(LogLevel::Trace),
        "debug" => Ok(LogLevel::Debug),
        "" | "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        // The levels above error are upstream's; nothing of ours is logged at them.
        "error" | "dpanic" | "panic" | "fatal" => Ok(LogLevel::Error),
        _ => Err(format!("is `{text}`: use trace, debug, info, warn or error")),
    }
}

fn namespaces(text: &str) -> Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for part in text.split(',') {
        if part.trim().is_empty() {
            return Err(format!("is `{text}`, which has a blank entry: remove the comma too many"));
        }
        let name = namespace(part)?;
        if names.contains(&name) {
            return Err(format!("names `{name}` twice: remove one of them"));
        }
        names.push(name);
    }
    Ok(names)
}

fn optional_namespace(text: &str) -> Result<Option<String>, String> {
    if text.trim().is_empty() { Ok(None) } else { namespace(text).map(Some) }
}

/// Upstream's, of three: the variable, the one it was called before, and a fixed one.
fn system_namespace(text: &str, former: &str) -> Result<String, String> {
    match (text.trim(), former.trim()) {
        ("", "") => Ok("ack-system".to_owned()),
        ("", former) => namespace(former),
        (text, _) => namespace(text),
    }
}

fn namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label =
        name.len() <= 63 && name.bytes().all(allowed) && !name.starts_with('-') && !name.ends_with('-');
    if label && !name.is_empty() {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "has `{name}`, which can't be a namespace: use up to 63 of a-z, 0-9 and - that don't start or end in -"
        ))
    }
}

fn tags(texts: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut tags: Vec<(String, String)> = Vec::new();
    // One empty text is how a chart says that there are none.
    for part in texts.iter().filter(|text| !text.trim().is_empty()).flat_map(|text| text.split(',')) {
        let part = part.trim();
        let (key, value) = part
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("has `{part}`, which is no tag: use the form key=value,key=value"))?;
        if tags.iter().any(|(known, _)| known == key) {
            return Err(format!("gives the tag `{key}` twice: remove one of them"));
        }
        tags.push((key.to_owned(), value.to_owned()));
    }
    Ok(tags)
}

fn deletion(text: &str) -> Result<DeletionPolicy, String> {
    match text.trim() {
        "" | "delete" => Ok(DeletionPolicy::Delete),
        "retain" => Ok(DeletionPolicy::Retain),
        _ => Err(format!("is `{text}`: use delete or retain")),
    }
}

fn concurrency(text: &str) -> Result<u16, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number >= 1)
        .ok_or_else(|| format!("is `{text}`: use a whole number from 1 to {}", u16::MAX))
}

fn ready(text: &str) -> Result<JobReadyPolicy, String> {
    match text.trim() {
        "outcome" => Ok(JobReadyPolicy::Outcome),
        "synced" => Ok(JobReadyPolicy::Synced),
        _ => Err(format!("is `{text}`: use outcome or synced")),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;

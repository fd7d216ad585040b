//! What can be set at the start, the same for the library and the command line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use crate::clock::{ClockMode, seconds};
use crate::operation::Operation;

/// Options of a simulator. `Options::default()` is what the command line gives without flags.
#[derive(Clone, Debug, Parser)]
#[command(name = "emr-simulator", version, about = "Answers the emr-containers API over HTTP")]
pub struct Options {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Account of credentials that no other rule names
    #[arg(long, default_value = "123456789012")]
    pub account: String,
    /// Account of an access key, as KEY=ACCOUNT; a key of 12 digits is its own account
    #[arg(long = "access-key", value_name = "KEY=ACCOUNT", value_parser = pair)]
    pub access_keys: Vec<(String, String)>,
    /// Region of requests without a signature
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// Items on a page of a list, at most
    #[arg(long, default_value_t = 100)]
    pub page_size: usize,
    /// Quotas: off, documented, or Operation=refill:bucket,...,all=refill:bucket
    #[arg(long, default_value = "off")]
    pub quotas: Quotas,
    /// Factor on every refill and bucket
    #[arg(long, default_value_t = 1.0)]
    pub quota_factor: f64,
    /// The error of a throttled request
    #[arg(long, value_enum, default_value = "throttling-exception")]
    pub throttle_form: ThrottleForm,
    /// The clock of life cycles and quotas
    #[arg(long, value_enum, default_value = "real")]
    pub clock: ClockMode,
    /// Seconds that a run is PENDING
    #[arg(long = "pending-seconds", value_parser = duration, default_value = "0.5")]
    pub pending_for: Duration,
    /// Seconds that a run is SUBMITTED
    #[arg(long = "submitted-seconds", value_parser = duration, default_value = "1")]
    pub submitted_for: Duration,
    /// Seconds that a run is RUNNING
    #[arg(long = "job-seconds", value_parser = duration, default_value = "7")]
    pub running_for: Duration,
    /// Seconds from CANCEL_PENDING to CANCELLED
    #[arg(long = "cancel-seconds", value_parser = duration, default_value = "1")]
    pub cancel_for: Duration,
    /// Seconds from TERMINATING to TERMINATED
    #[arg(long = "terminating-seconds", value_parser = duration, default_value = "1")]
    pub terminating_for: Duration,
    /// Seconds that every call takes
    #[arg(long = "latency-seconds", value_parser = duration, default_value = "0")]
    pub latency: Duration,
    /// Seconds after its start in which lists don't show a run
    #[arg(long = "list-delay-seconds", value_parser = duration, default_value = "0")]
    pub list_delay: Duration,
    /// Seconds by which the time of a signature may differ, 300 at AWS; any without this
    #[arg(long = "clock-skew-seconds", value_parser = duration)]
    pub clock_skew: Option<Duration>,
    /// Whether list items carry failureReason
    #[arg(long, action = ArgAction::SetTrue)]
    pub list_failure_reason: bool,
    /// Concurrent runs of a virtual cluster that sets no limit
    #[arg(long, default_value_t = 1000)]
    pub max_concurrent_job_runs: usize,
    /// Whether a second live virtual cluster of the same name is refused
    #[arg(long, action = ArgAction::SetTrue)]
    pub unique_virtual_cluster_names: bool,
    /// Seed of everything that is random
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Requests kept in the log; older ones are dropped
    #[arg(long, default_value_t = 1_000_000)]
    pub log_limit: usize,
}

impl Default for Options {
    fn default() -> Self {
        // The only list of defaults is the one above.
        Self::parse_from(["emr-simulator"])
    }
}

/// The error that throttled requests get; the service model doesn't say which one is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ThrottleForm {
    /// ThrottlingException, 400.
    ThrottlingException,
    /// TooManyRequestsException, 429.
    TooManyRequestsException,
    /// 429 without a code.
    Bare429,
    /// RequestThrottledException, 400.
    RequestThrottledException,
    /// EKSRequestThrottledException, 429.
    EksRequestThrottledException,
}

/// Refill a second and size of a token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) refill_per_second: f64,
    pub(crate) size: f64,
}

/// Token buckets: one for each named operation and one for all together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quotas {
    pub(crate) operations: BTreeMap<Operation, Bucket>,
    pub(crate) all: Option<Bucket>,
}

impl Quotas {
    /// No quotas.
    pub fn off() -> Self {
        Self::default()
    }

    /// The quotas that AWS documents for an account and region.
    pub fn documented() -> Self {
        use Operation as O;
        let of = |refill_per_second, size| Bucket { refill_per_second, size };
        let slow = [
            O::StartJobRun,
            O::CancelJobRun,
            O::CreateVirtualCluster,
            O::DeleteVirtualCluster,
            O::CreateJobTemplate,
            O::DescribeJobTemplate,
            O::DeleteJobTemplate,
            O::ListJobTemplates,
            O::CreateManagedEndpoint,
            O::DeleteManagedEndpoint,
            O::ListManagedEndpoints,
            O::CreateSecurityConfiguration,
            O::DescribeSecurityConfiguration,
            O::ListSecurityConfigurations,
            O::GetManagedEndpointSessionCredentials,
        ];
        let fast =
            [O::ListJobRuns, O::DescribeVirtualCluster, O::ListVirtualClusters, O::DescribeManagedEndpoint];
        let mut operations: BTreeMap<_, _> = slow.into_iter().map(|o| (o, of(1.0, 25.0))).collect();
        operations.extend(fast.into_iter().map(|o| (o, of(5.0, 100.0))));
        operations.insert(O::DescribeJobRun, of(20.0, 100.0));
        Self { operations, all: Some(of(20.0, 200.0)) }
    }
}

impl Quotas {
    /// How many calls of an operation a caller may make within a time, if its own bucket is full at the beginning; none
    /// when the operation has no bucket of its own.
    pub fn allows(&self, operation: &str, within: Duration) -> Option<f64> {
        let bucket = self.operations.get(&Operation::parse(operation)?)?;
        Some(bucket.size + bucket.refill_per_second * within.as_secs_f64())
    }
}

impl std::str::FromStr for Quotas {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "off" => return Ok(Self::off()),
            "documented" => return Ok(Self::documented()),
            _ => {}
        }
        let mut quotas = Self::off();
        for entry in text.split(',') {
            let bucket = entry.split_once('=').and_then(|(name, bucket)| {
                let (refill, size) = bucket.split_once(':')?;
                let bucket = Bucket { refill_per_second: refill.parse().ok()?, size: size.parse().ok()? };
                (bucket.refill_per_second >= 0.0 && bucket.size >= 1.0).then_some((name, bucket))
            });
            let Some((name, bucket)) = bucket else {
                anyhow::bail!("quota {entry} is not Operation=refill:bucket");
            };
            if name == "all" {
                quotas.all = Some(bucket);
            } else if let Some(operation) = Operation::parse(name) {
                quotas.operations.insert(operation, bucket);
            } else {
                anyhow::bail!("quota {entry} names no operation; use the API's names, or all");
            }
        }
        Ok(quotas)
    }
}

fn pair(text: &str) -> anyhow::Result<(String, String)> {
    let (key, account) = text.split_once('=').ok_or_else(|| anyhow::anyhow!("{text} is not KEY=ACCOUNT"))?;
    Ok((key.to_owned(), account.to_owned()))
}

fn duration(text: &str) -> anyhow::Result<Duration> {
    seconds(text.parse()?)
}

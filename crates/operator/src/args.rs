//! The command line as it is typed: the names, the Go spellings and the environment variables, and no judgement.
//!
//! Every flag keeps upstream's name, so that the arguments of its chart start this operator as they are. Values stay
//! text here; `settings.rs` reads them and lists all problems at once. Invariant: a flag is either a field of [`Args`]
//! or an entry of [`NO_EFFECT`].

use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser};

/// The variable that names the endpoint of emr-containers. The AWS SDK would read it too, see [`crate::environment`].
pub const AWS_ENDPOINT_URL: &str = "AWS_ENDPOINT_URL";

/// The flags that have an effect.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "emrcontainers-operator",
    version,
    about = "Runs Amazon EMR on EKS from custom resources.",
    args_override_self = true
)]
pub struct Args {
    /// Region of the AWS resources, unless the object names another.
    #[arg(long, env = "AWS_REGION", default_value = "", value_name = "REGION", allow_hyphen_values = true)]
    pub aws_region: String,
    /// Endpoint of the EMR on EKS API instead of the region's own.
    #[arg(long, env = AWS_ENDPOINT_URL, default_value = "", value_name = "URL")]
    pub aws_endpoint_url: String,
    /// Endpoint of the STS API instead of the region's own.
    #[arg(long, env = "AWS_IDENTITY_ENDPOINT_URL", default_value = "", value_name = "URL")]
    pub aws_identity_endpoint_url: String,
    /// Accept endpoint URLs that are not https.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub allow_unsafe_aws_endpoint_urls: String,
    /// URL of an SQS queue with EventBridge's events of job runs; none when empty.
    #[arg(long, env = "EVENT_QUEUE_URL", default_value = "", value_name = "URL")]
    pub event_queue_url: String,
    /// The calls that may be made: `documented`, `off` or `Operation=refill_per_second:bucket,…` with `all` for all
    /// together.
    #[arg(long, env = "AWS_QUOTAS", default_value = "documented", value_name = "QUOTAS")]
    pub aws_quotas: String,
    /// Address of the metrics; 0 for none.
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub metrics_addr: String,
    /// Address of /healthz and /readyz; 0 for none.
    #[arg(long, default_value = "0.0.0.0:8081", value_name = "ADDRESS")]
    pub healthz_addr: String,
    /// How long one HTTP request to AWS may take, such as 30s; a minute at most, and where it is 0.
    #[arg(long, default_value = "10s", value_name = "TIME", allow_hyphen_values = true)]
    pub http_client_timeout: String,
    /// Least severe messages that are logged: trace, debug, info, warn or error. RUST_LOG is finer and wins.
    #[arg(long, env = "ACK_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// Log readable text instead of JSON, also where there is no terminal.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub enable_development_logging: String,
    /// Namespaces that are watched, separated by commas; all when empty.
    #[arg(long, env = "ACK_WATCH_NAMESPACE", default_value = "", value_name = "NAMESPACES")]
    pub watch_namespace: String,
    /// Label selector of the objects that are worked on, such as `team=etl,tier in (gold,silver)`; all when empty.
    #[arg(long, env = "ACK_WATCH_SELECTORS", default_value = "", value_name = "SELECTOR")]
    pub watch_selectors: String,
    /// Tags of every AWS resource, `key=value` separated by commas; %VARIABLES% are filled in.
    #[arg(
        long,
        env = "ACK_RESOURCE_TAGS",
        default_value = "services.k8s.aws/controller-version=%CONTROLLER_SERVICE%-%CONTROLLER_VERSION%,services.k8s.aws/namespace=%K8S_NAMESPACE%",
        action = ArgAction::Append,
        value_name = "TAGS"
    )]
    pub resource_tags: Vec<String>,
    /// What becomes of the AWS resource when its object is deleted: delete or retain.
    #[arg(long, env = "DELETION_POLICY", default_value = "delete", value_name = "POLICY")]
    pub deletion_policy: String,
    /// What is worked on, how often and by how many.
    #[command(flatten)]
    pub reconcile: ReconcileArgs,
    /// Who works.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// Let references lead to objects of other namespaces.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub enable_cross_namespace: String,
    /// Copy fields into config maps and secrets, as FieldExports say.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub enable_field_export_reconciler: String,
    /// What `Ready` of a JobRun follows: the run's `outcome`, or that it is `synced` as upstream has it.
    #[arg(long, default_value = "outcome", value_name = "POLICY")]
    pub job_ready_policy: String,
    /// Features to turn on or off, `Gate=true` separated by commas: ResourceAdoption, ReadOnlyResources, TeamLevelCARM,
    /// ServiceLevelCARM, IAMRoleSelector.
    #[arg(long, env = "FEATURE_GATES", default_value = "", value_name = "GATES")]
    pub feature_gates: String,
    /// Write nothing, neither to AWS nor to Kubernetes, take no lease, and say what would be done.
    #[arg(long, env = "READ_ONLY", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub read_only: String,
    /// Whether the role that acts for an object is looked up by the account or team that its namespace names.
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub enable_carm: String,
    /// Namespace of the config maps that hold these roles; `K8S_NAMESPACE` when empty, else `ack-system`.
    #[arg(long, env = "ACK_SYSTEM_NAMESPACE", default_value = "", value_name = "NAMESPACE")]
    pub ack_system_namespace: String,
    /// What upstream called `ACK_SYSTEM_NAMESPACE` before.
    #[arg(long, env = "K8S_NAMESPACE", default_value = "", hide = true)]
    pub k8s_namespace: String,
    /// The flags of upstream's that are accepted without an effect.
    #[command(flatten)]
    pub without_effect: WithoutEffect,
}

/// The flags about passes.
#[derive(Clone, Debug, clap::Args)]
pub struct ReconcileArgs {
    /// Kinds that are worked on, separated by commas; the others are only read for references. All when empty.
    #[arg(long, env = "RECONCILE_RESOURCES", default_value = "", value_name = "KINDS")]
    pub reconcile_resources: String,
    /// Seconds between two readings of a virtual cluster in AWS; 0 for 600.
    #[arg(
        long,
        env = "RECONCILE_DEFAULT_RESYNC_SECONDS",
        default_value = "0",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    pub reconcile_default_resync_seconds: String,
    /// The same for one kind, `Kind=seconds`; may be repeated. Runs need none.
    #[arg(long, action = ArgAction::Append, value_name = "KIND=SECONDS", allow_hyphen_values = true)]
    pub reconcile_resource_resync_seconds: Vec<String>,
    /// Passes that run at the same time, for each kind.
    #[arg(
        long,
        env = "RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS",
        default_value = "20",
        value_name = "NUMBER",
        allow_hyphen_values = true
    )]
    pub reconcile_default_max_concurrent_syncs: String,
    /// The same for one kind, `Kind=number`; may be repeated.
    #[arg(long, action = ArgAction::Append, value_name = "KIND=NUMBER", allow_hyphen_values = true)]
    pub reconcile_resource_max_concurrent_syncs: Vec<String>,
}

/// The flags about the lease.
#[derive(Clone, Debug, clap::Args)]
pub struct ElectionArgs {
    /// Let only one replica at a time work: true, false, or auto, which is true where the account may use the lease.
    #[arg(long, default_value = "auto", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_name = "BOOL")]
    pub enable_leader_election: String,
    /// Namespace of the lease; the pod's own when empty.
    #[arg(long, env = "LEADER_ELECTION_NAMESPACE", default_value = "", value_name = "NAMESPACE")]
    pub leader_election_namespace: String,
    /// How long the other replicas respect a lease that isn't renewed.
    #[arg(long, default_value = "15s", value_name = "TIME", allow_hyphen_values = true)]
    pub leader_election_lease_duration: String,
    /// How long the leader works on without having renewed its lease.
    #[arg(long, default_value = "10s", value_name = "TIME", allow_hyphen_values = true)]
    pub leader_election_renew_deadline: String,
    /// How often the leader renews its lease, and the other replicas look at it.
    #[arg(long, default_value = "2s", value_name = "TIME", allow_hyphen_values = true)]
    pub leader_election_retry_period: String,
}

/// The whole command line, for the help text and for the test of the documentation.
pub fn command() -> clap::Command {
    Args::command()
}

/// A flag of upstream's that is accepted so that its chart starts this operator, but that does nothing.
struct NoEffect {
    name: &'static str,
    form: Form,
    /// The values that ask for nothing that we don't do; of any other the log says that it has no effect.
    harmless: fn(&str) -> bool,
    /// Why it has none.
    why: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// `--flag` or `--flag=false`.
    Switch,
    /// `--flag host:port` or `--flag=host:port`.
    Address,
}

const NO_EFFECT: [NoEffect; 3] = [
    NoEffect::new("enable-webhook-server", Form::Switch, is_off, "because no webhook is needed"),
    NoEffect::new(
        "webhook-server-addr",
        Form::Address,
        |value| value == "0.0.0.0:9433",
        "because no webhook is needed",
    ),
    NoEffect::new(
        "aws-endpoint-use-path-style",
        Form::Switch,
        is_off,
        "because it is about S3, which is never called",
    ),
];

impl NoEffect {
    const fn new(name: &'static str, form: Form, harmless: fn(&str) -> bool, why: &'static str) -> Self {
        Self { name, form, harmless, why }
    }

    /// What upstream refuses, it refuses here too: the value was meant to be something else.
    fn problem(&self, value: &str) -> Option<String> {
        let name = self.name;
        match self.form {
            Form::Switch if go_bool(value).is_none() => {
                Some(format!("--{name} is `{value}`: use true or false"))
            }
            Form::Address if !is_address(value) => {
                Some(format!("--{name} is `{value}`, which is no address: use the form 0.0.0.0:9433"))
            }
            Form::Switch | Form::Address => None,
        }
    }
}

fn is_off(value: &str) -> bool {
    go_bool(value) == Some(false)
}

fn is_address(value: &str) -> bool {
    value.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// What was given for the flags of [`NO_EFFECT`], in words.
#[derive(Clone, Debug, Default)]
pub struct WithoutEffect {
    /// To be logged.
    pub warnings: Vec<String>,
    /// To be refused.
    pub problems: Vec<String>,
}

impl clap::Args for WithoutEffect {
    fn augment_args(command: clap::Command) -> clap::Command {
        NO_EFFECT.iter().fold(command, |command, flag| {
            let arg = Arg::new(flag.name)
                .long(flag.name)
                .action(ArgAction::Append)
                .hide(true)
                .allow_hyphen_values(true);
            command.arg(match flag.form {
                Form::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                Form::Address => arg,
            })
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for WithoutEffect {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for flag in &NO_EFFECT {
            for value in matches.get_many::<String>(flag.name).into_iter().flatten() {
                if let Some(problem) = flag.problem(value) {
                    self.problems.push(problem);
                } else if !(flag.harmless)(value) {
                    self.warnings.push(format!("--{}={value} has no effect {}", flag.name, flag.why));
                }
            }
        }
        Ok(())
    }
}

/// A switch as Go reads it.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_of_upstreams_is_known() {
        let command = command();
        let known: Vec<_> = command.get_arguments().filter_map(Arg::get_long).collect();
        for flag in "metrics-addr healthz-addr enable-webhook-server webhook-server-addr enable-leader-election \
                     leader-election-namespace enable-field-export-reconciler enable-carm enable-cross-namespace \
                     enable-development-logging aws-region aws-endpoint-url aws-identity-endpoint-url \
                     allow-unsafe-aws-endpoint-urls aws-endpoint-use-path-style http-client-timeout log-level \
                     resource-tags watch-namespace watch-selectors deletion-policy reconcile-default-resync-seconds \
                     reconcile-resource-resync-seconds reconcile-default-max-concurrent-syncs \
                     reconcile-resource-max-concurrent-syncs feature-gates reconcile-resources"
            .split_whitespace()
        {
            assert!(known.contains(&flag), "{flag}");
        }
    }
}

//! The command line: what is created, what goes wrong meanwhile, what is measured, and which controller.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser};
use emr_simulator::Quotas;
use tests::control_plane::repository;
use tests::operator;

/// Where the lease lies when more than one controller runs.
pub(crate) const LEASE_NAMESPACE: &str = "ack-system";

/// Creates JobRuns against a real API server and a simulated AWS, and prints what that costs and how long it takes.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Options {
    /// Run the standard set, and write README.md and a JSON file for each scenario into this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) standard: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scenario: Scenario,
    /// The controller; {aws_url}, {metrics_addr}, {healthz_addr} and {kubeconfig} are filled in, KUBECONFIG and AWS
    /// credentials are in its environment. It must answer /healthz, and its first process must be the controller
    /// itself. Without it, the operator next to this program runs with the quotas of `--quotas`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// How many JobRuns each owner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owners(pub(crate) Vec<usize>);

/// Quotas as they were given, and as the simulator reads them.
#[derive(Clone, Debug)]
pub(crate) struct GivenQuotas {
    pub(crate) text: String,
    pub(crate) read: Quotas,
}

/// One load and what is measured of it.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Scenario {
    /// JobRuns
    #[arg(long, default_value_t = 1000)]
    pub(crate) runs: usize,
    /// VirtualClusters, each with an equal share of the runs
    #[arg(long, default_value_t = 4)]
    pub(crate) clusters: usize,
    /// Namespaces that they are spread over, at most one for each VirtualCluster
    #[arg(long, default_value_t = 1)]
    pub(crate) namespaces: usize,
    /// JobRuns of each owner, such as 900,11x9: each has a namespace and a VirtualCluster, and all create at the same
    /// pace. In place of --runs, --clusters and --namespaces
    #[arg(long, value_parser = owners, value_name = "RUNS,RUNSxOWNERS", conflicts_with_all = ["runs", "clusters", "namespaces"])]
    pub(crate) owners: Option<Owners>,
    /// JobRuns created a second; without it, all at once
    #[arg(long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// Creates in flight at most
    #[arg(long, default_value_t = 32)]
    pub(crate) parallel: usize,
    /// Time from StartJobRun to the end of each run: 0.5 s PENDING, 1 s SUBMITTED, the rest RUNNING
    #[arg(long, value_parser = seconds, default_value = "7s", value_name = "TIME")]
    pub(crate) job_time: Duration,
    /// Runs of 60 minutes: measure while all are RUNNING, and don't wait for their end
    #[arg(long)]
    pub(crate) long: bool,
    /// JobRuns that have ended before: copies of one that the controller itself brought to its end, made while it
    /// doesn't run
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(crate) finished: usize,
    /// With --long, end so many runs after the steady state, one a second, and measure when that is visible
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(crate) ends: usize,
    /// At last kill the controller, create a run, start the controller again, and measure how soon that run is started
    #[arg(long)]
    pub(crate) restart: bool,
    /// Wait before the steady state is measured: after the last run ended, or with --long after the last one runs
    #[arg(long, value_parser = seconds, default_value = "3s", value_name = "TIME")]
    pub(crate) settle: Duration,
    /// How long the steady state is measured; 0 for not at all
    #[arg(long, default_value_t = 60)]
    pub(crate) idle_seconds: u64,
    /// Kill the controller as `kill -9` does about so often while the runs go, and start it again at once
    #[arg(long, value_parser = seconds, value_name = "TIME")]
    pub(crate) kill_every: Option<Duration>,
    /// Lose this share of the replies to StartJobRun after it was done
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub(crate) lose: f64,
    /// Quotas of the simulated AWS and of the operator: off, documented, or
    /// Operation=refill:bucket,...,all=refill:bucket
    #[arg(long, value_parser = quotas, default_value = "off")]
    pub(crate) quotas: GivenQuotas,
    /// At the end delete all JobRuns at once, and measure until they are gone
    #[arg(long)]
    pub(crate) delete: bool,
    /// Time that each AWS call takes at least
    #[arg(long, value_parser = seconds, default_value = "0s", value_name = "TIME")]
    pub(crate) aws_latency: Duration,
    /// Send the events of runs to a queue of moto's, which the controller is told of by `--event-queue-url`
    #[arg(long)]
    pub(crate) hints: bool,
    /// Controllers at the same time; more than one of ours elect a leader
    #[arg(long, default_value_t = 1)]
    pub(crate) controllers: usize,
    /// Folder of the CustomResourceDefinitions
    #[arg(long, default_value_os_t = repository().join("manifests/crds"))]
    pub(crate) crds: PathBuf,
    /// Give up so long after the last JobRun was created
    #[arg(long, value_parser = seconds, default_value = "900s", value_name = "TIME")]
    pub(crate) deadline: Duration,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Fail when more Spark jobs than this were started beyond one for each JobRun
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_duplicates: Option<usize>,
    /// Fail when a run takes more AWS calls than this
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_aws_calls_per_run: Option<f64>,
    /// Fail when more AWS calls than this are made in the steady state
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_idle_aws_calls: Option<u64>,
    /// Fail when JobRuns are written more often than this in the steady state
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_idle_writes: Option<u64>,
}

impl Scenario {
    /// With what follows from the owners.
    pub(crate) fn completed(self) -> Self {
        let Some(Owners(owners)) = &self.owners else { return self };
        let (runs, number) = (owners.iter().sum(), owners.len());
        Self { runs, clusters: number, namespaces: number, ..self }
    }

    /// How many JobRuns each VirtualCluster gets.
    pub(crate) fn shares(&self) -> Vec<usize> {
        match &self.owners {
            Some(Owners(owners)) => owners.clone(),
            None => (0..self.clusters)
                .map(|index| (self.runs + self.clusters - 1 - index) / self.clusters)
                .collect(),
        }
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            self.runs > 0 && self.clusters > 0 && self.parallel > 0,
            "--runs, --clusters and --parallel must be above 0"
        );
        ensure!(self.controllers > 0, "--controllers must be above 0");
        ensure!(
            (1..=self.clusters).contains(&self.namespaces),
            "--namespaces must be between 1 and the number of clusters, {}",
            self.clusters
        );
        ensure!(self.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "--rate must be above 0");
        ensure!((0.0..=1.0).contains(&self.lose), "--lose must be between 0 and 1");
        ensure!(
            self.ends <= self.runs && (self.ends == 0 || self.long),
            "--ends goes with --long and must not be above --runs"
        );
        Ok(())
    }

    /// How long a run takes from StartJobRun to its end.
    pub(crate) fn run_time(&self) -> Duration {
        if self.long { Duration::from_hours(1) } else { self.job_time }
    }

    /// The load in words.
    pub(crate) fn describe(&self) -> String {
        let pace = self.rate.map_or_else(|| "at once".to_owned(), |rate| format!("at {rate} a second"));
        let mut words = vec![format!(
            "{} runs of {} s {pace}, {} virtual clusters in {} namespace(s)",
            self.runs,
            self.run_time().as_secs_f64(),
            self.clusters,
            self.namespaces
        )];
        if self.finished > 0 {
            words.push(format!("{} that have ended before", self.finished));
        }
        if let Some(every) = self.kill_every {
            words.push(format!("kill -9 about every {} s", every.as_secs_f64()));
        }
        if self.lose > 0.0 {
            words.push(format!("{} % of the replies to StartJobRun lost", self.lose * 100.0));
        }
        if let Some(Owners(owners)) = &self.owners {
            words.push(format!("{owners:?} of each owner"));
        }
        if self.quotas.read != Quotas::off() {
            words.push(format!("AWS quotas {} in force", self.quotas.text));
        }
        if !self.aws_latency.is_zero() {
            words.push(format!("{} ms for each AWS call", self.aws_latency.as_millis()));
        }
        if self.hints {
            words.push("hints".to_owned());
        }
        if self.controllers > 1 {
            words.push(format!("{} controllers", self.controllers));
        }
        words.join(", ")
    }
}

/// The controller's command line, with its placeholders.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
}

impl Command {
    /// The command given, or our operator's.
    pub(crate) fn of(words: &[String], scenario: &Scenario) -> Result<Self> {
        if !words.is_empty() {
            return Ok(Self { words: words.to_vec() });
        }
        let binary = operator::binary()?.into_os_string().into_string();
        let binary = binary.ok().context("the path of the operator is not UTF-8")?;
        let arguments = [
            "--aws-endpoint-url={aws_url}",
            "--aws-identity-endpoint-url={aws_url}",
            "--allow-unsafe-aws-endpoint-urls",
            "--aws-region=us-west-2",
            "--metrics-addr={metrics_addr}",
            "--healthz-addr={healthz_addr}",
        ];
        let mut words = vec![binary];
        words.extend(arguments.map(str::to_owned));
        words.push(format!("--aws-quotas={}", scenario.quotas.text));
        words.push(if scenario.controllers > 1 {
            format!("--leader-election-namespace={LEASE_NAMESPACE}")
        } else {
            "--enable-leader-election=false".to_owned()
        });
        Ok(Self { words })
    }
}

/// `900,11x9`: one owner with 900 and nine with 11 each.
fn owners(text: &str) -> Result<Owners> {
    let mut owners = Vec::new();
    for entry in text.split(',') {
        let (runs, number) = entry.split_once('x').unwrap_or((entry, "1"));
        let [runs, number] = [runs, number].map(|count| count.trim().parse::<usize>());
        let (runs, number) = (runs.context("not like 900,11x9")?, number.context("not like 900,11x9")?);
        ensure!(runs > 0 && number > 0, "an owner has at least one JobRun");
        owners.extend(std::iter::repeat_n(runs, number));
    }
    Ok(Owners(owners))
}

fn quotas(text: &str) -> Result<GivenQuotas> {
    Ok(GivenQuotas { text: text.to_owned(), read: text.parse()? })
}

/// `3s`, `0.5s`, or a number of seconds.
fn seconds(text: &str) -> Result<Duration> {
    let number: f64 = text.strip_suffix('s').unwrap_or(text).parse().context("not like 3s")?;
    Duration::try_from_secs_f64(number).with_context(|| format!("{text} is no time"))
}

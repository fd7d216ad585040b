//! The operator as its users run it: a process with flags, environment, a kubeconfig, metrics, a log and an exit code.
//!
//! Must not: link the operator; another controller of the same kinds can be put in its place.
//! Invariant: see [`crate::guard`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clock::Clock;
use crate::process::{Process, Signal, Usage};
use crate::{port, wait};

/// Names the operator's binary when it is not next to the tests'.
pub const BINARY_VARIABLE: &str = "EMRCONTAINERS_OPERATOR_BIN";
/// A busy machine with two cores starts it in well under this.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// SIGTERM drains; longer than that a kubelet would kill.
const EXIT_WITHIN: Duration = Duration::from_secs(30);
/// How often it is started again when another process takes one of its ports first.
const PORT_TRIES: usize = 3;

/// How to start an operator.
#[derive(Debug, Clone)]
pub struct Builder {
    binary: Option<PathBuf>,
    kubeconfig: PathBuf,
    aws_url: String,
    region: String,
    namespace: Option<String>,
    lease_namespace: Option<String>,
    deployed: Option<Vec<String>>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    wait_ready: bool,
    bare: bool,
}

impl Builder {
    /// Another binary.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Another kubeconfig, such as that of a service account.
    #[must_use]
    pub fn kubeconfig(mut self, path: impl Into<PathBuf>) -> Self {
        self.kubeconfig = path.into();
        self
    }

    /// Watch this namespace only; without it, all of them.
    #[must_use]
    pub fn watch_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Elect a leader, with the lease in this namespace. Without it every operator works at once, so that one started
    /// after a `kill -9` need not wait until the lease of the first has run out.
    #[must_use]
    pub fn leader_election(mut self, namespace: &str) -> Self {
        self.lease_namespace = Some(namespace.to_owned());
        self
    }

    /// Another region than `us-west-2`.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        region.clone_into(&mut self.region);
        self
    }

    /// The arguments of a rendered Deployment instead of the harness's: only addresses and AWS endpoints are overridden.
    #[must_use]
    pub fn deployed(mut self, arguments: Vec<String>) -> Self {
        self.deployed = Some(arguments);
        self
    }

    /// More arguments, after all others.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// A clock that can be set.
    #[must_use]
    pub fn clock(self, clock: &Clock) -> Self {
        clock.environment().iter().fold(self, |operator, (key, value)| operator.environment(key, value))
    }

    /// One more environment variable.
    #[must_use]
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Another address of AWS, such as that of a front.
    #[must_use]
    pub fn aws_url(mut self, url: &str) -> Self {
        url.clone_into(&mut self.aws_url);
        self
    }

    /// Without any of the harness's own flags but those for the ports: for what flags and variables mean.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Don't wait for `/readyz`: for one that is expected to end, or to wait for a lease.
    #[must_use]
    pub fn without_waiting(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Starts it, with its log in `directory`, and waits until it is ready.
    pub async fn start(self, directory: &Path) -> Result<Operator> {
        let mut tries = 0;
        loop {
            tries += 1;
            let operator = self.spawn(directory)?;
            if !self.wait_ready {
                return Ok(operator);
            }
            let ready = operator.wait_ready(READY_WITHIN).await;
            if ready.is_err() && tries < PORT_TRIES && port::was_taken(&operator.log()) {
                continue;
            }
            return ready.map(|()| operator);
        }
    }

    fn own_arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--aws-region={}", self.region)];
        arguments.extend(self.namespace.iter().map(|namespace| format!("--watch-namespace={namespace}")));
        arguments.push(self.lease_namespace.as_ref().map_or_else(
            || "--enable-leader-election=false".to_owned(),
            |namespace| format!("--leader-election-namespace={namespace}"),
        ));
        arguments
    }

    fn spawn(&self, directory: &Path) -> Result<Operator> {
        let binary = self.binary.clone().map_or_else(binary, Ok)?;
        let metrics = format!("127.0.0.1:{}", port::free()?);
        let healthz = format!("127.0.0.1:{}", port::free()?);
        let mut command = Command::new(binary);
        command.args(["--metrics-addr", &metrics, "--healthz-addr", &healthz]);
        if !self.bare {
            // Before what is overridden: the last one counts.
            command
                .args(self.deployed.clone().unwrap_or_else(|| self.own_arguments()))
                .args(["--aws-endpoint-url", &self.aws_url, "--aws-identity-endpoint-url", &self.aws_url])
                .args(["--allow-unsafe-aws-endpoint-urls", "--metrics-addr", &metrics])
                .args(["--healthz-addr", &healthz]);
        }
        command.args(&self.arguments);
        set_environment(&mut command, &self.kubeconfig);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        let log = tempfile::Builder::new().prefix("operator-").suffix(".log").tempfile_in(directory)?;
        let (_, log) = log.keep().context("can't keep the operator's log")?;
        let process = Process::spawn("the operator", &command, &log)?;
        Ok(Operator {
            process,
            metrics_url: format!("http://{metrics}/metrics"),
            healthz_url: format!("http://{healthz}"),
        })
    }
}

/// A running operator.
pub struct Operator {
    process: Process,
    metrics_url: String,
    healthz_url: String,
}

impl Operator {
    /// One that talks to the API server of `kubeconfig` and to AWS at `aws_url`.
    pub fn builder(kubeconfig: impl Into<PathBuf>, aws_url: &str) -> Builder {
        Builder {
            binary: None,
            kubeconfig: kubeconfig.into(),
            aws_url: aws_url.to_owned(),
            region: "us-west-2".to_owned(),
            namespace: None,
            lease_namespace: None,
            deployed: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            wait_ready: true,
            bare: false,
        }
    }

    /// Waits until `/readyz` answers 200; fails at once, with the log, when the operator ends.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let url = format!("{}/readyz", self.healthz_url);
        let ready =
            wait::http_ok(&url, deadline, "the operator should be ready", || self.ensure_running()).await;
        ready.with_context(|| format!("the operator's log ends with\n{}", self.process.log_tail(30)))
    }

    /// Fails, with the log, when it has ended.
    pub fn ensure_running(&self) -> Result<()> {
        self.process.ensure_running()
    }

    /// Kills it as a lost machine does, without a chance to clean up.
    pub async fn kill9(&self) -> Result<()> {
        self.process.kill().await
    }

    /// Asks it to end, as a kubelet does, and returns its exit code.
    pub async fn terminate(&self) -> Result<i32> {
        self.process.signal(Signal::TERM)?;
        self.process.wait_exit(EXIT_WITHIN).await
    }

    /// The process, for signals and waiting.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Its memory and CPU time.
    pub fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The base address of `/healthz` and `/readyz`.
    pub fn healthz_url(&self) -> &str {
        &self.healthz_url
    }

    /// The address of `/metrics`.
    pub fn metrics_url(&self) -> &str {
        &self.metrics_url
    }

    /// The page of `/healthz` or `/readyz`: its code and text.
    pub async fn health(&self, path: &str) -> Result<(u16, String)> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let response = client.get(format!("{}{path}", self.healthz_url)).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// Waits until `/readyz` is closed and says these words.
    pub async fn wait_unready(&self, words: &str) -> Result<()> {
        let what = format!("/readyz should say {words:?}");
        let said = wait::eventually(READY_WITHIN, &what, async || {
            let (code, text) = self.health("/readyz").await?;
            ensure!(code == 503 && text.contains(words), "{code}: {text}");
            Ok(Some(()))
        });
        said.await.with_context(|| format!("the operator's log ends with\n{}", self.process.log_tail(30)))
    }

    /// All metrics now.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(&self.metrics_url).await
    }
}

/// Metrics by series, like `name{label="value"}`.
#[derive(Debug, Clone, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads a `/metrics` page.
    pub async fn scrape(url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let response = client.get(url).send().await?;
        ensure!(response.status().is_success(), "{url} answers {}", response.status());
        Ok(Self::parse(&response.text().await?))
    }

    /// Parses the text format of Prometheus and OpenMetrics.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let line = line.split(" # ").next()?;
            // Labels may hold spaces; what follows the closing brace is the value and perhaps a timestamp.
            let end = line.rfind("} ").map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
            let (series, rest) = line.split_at_checked(end)?;
            Some((series.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The sum over all series of a metric that carry these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let of_metric = self.0.iter().filter(|(series, _)| series.split('{').next() == Some(name));
        of_metric
            .filter(|(series, _)| wanted.iter().all(|label| series.contains(label)))
            // Not `sum()`: an empty one is -0, and that shows.
            .fold(0.0, |sum, (_, value)| sum + value)
    }

    /// All series and their values.
    pub fn series(&self) -> &BTreeMap<String, f64> {
        &self.0
    }
}

/// Gives a controller its kubeconfig and AWS credentials, and hides what the person who runs this has set: no profile,
/// proxy or setting of another installation may be found.
pub fn set_environment(command: &mut Command, kubeconfig: &Path) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_foreign(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
        .env("KUBECONFIG", kubeconfig)
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
        .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")])
        .env("AWS_EC2_METADATA_DISABLED", "true");
}

fn is_foreign(variable: &str) -> bool {
    const NAMES: [&str; 7] = [
        "DELETION_POLICY",
        "EVENT_QUEUE_URL",
        "FEATURE_GATES",
        "K8S_NAMESPACE",
        "LEADER_ELECTION_NAMESPACE",
        "READ_ONLY",
        "RECONCILE_DEFAULT_MAX_CONCURRENT_SYNCS",
    ];
    variable.starts_with("AWS_")
        || variable.starts_with("ACK_")
        || variable.starts_with("RECONCILE_")
        || variable.to_lowercase().ends_with("_proxy")
        || NAMES.contains(&variable)
}

/// The operator's binary: from the environment, or in the folder that cargo builds the tests into.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        return Ok(PathBuf::from(path));
    }
    sibling("emrcontainers-operator")
}

/// A binary of this workspace, built into the same folder as the running executable.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let executable = std::env::current_exe().context("can't find the running executable")?;
    // A test's executable lies one folder deeper, in `deps`.
    let found =
        executable.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    let Some(found) = found else {
        bail!("{name} is not built: run `cargo build --workspace --bins` first, or set {BINARY_VARIABLE}");
    };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_metrics_is_summed_by_labels() {
        let page = "# HELP calls_total AWS calls.\n# TYPE calls counter\n\
            calls_total{op=\"StartJobRun\",code=\"200 OK\"} 3\ncalls_total{op=\"StartJobRun\",code=\"500\"} 1 1700000000 # {id=\"a\"} 1\n\
            calls_total{op=\"ListJobRuns\",code=\"200 OK\"} 5\ncalls_total_more 9\nup 1\n# EOF\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.sum("calls_total", &[("op", "StartJobRun")]).to_string(), "4");
        assert_eq!(metrics.sum("calls_total", &[("code", "200 OK")]).to_string(), "8");
        assert_eq!(metrics.sum("up", &[]).to_string(), "1");
        assert_eq!(metrics.sum("none", &[]).to_string(), "0");
    }
}

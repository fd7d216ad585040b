//! The command lines of etcd, kube-apiserver and kube-controller-manager, and when each counts as ready.
//!
//! Must not: decide which of them run; [`crate::control_plane`] does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::{Client, Config};

use crate::guard::Scratch;
use crate::pki::Pki;
use crate::process::Process;
use crate::{port, wait};

/// Ready after 4 s on two idle cores; a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often a server is started again when another process takes its port between the choice and the bind.
pub(crate) const PORT_TRIES: usize = 5;
/// What a test control plane needs of kube-controller-manager: deletion of namespaces and of owned objects,
/// Deployments that make pods, service accounts, aggregated roles and quotas. It refuses patterns.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,deployment-controller,\
    replicaset-controller,serviceaccount-controller,clusterrole-aggregation-controller,resourcequota-controller";

/// Binaries, keys and a directory: what servers are started from.
pub(crate) struct Servers {
    binaries: PathBuf,
    scratch: Scratch,
    pub(crate) pki: Pki,
    pub(crate) admin_token: String,
}

impl Servers {
    /// Makes keys and a token of the admin; builds the binaries if there are none yet.
    pub(crate) async fn prepare() -> Result<Self> {
        let binaries = binaries().await?;
        let scratch = Scratch::create("control-plane-")?;
        let pki = Pki::create(scratch.path())?;
        let admin_token = format!("{:032x}", rand::random::<u128>());
        let tokens = format!("{admin_token},admin,admin,system:masters\n");
        std::fs::write(scratch.path().join("tokens.csv"), tokens)?;
        Ok(Self { binaries, scratch, pki, admin_token })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn binary(&self, name: &str) -> Result<PathBuf> {
        let path = self.binaries.join(name);
        ensure!(path.exists(), "{} is missing: unset KUBEBUILDER_ASSETS so that it is built", path.display());
        Ok(path)
    }

    pub(crate) fn kubectl(&self) -> PathBuf {
        self.binaries.join("kubectl")
    }

    pub(crate) fn client(&self, url: &str, token: &str) -> Result<Client> {
        let mut config = Config::new(url.parse()?);
        config.root_cert = Some(vec![self.pki.ca_der.clone()]);
        config.auth_info.token = Some(token.to_owned().into());
        Ok(Client::try_from(config)?)
    }

    /// Starts etcd and gives its address.
    pub(crate) async fn start_etcd(&self) -> Result<(Process, String)> {
        for _ in 0..PORT_TRIES {
            let client_url = format!("http://127.0.0.1:{}", port::free()?);
            let peer_url = format!("http://127.0.0.1:{}", port::free()?);
            let mut command = Command::new(self.binary("etcd")?);
            command
                .arg(format!("--data-dir={}", self.dir().join("etcd").display()))
                .args([
                    format!("--listen-client-urls={client_url}"),
                    format!("--advertise-client-urls={client_url}"),
                ])
                .args([
                    format!("--listen-peer-urls={peer_url}"),
                    format!("--initial-advertise-peer-urls={peer_url}"),
                ])
                .arg(format!("--initial-cluster=default={peer_url}"))
                // The data is thrown away, so nothing is gained by waiting for the disk.
                .args(["--unsafe-no-fsync", "--log-level=warn"]);
            let etcd = Process::spawn("etcd", &command, &self.dir().join("etcd.log"))?;
            let alive = || etcd.ensure_running();
            let ready =
                wait::http_ok(&format!("{client_url}/health"), READY_WITHIN, "etcd should be healthy", alive)
                    .await;
            if ready.is_err() && port::was_taken(&etcd.log()) {
                continue;
            }
            ready?;
            return Ok((etcd, client_url));
        }
        bail!("etcd found no free port in {PORT_TRIES} tries")
    }

    /// Starts kube-apiserver and waits until it is ready.
    pub(crate) async fn start_api_server(&self, etcd_url: &str, port: u16) -> Result<Process> {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = Command::new(self.binary("kube-apiserver")?);
        command
            .arg(format!("--etcd-servers={etcd_url}"))
            .args(["--bind-address=127.0.0.1".to_owned(), format!("--secure-port={port}")])
            // Nothing routes to the `kubernetes` service here, and its endpoint may not be a loopback address.
            .args(["--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .args([
                flag("tls-cert-file", &self.pki.server_certificate),
                flag("tls-private-key-file", &self.pki.server_key),
            ])
            .args([
                flag("cert-dir", &self.dir().join("api-server")),
                flag("token-auth-file", &self.dir().join("tokens.csv")),
            ])
            .arg(flag("service-account-key-file", &self.pki.service_account_public_key))
            .arg(flag("service-account-signing-key-file", &self.pki.service_account_key))
            .args([
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.0.0.0/24",
            ])
            .args(["--authorization-mode=RBAC", "--anonymous-auth=false"])
            // Under load the server must be the last to say no: the controller under test is measured, not its fairness.
            .args(["--max-requests-inflight=4000", "--max-mutating-requests-inflight=4000"]);
        let server = Process::spawn("kube-apiserver", &command, &self.dir().join("kube-apiserver.log"))?;
        let client = self.client(&format!("https://127.0.0.1:{port}"), &self.admin_token)?;
        let look = async || {
            if let Err(ended) = server.ensure_running() {
                return Ok(Some(Err(ended)));
            }
            let answer = client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
            Ok((answer == "ok").then_some(Ok(())))
        };
        wait::eventually(READY_WITHIN, "kube-apiserver should be ready", look).await??;
        Ok(server)
    }

    /// Starts kube-controller-manager; it waits for the API server by itself.
    pub(crate) fn start_controller_manager(&self, kubeconfig: &Path) -> Result<Process> {
        let mut command = Command::new(self.binary("kube-controller-manager")?);
        command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--controllers={CONTROLLERS}"))
            .arg(format!("--service-account-private-key-file={}", self.pki.service_account_key.display()))
            .arg(format!("--root-ca-file={}", self.pki.ca.display()))
            .arg(format!("--cert-dir={}", self.dir().join("controller-manager").display()))
            .args(["--leader-elect=false", "--secure-port=0", "--concurrent-namespace-syncs=10"]);
        let log = self.dir().join("controller-manager.log");
        Process::spawn("kube-controller-manager", &command, &log)
    }

    /// Starts a kube-controller-manager that is there to be a candidate for a lease, and asks for it twice a second.
    pub(crate) fn start_candidate(
        &self,
        kubeconfig: &Path,
        lease: (&str, &str),
        name: &str,
    ) -> Result<Process> {
        let (namespace, lease) = lease;
        let mut command = Command::new(self.binary("kube-controller-manager")?);
        command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--cert-dir={}", self.dir().join(name).display()))
            .args(["--controllers=ttl-after-finished-controller", "--secure-port=0", "--v=2"])
            .args(["--leader-elect=true", "--leader-elect-retry-period=500ms"])
            .args(["--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=3s"])
            // Otherwise it leaves the lease to expire, as upstream does.
            .arg("--feature-gates=ControllerManagerReleaseLeaderElectionLockOnExit=true")
            .arg(format!("--leader-elect-resource-namespace={namespace}"))
            .arg(format!("--leader-elect-resource-name={lease}"));
        Process::spawn(name, &command, &self.dir().join(format!("{name}.log")))
    }
}

/// The clone's root.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The folder with the servers: `KUBEBUILDER_ASSETS`, or the cache, which is filled first if need be (minutes, with
/// progress).
async fn binaries() -> Result<PathBuf> {
    let script = repository().join("tools/controlplane/build.sh");
    let output = tokio::process::Command::new(&script).stderr(Stdio::inherit()).output().await;
    let output = output.with_context(|| format!("can't run {}", script.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path = text
        .lines()
        .last()
        .filter(|_| output.status.success())
        .context("no control plane: see the message above")?;
    Ok(PathBuf::from(path))
}

//! A real kube-apiserver with etcd on free loopback ports, with RBAC and its own certificates.
//!
//! Does: start, stop and restart them; hand out clients, kubeconfigs and kubectl.
//! Must not: hold anything that is bound to a tokio runtime, because the tests that share one each have their own.
//! Invariant: its servers and files are gone when this process is, whatever ended it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::guard::Scratch;
use crate::pki::Pki;
use crate::process::Process;
use crate::{port, wait};

/// Ready after 4 s on two idle cores; a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often a server is started again when another process takes its port between the choice and the bind.
const PORT_TRIES: usize = 5;
/// What a test control plane needs of kube-controller-manager: deletion of namespaces and of owned objects,
/// Deployments that make pods, service accounts, aggregated roles and quotas. It refuses patterns.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,deployment-controller,\
    replicaset-controller,serviceaccount-controller,clusterrole-aggregation-controller,resourcequota-controller";
/// Longer than any test: tokens of service accounts are not renewed.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// A running control plane.
pub struct ControlPlane {
    binaries: PathBuf,
    scratch: Scratch,
    pki: Pki,
    admin_token: String,
    etcd_url: String,
    url: String,
    etcd: Process,
    api_server: Mutex<Arc<Process>>,
    controller_manager: OnceCell<Process>,
    crds: OnceCell<()>,
}

/// The control plane that all tests of this process share. It is stopped when the process ends, for whatever reason.
pub async fn shared() -> Result<&'static ControlPlane> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_try_init(ControlPlane::start).await
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver and waits until they are ready. Builds their binaries if there are none yet.
    pub async fn start() -> Result<Self> {
        let binaries = binaries().await?;
        let scratch = Scratch::create("control-plane-")?;
        let dir = scratch.path();
        let pki = Pki::create(dir)?;
        let admin_token = format!("{:032x}", rand::random::<u128>());
        std::fs::write(dir.join("tokens.csv"), format!("{admin_token},admin,admin,system:masters\n"))?;

        let (etcd, etcd_url) = start_etcd(&binaries, dir).await?;
        let files = ServerFiles { binaries: &binaries, dir, pki: &pki, etcd_url: &etcd_url };
        let mut api_server = None;
        for _ in 0..PORT_TRIES {
            let port = port::free()?;
            let process = files.spawn_api_server(port)?;
            let url = format!("https://127.0.0.1:{port}");
            let ready = api_server_ready(&process, &client(&url, &pki, &admin_token)?).await;
            if ready.is_err() && port::was_taken(&process.log()) {
                continue;
            }
            ready?;
            api_server = Some((process, url));
            break;
        }
        let (api_server, url) = api_server.context("kube-apiserver found no free port")?;
        let controller_manager = OnceCell::new();
        let crds = OnceCell::new();
        let api_server = Mutex::new(Arc::new(api_server));
        let plane = Self {
            binaries,
            scratch,
            pki,
            admin_token,
            etcd_url,
            url,
            etcd,
            api_server,
            controller_manager,
            crds,
        };
        plane.write_kubeconfig("admin", &plane.admin_token, "default")?;
        Ok(plane)
    }

    /// The address of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A directory for a test's own files, gone with the control plane.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A new client with all rights. Its connections belong to the calling test's runtime, so no two tests share one.
    pub fn client(&self) -> Result<Client> {
        client(&self.url, &self.pki, &self.admin_token)
    }

    /// A new client that holds any other token.
    pub fn client_for_token(&self, token: &str) -> Result<Client> {
        client(&self.url, &self.pki, token)
    }

    /// A kubeconfig with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scratch().join("admin.kubeconfig")
    }

    /// Writes a kubeconfig that holds `token`; `name` becomes part of its file name.
    pub fn kubeconfig_for_token(&self, name: &str, token: &str) -> Result<PathBuf> {
        self.write_kubeconfig(name, token, "default")
    }

    /// A kubeconfig of a service account, with a token of its own: its RBAC is exercised for real.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.service_account_token(namespace, name).await?;
        self.write_kubeconfig(&format!("{namespace}.{name}"), &token, namespace)
    }

    /// A token of a service account, as `kubectl create token` makes it.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let spec =
            TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let answer = answer.with_context(|| format!("no token for service account {namespace}/{name}"))?;
        Ok(answer.status.context("the API server made an empty token")?.token)
    }

    /// kubectl with all rights; add arguments and run it.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = Command::new(self.binaries.join("kubectl"));
        kubectl
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.scratch().join("kubectl-cache"));
        kubectl
    }

    /// Runs kubectl, `input` on its standard input, and returns what it prints. A failure holds what it says.
    pub async fn run_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut kubectl = self.kubectl();
        kubectl.args(arguments);
        crate::process::run(kubectl, input).await
    }

    /// The helm of the pinned tools, pointed at this control plane.
    pub fn helm(&self) -> Result<Command> {
        let path = self.binary("helm")?;
        let mut helm = Command::new(path);
        helm.env("KUBECONFIG", self.kubeconfig()).env("HELM_CACHE_HOME", self.scratch().join("helm"));
        helm.env("HELM_CONFIG_HOME", self.scratch().join("helm"))
            .env("HELM_DATA_HOME", self.scratch().join("helm"));
        Ok(helm)
    }

    /// Installs the shipped CustomResourceDefinitions, once for all tests, and waits until they are served.
    pub async fn install_crds(&self) -> Result<()> {
        let install = async || {
            crate::objects::install_crds(&self.client()?, &repository().join("manifests/crds")).await
        };
        self.crds.get_or_try_init(install).await.map(drop)
    }

    /// Runs kube-controller-manager too, from the first call on: namespaces vanish, owned objects are collected.
    pub async fn start_controller_manager(&self) -> Result<()> {
        let start = async || {
            let mut command = Command::new(self.binary("kube-controller-manager")?);
            command
                .arg(format!("--kubeconfig={}", self.kubeconfig().display()))
                .arg(format!("--controllers={CONTROLLERS}"))
                .arg(format!("--service-account-private-key-file={}", self.pki.service_account_key.display()))
                .arg(format!("--root-ca-file={}", self.pki.ca.display()))
                .arg(format!("--cert-dir={}", self.scratch().join("controller-manager").display()))
                .args(["--leader-elect=false", "--secure-port=0", "--concurrent-namespace-syncs=10"]);
            Process::spawn(
                "kube-controller-manager",
                &command,
                &self.scratch().join("controller-manager.log"),
            )
        };
        self.controller_manager.get_or_try_init(start).await.map(drop)
    }

    /// Kills the API server, as the loss of its machine does; etcd goes on.
    ///
    /// A test that does this starts a control plane of its own.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.api_server().kill().await
    }

    /// Starts the API server again on the same port and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let port = self
            .url
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .context("the API server has no port")?;
        let files = ServerFiles {
            binaries: &self.binaries,
            dir: self.scratch(),
            pki: &self.pki,
            etcd_url: &self.etcd_url,
        };
        let process = files.spawn_api_server(port)?;
        api_server_ready(&process, &self.client()?).await?;
        *self.api_server.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(process);
        Ok(())
    }

    /// What the API server logged.
    pub fn server_log(&self) -> String {
        self.api_server().log()
    }

    /// Fails, with the log, when a server has ended.
    pub fn ensure_running(&self) -> Result<()> {
        self.etcd.ensure_running()?;
        self.api_server().ensure_running()?;
        self.controller_manager.get().map_or(Ok(()), Process::ensure_running)
    }

    /// The process ids of etcd and kube-apiserver.
    pub fn pids(&self) -> [u32; 2] {
        [self.etcd.pid(), self.api_server().pid()]
    }

    fn api_server(&self) -> Arc<Process> {
        Arc::clone(&self.api_server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn binary(&self, name: &str) -> Result<PathBuf> {
        let path = self.binaries.join(name);
        ensure!(path.exists(), "{} is missing: unset KUBEBUILDER_ASSETS so that it is built", path.display());
        Ok(path)
    }

    fn write_kubeconfig(&self, name: &str, token: &str, namespace: &str) -> Result<PathBuf> {
        // JSON is YAML, and kubectl reads it.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test", "preferences": {},
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": self.pki.ca}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name, "namespace": namespace}}],
        });
        let path = self.scratch().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, serde_json::to_vec_pretty(&config)?)
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(path)
    }
}

/// The clone's root.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The folder with the servers: `KUBEBUILDER_ASSETS`, or the cache, which is filled first if need be (minutes, with progress).
async fn binaries() -> Result<PathBuf> {
    let script = repository().join("tools/controlplane/build.sh");
    let output = tokio::process::Command::new(&script).stderr(std::process::Stdio::inherit()).output().await;
    let output = output.with_context(|| format!("can't run {}", script.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path = text
        .lines()
        .last()
        .filter(|_| output.status.success())
        .context("no control plane: see the message above")?;
    Ok(PathBuf::from(path))
}

async fn start_etcd(binaries: &Path, dir: &Path) -> Result<(Process, String)> {
    for _ in 0..PORT_TRIES {
        let client_url = format!("http://127.0.0.1:{}", port::free()?);
        let peer_url = format!("http://127.0.0.1:{}", port::free()?);
        let mut command = Command::new(binaries.join("etcd"));
        command
            .arg(format!("--data-dir={}", dir.join("etcd").display()))
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
        let etcd = Process::spawn("etcd", &command, &dir.join("etcd.log"))?;
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

/// What an API server is started from.
struct ServerFiles<'a> {
    binaries: &'a Path,
    dir: &'a Path,
    pki: &'a Pki,
    etcd_url: &'a str,
}

impl ServerFiles<'_> {
    fn spawn_api_server(&self, port: u16) -> Result<Process> {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut command = Command::new(self.binaries.join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers={}", self.etcd_url))
            .args(["--bind-address=127.0.0.1".to_owned(), format!("--secure-port={port}")])
            // Nothing routes to the `kubernetes` service here, and its endpoint may not be a loopback address.
            .args(["--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .args([
                flag("tls-cert-file", &self.pki.server_certificate),
                flag("tls-private-key-file", &self.pki.server_key),
            ])
            .args([
                flag("cert-dir", &self.dir.join("api-server")),
                flag("token-auth-file", &self.dir.join("tokens.csv")),
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
        Process::spawn("kube-apiserver", &command, &self.dir.join("kube-apiserver.log"))
    }
}

async fn api_server_ready(process: &Process, client: &Client) -> Result<()> {
    let look = async || {
        if let Err(ended) = process.ensure_running() {
            return Ok(Some(Err(ended)));
        }
        let request = http::Request::get("/readyz").body(Vec::new());
        let answer = client.request_text(request?).await?;
        Ok((answer == "ok").then_some(Ok(())))
    };
    wait::eventually(READY_WITHIN, "kube-apiserver should be ready", look).await?
}

fn client(url: &str, pki: &Pki, token: &str) -> Result<Client> {
    let mut config = Config::new(url.parse()?);
    config.root_cert = Some(vec![pki.ca_der.clone()]);
    config.auth_info.token = Some(token.to_owned().into());
    Ok(Client::try_from(config)?)
}

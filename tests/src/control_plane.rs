//! A real kube-apiserver with etcd on free loopback ports, with RBAC and its own certificates.
//!
//! Does: start, stop and restart them; hand out clients, kubeconfigs and kubectl.
//! Must not: hold anything that is bound to a tokio runtime, because the tests that share one each have their own.
//! Invariant: its servers and files are gone when this process is, whatever ended it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::line::Line;
use crate::objects::GROUP;
use crate::port;
use crate::process::{Process, Signal};
pub use crate::servers::repository;
use crate::servers::{PORT_TRIES, Servers};

/// Longer than any test: tokens of service accounts are not renewed.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// A running control plane.
pub struct ControlPlane {
    servers: Servers,
    etcd: Process,
    etcd_url: String,
    api_server: Mutex<Arc<Process>>,
    port: u16,
    url: String,
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
        let servers = Servers::prepare().await?;
        let (etcd, etcd_url) = servers.start_etcd().await?;
        let (api_server, port) = start_on_a_free_port(&servers, &etcd_url).await?;
        let plane = Self {
            servers,
            etcd,
            etcd_url,
            api_server: Mutex::new(Arc::new(api_server)),
            port,
            url: format!("https://127.0.0.1:{port}"),
            controller_manager: OnceCell::new(),
            crds: OnceCell::new(),
        };
        plane.write_kubeconfig("admin", &plane.servers.admin_token, "default")?;
        Ok(plane)
    }

    /// The address of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A directory for a test's own files, gone with the control plane.
    pub fn scratch(&self) -> &Path {
        self.servers.dir()
    }

    /// A new client with all rights. Its connections belong to the calling test's runtime, so no two tests share one.
    pub fn client(&self) -> Result<Client> {
        self.servers.client(&self.url, &self.servers.admin_token)
    }

    /// A new client that holds any other token.
    pub fn client_for_token(&self, token: &str) -> Result<Client> {
        self.servers.client(&self.url, token)
    }

    /// A kubeconfig with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.scratch().join("admin.kubeconfig")
    }

    /// Writes a kubeconfig that holds `token`; `name` becomes part of its file name.
    pub fn kubeconfig_for_token(&self, name: &str, token: &str) -> Result<PathBuf> {
        self.write_kubeconfig(name, token, "default")
    }

    /// A line to the API server, and a kubeconfig with all rights that leads over it.
    pub async fn line(&self) -> Result<(Line, PathBuf)> {
        let line = Line::to_tls(&self.url, &self.servers.pki.ca).await?;
        let config = std::fs::read_to_string(self.kubeconfig())?;
        // By the port: a colon would make it two paths in KUBECONFIG.
        let path = self.scratch().join(format!("line-{}.kubeconfig", line.port()));
        std::fs::write(&path, config.replace(&self.url, line.url()))
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok((line, path))
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
        let mut kubectl = Command::new(self.servers.kubectl());
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
        let path = self.servers.binary("helm")?;
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
        let start = async || self.servers.start_controller_manager(&self.kubeconfig());
        self.controller_manager.get_or_try_init(start).await.map(drop)
    }

    /// Starts a program that is a candidate for a lease by client-go's own code: kube-controller-manager. `name` must be
    /// its alone.
    pub fn client_go_candidate(&self, namespace: &str, lease: &str, name: &str) -> Result<Process> {
        self.servers.start_candidate(&self.kubeconfig(), (namespace, lease), name)
    }

    /// Kills the API server, as the loss of its machine does; etcd goes on.
    ///
    /// A test that does this starts a control plane of its own.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.api_server().kill().await
    }

    /// Starts the API server again on the same port and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let process = self.servers.start_api_server(&self.etcd_url, self.port).await?;
        *self.api_server.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(process);
        Ok(())
    }

    /// Sends the API server a signal: SIGSTOP lets it stand still with its connections open, until SIGCONT.
    pub fn signal_api_server(&self, signal: Signal) -> Result<()> {
        self.api_server().signal(signal)
    }

    /// Makes etcd forget every version but the newest of each object, so that no watch can go on from an older one.
    pub async fn compact_etcd(&self) -> Result<()> {
        // Any key will do: the answer's header has the revision. Keys are in base64.
        let answer = self.ask_etcd("range", json!({"key": "AA=="})).await?;
        let revision = answer.pointer("/header/revision").context("etcd has a revision")?;
        self.ask_etcd("compaction", json!({"revision": revision, "physical": true})).await.map(drop)
    }

    /// Deletes an object of ours without a look at its finalizers, as the API server does when one is put on after its
    /// deletion has begun.
    pub async fn delete_from_etcd(&self, plural: &str, namespace: &str, name: &str) -> Result<()> {
        let key = format!("/registry/{GROUP}/{plural}/{namespace}/{name}");
        let answer =
            self.ask_etcd("deleterange", json!({"key": ByteString(key.clone().into_bytes())})).await?;
        ensure!(answer.get("deleted").and_then(Value::as_str) == Some("1"), "etcd has no {key}: {answer}");
        Ok(())
    }

    async fn ask_etcd(&self, path: &str, body: Value) -> Result<Value> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let asked = client.post(format!("{}/v3/kv/{path}", self.etcd_url)).json(&body).send().await?;
        Ok(asked.error_for_status()?.json().await?)
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

    fn write_kubeconfig(&self, name: &str, token: &str, namespace: &str) -> Result<PathBuf> {
        // JSON is YAML, and kubectl reads it.
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test", "preferences": {},
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": self.servers.pki.ca}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name, "namespace": namespace}}],
        });
        let path = self.scratch().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, serde_json::to_vec_pretty(&config)?)
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(path)
    }
}

/// Starts kube-apiserver, again when another process takes its port first.
async fn start_on_a_free_port(servers: &Servers, etcd_url: &str) -> Result<(Process, u16)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let port = port::free()?;
        match servers.start_api_server(etcd_url, port).await {
            Err(error) if tries < PORT_TRIES && port::was_taken(&format!("{error:#}")) => {}
            started => return started.map(|server| (server, port)),
        }
    }
}

//! A way from a client to a server on which a request can be held up: one that is late, as in a bad network. Or a
//! connection falls silent for good, as behind a load balancer that has forgotten it.
//!
//! Must not: lose anything else, or tell one side that the other has hung up; a request in the network isn't called back.
//! Invariant: on a connection bytes come out in the order in which they went in.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::future;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// A running line; it is cut when this is dropped.
pub struct Line {
    url: String,
    port: u16,
    hold: Arc<Hold>,
    _task: JoinSet<()>,
}

/// What is held up.
#[derive(Default)]
struct Hold {
    /// What says these words is.
    words: watch::Sender<Option<String>>,
    /// How many connections are.
    held: watch::Sender<usize>,
    /// Changes when those that are open fall silent.
    silence: watch::Sender<()>,
}

impl Line {
    /// Starts one to a server, `http://host:port`.
    pub async fn to(target: &str) -> Result<Self> {
        Self::start(target.trim_start_matches("http://"), None).await
    }

    /// Starts one to a server with TLS, `https://127.0.0.1:port`, whose certificate `ca` vouches for. The client speaks
    /// without TLS, so that its requests can be told from each other.
    pub async fn to_tls(target: &str, ca: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).context("unreadable certificates")? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::start(target.trim_start_matches("https://"), Some(TlsConnector::from(Arc::new(config)))).await
    }

    async fn start(target: &str, tls: Option<TlsConnector>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let hold = Arc::<Hold>::default();
        let mut task = JoinSet::new();
        task.spawn(accept(listener, target.to_owned(), tls, Arc::clone(&hold)));
        Ok(Self { url: format!("http://127.0.0.1:{port}"), port, hold, _task: task })
    }

    /// The client's end, `http://127.0.0.1:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds up requests that contain `words`, such as a part of their path, and what follows on their connections.
    pub fn hold(&self, words: &str) {
        self.hold.words.send_replace(Some(words.to_owned()));
    }

    /// Passes on what was held up, and everything else.
    pub fn release(&self) {
        self.hold.words.send_replace(None);
    }

    /// Carries nothing more on the connections that are open, and closes none; new ones work.
    pub fn fall_silent(&self) {
        self.hold.silence.send_replace(());
    }

    /// Whether a request is held up.
    pub fn holds(&self) -> bool {
        *self.hold.held.borrow() > 0
    }
}

async fn accept(listener: TcpListener, target: String, tls: Option<TlsConnector>, hold: Arc<Hold>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (target, tls, hold) = (target.clone(), tls.clone(), Arc::clone(&hold));
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            client.set_nodelay(true).ok();
            server.set_nodelay(true).ok();
            let Some(tls) = tls else { return carry(client, server, &hold).await };
            let Ok(name) = ServerName::try_from("127.0.0.1") else { return };
            if let Ok(server) = tls.connect(name, server).await {
                carry(client, server, &hold).await;
            }
        });
    }
}

async fn carry(client: TcpStream, server: impl AsyncRead + AsyncWrite, hold: &Hold) {
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    let mut silence = hold.silence.subscribe();
    let both = future::join(requests(from_client, to_server, hold), answers(from_server, to_client));
    let mut both = pin!(both);
    tokio::select! {
        _ = &mut both => {}
        // Both sides stay open.
        _ = silence.changed() => future::pending().await,
    }
}

/// Carries what the client says. The way to the server stays open when it has nothing more to say.
async fn requests(mut client: impl AsyncRead + Unpin, mut server: impl AsyncWrite + Unpin, hold: &Hold) {
    let mut words = hold.words.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = client.read(&mut buffer).await {
        let Some(said) = buffer.get(..length) else { break };
        if words.borrow().as_deref().is_some_and(|words| contains(said, words)) {
            hold.held.send_modify(|held| *held += 1);
            words.wait_for(Option::is_none).await.ok();
            hold.held.send_modify(|held| *held -= 1);
        }
        if server.write_all(said).await.is_err() || server.flush().await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

async fn answers(mut server: impl AsyncRead + Unpin, mut client: impl AsyncWrite + Unpin) {
    tokio::io::copy(&mut server, &mut client).await.ok();
    client.shutdown().await.ok();
}

fn contains(said: &[u8], words: &str) -> bool {
    said.windows(words.len().max(1)).any(|window| window == words.as_bytes())
}

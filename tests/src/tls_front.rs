//! HTTPS in front of a plain server, with a certificate of an authority that nobody knows: what a private proxy is like.
//!
//! Must not: look at what it passes on. Invariant: it ends when it is dropped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A running front.
pub struct TlsFront {
    url: String,
    ca: PathBuf,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// Starts one before `target` (`http://host:port`), with the certificate of its authority in `directory`.
    pub async fn start(target: &str, directory: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "private authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let server = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let ca = directory.join(format!("private-ca-{port}.pem"));
        std::fs::write(&ca, authority.pem()).with_context(|| format!("can't write {}", ca.display()))?;
        let target = target.trim_start_matches("http://").to_owned();
        let task = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), target));
        Ok(Self { url: format!("https://localhost:{port}"), ca, task })
    }

    /// Its address, `https://localhost:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of its authority, PEM.
    pub fn ca(&self) -> &Path {
        &self.ca
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, target: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, target) = (acceptor.clone(), target.clone());
        tokio::spawn(async move {
            // A client that refuses the certificate says so itself.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if let Ok(mut server) = TcpStream::connect(target).await {
                copy_bidirectional(&mut stream, &mut server).await.ok();
            }
        });
    }
}

//! An HTTP client that trusts the certificates of `AWS_CA_BUNDLE` besides the system's.
//!
//! It is the SDK's own client otherwise, proxies of the environment included. The file is checked before the client takes
//! it, since the client would panic over a bad one.

use std::path::{Path, PathBuf};

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why the file of `AWS_CA_BUNDLE` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It can't be read.
    #[error("AWS_CA_BUNDLE: could not read {path}: {source}: mount the file or unset the variable")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds something that is no certificate, or nothing.
    #[error("AWS_CA_BUNDLE: {path} is not a list of PEM certificates: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The bundle that the environment names, read once so that a bad one is known at the start.
///
/// # Errors
/// When the file can't be read, or holds no certificates.
pub fn bundle_of_environment() -> Result<Option<PathBuf>, BundleError> {
    let path = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
    path.map(|path| read(&path).map(|_| path)).transpose()
}

fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    let pem =
        std::fs::read(path).map_err(|source| BundleError::Unreadable { path: path.to_owned(), source })?;
    check(&pem).map_err(|reason| BundleError::Malformed { path: path.to_owned(), reason })?;
    Ok(pem)
}

/// The client for a bundle.
pub(super) fn http_client(path: &Path) -> Result<SharedHttpClient, BundleError> {
    let pem = read(path)?;
    let trust = TrustStore::default().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context
        .map_err(|error| BundleError::Malformed { path: path.to_owned(), reason: error.to_string() })?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.set_proxy_config(Some(ProxyConfig::from_env()));
        builder.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context.clone()).build()
    }))
}

fn check(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(()) }
}

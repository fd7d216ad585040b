//! The keys of one control plane: a certificate authority, the servers' certificate, the service accounts' key pair.
//!
//! Must not: be used outside tests (the keys lie unencrypted in the scratch directory).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Names that clients may call the API server by.
const SERVER_NAMES: [&str; 4] = ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"];

/// Files in PEM.
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    pub(crate) server_certificate: PathBuf,
    pub(crate) server_key: PathBuf,
    pub(crate) service_account_key: PathBuf,
    pub(crate) service_account_public_key: PathBuf,
    /// The authority's certificate, DER.
    pub(crate) ca_der: Vec<u8>,
}

impl Pki {
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "test control plane");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let server_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(SERVER_NAMES.map(String::from).to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = params.signed_by(&server_key, &ca)?;

        let accounts = KeyPair::generate()?;
        let write = |name: &str, pem: String| {
            let path = dir.join(name);
            std::fs::write(&path, pem).with_context(|| format!("can't write {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            ca: write("ca.crt", ca.pem())?,
            server_certificate: write("server.crt", server.pem())?,
            server_key: write("server.key", server_key.serialize_pem())?,
            service_account_key: write("service-accounts.key", accounts.serialize_pem())?,
            service_account_public_key: write("service-accounts.pub", accounts.public_key_pem())?,
            ca_der: ca.der().to_vec(),
        })
    }
}

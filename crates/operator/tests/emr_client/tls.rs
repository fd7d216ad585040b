//! The certificates of `AWS_CA_BUNDLE`.

use std::io::{Read, Write};
use std::sync::Arc;

use emrcontainers_operator::emr::pool::{Pool, PoolConfig};

use crate::rig::{Attempts, config, scope};

/// Answers every TLS connection with one reply, with a certificate that only the returned PEM makes trustworthy.
fn private_server() -> (String, String) {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let chain = vec![key.cert.der().clone()];
    let secret = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = Arc::new(tls.with_no_client_auth().with_single_cert(chain, secret).unwrap());
    let listener = std::net::TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let Ok(session) = rustls::ServerConnection::new(tls.clone()) else { return };
            let mut stream = rustls::StreamOwned::new(session, socket);
            let mut request = [0; 16 * 1024];
            let sts = match stream.read(&mut request) {
                Ok(length) => String::from_utf8_lossy(&request[..length]).contains("POST / "),
                Err(_) => continue,
            };
            let body = if sts {
                "<GetCallerIdentityResponse><GetCallerIdentityResult>\
                 <Arn>arn:aws-cn:sts::111122223333:assumed-role/operator/s</Arn><Account>111122223333</Account>\
                 </GetCallerIdentityResult></GetCallerIdentityResponse>"
            } else {
                r#"{"jobRun":{"id":"r1","state":"RUNNING"}}"#
            };
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + body).as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (format!("https://localhost:{port}"), key.cert.pem())
}

#[tokio::test]
async fn d26_the_certificates_of_aws_ca_bundle_are_trusted_by_every_client() {
    let (url, pem) = private_server();
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    std::fs::write(&bundle, pem).unwrap();
    let observer = Arc::new(Attempts::default());

    let distrustful = Pool::new(config(&url, observer.clone())).await.unwrap();
    let refused = distrustful.client(&scope()).describe_job_run("vc1", "r1").await.unwrap_err();
    assert!(refused.message.to_lowercase().contains("certificate"), "{refused}");

    let config = PoolConfig { ca_bundle: Some(bundle), ..config(&url, observer) };
    let pool = Pool::new(config).await.unwrap();
    assert_eq!(pool.client(&scope()).describe_job_run("vc1", "r1").await.unwrap().state, "RUNNING");
    let identity = pool.identity().await.unwrap();
    assert_eq!((identity.account.as_str(), identity.partition.as_str()), ("111122223333", "aws-cn"));
}

#[tokio::test]
async fn d26_a_bundle_that_can_not_be_used_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let observer = Arc::new(Attempts::default());
    for (content, expected) in [
        (None, "could not read"),
        (Some(""), "it has no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "is not a list of PEM"),
        (Some("-----BEGIN CERTIFICATE-----\n%%%%\n"), "is not a list of PEM"),
    ] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let config =
            PoolConfig { ca_bundle: Some(path.clone()), ..config("https://localhost", observer.clone()) };
        let error = Pool::new(config).await.unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("AWS_CA_BUNDLE") && error.contains("ca.pem"),
            "{error}"
        );
    }
}

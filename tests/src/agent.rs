//! A stand-in for the agent of EKS Pod Identity: gives credentials to whoever has the token, new ones whenever it is asked.
//!
//! Must not: know AWS. The n-th answer has the n-th of the access keys, and then the last one again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running agent; it ends when this is dropped.
pub struct Agent {
    url: String,
    given: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Agent {
    /// Starts one whose credentials are valid for some time.
    pub async fn start(token: &str, access_keys: &[&str], valid_for: Duration) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1/credentials", listener.local_addr()?);
        let given = Arc::<AtomicUsize>::default();
        let (token, count) = (token.to_owned(), Arc::clone(&given));
        let keys: Vec<String> = access_keys.iter().map(|key| (*key).to_owned()).collect();
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let answer = || {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    let key = keys.get(number).or(keys.last()).cloned().unwrap_or_default();
                    let expiry = Timestamp::now().saturating_add(valid_for).unwrap_or(Timestamp::MAX);
                    let body = json!({
                        "AccessKeyId": key, "SecretAccessKey": "secret", "Token": "session", "Expiration": expiry,
                    });
                    body.to_string()
                };
                serve(connection, &token, answer).await.ok();
            }
        });
        Ok(Self { url, given, _task: task })
    }

    /// Where it is: the value of `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often it gave credentials.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

/// Answers one request, and hangs up.
async fn serve(
    mut connection: TcpStream,
    token: &str,
    answer: impl FnOnce() -> String,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && connection.read_buf(&mut head).await? > 0 {}
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let is_get = lines.next().is_some_and(|line| line.starts_with("GET /v1/credentials "));
    let given = lines
        .filter_map(|line| line.split_once(": "))
        .find_map(|(name, value)| name.eq_ignore_ascii_case("authorization").then_some(value));
    let (status, body) = match given {
        Some(given) if is_get && given == token => ("200 OK", answer()),
        _ => ("401 Unauthorized", "{}".to_owned()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(format!("{head}{body}").as_bytes()).await?;
    connection.shutdown().await
}

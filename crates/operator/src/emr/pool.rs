//! A client for each scope, and who we are.
//!
//! All clients share one HTTP client, one source of credentials and, in a scope, one limiter. The EMR endpoint is used for
//! emr-containers alone: a setting that sends it elsewhere never moves STS along.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_emrcontainers::config::{SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::Client;
use super::error::words;
use super::limit::{Limiter, RunKey};
use super::observe::Observer;
use super::tls::{self, BundleError};
use crate::fence::Fence;
use crate::quotas::Quotas;

/// The name in the user agent of every request.
const APP_NAME: &str = "emrcontainers-operator";
/// For how long STS may take with all its attempts.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(30);

/// Whose quota and resources a call is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The AWS account.
    pub account: String,
    /// The AWS region.
    pub region: String,
}

/// The settings of a [`Pool`].
pub struct PoolConfig {
    /// The region of STS calls, and of clients that name no other.
    pub region: String,
    /// Where emr-containers is, when not where AWS has it.
    pub endpoint_url: Option<String>,
    /// Where STS is, when not where AWS has it.
    pub identity_endpoint_url: Option<String>,
    /// For how long one attempt may take. The service answers within a second; a pass must not hang on one that doesn't.
    pub attempt_timeout: Duration,
    /// A file of PEM certificates to trust besides the system's: the value of `AWS_CA_BUNDLE`.
    pub ca_bundle: Option<PathBuf>,
    /// Credentials to use in place of the SDK's default chain (environment, IRSA, Pod Identity, …).
    pub credentials: Option<SharedCredentialsProvider>,
    /// What we may call, in each scope.
    pub quotas: Quotas,
    /// Receives the keys whose turn has come.
    pub wake: UnboundedSender<RunKey>,
    /// Is told of every attempt.
    pub observer: Arc<dyn Observer>,
    /// Whether this process may still act.
    pub fence: Fence,
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Our account.
    pub account: String,
    /// The partition of our region, such as `aws` or `aws-cn`.
    pub partition: String,
}

/// Why AWS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The certificates can't be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// STS hasn't said who we are.
    #[error(
        "could not ask STS who we are: {0}: check the credentials, the region and --aws-identity-endpoint-url"
    )]
    Identity(String),
}

/// Clients by scope.
pub struct Pool {
    config: PoolConfig,
    base: SdkConfig,
    clients: Mutex<HashMap<Scope, Client>>,
    reads_only: bool,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Reads the environment of the SDK and prepares the credentials, without a call.
    pub async fn new(config: PoolConfig) -> Result<Self, PoolError> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new(config.region.clone()))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Ok(name) = AppName::new(APP_NAME) {
            loader = loader.app_name(name);
        }
        if let Some(path) = &config.ca_bundle {
            loader = loader.http_client(tls::http_client(path)?);
        }
        if let Some(credentials) = &config.credentials {
            loader = loader.credentials_provider(credentials.clone());
        }
        Ok(Self { base: loader.load().await, config, clients: Mutex::default(), reads_only: false })
    }

    /// The same pool, with whose clients nothing can be changed.
    #[must_use]
    pub fn reading_only(self) -> Self {
        Self { reads_only: true, ..self }
    }

    /// The client of a scope.
    pub fn client(&self, scope: &Scope) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(scope.clone()).or_insert_with(|| self.connect(scope)).clone()
    }

    pub(super) fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// What the clients of all services start from.
    pub(super) fn base(&self) -> &SdkConfig {
        &self.base
    }

    fn connect(&self, scope: &Scope) -> Client {
        let mut builder = aws_sdk_emrcontainers::config::Builder::from(&self.base)
            .region(Region::new(scope.region.clone()))
            // Every attempt must pass the limiter, so the SDK makes one only.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(self.config.attempt_timeout, self.config.attempt_timeout));
        if let Some(url) = &self.config.endpoint_url {
            builder = builder.endpoint_url(url);
        }
        let observer = self.config.observer.clone();
        let limiter = Limiter::new(&self.config.quotas, self.config.wake.clone(), observer.clone());
        let sdk = aws_sdk_emrcontainers::Client::from_conf(builder.build());
        let client = Client::new(sdk, limiter, observer, self.config.fence.clone());
        if self.reads_only { client.reading_only() } else { client }
    }

    /// Asks STS who we are.
    pub async fn identity(&self) -> Result<Identity, PoolError> {
        let mut builder = aws_sdk_sts::config::Builder::from(&self.base).timeout_config(timeouts(
            self.config.attempt_timeout,
            IDENTITY_TIMEOUT.max(self.config.attempt_timeout),
        ));
        // Always set: the SDK would take AWS_ENDPOINT_URL, which names the EMR endpoint.
        let of_environment = std::env::var("AWS_ENDPOINT_URL_STS").ok().filter(|url| !url.is_empty());
        builder.set_endpoint_url(self.config.identity_endpoint_url.clone().or(of_environment));
        let client = aws_sdk_sts::Client::from_conf(builder.build());
        let reply = Box::pin(client.get_caller_identity().send()).await;
        let reply = reply.map_err(|error| PoolError::Identity(words(&error)))?;
        let partition = reply.arn.as_deref().and_then(|arn| arn.split(':').nth(1));
        match (reply.account, partition) {
            (Some(account), Some(partition)) if !account.is_empty() => {
                Ok(Identity { account, partition: partition.to_owned() })
            }
            _ => Err(PoolError::Identity("its answer names no account".to_owned())),
        }
    }
}

pub(super) fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(3_100))
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

//! A client for each scope, and who we are.
//!
//! All clients share one HTTP client; those of a role its credentials, and those of an account and region one limiter. An
//! EMR endpoint is used for emr-containers alone: a setting that sends it elsewhere never moves STS along. Invariant: a
//! client makes calls in its scope alone, with its role and at its endpoint.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_emrcontainers::config::{SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::Client;
use super::assume::Assumed;
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

/// Whose quota and resources a call is about, and who makes it where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The AWS account.
    pub account: String,
    /// The AWS region.
    pub region: String,
    /// The role that is assumed; our own credentials if there is none.
    pub role: Option<String>,
    /// Where emr-containers is, when not where the settings say.
    pub endpoint_url: Option<String>,
}

impl Scope {
    /// An account and region, with our own credentials and at the usual endpoint.
    pub fn new(account: impl Into<String>, region: impl Into<String>) -> Self {
        Self { account: account.into(), region: region.into(), role: None, endpoint_url: None }
    }

    /// The account and region alone, whose quota it is whoever calls.
    pub(super) fn place(&self) -> Self {
        Self::new(&self.account, &self.region)
    }

    /// Whether a resource of that account and region is in it.
    pub(super) fn is_at(&self, account: &str, region: &str) -> bool {
        self.account == account && self.region == region
    }
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
    clients: Mutex<Clients>,
    reads_only: bool,
}

#[derive(Default)]
struct Clients {
    of_scopes: HashMap<Scope, Client>,
    /// By account and region.
    limiters: HashMap<Scope, Limiter>,
    /// By the role's ARN.
    roles: HashMap<String, SharedCredentialsProvider>,
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
        let mut clients = self.clients();
        if let Some(client) = clients.of_scopes.get(scope) {
            return client.clone();
        }
        let client = self.connect(scope, &mut clients);
        clients.of_scopes.insert(scope.clone(), client.clone());
        client
    }

    /// The limiter of a scope's account and region, for a key that waits in no other one from now on.
    pub fn limiter_for(&self, scope: &Scope, uid: &str) -> Limiter {
        let mut clients = self.clients();
        for (place, limiter) in &clients.limiters {
            if !place.is_at(&scope.account, &scope.region) {
                limiter.forget(uid);
            }
        }
        self.limiter(scope, &mut clients)
    }

    /// Drops a key from all queues: it needs no call any more. Says whether it was in one.
    pub fn forget(&self, uid: &str) -> bool {
        self.clients().limiters.values().filter(|limiter| limiter.forget(uid)).count() > 0
    }

    /// Whether a call may be made for the key, and is kept for it until it asks.
    pub fn keeps_for(&self, uid: &str) -> bool {
        self.clients().limiters.values().any(|limiter| limiter.keeps_for(uid))
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        // Consistent between statements: a panic of another thread doesn't break it.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limiter(&self, scope: &Scope, clients: &mut Clients) -> Limiter {
        let PoolConfig { quotas, wake, observer, .. } = &self.config;
        let made = || Limiter::new(quotas, wake.clone(), observer.clone());
        clients.limiters.entry(scope.place()).or_insert_with(made).clone()
    }

    pub(super) fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// What the clients of all services start from.
    pub(super) fn base(&self) -> &SdkConfig {
        &self.base
    }

    fn connect(&self, scope: &Scope, clients: &mut Clients) -> Client {
        let mut builder = aws_sdk_emrcontainers::config::Builder::from(&self.base)
            .region(Region::new(scope.region.clone()))
            // Every attempt must pass the limiter, so the SDK makes one only.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(self.config.attempt_timeout, self.config.attempt_timeout));
        if let Some(url) = scope.endpoint_url.as_ref().or(self.config.endpoint_url.as_ref()) {
            builder = builder.endpoint_url(url);
        }
        if let Some(role) = &scope.role {
            let assumed = || SharedCredentialsProvider::new(Assumed { role: role.clone(), sts: self.sts() });
            let credentials = clients.roles.entry(role.clone()).or_insert_with(assumed);
            builder.set_credentials_provider(Some(credentials.clone()));
        }
        let sdk = aws_sdk_emrcontainers::Client::from_conf(builder.build());
        let limiter = self.limiter(scope, clients);
        let client = Client::new(sdk, limiter, self.config.observer.clone(), self.config.fence.clone());
        if self.reads_only { client.reading_only() } else { client }
    }

    /// STS with our own credentials, where it is: an endpoint of emr-containers doesn't move it.
    fn sts(&self) -> aws_sdk_sts::Client {
        let mut builder = aws_sdk_sts::config::Builder::from(&self.base).timeout_config(timeouts(
            self.config.attempt_timeout,
            IDENTITY_TIMEOUT.max(self.config.attempt_timeout),
        ));
        // Always set: nothing that is meant for all services counts for this one.
        let of_environment = std::env::var("AWS_ENDPOINT_URL_STS").ok().filter(|url| !url.is_empty());
        builder.set_endpoint_url(self.config.identity_endpoint_url.clone().or(of_environment));
        aws_sdk_sts::Client::from_conf(builder.build())
    }

    /// Asks STS who we are.
    pub async fn identity(&self) -> Result<Identity, PoolError> {
        let reply = Box::pin(self.sts().get_caller_identity().send()).await;
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

//! The credentials of a role that is assumed.
//!
//! Makes the one call; the SDK keeps what it gives, for each role, until shortly before it expires. Invariant: the words of
//! a refusal are the same at each try, so that a condition that has them stays as it is.

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};
use aws_sdk_sts::Client;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::error::{without_request_ids, words};

/// The name of our sessions, as CloudTrail shows it.
const SESSION: &str = "emrcontainers-operator";

/// A role, and the client that assumes it.
#[derive(Debug)]
pub(super) struct Assumed {
    pub(super) role: String,
    pub(super) sts: Client,
}

/// Why a role can't be assumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "role {role} can't be assumed: {why}; its trust policy has to let the operator's own role assume it, and the operator's \
     policy has to allow sts:AssumeRole on it"
)]
pub(super) struct Refusal {
    role: String,
    why: String,
    /// Whether STS has answered.
    pub(super) is_answer: bool,
}

impl Assumed {
    async fn credentials(&self) -> Result {
        let request = self.sts.assume_role().role_arn(&self.role).role_session_name(SESSION);
        let refusal = |why: &str, is_answer| {
            let why = without_request_ids(why);
            CredentialsError::provider_error(Refusal { role: self.role.clone(), why, is_answer })
        };
        let reply = Box::pin(request.send()).await;
        let reply = reply.map_err(|error| refusal(&words(&error), error.code().is_some()))?;
        let Some(given) = reply.credentials else {
            return Err(refusal("the answer has no credentials", true));
        };
        let expiry = std::time::SystemTime::try_from(given.expiration)
            .map_err(|_| refusal("the answer's expiration can't be read", true))?;
        let (key, secret, token) = (given.access_key_id, given.secret_access_key, given.session_token);
        Ok(Credentials::new(key, secret, Some(token), Some(expiry), "AssumeRole"))
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

//! Who calls: the identity and region that a SigV4 credential stands for.
//!
//! Must not check signatures, but reads when they were made. Invariant: credentials from AssumeRole belong to the
//! role's account.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::options::Options;

/// The identity behind a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
    pub(crate) user_id: String,
}

/// The parts of a credential's scope that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) access_key: Option<String>,
    pub(crate) region: Option<String>,
}

impl Credential {
    /// Reads an Authorization header; anything but SigV4 counts as unsigned.
    pub(crate) fn parse(authorization: Option<&str>) -> Self {
        let scope = authorization
            .and_then(|header| header.strip_prefix("AWS4-HMAC-SHA256"))
            .and_then(|rest| rest.split_once("Credential="))
            .and_then(|(_, rest)| rest.split([',', ' ']).next());
        let mut parts = scope.into_iter().flat_map(|scope| scope.split('/'));
        let access_key = parts.next().map(str::to_owned);
        Self { access_key, region: parts.nth(1).map(str::to_owned) }
    }
}

/// Reads the time of a signature.
pub(crate) fn signed_at(date: Option<&str>) -> Option<Timestamp> {
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", date?).ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[derive(Debug)]
pub(crate) struct Callers {
    default_account: String,
    default_region: String,
    accounts: HashMap<String, String>,
    assumed: HashMap<String, Identity>,
}

impl Callers {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            default_account: options.account.clone(),
            default_region: options.region.clone(),
            accounts: options.access_keys.iter().cloned().collect(),
            assumed: HashMap::new(),
        }
    }

    pub(crate) fn region(&self, credential: &Credential) -> String {
        credential.region.clone().unwrap_or_else(|| self.default_region.clone())
    }

    pub(crate) fn identify(&self, credential: &Credential) -> Identity {
        let key = credential.access_key.as_deref().unwrap_or_default();
        if let Some(identity) = self.assumed.get(key) {
            return identity.clone();
        }
        let account = match self.accounts.get(key) {
            Some(account) => account.clone(),
            None if key.len() == 12 && key.chars().all(|c| c.is_ascii_digit()) => key.to_owned(),
            None => self.default_account.clone(),
        };
        Identity {
            arn: format!("arn:aws:iam::{account}:user/simulator"),
            user_id: "AIDASIMULATOREXAMPLE1".to_owned(),
            account,
        }
    }

    /// Remembers what an access key that AssumeRole gave out stands for.
    pub(crate) fn remember(&mut self, access_key: String, identity: Identity) {
        self.assumed.insert(access_key, identity);
    }
}

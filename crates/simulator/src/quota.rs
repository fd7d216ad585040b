//! Token buckets for each operation and for all together, per account and region.
//!
//! Written here and not taken from a crate because they refill on the simulator's own clock.
//! Decision where AWS documents nothing: a throttled request takes no token from any bucket.
//! STS has no quota here. Invariant: a bucket never holds more than its size.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::error::ApiError;
use crate::operation::Operation;
use crate::options::{Bucket, Quotas, ThrottleForm};

#[derive(Debug)]
pub(crate) struct Limiter {
    quotas: Quotas,
    factor: f64,
    levels: HashMap<(String, String, Option<Operation>), (f64, Timestamp)>,
}

impl Limiter {
    pub(crate) fn new(quotas: Quotas, factor: f64) -> Self {
        Self { quotas, factor, levels: HashMap::new() }
    }

    /// Takes a token for a request; false when it is throttled.
    pub(crate) fn admit(
        &mut self,
        account: &str,
        region: &str,
        operation: Operation,
        now: Timestamp,
    ) -> bool {
        if operation.is_sts() {
            return true;
        }
        let own = self.quotas.operations.get(&operation).map(|bucket| (Some(operation), *bucket));
        let all = self.quotas.all.map(|bucket| (None, bucket));
        let mut levels = Vec::with_capacity(2);
        for (name, bucket) in [own, all].into_iter().flatten() {
            let key = (account.to_owned(), region.to_owned(), name);
            let level = self.level(&key, bucket, now);
            if level < 1.0 {
                return false;
            }
            levels.push((key, level));
        }
        self.levels.extend(levels.into_iter().map(|(key, level)| (key, (level - 1.0, now))));
        true
    }

    fn level(&self, key: &(String, String, Option<Operation>), bucket: Bucket, now: Timestamp) -> f64 {
        let size = bucket.size * self.factor;
        let Some((level, at)) = self.levels.get(key) else { return size };
        let passed = now.duration_since(*at).as_secs_f64();
        (level + passed * bucket.refill_per_second * self.factor).min(size)
    }
}

/// The error of a throttled request.
pub(crate) fn throttled(form: ThrottleForm) -> ApiError {
    let (status, code) = match form {
        ThrottleForm::ThrottlingException => (400, "ThrottlingException"),
        ThrottleForm::TooManyRequestsException => (429, "TooManyRequestsException"),
        ThrottleForm::Bare429 => (429, ""),
        ThrottleForm::RequestThrottledException => (400, "RequestThrottledException"),
        ThrottleForm::EksRequestThrottledException => (429, "EKSRequestThrottledException"),
    };
    ApiError::new(status, code, "Rate exceeded")
}

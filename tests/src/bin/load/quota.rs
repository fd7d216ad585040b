//! How much of AWS's quota for starts was used, and how fairly.
//!
//! Pure. What is allowed is what AWS lets through from the first start to the last: a full bucket and its refill.

use std::collections::BTreeMap;
use std::time::Duration;

use emr_simulator::{LoggedRequest, Quotas};
use serde::Serialize;

use crate::figures::starts;
use crate::workload::Created;

/// The use of the quota of StartJobRun.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct QuotaUse {
    pub(crate) starts: u32,
    /// From the first start to the last.
    pub(crate) seconds: f64,
    /// Starts made to starts allowed.
    pub(crate) share: f64,
    /// When the last start of each namespace was, as a share of that time.
    pub(crate) last_starts: BTreeMap<String, f64>,
}

impl QuotaUse {
    /// None without a quota or without a start.
    pub(crate) fn of(quotas: &Quotas, created: &[Created], requests: &[LoggedRequest]) -> Option<Self> {
        let started = starts(requests);
        let first = *started.values().min()?;
        let last = *started.values().max()?;
        let after = |at: jiff::Timestamp| at.duration_since(first).as_secs_f64();
        let within = Duration::try_from_secs_f64(after(last)).ok()?;
        let starts = u32::try_from(started.len()).ok()?;
        let mut last_starts = BTreeMap::new();
        for run in created {
            let share = started.get(run.name.as_str()).map_or(f64::INFINITY, |at| after(*at) / after(last));
            let latest = last_starts.entry(run.namespace.clone()).or_insert(share);
            *latest = share.max(*latest);
        }
        let share = f64::from(starts) / quotas.allows("StartJobRun", within)?;
        Some(Self { starts, seconds: within.as_secs_f64(), share, last_starts })
    }
}

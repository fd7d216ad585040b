//! Faults on request: which calls go wrong, and how.
//!
//! Drawn from a seeded generator, once for each call that a fault matches, so a run replays.
//! Invariant: at most one fault strikes a call, the oldest one that draws it.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::operation::Operation;
use crate::options::ThrottleForm;
use crate::quota::throttled;

/// What a fault does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// InternalServerException, 500; nothing is done.
    Status500,
    /// 503 without a code; nothing is done.
    Status503,
    /// No reply, and nothing is done; with a delay, the connection closes after it.
    Hang,
    /// The call is done, then the connection closes without a reply.
    ReplyLost,
    /// The call is done, and InternalServerException, 500, says that it isn't.
    FailsAfter,
    /// The call is done, its reply is kept until replies are released.
    HoldReply,
    /// AccessDeniedException, 403.
    AccessDenied,
    /// ExpiredTokenException, 403.
    ExpiredToken,
    /// The throttle error that the options choose.
    Throttle,
    /// The given code, message and status.
    Error,
    /// Only the delay.
    Delay,
}

/// A fault. In JSON, all members but `kind` can be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation that it strikes, or `*`.
    #[serde(default = "any")]
    pub operation: String,
    /// What it does.
    pub kind: FaultKind,
    /// How probable it is that it strikes a call that it matches.
    #[serde(default = "always")]
    pub probability: f64,
    /// How often it strikes before it is spent; without it, for ever.
    #[serde(default)]
    pub count: Option<u64>,
    /// How many calls that it matches pass first.
    #[serde(default)]
    pub skip: u64,
    /// The error code of kind `error`.
    #[serde(default)]
    pub code: Option<String>,
    /// The error message, for every kind that has one.
    #[serde(default)]
    pub message: Option<String>,
    /// The HTTP status of kind `error`.
    #[serde(default)]
    pub status: Option<u16>,
    /// How long the reply waits, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// Strikes only callers of this account.
    #[serde(default)]
    pub account: Option<String>,
    /// Strikes only calls to this region.
    #[serde(default)]
    pub region: Option<String>,
    /// Strikes only calls whose URI or body contains this text.
    #[serde(default)]
    pub contains: Option<String>,
}

impl Fault {
    /// A fault that always strikes.
    pub fn new(operation: &str, kind: FaultKind) -> Self {
        Self {
            operation: operation.to_owned(),
            kind,
            probability: always(),
            count: None,
            skip: 0,
            code: None,
            message: None,
            status: None,
            delay_ms: 0,
            account: None,
            region: None,
            contains: None,
        }
    }

    /// The error that stands in for the call; none for faults of the reply only.
    pub(crate) fn error(&self, form: ThrottleForm) -> Option<ApiError> {
        let mut error = match self.kind {
            FaultKind::Status500 => internal(),
            FaultKind::Status503 => ApiError::new(503, "", "Service unavailable"),
            FaultKind::AccessDenied => {
                ApiError::new(403, "AccessDeniedException", "User is not authorized to perform this action")
            }
            FaultKind::ExpiredToken => ApiError::new(
                403,
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            FaultKind::Throttle => throttled(form),
            FaultKind::Error => ApiError::validation(""),
            FaultKind::Hang
            | FaultKind::ReplyLost
            | FaultKind::FailsAfter
            | FaultKind::HoldReply
            | FaultKind::Delay => return None,
        };
        if let Some(code) = &self.code {
            error.code.clone_from(code);
        }
        if let Some(message) = &self.message {
            error.message.clone_from(message);
        }
        if let Some(status) = self.status {
            error.status = status;
        }
        Some(error)
    }
}

/// The service's error of its own.
pub(crate) fn internal() -> ApiError {
    ApiError::new(500, "InternalServerException", "Internal server error")
}

fn any() -> String {
    "*".to_owned()
}

fn always() -> f64 {
    1.0
}

/// A call as faults see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) operation: Operation,
    pub(crate) account: &'a str,
    pub(crate) region: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) body: &'a [u8],
}

#[derive(Debug)]
struct Armed {
    id: u64,
    fault: Fault,
    seen: u64,
    struck: u64,
}

#[derive(Debug)]
pub(crate) struct Faults {
    rng: StdRng,
    next_id: u64,
    armed: Vec<Armed>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), next_id: 1, armed: Vec::new() }
    }

    /// Arms a fault and gives its id.
    pub(crate) fn add(&mut self, fault: Fault) -> anyhow::Result<u64> {
        anyhow::ensure!(
            fault.operation == "*" || Operation::parse(&fault.operation).is_some(),
            "fault names no operation: {}; use the API's names, or *",
            fault.operation
        );
        anyhow::ensure!(
            (0.0..=1.0).contains(&fault.probability),
            "fault has a probability of {}; it must be between 0 and 1",
            fault.probability
        );
        let id = self.next_id;
        self.next_id += 1;
        self.armed.push(Armed { id, fault, seen: 0, struck: 0 });
        Ok(id)
    }

    /// Disarms one fault, or all; false when there is no such fault.
    pub(crate) fn remove(&mut self, id: Option<u64>) -> bool {
        let before = self.armed.len();
        self.armed.retain(|armed| id.is_some_and(|id| armed.id != id));
        id.is_none() || self.armed.len() < before
    }

    pub(crate) fn list(&self) -> Vec<(u64, Fault)> {
        self.armed.iter().map(|armed| (armed.id, armed.fault.clone())).collect()
    }

    /// The fault that strikes a call.
    pub(crate) fn draw(&mut self, target: Target<'_>) -> Option<Fault> {
        for armed in &mut self.armed {
            if armed.fault.count.is_some_and(|count| armed.struck >= count) || !armed.fault.matches(target) {
                continue;
            }
            armed.seen += 1;
            if armed.seen > armed.fault.skip
                && (armed.fault.probability >= 1.0 || self.rng.random::<f64>() < armed.fault.probability)
            {
                armed.struck += 1;
                return Some(armed.fault.clone());
            }
        }
        None
    }
}

impl Fault {
    fn matches(&self, target: Target<'_>) -> bool {
        let contains = |text: &String| {
            target.uri.contains(text.as_str())
                || target.body.windows(text.len().max(1)).any(|window| window == text.as_bytes())
        };
        (self.operation == "*" || self.operation == target.operation.name())
            && self.account.as_ref().is_none_or(|account| account == target.account)
            && self.region.as_ref().is_none_or(|region| region == target.region)
            && self.contains.as_ref().is_none_or(contains)
    }
}

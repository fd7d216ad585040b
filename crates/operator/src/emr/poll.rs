//! stub
use super::limit::RunKey;
use super::observe::Observer;
use super::pool::{Pool, Scope};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Seen {
    pub state: String,
    pub state_details: Option<String>,
    pub failure_reason: Option<String>,
    pub created_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub attempts: Option<i32>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Observation {
    Seen(Seen),
    Gone,
}
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Tracked {
    pub run_id: String,
    pub key: RunKey,
    pub state: String,
    pub created_at: Option<Timestamp>,
}
#[allow(missing_docs)]
pub struct Poller;
#[allow(missing_docs)]
impl Poller {
    pub fn new(_: Arc<Pool>, _: UnboundedSender<RunKey>, _: Arc<dyn Observer>) -> Self {
        Self
    }
    pub fn track(&self, _: &Scope, _: &str, _: Tracked) {}
    pub fn untrack(&self, _: &str) {}
    pub fn observed(&self, _: &str) -> Option<Observation> {
        None
    }
    pub fn problem(&self, _: &str) -> Option<String> {
        None
    }
}

//! The families of what may go wrong: how often a round has them, and how it is known that they had an effect. Pure.
//!
//! Must not: say how a fault is brought about; [`super::strike`] and [`super::replicas`] do.
//! Invariant: a family that strikes and is never felt shows as such in the figures.

use std::collections::BTreeSet;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Family {
    /// SIGKILL at any moment.
    Kills,
    /// SIGTERM, and a new process.
    Terms,
    /// Some of these strike after AWS has started a run and before its answer arrives.
    InStart,
    /// Of two replicas, the leader stands still until its lease is gone, and wakes when the other one leads.
    PausedLeader,
    /// Somebody else takes the lease while AWS keeps the answer of a start.
    LostLease,
    /// The wall clock jumps by minutes, or by hours, and back.
    ClockJumps,
    /// Replies that are lost after the call was carried out.
    LostReplies,
    /// 500, 503 and 429 on about half of the answers.
    AwsErrors,
    /// Answers that take up to three seconds, or never come.
    Hangs,
    /// Calls that hang until the operator gives them up.
    Timeouts,
    /// Lists lack a run for some seconds after its start.
    LateLists,
    /// The API server stands still for a moment.
    Freezes,
    /// The API server is lost and comes back after seconds.
    Outages,
    /// The API server is lost for a minute.
    LongOutages,
    /// The API server comes back, and etcd has forgotten what was before: watches begin anew.
    Compactions,
    /// The operator's rights are withdrawn for a while.
    Rights,
    /// A policy refuses every write of a status for a while.
    StatusWrites,
    /// Users delete runs and virtual clusters that are in use.
    Deletions,
}

impl Family {
    /// Some of all, by seed: rounds in which everything goes wrong at once get little done. Kills are always among them.
    pub fn some(seed: u64) -> BTreeSet<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let families = Self::value_variants().iter().copied();
        families.filter(|family| dice.random_bool(family.chance())).collect()
    }

    fn chance(self) -> f64 {
        match self {
            Self::Kills | Self::InStart => 1.0,
            Self::Terms
            | Self::LostReplies
            | Self::AwsErrors
            | Self::Hangs
            | Self::Rights
            | Self::StatusWrites
            | Self::Deletions => 0.5,
            Self::ClockJumps | Self::LateLists | Self::Freezes | Self::Outages | Self::Compactions => 0.3,
            // These take much longer than all the rest.
            Self::PausedLeader | Self::LostLease | Self::Timeouts => 0.12,
            Self::LongOutages => 0.06,
        }
    }

    /// What it is, and by what it is known to have been felt.
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Kills => ("SIGKILL", "the process was running"),
            Self::Terms => ("SIGTERM", "the process was running"),
            Self::InStart => ("either of them between a start and its answer", "AWS kept the answer"),
            Self::PausedLeader => ("leader stopped until its lease was gone", "it woke, and ended by itself"),
            Self::LostLease => ("lease taken between a start and its answer", "the leader ended by itself"),
            Self::ClockJumps => ("wall clock set wrong", "AWS saw calls of that time"),
            Self::LostReplies => ("AWS loses replies", "AWS's journal has such calls"),
            Self::AwsErrors => ("AWS answers 500, 503 or 429", "AWS's journal has such calls"),
            Self::Hangs => ("AWS answers late or never", "AWS's journal has such calls"),
            Self::Timeouts => ("AWS hangs for longer than time-outs", "the operator gave calls up"),
            Self::LateLists => ("lists lack new runs for seconds", "a list was read that lacked one"),
            Self::Freezes => ("API server stopped, and continued", "passes took as long"),
            Self::Outages => ("API server lost for seconds", "the operator could not reach it"),
            Self::LongOutages => ("API server lost for a minute", "the operator could not reach it"),
            Self::Compactions => ("API server lost, etcd compacted", "watches were answered 410"),
            Self::Rights => ("RBAC withdrawn", "requests were answered 403"),
            Self::StatusWrites => ("a policy refuses statuses", "writes were refused by it"),
            Self::Deletions => ("objects deleted in use", "the API server took it"),
        }
    }
}

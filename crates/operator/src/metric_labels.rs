//! The closed sets of label values of our metrics.

use std::fmt::Write;

use emrcontainers_api::JobRun;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// An enum whose variants are label values, spelled as given.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// The value of the label.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// The kinds that are watched; spelled as upstream's controller labels.
    Kind {
        /// A run.
        JobRun = "jobrun",
        /// A virtual cluster.
        VirtualCluster = "virtualcluster",
        /// An export of a field.
        FieldExport = "fieldexport",
        /// An IAM role that another controller manages.
        Role = "role",
        /// A namespace, for its annotations.
        Namespace = "namespace",
    }
}

label! {
    /// How a pass over one object ended.
    Outcome {
        /// As planned, until something asks for another one.
        Ok = "ok",
        /// As planned, and another one follows in its turn.
        Again = "again",
        /// As planned, and another one is due later.
        Later = "later",
        /// With an error that is tried again.
        Error = "error",
        /// Cut off because it took too long.
        Timeout = "timeout",
        /// With a bug of ours.
        Panic = "panic",
    }
}

label! {
    /// The states of a run, as the API spells them.
    RunState {
        /// AWS doesn't know the run yet.
        Unsubmitted = "UNSUBMITTED",
        /// Accepted.
        Pending = "PENDING",
        /// Handed to the cluster.
        Submitted = "SUBMITTED",
        /// At work.
        Running = "RUNNING",
        /// Being cancelled.
        CancelPending = "CANCEL_PENDING",
        /// Ended well.
        Completed = "COMPLETED",
        /// Ended badly, or was refused.
        Failed = "FAILED",
        /// Cancelled.
        Cancelled = "CANCELLED",
    }
}

impl RunState {
    /// The state of a run. A state that AWS adds later counts as running: it is live.
    pub fn of(run: &JobRun) -> Self {
        let state = run.status.as_ref().and_then(|status| status.state.as_deref());
        let Some(state) = state else { return Self::Unsubmitted };
        Self::ALL.into_iter().find(|known| known.as_str() == state).unwrap_or(Self::Running)
    }
}

label! {
    /// Which runs a look of the poller asks for.
    Look {
        /// The live ones.
        Live = "live",
        /// All but the running ones, created since the oldest live one.
        Moved = "moved",
        /// Those that ended, to find out how missing ones did.
        Ended = "ended",
        /// Those that are said to have ended.
        Hinted = "hinted",
    }
}

label! {
    /// What became of a message of the event queue.
    HintOutcome {
        /// It moved a live run forward.
        Moved = "moved",
        /// It told an end, for which AWS is asked.
        Ending = "ending",
        /// It told nothing new.
        Known = "known",
        /// It is about a run that isn't ours, or has ended.
        Untracked = "untracked",
        /// It is of another account, source or sort.
        Foreign = "foreign",
        /// It is no event.
        Unreadable = "unreadable",
    }
}

label! {
    /// What would be done for an object in shadow mode.
    Decision {
        /// Nothing, ever.
        Nothing = "nothing",
        /// Follow the resource that it has.
        Observe = "observe",
        /// Submit its run.
        Start = "start",
        /// Create its virtual cluster.
        Create = "create",
        /// Take over what another controller started for it.
        TakeOver = "take_over",
        /// Take over what it names.
        Adopt = "adopt",
        /// Change its virtual cluster.
        Update = "update",
        /// Wait for something.
        Wait = "wait",
        /// Refuse it.
        Refuse = "refuse",
        /// Cancel its run.
        Cancel = "cancel",
        /// Delete its virtual cluster.
        Delete = "delete",
        /// Let the object go.
        Release = "release",
        /// It can't be told yet.
        Unknown = "unknown",
    }
}

label! {
    /// Why an event wasn't sent.
    Dropped {
        /// More events were waiting than fit.
        QueueFull = "queue_full",
        /// The API server refused it or didn't answer in time.
        Failed = "failed",
    }
}

impl Decision {
    /// Whether it stands as long as the object stays as it is.
    pub fn is_certain(self) -> bool {
        !matches!(self, Self::Unknown | Self::Wait)
    }

    /// What follows on "would".
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "do nothing",
            Self::Observe => "observe",
            Self::Start => "start",
            Self::Create => "create",
            Self::TakeOver => "take over",
            Self::Adopt => "adopt",
            Self::Update => "update",
            Self::Wait => "wait",
            Self::Refuse => "refuse",
            Self::Cancel => "cancel",
            Self::Delete => "delete",
            Self::Release => "release",
            Self::Unknown => "look again",
        }
    }
}

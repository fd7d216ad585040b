//! Collects what is wrong with the values of flags, and reads those that belong together.
//!
//! Must not stop at the first problem. Invariant: every problem and every warning begins with the name of its flag.

use std::time::Duration;

use crate::args::{ElectionArgs, ReconcileArgs};
use crate::feature_gates::FeatureGates;
use crate::leader::times::LeaseTimes;
use crate::metrics::Kind;
use crate::per_kind::{PerKind, WorkedOn, kinds, numbers};
use crate::settings::LeaderElection;
use crate::settings_values::{concurrency, election, optional_namespace, seconds};
use crate::timing;

/// What is worked on, how often and by how many.
pub(crate) struct Reconcile {
    pub(crate) worked_on: WorkedOn,
    pub(crate) resync_period: PerKind<Duration>,
    pub(crate) max_concurrent_syncs: PerKind<u16>,
}

/// Collects what is wrong, so that a user repairs everything at once.
pub(crate) struct Check {
    pub(crate) problems: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Check {
    /// The value, or a stand-in that is never used because the problem is kept.
    pub(crate) fn or<T>(&mut self, flag: &str, stand_in: T, value: Result<T, String>) -> T {
        value.unwrap_or_else(|problem| {
            self.problems.push(format!("{flag} {problem}"));
            stand_in
        })
    }

    /// The value, or what is taken for one that can't be read; the log says so.
    pub(crate) fn or_warn<T>(&mut self, flag: &str, taken: T, value: Result<T, String>) -> T {
        value.unwrap_or_else(|problem| {
            self.warnings.push(format!("{flag} {problem}"));
            taken
        })
    }

    /// What is worked on, how often and by how many.
    pub(crate) fn reconcile(&mut self, args: &ReconcileArgs) -> Reconcile {
        let worked_on = kinds(&args.reconcile_resources);
        let concurrency_of_all = concurrency(&args.reconcile_default_max_concurrent_syncs);
        let concurrency = numbers(&args.reconcile_resource_max_concurrent_syncs);
        Reconcile {
            worked_on: self.or("--reconcile-resources", WorkedOn::default(), worked_on),
            resync_period: self.resync_period(args),
            max_concurrent_syncs: PerKind::new(
                self.or("--reconcile-default-max-concurrent-syncs", 1, concurrency_of_all),
                self.or("--reconcile-resource-max-concurrent-syncs", Vec::new(), concurrency),
            ),
        }
    }

    /// How often virtual clusters are read again.
    fn resync_period(&mut self, args: &ReconcileArgs) -> PerKind<Duration> {
        let of_all = seconds(&args.reconcile_default_resync_seconds);
        let of_all = match self.or("--reconcile-default-resync-seconds", 0, of_all) {
            0 => timing::CLUSTER_RESYNC,
            seconds => Duration::from_secs(seconds),
        };
        let own = numbers(&args.reconcile_resource_resync_seconds);
        let own = self.or("--reconcile-resource-resync-seconds", Vec::new(), own);
        if own.iter().any(|(kind, _)| *kind == Kind::JobRun) {
            self.warnings.push(
                "--reconcile-resource-resync-seconds has no effect for JobRun: live runs are looked at every few \
                 seconds, all of a virtual cluster by one call, and finished ones never"
                    .to_owned(),
            );
        }
        PerKind::new(of_all, own.into_iter().map(|(kind, seconds)| (kind, Duration::from_secs(seconds))))
    }

    /// Whether the ways to find the role of an object go together.
    pub(crate) fn accounts(&mut self, gates: FeatureGates, enable_carm: bool) {
        if (gates.team_level_carm || gates.service_level_carm) && !enable_carm {
            self.warnings.push(
                "the feature gates TeamLevelCARM and ServiceLevelCARM have no effect with --enable-carm=false"
                    .to_owned(),
            );
        }
        if gates.iam_role_selector && enable_carm {
            self.problems.push(
                "cannot enable feature gate 'IAMRoleSelector' when flag 'enable-carm' is set to true: add --enable-carm=false"
                    .to_owned(),
            );
        }
    }

    /// Whether there is an election, and the lease's namespace and times.
    pub(crate) fn election(&mut self, args: &ElectionArgs) -> (LeaderElection, Option<String>, LeaseTimes) {
        let wanted =
            self.or("--enable-leader-election", LeaderElection::On, election(&args.enable_leader_election));
        let namespace = optional_namespace(&args.leader_election_namespace);
        let namespace = self.or("--leader-election-namespace", None, namespace);
        let times = LeaseTimes::parse(
            &args.leader_election_lease_duration,
            &args.leader_election_renew_deadline,
            &args.leader_election_retry_period,
        );
        let times = times.unwrap_or_else(|problems| {
            self.problems.extend(problems);
            LeaseTimes::default()
        });
        (wanted, namespace, times)
    }
}

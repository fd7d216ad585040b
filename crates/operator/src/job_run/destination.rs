//! Where a run was submitted: what its object says of it, for as long as its status doesn't. Pure.
//!
//! The spec, the annotations and the virtual cluster that is referred to may change, or go, between StartJobRun and the
//! write of the id. Invariant: the object says where before anything is started there, and says elsewhere only when it is
//! certain that nothing was.

use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::{JobRun, annotations};
use kube::ResourceExt;

use super::request;
use crate::emr::pool::Scope;
use crate::memory::Memory;

/// An account, a region in it, and a virtual cluster there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The AWS account.
    pub account: String,
    /// The AWS region.
    pub region: String,
    /// Id of the virtual cluster.
    pub virtual_cluster_id: String,
}

impl Destination {
    /// A virtual cluster where `scope` acts.
    pub fn new(scope: &Scope, virtual_cluster_id: &str) -> Self {
        Self {
            account: scope.account.clone(),
            region: scope.region.clone(),
            virtual_cluster_id: virtual_cluster_id.to_owned(),
        }
    }

    /// Where a run is by its status.
    pub fn saved(run: &JobRun, virtual_cluster_id: &str) -> Option<Self> {
        let place = run.status.as_ref()?.ack_resource_metadata.as_ref()?;
        Some(Self::at(place, virtual_cluster_id))
    }

    /// A virtual cluster in a place.
    pub fn at(place: &AckResourceMetadata, virtual_cluster_id: &str) -> Self {
        Self {
            account: place.owner_account_id.clone(),
            region: place.region.clone(),
            virtual_cluster_id: virtual_cluster_id.to_owned(),
        }
    }

    /// What an object says. Only what goes on with our finalizer counts.
    pub fn of(run: &JobRun) -> Option<Self> {
        if !request::is_managed(run) {
            return None;
        }
        let mut parts = run.annotations().get(annotations::DESTINATION)?.split('/').map(str::to_owned);
        let destination =
            Self { account: parts.next()?, region: parts.next()?, virtual_cluster_id: parts.next()? };
        (parts.next().is_none() && !destination.virtual_cluster_id.is_empty()).then_some(destination)
    }

    /// Where the run may have been started, when it isn't known that it wasn't: in the object's words. Somebody who knows
    /// better can take them off.
    pub fn tried(run: &JobRun, memory: &Memory<JobRun>) -> Option<Self> {
        let is_saved = run.status.as_ref().is_some_and(|status| status.id.is_some());
        let is_known = is_saved || memory.submission.is_some();
        if is_known || memory.is_unstarted() { None } else { Self::of(run) }
    }

    /// What keeps a run from being looked for there, and the remedy.
    pub fn explain(&self, why: &str) -> String {
        let Self { account, region, virtual_cluster_id } = self;
        format!(
            "{why} (the job run may have been started in virtual cluster {virtual_cluster_id} of account {account} in {region}; \
             if it wasn't, take the annotation {} off)",
            annotations::DESTINATION
        )
    }

    /// The annotation's value.
    pub fn text(&self) -> String {
        format!("{}/{}/{}", self.account, self.region, self.virtual_cluster_id)
    }

    /// The same in the words of a status.
    pub fn place(&self) -> AckResourceMetadata {
        AckResourceMetadata {
            owner_account_id: self.account.clone(),
            region: self.region.clone(),
            ..AckResourceMetadata::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use emrcontainers_api::JOB_RUN_FINALIZER;
    use emrcontainers_api::job_run::{JobRunSpec, JobRunStatus};

    use super::*;

    fn run(text: &str) -> JobRun {
        let mut run = JobRun::new("r", JobRunSpec::default());
        run.metadata.finalizers = Some(vec![JOB_RUN_FINALIZER.to_owned()]);
        let own = [
            (annotations::ORIGIN.to_owned(), "u".to_owned()),
            (annotations::DESTINATION.to_owned(), text.to_owned()),
        ];
        run.metadata.annotations = Some(own.into());
        run
    }

    #[test]
    fn what_is_written_is_read_and_anything_else_is_nothing() {
        let there = Destination::new(&Scope::new("123456789012", "us-west-2"), "vc1");
        assert_eq!(Destination::of(&run(&there.text())), Some(there));
        for text in ["", "vc1", "1/r", "1/r/", "1/r/vc/more"] {
            assert_eq!(Destination::of(&run(text)), None, "{text:?}");
        }
        let mut copied = run("1/r/vc1");
        copied.metadata.finalizers = None;
        assert_eq!(Destination::of(&copied), None, "it comes from another object's manifest");
    }

    #[test]
    fn a_run_that_is_known_not_to_be_started_was_tried_nowhere() {
        let tried = |memory: &Memory<JobRun>| Destination::tried(&run("1/r/vc1"), memory).is_some();
        assert!(tried(&Memory::default()));
        assert!(!tried(&Memory { never_started: true, ..Memory::default() }));
        assert!(!tried(&Memory { sought: true, ..Memory::default() }));
        let unanswered = Some(std::time::Instant::now());
        assert!(tried(&Memory { sought: true, unanswered, ..Memory::default() }));
    }

    #[test]
    fn a_run_whose_id_is_known_has_no_doubt_about_where_it_is() {
        let mut saved = run("1/r/vc1");
        saved.status = Some(JobRunStatus { id: Some("j1".to_owned()), ..JobRunStatus::default() });
        assert_eq!(Destination::tried(&saved, &Memory::default()), None);
    }

    #[test]
    fn a_message_names_the_place_and_the_annotation() {
        let there = Destination::of(&run("1/r/vc1")).unwrap();
        let place = there.place();
        assert_eq!((place.owner_account_id.as_str(), place.region.as_str(), place.arn), ("1", "r", None));
        let told = there.explain("it is closed");
        assert!(
            told.starts_with("it is closed (") && told.contains("virtual cluster vc1 of account 1 in r"),
            "{told}"
        );
        assert!(told.contains(annotations::DESTINATION), "{told}");
    }
}

//! Takes over a run that the object names: looks it up, marks the object, and hands the id over to be saved.
//!
//! Must not decide whether: `plan` does. Invariant: the object is marked, with the finalizer, before its status has the id;
//! AWS is only read.

use emrcontainers_api::JobRun;
use emrcontainers_api::annotations::{ADOPTION_FIELDS, ADOPTION_POLICY, READ_ONLY};
use emrcontainers_api::job_run::JobRunSpec;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::act::{Pass, Result};
use super::adoption::{self, By, Existing};
use super::hand_over::Sighting;
use super::plan::Step;
use super::request;
use super::status::Situation;
use crate::adoption::{elsewhere, is_adopt, is_adopted, unmarked};
use crate::emr::details::JobRunDetails;
use crate::emr::error::{Class, EmrError};
use crate::emr::model::{self, JobRunFilter};
use crate::pass::{Next, Progress};
use crate::timing;
use crate::write::{self, Kind, Written};

/// Upstream's words for a resource that isn't there.
const NOT_FOUND: &str = "adopted resource not found";
/// Upstream's words for a resource that isn't there and mustn't be made.
const READ_ONLY_NOT_FOUND: &str = "read-only resource not found";

type Adopted = crate::adoption::Adopted<Result, Step>;

impl Pass<'_> {
    /// Takes the run over, or says what is to be done without it.
    pub async fn adopt(&self, existing: &Existing, otherwise: Option<Step>) -> Adopted {
        if let Some(why) = existing.arn.as_deref().and_then(|arn| elsewhere(arn, self.scope)) {
            return Adopted::Progress(self.misasked(&why).await);
        }
        match self.look_up(existing).await {
            Ok(Some((job, details))) => {
                Adopted::Progress(self.take(&existing.virtual_cluster_id, job, &details).await)
            }
            Ok(None) => {
                if otherwise.is_some() && matches!(existing.by, By::Token(_)) && self.may_be_listed_yet() {
                    return Adopted::Progress(Ok(Progress::End(Next::After(timing::LISTS_LAG_CHECK))));
                }
                if let Some(step) = otherwise {
                    return Adopted::Otherwise(step);
                }
                let message = format!(
                    "{NOT_FOUND}: there is no {}; correct the annotation {ADOPTION_FIELDS}, or start it",
                    existing.words()
                );
                Adopted::Progress(self.trouble(&message).await)
            }
            // What is asked for can't be.
            Err(error) if error.class == Class::Refused => {
                let why = format!("Error populating adoption fields: {error}");
                Adopted::Progress(self.misasked(&why).await)
            }
            Err(error) => Adopted::Progress(self.failed(&error).await),
        }
    }

    /// Whether a run that somebody started just before the object was made may not be listed yet.
    fn may_be_listed_yet(&self) -> bool {
        let age = self.run.creation_timestamp().map(|born| self.context.now().duration_since(born.0));
        age.is_some_and(|age| age.unsigned_abs() < timing::LISTS_LAG)
    }

    /// The run, and what it was started with.
    pub(super) async fn look_up(
        &self,
        existing: &Existing,
    ) -> std::result::Result<Option<(model::JobRun, JobRunDetails)>, EmrError> {
        let client = self.context.pool.client(self.scope);
        let cluster = &existing.virtual_cluster_id;
        let id = match &existing.by {
            By::Id(id) => Some(id.clone()),
            By::Token(token) => {
                let filter = JobRunFilter { virtual_cluster_id: cluster.clone(), ..JobRunFilter::default() };
                let mut found = None;
                let listed = client.list_job_runs(&filter, u32::MAX, |run| {
                    if run.client_token.as_deref() == Some(token) {
                        found = Some(run.id);
                    }
                });
                match listed.await {
                    Err(error) if found.is_none() && error.class != Class::NotFound => return Err(error),
                    Ok(_) | Err(_) => found,
                }
            }
        };
        let Some(id) = id else { return Ok(None) };
        match client.describe_job_run_in_detail(cluster, &id).await {
            Ok(described) => Ok(Some(described)),
            Err(error) if error.class == Class::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Marks the object, and remembers the run; its id is saved in the next step.
    async fn take(&self, virtual_cluster_id: &str, job: model::JobRun, details: &JobRunDetails) -> Result {
        let compared = adoption::compare(&self.run.spec, self.target, virtual_cluster_id, &job, details);
        let advice = adoption::advice(&compared.differs);
        let marked =
            is_adopted(&**self.run) && self.run.finalizers().iter().any(|name| name == JobRun::FINALIZER);
        // An object that goes takes no finalizer any more; it has it, or there was nothing to find.
        if marked || self.run.meta().deletion_timestamp.is_some() {
            return Ok(self.found_with(job, virtual_cluster_id, advice));
        }
        // Who would have one created knows what it is like.
        let left_out = if is_adopt(&**self.run) { filled(&compared.left_out)? } else { json!({}) };
        let written = write::adopt(&self.context.writer, &**self.run, &left_out).await;
        if let Some(why) = written.as_ref().err().and_then(unmarked) {
            return self.trouble(&why).await;
        }
        match written? {
            Written::Done(run) => {
                self.context.job_runs.wrote(&run);
                Ok(Pass { run: &run, ..*self }.found_with(job, virtual_cluster_id, advice))
            }
            Written::Conflict(newer) => {
                self.context.job_runs.wrote(&newer);
                Ok(Progress::Again(newer))
            }
            Written::Gone => Ok(self.rest()),
        }
    }

    /// Says that the annotations can't be followed; another edit of them is looked at at once.
    pub async fn misasked(&self, why: &str) -> Result {
        self.report_then(&Situation::Misasked(why), Next::Await).await
    }

    /// Looks for the run of an object that mustn't start one.
    pub async fn look(&self, virtual_cluster_id: &str) -> Result {
        match self.sight(virtual_cluster_id, self.lists_are_settled()).await? {
            Sighting::Run(job) => Ok(self.found(*job, virtual_cluster_id)),
            Sighting::None => self.missing_read_only().await,
            Sighting::Doubt(runs) => self.doubt(&runs).await,
            Sighting::Failed(error) if error.proves_no_run_in(virtual_cluster_id) => {
                self.missing_read_only().await
            }
            Sighting::Failed(error) => self.failed(&error).await,
        }
    }

    /// Says that there is nothing to look at.
    pub async fn missing_read_only(&self) -> Result {
        let message = nothing_to_look_at(request::is_managed(self.run));
        self.trouble(&message).await
    }
}

/// Says that a read-only object has no run. One that is ours already can't be given another.
fn nothing_to_look_at(is_managed: bool) -> String {
    let name_one = format!("name one with the annotations {ADOPTION_POLICY} and {ADOPTION_FIELDS}, or ");
    let remedy = if is_managed { "" } else { &name_one };
    format!(
        "{READ_ONLY_NOT_FOUND}: no job run is known for this object and none is started; {remedy}take {READ_ONLY} away"
    )
}

fn filled(left_out: &JobRunSpec) -> std::result::Result<Value, kube::Error> {
    serde_json::to_value(left_out).map_err(kube::Error::SerdeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_remedy_that_helps_is_named() {
        let [new, managed] = [false, true].map(nothing_to_look_at);
        assert!(new.contains("name one with the annotations services.k8s.aws/adoption-policy"), "{new}");
        for told in [&new, &managed] {
            assert!(told.starts_with("read-only resource not found: no job run is known"), "{told}");
            assert!(told.ends_with("take services.k8s.aws/read-only away"), "{told}");
        }
        assert!(!managed.contains("adoption"), "{managed}");
    }
}

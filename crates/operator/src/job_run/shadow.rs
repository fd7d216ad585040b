//! What a pass over a JobRun would do, without doing it.

use std::sync::Arc;

use emrcontainers_api::JobRun;
use emrcontainers_api::job_run::is_final;
use kube::ResourceExt;

use super::act::Pass;
use super::adoption::Existing;
use super::hand_over::Sighting;
use super::likeness::is_handed_over;
use super::plan::Step;
use super::{decide, resolve};
use crate::context::{Context, Scopes};
use crate::emr::model;
use crate::memory::Memory;
use crate::metrics::Decision;
use crate::scope::decide::Acting;
use crate::shadow::{self, Shadowed, Verdict};

impl Shadowed for JobRun {
    fn scopes(context: &Context) -> &Scopes<Self> {
        &context.job_run_scopes
    }

    async fn judge(run: &Arc<Self>, context: &Context) -> Verdict {
        let uid = run.uid().unwrap_or_default();
        let target = match resolve(run, false, context).await {
            Ok(target) => target,
            Err(error) => return (Decision::Unknown, error.to_string()),
        };
        let (step, acting) = decide(run, &Memory::default(), None, &target, context);
        let Acting { scope, told } = match acting {
            Ok(acting) => acting,
            Err(withheld) => return shadow::withheld(withheld),
        };
        let pass = Pass { run, uid: &uid, target: &target, scope: &scope, told: &told, context };
        match step {
            Step::RuleOut(cluster) => {
                let ruled_out = Memory { sought: true, ..Memory::default() };
                let (then, _) = decide(run, &ruled_out, None, &target, context);
                let without = Box::pin(verdict(&pass, then)).await;
                look(&pass, &cluster, without).await
            }
            step => verdict(&pass, step).await,
        }
    }
}

async fn verdict(pass: &Pass<'_>, step: Step) -> Verdict {
    match step {
        Step::Rest | Step::Acknowledge => (Decision::Nothing, "it has come to its end".to_owned()),
        Step::Refuse(why) | Step::Misask(why) => (Decision::Refuse, why),
        Step::Missing => (Decision::Wait, "it is read-only, and no run is known".to_owned()),
        Step::AwaitReference => {
            (Decision::Wait, pass.target.waits_for().map(|(_, why, _)| why.to_owned()).unwrap_or_default())
        }
        Step::Reopen => (Decision::Start, "it was refused before".to_owned()),
        Step::RestoreFinalizer(_) => (Decision::Observe, "it lost its finalizer".to_owned()),
        Step::AddFinalizer(_) => (Decision::Start, "it was never submitted".to_owned()),
        Step::Start(request) => (Decision::Start, in_cluster(&request.virtual_cluster_id)),
        Step::Save(submission) => (Decision::Observe, format!("job run {}", submission.id)),
        Step::Retag(submitted) => {
            (Decision::Update, format!("job run {} gets the tags of the spec", submitted.id))
        }
        Step::Observe(submitted) => (Decision::Observe, format!("job run {}", submitted.id)),
        Step::Cancel(submitted) | Step::AwaitEnd(submitted) => {
            (Decision::Cancel, format!("the object goes, and with it job run {}", submitted.id))
        }
        Step::Release => (Decision::Release, "no live run can belong to the object".to_owned()),
        Step::TakeOver(cluster) | Step::RuleOut(cluster) => {
            look(pass, &cluster, (Decision::Start, in_cluster(&cluster))).await
        }
        Step::Find(cluster) => {
            let released = (Decision::Release, format!("no run of it is in virtual cluster {cluster}"));
            look(pass, &cluster, released).await
        }
        Step::Look(cluster) => {
            let missing = (Decision::Wait, "it is read-only, and no run of it is there".to_owned());
            look(pass, &cluster, missing).await
        }
        Step::Adopt(existing, otherwise) => adopt(pass, &existing, otherwise).await,
    }
}

fn in_cluster(id: &str) -> String {
    format!("in virtual cluster {id}")
}

/// Looks for a run that was started before.
async fn look(pass: &Pass<'_>, virtual_cluster_id: &str, without: Verdict) -> Verdict {
    let is_settled = pass.context.lists_are_settled();
    if is_handed_over(pass.run) && !is_settled {
        return (Decision::Unknown, "lists may lack a run that was started just now".to_owned());
    }
    let goes = pass.run.metadata.deletion_timestamp.is_some();
    let of = |run: &model::JobRun| format!("job run {}, which is {}", run.id, run.state);
    match pass.sight(virtual_cluster_id, is_settled).await {
        Ok(Sighting::None) => without,
        Ok(Sighting::Run(run)) if goes && is_final(&run.state) => (Decision::Release, of(&run)),
        Ok(Sighting::Run(run)) if goes => (Decision::Cancel, of(&run)),
        Ok(Sighting::Run(run)) => (Decision::TakeOver, of(&run)),
        Ok(Sighting::Doubt(runs)) => {
            let runs: Vec<String> = runs.iter().map(of).collect();
            (Decision::Wait, format!("it can't be told which of these is its: {}", runs.join("; ")))
        }
        Ok(Sighting::Failed(error)) => (Decision::Unknown, error.to_string()),
        Err(error) => (Decision::Unknown, error.to_string()),
    }
}

async fn adopt(pass: &Pass<'_>, existing: &Existing, otherwise: Option<Box<Step>>) -> Verdict {
    match (pass.look_up(existing).await, otherwise) {
        (Ok(Some((run, _))), _) => (Decision::Adopt, format!("job run {}, which is {}", run.id, run.state)),
        (Ok(None), None) => (Decision::Wait, format!("there is no {}", existing.words())),
        (Ok(None), Some(step)) => Box::pin(verdict(pass, *step)).await,
        (Err(error), _) => (Decision::Unknown, error.to_string()),
    }
}

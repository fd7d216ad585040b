//! What a pass over a VirtualCluster would do, without doing it.

use std::sync::Arc;

use emrcontainers_api::VirtualCluster;
use emrcontainers_api::virtual_cluster::TERMINATED;
use kube::ResourceExt;

use super::act::Pass;
use super::adoption::Existing;
use super::differences::tags_problem;
use super::plan::{self, Step};
use super::{users, view};
use crate::context::{Context, Scopes};
use crate::emr::error::Class;
use crate::memory::Memory;
use crate::metrics::Decision;
use crate::scope::decide::Acting;
use crate::shadow::{self, Shadowed, Verdict};

impl Shadowed for VirtualCluster {
    fn scopes(context: &Context) -> &Scopes<Self> {
        &context.cluster_scopes
    }

    async fn judge(cluster: &Arc<Self>, context: &Context) -> Verdict {
        let uid = cluster.uid().unwrap_or_default();
        let place = cluster.status.as_ref().and_then(|status| status.ack_resource_metadata.as_ref());
        let (memory, users) = (Memory::default(), users(cluster, context));
        let tags_problem = tags_problem(cluster, context);
        let step = plan::plan(&view(cluster, &memory, &users, tags_problem.as_deref(), context));
        // A pass puts it back and goes on with what follows.
        let (step, besides) = match step {
            Step::RestoreFinalizer(id) => (Step::Sync(id), "; its finalizer is gone, and is put back"),
            step => (step, ""),
        };
        let Acting { scope, told } = match context.acting(&**cluster, place, step.is_idle()) {
            Ok(acting) => acting,
            Err(withheld) => return shadow::withheld(withheld),
        };
        let pass = Pass { cluster, uid: &uid, scope: &scope, told: &told, context };
        let (decision, about) = verdict(&pass, step, &users).await;
        (decision, about + besides)
    }
}

async fn verdict(pass: &Pass<'_>, step: Step, users: &[String]) -> Verdict {
    match step {
        Step::Rest | Step::Settled => (Decision::Nothing, "it has come to its end".to_owned()),
        Step::Refuse(why) | Step::Misask(why) => (Decision::Refuse, why),
        Step::Missing => (Decision::Wait, "it is read-only, and no virtual cluster is known".to_owned()),
        Step::AwaitUsers => (Decision::Wait, super::status::in_use(users)),
        Step::LookAgain { .. } => (Decision::Create, "it was refused before".to_owned()),
        Step::Reopen => (Decision::Create, "it is gone".to_owned()),
        Step::AddFinalizer => (Decision::Create, "it was never created".to_owned()),
        Step::Create { .. } => of_holder(pass, false).await,
        Step::Recover { .. } => of_holder(pass, true).await,
        Step::Delete(id) | Step::AwaitTermination(id) => {
            (Decision::Delete, format!("the object goes, and with it virtual cluster {id}"))
        }
        Step::Release => (Decision::Release, "no live virtual cluster can belong to the object".to_owned()),
        Step::Sync(id) | Step::RestoreFinalizer(id) => sync(pass, &id).await,
        Step::Adopt(existing, otherwise) => adopt(pass, &existing, otherwise, users).await,
    }
}

/// Whether the cluster exists without its id being known shows by who has the namespace.
async fn of_holder(pass: &Pass<'_>, goes: bool) -> Verdict {
    let holder = match pass.holder().await {
        Ok(Some(holder)) => holder,
        Ok(None) if goes => return (Decision::Release, "no virtual cluster has its namespace".to_owned()),
        Ok(None) => return (Decision::Create, "no virtual cluster has its namespace".to_owned()),
        Err(error) => return (Decision::Unknown, error.to_string()),
    };
    let id = &holder.id;
    match pass.left_behind(&holder).await {
        Ok(Some(_)) if goes => {
            (Decision::Delete, format!("virtual cluster {id} was created for it, and the object goes"))
        }
        Ok(Some(_)) => (Decision::TakeOver, format!("virtual cluster {id} was created for it")),
        Ok(None) if goes => (Decision::Release, format!("virtual cluster {id} is another's")),
        Ok(None) => (Decision::Refuse, format!("virtual cluster {id} has its namespace")),
        Err(error) => (Decision::Unknown, error.to_string()),
    }
}

async fn sync(pass: &Pass<'_>, id: &str) -> Verdict {
    let described = match pass.client().describe_virtual_cluster(id).await {
        Ok(described) if described.state != TERMINATED => described,
        Err(error) if error.class != Class::NotFound => return (Decision::Unknown, error.to_string()),
        Ok(_) | Err(_) => return (Decision::Wait, format!("virtual cluster {id} is gone")),
    };
    let mut differs = pass.unsent_differences(&described);
    // Also those that every resource gets.
    if !differs.contains(&"spec.tags") && !pass.tag_change(&described.tags).is_empty() {
        differs.push("tags");
    }
    if differs.is_empty() || pass.context.is_read_only(&**pass.cluster) {
        return (Decision::Observe, format!("virtual cluster {id}, which is {}", described.state));
    }
    (Decision::Update, format!("virtual cluster {id} differs in {}", differs.join(", ")))
}

async fn adopt(
    pass: &Pass<'_>,
    existing: &Existing,
    otherwise: Option<Box<Step>>,
    users: &[String],
) -> Verdict {
    match (pass.client().describe_virtual_cluster(&existing.id).await, otherwise) {
        (Ok(described), _) if described.state != TERMINATED => {
            (Decision::Adopt, format!("virtual cluster {}, which is {}", described.id, described.state))
        }
        (Err(error), _) if error.class != Class::NotFound => (Decision::Unknown, error.to_string()),
        (Ok(_) | Err(_), Some(step)) => Box::pin(verdict(pass, *step, users)).await,
        (Ok(_) | Err(_), None) => (Decision::Wait, format!("there is no virtual cluster {}", existing.id)),
    }
}

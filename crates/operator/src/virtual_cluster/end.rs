//! Makes the calls of a deletion: find what was created, ask for its end, wait for that, let the object go.
//!
//! Must not decide what to do: `plan` does. Invariant: the finalizer comes off only when no live cluster can belong to the
//! object.

use emrcontainers_api::virtual_cluster::{ARRESTED, TERMINATED, TERMINATING};

use super::act::{Pass, Result, just_created};
use super::status::Situation;
use crate::emr::error::Class;
use crate::emr::model;
use crate::pass::{Next, Progress};
use crate::timing;
use crate::write::{self, Written};

impl Pass<'_> {
    /// Says which runs hold the deletion up; they wake the cluster when they end.
    pub async fn await_users(&self, users: &[String]) -> Result {
        self.report_then(&Situation::InUse(users), Next::After(timing::CLUSTER_RESYNC)).await
    }

    /// Asks for the deletion.
    pub async fn delete(&self, id: &str) -> Result {
        match self.client().delete_virtual_cluster(id).await {
            Ok(()) => {
                self.context.clusters.update(self.uid, |memory| memory.cancel_asked = true);
                let next = Next::Check(timing::TERMINATION_FIRST_CHECK);
                if self.cluster.status.as_ref().and_then(|status| status.state.as_deref()) == Some(ARRESTED) {
                    // The words that say what to do stay until there is better news.
                    return Ok(Progress::End(next));
                }
                self.report_then(&Situation::DeleteAsked, next).await
            }
            Err(error) if matches!(error.class, Class::AlreadyTerminated | Class::NotFound) => {
                self.release().await
            }
            Err(error) => self.failed(&error).await,
        }
    }

    /// Reads the cluster until it is gone.
    pub async fn await_termination(&self, id: &str) -> Result {
        match self.client().describe_virtual_cluster(id).await {
            Ok(described) if described.state == TERMINATED => self.release().await,
            Ok(described) => {
                let seen = self.seen(described);
                if seen.state != TERMINATING {
                    // The deletion has failed: it is asked for again, later each time.
                    self.context.clusters.update(self.uid, |memory| memory.cancel_asked = false);
                    return self.report_then(&Situation::Seen(&seen), Next::Backoff).await;
                }
                self.report_then(&Situation::Seen(&seen), Next::Check(timing::TERMINATION_CHECK)).await
            }
            Err(error) if matches!(error.class, Class::AlreadyTerminated | Class::NotFound) => {
                self.release().await
            }
            Err(error) => self.failed(&error).await,
        }
    }

    /// Learns the id of a cluster that an earlier process may have created. Nothing is created for an object that goes:
    /// where nobody has the namespace, nobody created it. What the process before wrote to let the object go may be on
    /// its way still, and a cluster that is created meanwhile would be nobody's.
    pub async fn recover(&self, token: String) -> Result {
        let is_settled = self.lists_are_settled();
        match self.holder().await {
            Ok(Some(holder)) => self.recover_from(&holder, token).await,
            Ok(None) if is_settled => self.release().await,
            Ok(None) => Ok(Progress::End(Next::After(timing::LISTS_LAG_CHECK))),
            Err(error) => self.failed(&error).await,
        }
    }

    /// Whether it is the object's own cluster that has the namespace shows by the request that created it, which brings it.
    /// Tags that AWS wouldn't take now were not in that.
    async fn recover_from(&self, holder: &model::VirtualCluster, token: String) -> Result {
        let mut request = self.request(token);
        if self.tags_problem().is_some() {
            request.tags.clear();
        }
        match self.client().create_virtual_cluster(request).await {
            // The id first: the deletion takes its time, and asking for the id again and again would cost calls.
            Ok(created) => self.save(just_created(created)).await,
            // The request may not be the same any more, and be refused for what was edited.
            Err(error) if matches!(error.class, Class::NamespaceTaken | Class::Refused | Class::NotFound) => {
                match self.left_behind(holder).await {
                    Ok(Some(left)) => self.save(left).await,
                    Ok(None) => self.release().await,
                    Err(error) => self.failed(&error).await,
                }
            }
            Err(error) => self.failed(&error).await,
        }
    }

    /// Whether what lists don't show isn't there: nobody has asked for it just now, neither the process before nor this one.
    fn lists_are_settled(&self) -> bool {
        let unanswered = self.context.clusters.get(self.uid).unanswered;
        self.context.lists_are_settled()
            && unanswered.is_none_or(|since| since.elapsed() >= timing::LISTS_LAG)
    }

    /// Takes the finalizer off.
    pub async fn release(&self) -> Result {
        match write::remove_finalizer(&self.context.writer, &**self.cluster).await? {
            Written::Done(released) => {
                self.context.clusters.wrote(&released);
                Ok(Progress::End(Next::Await))
            }
            Written::Gone => Ok(Progress::End(Next::Await)),
            Written::Conflict(newer) => {
                self.context.clusters.wrote(&newer);
                Ok(Progress::Again(newer))
            }
        }
    }
}

//! What happens beside the watch of exports, and their passes once their definition is there.
//!
//! Must not decide anything about an export. Invariant: where the definition is missing everything else goes on; it is
//! looked for with the others, and the watch begins when it is there.

use std::sync::Arc;

use emrcontainers_api::field_export::FieldExport;
use futures::stream::{self, BoxStream};
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use super::target::{Exporter, Target, TargetError};
use crate::context::Context;
use crate::pass;
use crate::timing;
use crate::watch::Hooks;

/// How often the key of an export that is gone is tried to be taken out of its target: nothing else would try again.
pub(super) const TRIES: u32 = 6;

/// What is noted when an export comes, changes and goes.
pub struct ExportHooks {
    /// Everything.
    pub context: Arc<Context>,
    /// Cancelled once the store is filled.
    pub listed: CancellationToken,
}

impl Hooks<FieldExport> for ExportHooks {
    fn applied(&self, export: &FieldExport) {
        self.context.exports.memories.caught_up(export);
        self.context.exports.applied(export);
    }

    /// Any controller of the family takes the finalizer off a deleted export, also off ours: the key may be left.
    fn deleted(&self, export: &FieldExport) {
        if let Some(target) = self.context.exports.deleted(export) {
            let uid = export.uid().unwrap_or_default();
            tokio::spawn(vacate(Arc::clone(&self.context), target, uid));
        }
    }

    fn listed(&self) {
        self.listed.cancel();
    }

    fn failed(&self) {
        self.context.access.doubt();
    }
}

async fn vacate(context: Arc<Context>, target: Target, uid: String) {
    for failures in 1..=TRIES {
        let tried = async {
            let Some(_turn) = context.exports.turns.take(&target).await else {
                return Err(TargetError::Busy(target.clone()));
            };
            Exporter { writer: &context.writer, uid: &uid }.vacate(&target).await
        };
        let tried = tokio::time::timeout(timing::STEP, tried).await;
        let Err(error) = tried.unwrap_or_else(|_| Err(TargetError::Busy(target.clone()))) else { return };
        tracing::warn!(from = %target, %error, "the key of an export that is gone is left for now");
        tokio::time::sleep(pass::backoff(failures)).await;
    }
}

/// The same triggers, once the definition can be listed.
pub fn once_listable(
    context: &Arc<Context>,
    triggers: Vec<BoxStream<'static, ObjectRef<FieldExport>>>,
) -> impl futures::Stream<Item = ObjectRef<FieldExport>> + Send + use<> {
    let access = context.access.clone();
    let wait = async move {
        access.exports_listable().await;
        stream::select_all(triggers)
    };
    futures::FutureExt::flatten_stream(wait)
}

//! The kind FieldExport: a field of a run or a virtual cluster, copied into a ConfigMap or a Secret.
//!
//! This file makes one step of a pass; [`plan`] decides, [`act`] reads and writes, [`status`] builds the status. Exports
//! of other groups belong to other controllers of the ACK family and aren't touched. Invariant: before a target is
//! written, the export names it in an annotation and has the finalizer, so that the key is taken out again wherever that is
//! allowed.

pub mod act;
pub mod controller;
pub mod exports;
pub mod path;
pub mod plan;
#[cfg(test)]
mod plan_tests;
mod report;
pub mod status;
pub mod target;
pub mod turns;
pub mod value;
#[cfg(test)]
mod value_tests;

use std::sync::Arc;

use emrcontainers_api::FIELD_EXPORT_FINALIZER;
use emrcontainers_api::field_export::{FieldExport, FieldExportSpec, FieldExportStatus};
use kube::ResourceExt;
use kube::api::ObjectMeta;

use crate::context::Context;
use crate::decode::Assembled;
use crate::memory::Memories;
use crate::pass::{Next, PassError, Progress, Reconciled};
use crate::watch::{Watched, prune_metadata};
use crate::write::Kind;
use plan::{Bounds, Step};

impl Kind for FieldExport {
    const FINALIZER: &'static str = FIELD_EXPORT_FINALIZER;
}

impl Assembled for FieldExport {
    type Spec = FieldExportSpec;
    type Status = FieldExportStatus;

    fn assemble(metadata: ObjectMeta, spec: FieldExportSpec, status: Option<FieldExportStatus>) -> Self {
        Self { metadata, spec, status }
    }
}

/// An export of another controller.
#[derive(Clone, Copy, Debug)]
pub struct NotOurs;

impl Watched for FieldExport {
    const KIND: crate::metrics::Kind = crate::metrics::Kind::FieldExport;

    const IS_REFERRED_TO: bool = false;

    const UNSETTLED: Option<&'static str> = None;

    type End = NotOurs;

    fn prune(&mut self) {
        prune_metadata(&mut self.metadata);
    }

    fn settled(&self) -> Option<NotOurs> {
        (!plan::is_ours(self) && plan::exported_to(self).is_none()).then_some(NotOurs)
    }

    fn is_start(&self) -> bool {
        false
    }
}

impl Reconciled for FieldExport {
    fn memories(context: &Context) -> &Memories<Self> {
        &context.exports.memories
    }

    fn stored(context: &Context, namespace: &str, name: &str) -> Option<Arc<Self>> {
        context.exports.scopes.get(namespace, name)
    }

    async fn step(object: &Arc<Self>, context: &Context) -> Result<Progress<Self>, PassError> {
        let uid = object.uid().unwrap_or_default();
        let pass = act::Pass { export: object, uid: &uid, context };
        let bounds = Bounds {
            cross_namespace: context.settings.cross_namespace,
            system_namespace: &context.settings.system_namespace,
        };
        match plan::plan(object, bounds) {
            Step::Rest => Ok(Progress::End(Next::Await)),
            Step::Refuse(why) => pass.refuse(&why).await,
            Step::Claim(target) => pass.claim(&target).await,
            Step::Vacate(target) => pass.vacate(&target).await,
            Step::Export(export) => pass.export(&export).await,
            Step::Release(target) => pass.release(target.as_ref()).await,
        }
    }
}

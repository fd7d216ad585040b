//! Reads the source and writes the target, as a step says, and reports what came of it.
//!
//! Must not decide what to do: `plan` does. The source is read anew from the API server, since of what the watch gives only
//! the part is kept that runs and clusters need. Invariant: an evaluation costs one read of the source; the target is asked
//! for only when the value is another than before, or hasn't been looked at for long.

use std::sync::Arc;
use std::time::Duration;

use emrcontainers_api::condition::RESOURCE_SYNCED;
use emrcontainers_api::field_export::FieldExport;
use emrcontainers_api::{JobRun, VirtualCluster, annotations};
use kube::Resource;
use kube::api::GetParams;
use kube::core::{Request, Selector, SelectorExt};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::controller::TRIES;
use super::exports::digest;
use super::plan::{Source, SourceKind, Wanted};
use super::status::{NOT_SYNCED, Situation};
use super::target::{Exporter, Target, TargetError};
use super::value::read_value;
use crate::context::Context;
use crate::pass::{Next, PassError, Progress};
use crate::timing;
use crate::write::{self, Written};

pub(super) type Result<T = Progress<FieldExport>> = std::result::Result<T, PassError>;

/// One step of a pass over an export.
pub struct Pass<'a> {
    /// The object.
    pub export: &'a Arc<FieldExport>,
    /// Its UID.
    pub uid: &'a str,
    /// Everything else.
    pub context: &'a Context,
}

impl Pass<'_> {
    /// Says why it can't be exported.
    pub async fn refuse(&self, why: &str) -> Result {
        self.report_then(Situation::Refused(why), Next::Await).await
    }

    /// Names the target, and puts the finalizer on. Not before the target can be read: one that can't be read can't be
    /// vacated either, and nobody would get rid of the name.
    pub async fn claim(&self, target: &Target) -> Result {
        match self.exporter().look(target).await {
            Ok(()) => self.mark(true, Some(target)).await,
            Err(error) => self.in_trouble(target, &error).await,
        }
    }

    /// Takes the key out of a target that is no longer wanted, and then its name off.
    pub async fn vacate(&self, target: &Target) -> Result {
        match self.take_out(target).await {
            // An export that has become another controller's keeps nothing of ours.
            Ok(()) => self.mark(super::plan::is_ours(self.export), None).await,
            Err(error) => self.in_trouble(target, &error).await,
        }
    }

    /// Takes the key out of the target, and then the finalizer off.
    pub async fn release(&self, target: Option<&Target>) -> Result {
        if let Some(target) = target
            && let Err(error) = self.take_out(target).await
        {
            return self.in_trouble(target, &error).await;
        }
        match write::remove_finalizer(&self.context.writer, &**self.export).await? {
            Written::Done(_) | Written::Gone => Ok(Progress::End(Next::Await)),
            Written::Conflict(newer) => Ok(self.again(newer)),
        }
    }

    /// Sees to it that the target has the value of the source.
    pub async fn export(&self, wanted: &Wanted) -> Result {
        let Some(mut source) = self.read(&wanted.source).await? else {
            let why = format!("the source resource {} doesn't exist", wanted.source.name);
            let next = Next::After(self.pause(&wanted.source, None));
            return self.report_then(Situation::Waiting(&why), next).await;
        };
        let next = Next::After(self.pause(&wanted.source, Some(&source)));
        if !is_synced(&source) {
            return self.report_then(Situation::Waiting(NOT_SYNCED), next).await;
        }
        if let Some(metadata) = source.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let value = match read_value(&wanted.path, source.to_string().into_bytes()).await {
            Ok(value) => value,
            Err(error) if error.is_final() => return self.refuse(&error.to_string()).await,
            // The source wakes the export when it changes.
            Err(error) => return self.report_then(Situation::Trouble(&error.to_string()), next).await,
        };
        let digest = digest(wanted, &value);
        if !self.context.exports.is_done(self.uid, &digest) {
            let written = match self.put(wanted, &value).await {
                Ok(written) => written,
                Err(error) => return self.in_trouble(&wanted.target, &error).await,
            };
            tracing::debug!(to = %wanted.target, key = wanted.key, written, "exported");
            self.context.exports.done(self.uid, digest);
        }
        let rest = self.context.exports.rest(self.uid);
        let next = Next::After(self.pause(&wanted.source, Some(&source)).min(rest));
        self.report_then(Situation::Exported, next).await
    }

    /// Reads the source as it is now.
    async fn read(&self, source: &Source) -> Result<Option<Value>> {
        let namespace = Some(source.namespace.as_str());
        let path = match source.kind {
            SourceKind::JobRun => JobRun::url_path(&(), namespace),
            SourceKind::VirtualCluster => VirtualCluster::url_path(&(), namespace),
        };
        let request = Request::new(path).get(&source.name, &GetParams::default());
        match self.context.client.request(request.map_err(kube::Error::BuildRequest)?).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When the source is read again without being asked for.
    fn pause(&self, source: &Source, object: Option<&Value>) -> Duration {
        if is_watched(source.kind, object, &self.context.settings.watch_selector) {
            timing::EXPORT_RESYNC
        } else {
            timing::EXPORT_RESYNC_UNWATCHED
        }
    }

    async fn put(&self, wanted: &Wanted, value: &str) -> std::result::Result<bool, TargetError> {
        let _turn = self.turn(&wanted.target).await?;
        let names = |uid: &str| self.context.exports.name_of(uid);
        self.exporter().put(&wanted.target, &wanted.key, value, names).await
    }

    /// Takes the key out of the target. One that is forbidden for long is left: it would keep the export, and with it its
    /// namespace, from being deleted for ever.
    async fn take_out(&self, target: &Target) -> std::result::Result<(), TargetError> {
        let vacated = {
            let _turn = self.turn(target).await?;
            self.exporter().vacate(target).await
        };
        match vacated {
            Err(error) if error.is_forbidden() && self.is_last_try() => self.tell_left(target, &error),
            vacated => vacated?,
        }
        self.context.exports.vacated(self.uid);
        Ok(())
    }

    /// Whether the passes before have failed so often that this one is the last to be tried.
    fn is_last_try(&self) -> bool {
        self.context.exports.memories.get(self.uid).failures.saturating_add(1) >= TRIES
    }

    async fn turn(&self, target: &Target) -> std::result::Result<OwnedMutexGuard<()>, TargetError> {
        self.context.exports.turns.take(target).await.ok_or_else(|| TargetError::Busy(target.clone()))
    }

    fn exporter(&self) -> Exporter<'_> {
        Exporter { writer: &self.context.writer, uid: self.uid }
    }

    /// Says what is wrong with the target, and tries again later each time: it isn't watched.
    async fn in_trouble(&self, target: &Target, error: &TargetError) -> Result {
        let message = match error {
            // It is no trouble of the export's, and its turn comes.
            TargetError::Busy(_) => return Ok(Progress::End(Next::Backoff)),
            TargetError::Api(kube::Error::Api(status)) if error.is_forbidden() => {
                self.context.access.doubt();
                format!(
                    "{}; grant the operator's account to get and patch {}s in namespace {}",
                    status.message,
                    target.kind(),
                    target.namespace
                )
            }
            // The whole status would be a screen of text.
            TargetError::Api(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        };
        self.report_then(Situation::Trouble(&message), Next::Backoff).await
    }

    async fn mark(&self, finalizer: bool, target: Option<&Target>) -> Result {
        let target = target.map(ToString::to_string);
        let annotation = (annotations::EXPORTED_TO, target.as_deref());
        match write::mark(&self.context.writer, &**self.export, finalizer, annotation).await? {
            Written::Done(newer) | Written::Conflict(newer) => Ok(self.again(newer)),
            Written::Gone => Ok(Progress::End(Next::Await)),
        }
    }

    fn again(&self, newer: Arc<FieldExport>) -> Progress<FieldExport> {
        self.context.exports.memories.wrote(&newer);
        self.context.exports.applied(&newer);
        Progress::Again(newer)
    }
}

/// Whether a source's changes are told by the watch: those of clusters are, whatever their labels are. Of one that
/// isn't there nobody knows which labels it will have.
fn is_watched(kind: SourceKind, object: Option<&Value>, selector: &Selector) -> bool {
    let labels = || {
        let labels = object?.pointer("/metadata/labels").cloned();
        Some(labels.and_then(|labels| serde_json::from_value(labels).ok()).unwrap_or_default())
    };
    kind == SourceKind::VirtualCluster
        || selector.selects_all()
        || labels().is_some_and(|labels| SelectorExt::matches(selector, &labels))
}

/// Whether the source says that it is synced.
fn is_synced(source: &Value) -> bool {
    let conditions = source.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition["type"] == RESOURCE_SYNCED && condition["status"] == "True")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_that_may_not_be_watched_is_looked_at_more_often() {
        let labelled = json!({"metadata": {"labels": {"team": "data"}}});
        let bare = json!({"metadata": {}});
        let selector: Selector = crate::selector::parse("team=data").unwrap();
        for object in [Some(&labelled), Some(&bare), None] {
            assert!(is_watched(SourceKind::JobRun, object, &Selector::default()), "all are watched");
            assert!(is_watched(SourceKind::VirtualCluster, object, &selector));
        }
        assert!(is_watched(SourceKind::JobRun, Some(&labelled), &selector));
        assert!(!is_watched(SourceKind::JobRun, Some(&bare), &selector));
        assert!(!is_watched(SourceKind::JobRun, None, &selector), "nobody knows its labels");
    }
}

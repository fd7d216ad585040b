//! What this process knows of the exports: which follow an object, which keys may have to be taken out when one is gone,
//! and what was exported last.
//!
//! Must not be needed for correctness across processes. Invariant: where there is no export, a change of an object costs a
//! look at an empty map.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use emrcontainers_api::field_export::FieldExport;
use kube::ResourceExt;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::plan::{self, Source, SourceKind, Wanted};
use super::target::Target;
use super::turns::Turns;
use crate::context::Scopes;
use crate::memory::Memories;
use crate::timing;

/// What the passes of exports work with.
pub struct Exports {
    /// What this process remembers of FieldExports, as of any kind.
    pub memories: Memories<FieldExport>,
    /// The FieldExports, as the watch has them; no scope where exports are switched off.
    pub scopes: Scopes<FieldExport>,
    /// Whose turn it is to write a target.
    pub turns: Turns,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// Names of the exports of each object, in its namespace.
    by_source: HashMap<Source, BTreeSet<String>>,
    /// By UID.
    known: HashMap<String, Known>,
}

struct Known {
    name: String,
    source: Option<Source>,
    target: Option<Target>,
    done: Option<Done>,
}

/// A digest, because the value may be a secret.
struct Done {
    digest: [u8; 32],
    seen: Instant,
}

impl Exports {
    /// Nothing is known yet.
    pub fn new(scopes: Scopes<FieldExport>) -> Self {
        Self { memories: Memories::default(), scopes, turns: Turns::default(), index: Mutex::default() }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // Consistent between statements: a panic elsewhere doesn't break it.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the exports of an object.
    pub fn source_changed(&self, kind: SourceKind, namespace: &str, name: &str) {
        let names = {
            let index = self.index();
            if index.by_source.is_empty() {
                return;
            }
            let source = Source { kind, namespace: namespace.to_owned(), name: name.to_owned() };
            index.by_source.get(&source).cloned().unwrap_or_default()
        };
        for export in names {
            self.scopes.wake(namespace, &export);
        }
    }

    /// Wakes the exports of all objects of a kind.
    pub fn all_changed(&self, kind: SourceKind) {
        let woken: Vec<_> = {
            let index = self.index();
            let sources = index.by_source.iter().filter(|(source, _)| source.kind == kind);
            sources
                .flat_map(|(source, names)| names.iter().map(|name| (source.namespace.clone(), name.clone())))
                .collect()
        };
        for (namespace, export) in woken {
            self.scopes.wake(&namespace, &export);
        }
    }

    /// Notes an export as it is now.
    pub fn applied(&self, export: &FieldExport) {
        let uid = export.uid().unwrap_or_default();
        let source = plan::source(export).ok().filter(|_| plan::is_ours(export));
        let target = plan::exported_to(export);
        let mut index = self.index();
        let before = index.remove(&uid);
        if source.is_none() && target.is_none() {
            return;
        }
        if let Some(source) = &source {
            index.by_source.entry(source.clone()).or_default().insert(export.name_any());
        }
        let done = before.and_then(|known| known.done);
        index.known.insert(uid, Known { name: export.name_any(), source, target, done });
    }

    /// Forgets an export that is gone; says where it may have left a key.
    pub fn deleted(&self, export: &FieldExport) -> Option<Target> {
        let uid = export.uid().unwrap_or_default();
        self.memories.forget(&uid);
        self.index().remove(&uid)?.target
    }

    /// Notes that a target has no key of an export any more.
    pub fn vacated(&self, uid: &str) {
        if let Some(known) = self.index().known.get_mut(uid) {
            known.target = None;
            known.done = None;
        }
    }

    /// Name of an export that is there, by its UID.
    pub fn name_of(&self, uid: &str) -> Option<String> {
        self.index().known.get(uid).map(|known| known.name.clone())
    }

    /// Whether the target had this value when it was looked at last, and that isn't long ago.
    pub fn is_done(&self, uid: &str, digest: &[u8; 32]) -> bool {
        let index = self.index();
        let done = index.known.get(uid).and_then(|known| known.done.as_ref());
        done.is_some_and(|done| done.digest == *digest && done.seen.elapsed() < timing::EXPORT_RESYNC / 2)
    }

    /// When the target is to be looked at again although the value is the same, as passes in between don't look.
    pub fn rest(&self, uid: &str) -> Duration {
        let index = self.index();
        let done = index.known.get(uid).and_then(|known| known.done.as_ref());
        done.map_or(timing::EXPORT_RESYNC, |done| timing::EXPORT_RESYNC.saturating_sub(done.seen.elapsed()))
    }

    /// Notes that the target has a value.
    pub fn done(&self, uid: &str, digest: [u8; 32]) {
        if let Some(known) = self.index().known.get_mut(uid) {
            known.done = Some(Done { digest, seen: Instant::now() });
        }
    }
}

impl Index {
    fn remove(&mut self, uid: &str) -> Option<Known> {
        let known = self.known.remove(uid)?;
        if let Some(source) = &known.source
            && let Some(names) = self.by_source.get_mut(source)
        {
            names.remove(&known.name);
            if names.is_empty() {
                self.by_source.remove(source);
            }
        }
        Some(known)
    }
}

/// What a target and its value come to.
pub fn digest(wanted: &Wanted, value: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&wanted.target.to_string(), &wanted.key, value] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::context::WatchedScope;
    use crate::health::Liveness;
    use crate::store::Store;

    fn export(uid: &str, name: &str, of: &str, annotation: Option<&str>) -> FieldExport {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "ns", "uid": uid,
                "annotations": annotation.map(|target| json!({"emrcontainers.services.k8s.aws/exported-to": target})),
            },
            "spec": {
                "from": {
                    "path": ".status.id",
                    "resource": {"group": emrcontainers_api::GROUP, "kind": "JobRun", "name": of},
                },
                "to": {"kind": "configmap", "name": "target"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn an_object_wakes_its_exports_and_no_others() {
        let (wake, mut woken) = unbounded_channel();
        let passes = Liveness::default().part("passes", "FieldExports", timing::STUCK);
        let listed = CancellationToken::new();
        let scope = WatchedScope { namespace: None, store: Store::default(), wake, passes, listed };
        let exports = Exports::new(Scopes(vec![scope]));
        let mut change = |of: &str| {
            exports.source_changed(SourceKind::JobRun, "ns", of);
            std::iter::from_fn(|| woken.try_recv().ok().map(|export| export.name)).collect::<Vec<_>>()
        };
        assert!(change("run").is_empty());
        exports.applied(&export("1", "a", "run", None));
        exports.applied(&export("2", "b", "run", None));
        exports.applied(&export("3", "c", "other", None));
        assert_eq!(change("run"), ["a", "b"]);
        exports.applied(&export("1", "a", "other", None));
        assert_eq!(change("run"), ["b"]);
        assert_eq!(change("other"), ["a", "c"]);
        exports.deleted(&export("2", "b", "run", None));
        assert!(change("run").is_empty());
        exports.source_changed(SourceKind::VirtualCluster, "ns", "other");
        exports.source_changed(SourceKind::JobRun, "elsewhere", "other");
        assert_eq!(change("none"), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_is_looked_at_each_hour_however_often_its_export_is() {
        let exports = Exports::new(Scopes(Vec::new()));
        exports.applied(&export("1", "a", "run", None));
        exports.done("1", [7; 32]);
        let mut passed = Duration::ZERO;
        while exports.is_done("1", &[7; 32]) {
            // The source changes now and then, and the value doesn't.
            let next = exports.rest("1").min(Duration::from_mins(29));
            tokio::time::advance(next).await;
            passed += next;
        }
        assert_eq!(passed, Duration::from_mins(58));
        exports.done("1", [7; 32]);
        tokio::time::advance(Duration::from_mins(29)).await;
        assert!(exports.is_done("1", &[7; 32]) && !exports.is_done("1", &[8; 32]));
        assert_eq!(exports.rest("1"), Duration::from_mins(31), "not an hour from now");
        tokio::time::advance(exports.rest("1")).await;
        assert!(!exports.is_done("1", &[7; 32]));
    }

    #[test]
    fn all_exports_of_a_kind_are_woken_at_once() {
        let (wake, mut woken) = unbounded_channel();
        let passes = Liveness::default().part("passes", "FieldExports", timing::STUCK);
        let listed = CancellationToken::new();
        let scope = WatchedScope { namespace: None, store: Store::default(), wake, passes, listed };
        let exports = Exports::new(Scopes(vec![scope]));
        exports.all_changed(SourceKind::JobRun);
        assert!(woken.try_recv().is_err());
        for (uid, name, of) in [("1", "a", "run"), ("2", "b", "run"), ("3", "c", "other")] {
            exports.applied(&export(uid, name, of, None));
        }
        exports.all_changed(SourceKind::VirtualCluster);
        assert!(woken.try_recv().is_err());
        exports.all_changed(SourceKind::JobRun);
        let mut names: Vec<_> =
            std::iter::from_fn(|| woken.try_recv().ok().map(|export| export.name)).collect();
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn an_export_that_is_gone_tells_where_its_key_may_be_unless_that_was_taken_out() {
        let exports = Exports::new(Scopes(Vec::new()));
        let gone = export("1", "a", "run", Some("configmap/ns/target"));
        exports.applied(&gone);
        assert_eq!(exports.name_of("1").as_deref(), Some("a"));
        assert_eq!(exports.deleted(&gone), Target::parse("configmap/ns/target"));
        assert_eq!(exports.deleted(&gone), None);
        exports.applied(&gone);
        exports.vacated("1");
        assert_eq!(exports.deleted(&gone), None);
    }
}

//! What was decided for each object, and on which version of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::metrics::{Decision, Kind};

/// Namespace and name.
type Key = (String, String);

struct Entry {
    version: String,
    decision: Decision,
}

/// The decisions by kind and object.
#[derive(Default)]
pub(super) struct Book(Mutex<HashMap<Kind, HashMap<Key, Entry>>>);

impl Book {
    fn with<T>(&self, look: impl FnOnce(&mut HashMap<Kind, HashMap<Key, Entry>>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this version of the object was judged, with an end.
    pub(super) fn is_judged(&self, kind: Kind, namespace: &str, name: &str, version: &str) -> bool {
        self.with(|all| {
            let entry =
                all.get(&kind).and_then(|entries| entries.get(&(namespace.to_owned(), name.to_owned())));
            entry.is_some_and(|entry| entry.version == version && entry.decision.is_certain())
        })
    }

    /// Has the object judged again.
    pub(super) fn doubt(&self, kind: Kind, namespace: String, name: String) {
        self.with(|all| {
            if let Some(entry) = all.entry(kind).or_default().get_mut(&(namespace, name)) {
                entry.version.clear();
            }
        });
    }

    /// Writes a decision down; says whether it is another than before.
    pub(super) fn write(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        version: String,
        decision: Decision,
    ) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let before = self.with(|all| all.entry(kind).or_default().insert(key, Entry { version, decision }));
        before.is_none_or(|before| before.decision != decision)
    }

    /// Forgets all but these.
    pub(super) fn keep(&self, kind: Kind, there: &[Key]) {
        let there: HashSet<&Key> = there.iter().collect();
        self.with(|all| all.entry(kind).or_default().retain(|key, _| there.contains(key)));
    }

    /// How many objects have this decision.
    pub(super) fn count(&self, kind: Kind, decision: Decision) -> usize {
        self.with(|all| {
            let entries = all.get(&kind).into_iter().flat_map(HashMap::values);
            entries.filter(|entry| entry.decision == decision).count()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_judged_once_and_another_decision_is_news() {
        let book = Book::default();
        let write =
            |version: &str, decision| book.write(Kind::JobRun, "ns", "run", version.to_owned(), decision);
        let is_judged = |version: &str| book.is_judged(Kind::JobRun, "ns", "run", version);
        assert!(!is_judged("1"));
        assert!(write("1", Decision::Unknown) && !is_judged("1"), "an uncertain decision is no end");
        assert!(write("1", Decision::Observe) && is_judged("1") && !is_judged("2"));
        assert!(!write("2", Decision::Observe) && is_judged("2") && !is_judged("1"));
        assert!(!book.is_judged(Kind::VirtualCluster, "ns", "run", "2"));
        book.doubt(Kind::JobRun, "ns".to_owned(), "other".to_owned());
        assert!(is_judged("2"));
        book.doubt(Kind::JobRun, "ns".to_owned(), "run".to_owned());
        assert!(!is_judged("2"));

        assert_eq!([Decision::Observe, Decision::Unknown].map(|d| book.count(Kind::JobRun, d)), [1, 0]);
        assert_eq!(book.count(Kind::VirtualCluster, Decision::Observe), 0);
        book.keep(Kind::JobRun, &[("ns".to_owned(), "run".to_owned())]);
        assert_eq!(book.count(Kind::JobRun, Decision::Observe), 1);
        book.keep(Kind::JobRun, &[]);
        assert_eq!(book.count(Kind::JobRun, Decision::Observe), 0);
    }
}

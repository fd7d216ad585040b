//! The objects of a kind in a watched namespace, as the watch has them.
//!
//! kube-runtime's `Store` keeps every object whole, and four texts besides to find it by. Here an object for which nothing
//! will have to be done is only a mark, so that what has ended may stay for as long as etcd has room; whatever brings it
//! back to work, an edit or its deletion, comes with the whole object. Must not do I/O. Invariant: a list takes effect
//! when it is whole, and what it lacks is told.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kube::Resource;
use kube_runtime::watcher::Event;

use crate::watch::Watched;

/// What an event of the watch changed.
pub enum Change<K> {
    /// Nothing yet: a list is under way.
    None,
    /// An object is there, or has changed.
    Applied(Applied<K>),
    /// An object is gone.
    Deleted(K),
    /// A new list is whole.
    Listed {
        /// What it has, but for what had come to its end before.
        applied: Vec<Applied<K>>,
        /// What went since the list before, and the watch didn't see.
        lost: Vec<Arc<K>>,
    },
}

/// An object that is there.
pub struct Applied<K> {
    /// As it is now.
    pub object: Arc<K>,
    /// As it was, if something had to be done for it then.
    pub before: Option<Arc<K>>,
}

/// What is kept of an object.
enum Kept<K: Watched> {
    Whole(Arc<K>),
    Settled(K::End),
}

impl<K: Watched> Kept<K> {
    fn of(object: &Arc<K>) -> Self {
        object.settled().map_or_else(|| Self::Whole(Arc::clone(object)), Self::Settled)
    }

    fn whole(&self) -> Option<&Arc<K>> {
        match self {
            Self::Whole(object) => Some(object),
            Self::Settled(_) => None,
        }
    }
}

/// Objects by namespace and name.
struct Objects<K: Watched>(HashMap<Box<str>, HashMap<Box<str>, Kept<K>>>);

impl<K: Watched> Default for Objects<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Watched> Objects<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<&Kept<K>> {
        self.0.get(namespace)?.get(name)
    }

    fn insert(&mut self, object: &Arc<K>) -> Option<Kept<K>> {
        let (namespace, name) = key(&**object);
        if !self.0.contains_key(namespace) {
            self.0.insert(namespace.into(), HashMap::new());
        }
        self.0.get_mut(namespace)?.insert(name.into(), Kept::of(object))
    }

    fn remove(&mut self, object: &K) {
        let (namespace, name) = key(object);
        if let Some(objects) = self.0.get_mut(namespace) {
            objects.remove(name);
            if objects.is_empty() {
                self.0.remove(namespace);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Kept<K>> {
        self.0.values().flat_map(HashMap::values)
    }
}

fn key<K: Resource>(object: &K) -> (&str, &str) {
    let meta = object.meta();
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// A list that is under way.
struct Listing<K: Watched> {
    objects: Objects<K>,
    applied: Vec<Applied<K>>,
}

impl<K: Watched> Default for Listing<K> {
    fn default() -> Self {
        Self { objects: Objects::default(), applied: Vec::new() }
    }
}

struct Inner<K: Watched> {
    objects: Objects<K>,
    listing: Listing<K>,
}

impl<K: Watched> Inner<K> {
    fn apply(&mut self, object: K) -> Applied<K> {
        let object = Arc::new(object);
        let before = self.objects.insert(&object).and_then(|kept| kept.whole().cloned());
        Applied { before: before.filter(|before| is_same(&**before, &*object)), object }
    }

    /// Of what has come to its end only a mark is kept until the list is whole.
    fn list(&mut self, object: K) {
        let object = Arc::new(object);
        let (namespace, name) = key(&*object);
        let before = self.objects.get(namespace, name).and_then(Kept::whole).cloned();
        self.listing.objects.insert(&object);
        if before.is_some() || object.settled().is_none() {
            self.listing.applied.push(Applied { object, before });
        }
    }

    fn end_list(&mut self) -> Change<K> {
        let Listing { objects, mut applied } = std::mem::take(&mut self.listing);
        let old = std::mem::replace(&mut self.objects, objects);
        let is_listed = |object: &Arc<K>| {
            let (namespace, name) = key(&**object);
            self.objects.get(namespace, name).is_some()
        };
        let gone = old.iter().filter_map(Kept::whole).filter(|object| !is_listed(object)).cloned();
        // Another object has its name.
        let replaced = applied
            .iter_mut()
            .filter_map(|applied| applied.before.take_if(|before| !is_same(&**before, &*applied.object)));
        let lost = gone.chain(replaced).collect();
        Change::Listed { applied, lost }
    }
}

fn is_same<K: Resource>(one: &K, other: &K) -> bool {
    one.meta().uid == other.meta().uid
}

/// A handle; clones share the objects.
pub struct Store<K: Watched>(Arc<RwLock<Inner<K>>>);

impl<K: Watched> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Watched> Default for Store<K> {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Inner { objects: Objects::default(), listing: Listing::default() })))
    }
}

impl<K: Watched> Store<K> {
    /// An object, if something may have to be done for it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read().objects.get(namespace, name)?.whole().cloned()
    }

    /// Those that the predicate picks among the objects for which something may have to be done.
    pub fn filter(&self, predicate: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let inner = self.read();
        inner.objects.iter().filter_map(Kept::whole).filter(|object| predicate(object)).cloned().collect()
    }

    /// Looks at every object: at the end that it came to, or else at the whole.
    pub fn each(&self, mut look: impl FnMut(Result<K::End, &K>)) {
        for kept in self.read().objects.iter() {
            look(match kept {
                Kept::Whole(object) => Err(&**object),
                Kept::Settled(end) => Ok(*end),
            });
        }
    }

    /// Takes in what the watch says.
    pub fn take_in(&self, event: Event<K>) -> Change<K> {
        // Consistent between statements: a panic of another thread doesn't break it.
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => Change::Applied(inner.apply(object)),
            Event::Delete(object) => {
                inner.objects.remove(&object);
                Change::Deleted(object)
            }
            Event::Init => {
                inner.listing = Listing::default();
                Change::None
            }
            Event::InitApply(object) => {
                inner.list(object);
                Change::None
            }
            Event::InitDone => inner.end_list(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<K>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

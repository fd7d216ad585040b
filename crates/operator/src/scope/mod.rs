//! Who acts for an object, and where: what namespaces, config maps and role selectors say of it.
//!
//! [`decide`] decides, [`watch`] keeps up with the API server; here is what both share. Must not make an AWS call.
//! Invariant: an object of which something isn't known yet is acted for by nobody; whoever depends on what has changed is
//! named.

pub mod decide;
pub mod namespace;
pub mod role_map;
pub mod selector;
pub mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::{IAMRoleSelectorSpec, annotations};
use kube::{Resource, ResourceExt};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::settings::DeletionPolicy;
use decide::{Acting, Known, Rules, Subject, Withheld};
use namespace::Namespace;
use role_map::{Map, RoleMap};

/// What has changed in a way that objects depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What a namespace asks for its objects.
    Namespace(String),
    /// The roles of accounts or teams.
    Roles,
    /// The selectors.
    Selectors,
}

/// What is known of who acts where.
pub struct Directory {
    rules: Rules,
    known: RwLock<Known>,
    changes: UnboundedSender<Change>,
    /// Cancelled once the namespaces are known.
    namespaces_known: CancellationToken,
    /// Cancelled once the selectors are known, or none are asked for.
    selectors_known: CancellationToken,
    accounts_wanted: Notify,
    teams_wanted: Notify,
}

impl Directory {
    /// One that knows nothing yet, and tells what changes.
    pub fn new(rules: Rules, changes: UnboundedSender<Change>) -> Self {
        let selectors_known = CancellationToken::new();
        if !rules.selectors {
            selectors_known.cancel();
        }
        Self {
            rules,
            known: RwLock::default(),
            changes,
            namespaces_known: CancellationToken::new(),
            selectors_known,
            accounts_wanted: Notify::new(),
            teams_wanted: Notify::new(),
        }
    }

    /// Waits until what every object depends on is known.
    pub async fn known(&self) {
        self.namespaces_known.cancelled().await;
        self.selectors_known.cancelled().await;
    }

    /// Who acts for an object whose resource is in `place`, and where. What a map says is looked up when the first
    /// object needs it. `is_gone` says that the object is gone, perhaps with its namespace.
    ///
    /// # Errors
    /// When nobody may. Whoever has to wait is among those that a later [`Change`] names.
    pub fn acting<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        place: Option<&AckResourceMetadata>,
        is_gone: bool,
    ) -> Result<Acting, Withheld> {
        let (group, version, kind) = (K::group(&()), K::version(&()), K::kind(&()));
        let subject = Subject {
            namespace: object.meta().namespace.as_deref().unwrap_or_default(),
            resource: [&group, &version, &kind],
            labels: object.meta().labels.as_ref(),
            region: object.annotations().get(annotations::REGION).map(String::as_str),
            place,
            is_gone,
        };
        let acting = decide::acting(&subject, &self.read(), &self.rules);
        if let Err(Withheld::UnknownMap(map)) = &acting {
            self.wanted(*map).notify_one();
        }
        acting
    }

    /// What the namespace says of AWS resources whose objects are deleted.
    pub fn deletion_policy(&self, namespace: &str, is_gone: bool) -> Option<Result<DeletionPolicy, String>> {
        self.read().namespace(namespace, is_gone)?.deletion_policy.clone()
    }

    /// Whether what has changed concerns an object whose resource is in `place`.
    pub fn concerns(&self, change: &Change, namespace: &str, place: Option<&AckResourceMetadata>) -> bool {
        match change {
            Change::Namespace(changed) => changed == namespace,
            Change::Selectors => true,
            Change::Roles => {
                place.is_some_and(|place| place.owner_account_id != self.rules.home.account)
                    || self.read().namespaces.get(namespace).is_some_and(Namespace::is_mapped)
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // Consistent between statements: a panic of another thread doesn't break it.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self, map: Map) -> &Notify {
        match map {
            Map::Accounts => &self.accounts_wanted,
            Map::Teams => &self.teams_wanted,
        }
    }

    fn tell(&self, change: Change) {
        // Nobody listens any more when the controllers stop.
        let _ = self.changes.send(change);
    }

    /// Takes in a namespace as it is now, if it is there.
    pub fn set_namespace(&self, name: &str, namespace: Option<Namespace>) {
        let mut known = self.write();
        let moved = known.namespaces.get(name) != namespace.as_ref();
        match namespace {
            Some(namespace) => {
                if moved && namespace.is_mapped() && !self.rules.carm {
                    tracing::warn!(
                        namespace = name,
                        "the namespace's owner-account-id and team-id have no effect, because --enable-carm is false"
                    );
                }
                known.namespaces.insert(name.to_owned(), namespace);
            }
            None => known.remove(name),
        }
        drop(known);
        if moved {
            self.tell(Change::Namespace(name.to_owned()));
        }
    }

    /// Takes in all namespaces.
    fn replace_namespaces(&self, namespaces: HashMap<String, Namespace>) {
        let gone: Vec<String> =
            self.read().namespaces.keys().filter(|name| !namespaces.contains_key(*name)).cloned().collect();
        for name in gone {
            self.set_namespace(&name, None);
        }
        for (name, namespace) in namespaces {
            self.set_namespace(&name, Some(namespace));
        }
        self.namespaces_known.cancel();
    }

    /// Takes in a map of roles.
    fn set_roles(&self, map: Map, roles: RoleMap) {
        let mut known = self.write();
        let slot = match map {
            Map::Accounts => &mut known.accounts,
            Map::Teams => &mut known.teams,
        };
        let moved = *slot != roles;
        *slot = roles;
        drop(known);
        if moved {
            self.tell(Change::Roles);
        }
    }

    /// Takes in all selectors that make sense.
    fn replace_selectors(&self, selectors: BTreeMap<String, (String, IAMRoleSelectorSpec)>) {
        let mut known = self.write();
        let moved = known.selectors != selectors;
        known.selectors = selectors;
        drop(known);
        self.selectors_known.cancel();
        if moved {
            self.tell(Change::Selectors);
        }
    }
}

//! Keeps up with namespaces, with the config maps that hold roles, and with role selectors.
//!
//! All namespaces by one watch of their metadata; those that are named one by one, in a way that a Role in the namespace can
//! grant. A config map is watched from when the first object needs it, and selectors if their gate is open: what nobody uses
//! costs nothing. Decides nothing. Invariant: it never ends by itself, and what was known stays known while the API server
//! doesn't answer.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use emrcontainers_api::{IAMRoleSelector, IAMRoleSelectorSpec};
use futures::future::join_all;
use futures::{StreamExt, future};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as Object};
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta, WatchEvent};
use kube::{Client, ResourceExt};
use kube_runtime::utils::WatchStreamExt;
use kube_runtime::watcher::{self, Event, watcher};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::namespace::Namespace;
use super::role_map::{Map, RoleMap};
use super::{Directory, selector};
use crate::pass::backoff;
use crate::timing;
use crate::watch_backoff::WatchBackoff;

/// The metadata of an object alone.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Keeps a directory up to date: `namespaces` names those that are watched, all if there is none; the maps are in `system`.
pub async fn keep_up(directory: &Directory, client: &Client, namespaces: &[String], system: &str) {
    let of_namespaces = async {
        if namespaces.is_empty() {
            all_namespaces(directory, client).await;
        } else {
            some_namespaces(directory, client, namespaces).await;
        }
    };
    let of_maps = join_all(Map::ALL.map(|map| roles(directory, client, system, map)));
    let of_selectors = async {
        if directory.rules.selectors {
            selectors(directory, client).await;
        }
    };
    future::join3(of_namespaces, of_maps, of_selectors).await;
}

impl Directory {
    fn read_namespace(&self, name: &str, meta: &ObjectMeta) -> Namespace {
        let labels = meta.labels.clone().filter(|_| self.rules.selectors).unwrap_or_default();
        Namespace::read(name, meta.annotations.as_ref(), labels, self.rules.allow_unsafe)
    }
}

async fn all_namespaces(directory: &Directory, client: &Client) {
    let api: Api<PartialObjectMeta<Object>> = Api::all(client.clone());
    let config = watcher::Config::default().timeout(timing::WATCH_SECONDS).page_size(timing::LIST_PAGE);
    let mut events = std::pin::pin!(watcher(api, config).backoff(WatchBackoff::default()));
    let mut listed = HashMap::new();
    let read = |object: &PartialObjectMeta<Object>| {
        let name = object.name_any();
        let namespace = directory.read_namespace(&name, &object.metadata);
        (name, namespace)
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend([read(&object)]),
            Ok(Event::InitDone) => directory.replace_namespaces(std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => {
                let (name, namespace) = read(&object);
                directory.set_namespace(&name, Some(namespace));
            }
            Ok(Event::Delete(object)) => directory.set_namespace(&object.name_any(), None),
            Err(error) => warn!(%error, "the watch of namespaces failed; it is tried again with backoff"),
        }
    }
}

async fn some_namespaces(directory: &Directory, client: &Client, namespaces: &[String]) {
    let (tell, mut told) = tokio::sync::mpsc::channel(namespaces.len().max(1));
    let known = async {
        for _ in namespaces {
            // It can't end: the sender is in this function.
            told.recv().await;
        }
        directory.namespaces_known.cancel();
    };
    let watched = namespaces.iter().map(|name| one_namespace(directory, client, name, tell.clone()));
    future::join(known, join_all(watched)).await;
}

/// A namespace that is named. A Role in it can grant to get it and, by a path of its own, to watch it, but not to list it:
/// a list is of the whole cluster.
async fn one_namespace(
    directory: &Directory,
    client: &Client,
    name: &str,
    known: tokio::sync::mpsc::Sender<()>,
) {
    let api: Api<Object> = Api::all(client.clone());
    let mut known = Some(known);
    let (mut failures, mut is_refused) = (0, false);
    loop {
        let (found, next) = match api.get_metadata(name).await {
            Ok(object) => (
                Some(Some(directory.read_namespace(name, &object.metadata))),
                object.metadata.resource_version,
            ),
            Err(kube::Error::Api(status)) if status.code == 404 => (Some(None), None),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                if !is_refused {
                    warn!(
                        namespace = name,
                        "the namespace can't be read, so its annotations (region, account, endpoint, deletion policy) have no \
                         effect: grant the operator's account get and watch of namespaces by a Role in it"
                    );
                }
                // What was known stays known: it is better than nothing.
                let before = directory.read().namespaces.contains_key(name);
                ((!before).then(|| Some(Namespace::default())), None)
            }
            Err(error) => {
                failures += 1;
                warn!(namespace = name, %error, "the namespace can't be read; it is tried again with backoff");
                sleep(backoff(failures)).await;
                continue;
            }
        };
        (failures, is_refused) = (0, next.is_none() && !matches!(found, Some(None)));
        if let Some(found) = found {
            directory.set_namespace(name, found);
        }
        if let Some(known) = known.take() {
            // There is room for each namespace.
            let _ = known.try_send(());
        }
        match next {
            Some(version) => follow(directory, client, name, &version).await,
            None => sleep(timing::NAMESPACE_LOOK).await,
        }
    }
}

/// Follows a namespace from a version on, until it has to be read again.
async fn follow(directory: &Directory, client: &Client, name: &str, version: &str) {
    let query = format!("resourceVersion={version}&timeoutSeconds={}", timing::WATCH_SECONDS);
    let request = http::Request::get(format!("/api/v1/watch/namespaces/{name}?{query}"))
        .header(http::header::ACCEPT, METADATA)
        .body(Vec::new());
    let Ok(request) = request else { return sleep(timing::NAMESPACE_LOOK).await };
    let events = match client.request_events::<PartialObjectMeta<Object>>(request).await {
        Ok(events) => events,
        Err(error) => {
            // Then it is looked at now and then.
            debug!(namespace = name, %error, "the namespace can't be watched");
            return sleep(timing::NAMESPACE_LOOK).await;
        }
    };
    let mut events = std::pin::pin!(events);
    loop {
        match events.next().await {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                let namespace = directory.read_namespace(name, &object.metadata);
                directory.set_namespace(name, Some(namespace));
            }
            Some(Ok(WatchEvent::Deleted(_))) => directory.set_namespace(name, None),
            Some(Ok(WatchEvent::Bookmark(_))) => {}
            // Its time is up, or what it goes on from is too old.
            Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => return sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn roles(directory: &Directory, client: &Client, system: &str, map: Map) {
    directory.wanted(map).notified().await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), system);
    let name = format!("metadata.name={}", map.name());
    let config = watcher::Config::default().fields(&name).timeout(timing::WATCH_SECONDS);
    let mut events = std::pin::pin!(watcher(api, config).backoff(WatchBackoff::default()));
    let mut listed = None;
    let set = |found: Option<ConfigMap>| {
        let of = |found: ConfigMap| RoleMap::Found(found.data.unwrap_or_default());
        directory.set_roles(map, found.map_or(RoleMap::Missing, of));
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = None,
            Ok(Event::InitApply(object)) => listed = Some(object),
            Ok(Event::InitDone) => set(listed.take()),
            Ok(Event::Apply(object)) => set(Some(object)),
            Ok(Event::Delete(_)) => set(None),
            Err(error) => {
                warn!(name = map.name(), namespace = system, %error, "the config map of roles can't be watched; it is tried again with backoff");
                let is_known = matches!(directory.read().map(map), RoleMap::Missing | RoleMap::Found(_));
                if is_forbidden(&error) && !is_known {
                    let why = format!(
                        "it can't be read: grant the operator's account get, list and watch of configmaps in namespace {system}"
                    );
                    directory.set_roles(map, RoleMap::Unreadable(why));
                }
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 403
}

async fn selectors(directory: &Directory, client: &Client) {
    let resource = ApiResource::erase::<IAMRoleSelector>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let config = watcher::Config::default().timeout(timing::WATCH_SECONDS).page_size(timing::LIST_PAGE);
    let mut events = std::pin::pin!(watcher(api, config).backoff(WatchBackoff::default()));
    let mut all = BTreeMap::new();
    let mut is_listing = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                is_listing = true;
                all.clear();
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => take_in(&mut all, &object),
            Ok(Event::InitDone) => is_listing = false,
            Ok(Event::Delete(object)) => {
                all.remove(&object.name_any());
            }
            Err(error) => {
                warn!(%error, "the watch of IAMRoleSelectors failed; it is tried again with backoff");
                continue;
            }
        }
        if !is_listing {
            directory.replace_selectors(all.clone());
        }
    }
}

/// Keeps a selector if it makes sense, and drops it else.
fn take_in(all: &mut BTreeMap<String, (String, IAMRoleSelectorSpec)>, object: &DynamicObject) {
    let name = object.name_any();
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let read = serde_json::from_value::<IAMRoleSelectorSpec>(spec).map_err(|error| error.to_string());
    match read.and_then(|spec| selector::flaw(&spec).map_or(Ok(spec), Err)) {
        Ok(spec) => {
            all.insert(name, (object.resource_version().unwrap_or_default(), spec));
        }
        Err(flaw) => {
            warn!(selector = name, flaw, "the IAMRoleSelector is invalid and isn't used");
            all.remove(&name);
        }
    }
}

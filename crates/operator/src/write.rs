//! Writes to the API server: the status of an object, and our finalizer.
//!
//! Every write names the resource version that it was decided on, so that an outdated process can't overwrite a newer
//! status. The spec is never written. A conflict isn't an error: the pass is repeated on the newer object.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Our name in `managedFields`.
pub const FIELD_MANAGER: &str = "emrcontainers-operator";

/// How a write went.
#[derive(Debug)]
pub enum Written<K> {
    /// The object as it is now.
    Done(Arc<K>),
    /// Somebody wrote in between: the object as it is now, on which the pass is repeated.
    Conflict(Arc<K>),
    /// The object is gone, or another one has its name.
    Gone,
}

/// A kind that this module can write.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
{
    /// Our finalizer on this kind.
    const FINALIZER: &'static str;

    /// The object with nothing but its status and the given metadata: all that a status write needs.
    #[must_use]
    fn status_only(&self, metadata: ObjectMeta) -> Self;
}

/// Replaces the status by that of `object`.
pub async fn status<K: Kind>(client: &Client, object: &K) -> Result<Written<K>, kube::Error> {
    let api = api(client, object);
    let metadata = ObjectMeta {
        name: object.meta().name.clone(),
        namespace: object.meta().namespace.clone(),
        uid: object.meta().uid.clone(),
        resource_version: object.meta().resource_version.clone(),
        ..ObjectMeta::default()
    };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let reply = api.replace_status(&object.name_any(), &params, &object.status_only(metadata)).await;
    settle(&api, object, reply).await
}

/// Puts our finalizer on.
pub async fn add_finalizer<K: Kind>(client: &Client, object: &K) -> Result<Written<K>, kube::Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(K::FINALIZER.to_owned());
    set_finalizers(client, object, finalizers).await
}

/// Takes our finalizer off, and with it lets a deleted object go.
pub async fn remove_finalizer<K: Kind>(client: &Client, object: &K) -> Result<Written<K>, kube::Error> {
    let finalizers = object.finalizers().iter().filter(|name| *name != K::FINALIZER).cloned().collect();
    set_finalizers(client, object, finalizers).await
}

async fn set_finalizers<K: Kind>(
    client: &Client,
    object: &K,
    finalizers: Vec<String>,
) -> Result<Written<K>, kube::Error> {
    let api = api(client, object);
    let patch = json!({ "metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "finalizers": finalizers,
    }});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let reply = api.patch(&object.name_any(), &params, &Patch::Merge(patch)).await;
    settle(&api, object, reply).await
}

async fn settle<K: Kind>(
    api: &Api<K>,
    object: &K,
    reply: Result<K, kube::Error>,
) -> Result<Written<K>, kube::Error> {
    match reply {
        Ok(written) => Ok(Written::Done(Arc::new(written))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            // Either the version has moved on, or another object has taken the name; reading it tells.
            match api.get_opt(&object.name_any()).await? {
                Some(now) if now.meta().uid == object.meta().uid => Ok(Written::Conflict(Arc::new(now))),
                _ => Ok(Written::Gone),
            }
        }
        Err(error) => Err(error),
    }
}

fn api<K: Kind>(client: &Client, object: &K) -> Api<K> {
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

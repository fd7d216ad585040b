//! Writes to the API server: the status of an object, and our finalizer with what goes along with it.
//!
//! Every write names the resource version that it was decided on, so that an outdated process can't overwrite a newer
//! status. The spec is never written. A conflict isn't an error: the pass is repeated on the newer object.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{GetParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::core::object::HasStatus;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::json;

use crate::decode::{Assembled, Decoded};

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
    + Assembled
    + DeserializeOwned
    + HasStatus<Status = <Self as Assembled>::Status>
    + Send
    + Sync
{
    /// Our finalizer on this kind.
    const FINALIZER: &'static str;
}

/// Replaces the status by that of `object`.
pub async fn status<K: Kind>(client: &Client, object: &K) -> Result<Written<K>, kube::Error> {
    let metadata = ObjectMeta {
        name: object.meta().name.clone(),
        namespace: object.meta().namespace.clone(),
        uid: object.meta().uid.clone(),
        resource_version: object.meta().resource_version.clone(),
        ..ObjectMeta::default()
    };
    // A status write needs nothing but the status and what says of which version it is.
    let body = K::assemble(metadata, K::Spec::default(), object.status().cloned());
    let body = serde_json::to_vec(&body).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let request = request(object).replace_subresource("status", &object.name_any(), &params, body);
    settle(client, object, request).await
}

/// Puts our finalizer on, and annotations with it.
pub async fn add_finalizer<K: Kind>(
    client: &Client,
    object: &K,
    annotations: &BTreeMap<&str, &str>,
) -> Result<Written<K>, kube::Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(K::FINALIZER.to_owned());
    set_finalizers(client, object, finalizers, annotations).await
}

/// Takes our finalizer off, and with it lets a deleted object go.
pub async fn remove_finalizer<K: Kind>(client: &Client, object: &K) -> Result<Written<K>, kube::Error> {
    let finalizers = object.finalizers().iter().filter(|name| *name != K::FINALIZER).cloned().collect();
    set_finalizers(client, object, finalizers, &BTreeMap::new()).await
}

async fn set_finalizers<K: Kind>(
    client: &Client,
    object: &K,
    finalizers: Vec<String>,
    annotations: &BTreeMap<&str, &str>,
) -> Result<Written<K>, kube::Error> {
    let patch = json!({ "metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "finalizers": finalizers,
        "annotations": annotations,
    }});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let request = request(object).patch(&object.name_any(), &params, &Patch::Merge(patch));
    settle(client, object, request).await
}

/// Sends a write, and says how it went.
async fn settle<K: Kind>(
    client: &Client,
    object: &K,
    write: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Written<K>, kube::Error> {
    match send(client, write).await {
        Ok(written) => Ok(Written::Done(Arc::new(written))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            // Either the version has moved on, or another object has taken the name; reading it tells.
            match send(client, request(object).get(&object.name_any(), &GetParams::default())).await {
                Ok::<K, _>(now) if now.meta().uid == object.meta().uid => {
                    Ok(Written::Conflict(Arc::new(now)))
                }
                Ok(_) => Ok(Written::Gone),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

fn request<K: Kind>(object: &K) -> Request {
    Request::new(K::url_path(&(), object.meta().namespace.as_deref()))
}

async fn send<K: Kind>(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<K, kube::Error> {
    let decoded: Decoded<K> = client.request(request.map_err(kube::Error::BuildRequest)?).await?;
    decoded.0.map_err(|undecodable| kube::Error::SerdeError(serde_json::Error::custom(undecodable)))
}

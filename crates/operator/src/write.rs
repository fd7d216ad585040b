//! Writes to the API server: the status of an object, and our finalizer with what goes along with it.
//!
//! Every write names the resource version that it was decided on, so that an outdated process can't overwrite a newer
//! status; and it is sent only while this process may act. The spec is written once at most, when a resource is taken over,
//! and only where it says nothing. A conflict isn't an error: the pass is repeated on the newer object.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use emrcontainers_api::annotations;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{GetParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::core::object::HasStatus;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Value, json};

use crate::decode::{Assembled, Decoded};
use crate::fence::Fence;
use crate::memory::version;
use crate::vanished::Vanished;

/// Our name in `managedFields`.
pub const FIELD_MANAGER: &str = "emrcontainers-operator";

/// Where writes go, for as long as this process may make any.
#[derive(Clone)]
pub struct Writer {
    /// The API server.
    pub client: Client,
    /// Whether this process may still act.
    pub fence: Fence,
    /// Objects that are gone: what is written of them stays with us.
    pub vanished: Vanished,
}

impl Writer {
    /// Sends a write of any sort.
    pub async fn send<T: DeserializeOwned>(&self, request: http::Request<Vec<u8>>) -> Result<T, kube::Error> {
        self.fence.within(self.client.request(request)).await
    }
}

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
pub async fn status<K: Kind>(writer: &Writer, object: &K) -> Result<Written<K>, kube::Error> {
    if writer.vanished.contains(object.meta().uid.as_deref()) {
        return Ok(Written::Done(Arc::new(later(object.clone()))));
    }
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
    settle(writer, object, request).await
}

/// Sees to it that our finalizer is on, and sets annotations with it.
pub async fn add_finalizer<K: Kind>(
    writer: &Writer,
    object: &K,
    annotations: &BTreeMap<&str, &str>,
) -> Result<Written<K>, kube::Error> {
    set_finalizers(writer, object, with_ours(object), annotations).await
}

/// Says in one patch that the object has taken a resource over: our finalizer, the annotation, and the members of the spec
/// that it left out. Where they are refused, its tags at least: a spec without any would take the resource's away.
///
/// # Errors
/// Also with the refusal, where the tags can't be written; nothing is then.
pub async fn adopt<K: Kind>(writer: &Writer, object: &K, spec: &Value) -> Result<Written<K>, kube::Error> {
    let metadata = json!({
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "finalizers": with_ours(object),
        "annotations": { annotations::ADOPTED: "true" },
    });
    let least = match spec.get("tags").filter(|tags| !tags.is_null()) {
        Some(tags) => json!({ "metadata": metadata, "spec": { "tags": tags } }),
        None => json!({ "metadata": metadata }),
    };
    if spec.as_object().is_none_or(|members| members.keys().all(|member| member == "tags")) {
        return patch(writer, object, &least).await;
    }
    let written = patch(writer, object, &json!({ "metadata": metadata, "spec": spec })).await;
    let Some(why) = written.as_ref().err().and_then(refusal) else { return written };
    // The definition, or a policy, refuses what AWS took. But for the tags the spec is a courtesy.
    match patch(writer, object, &least).await {
        Err(error) if refusal(&error).is_some() => written,
        others => {
            tracing::warn!(why, "the spec of an adopted object is left as it is, but for its tags");
            others
        }
    }
}

/// Why the API server doesn't take what is written, if that is what is wrong: its schema says no, or a policy, or a webhook.
pub fn refusal(error: &kube::Error) -> Option<&str> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Some(&status.message),
        _ => None,
    }
}

/// Takes our finalizer off, and with it lets a deleted object go.
pub async fn remove_finalizer<K: Kind>(writer: &Writer, object: &K) -> Result<Written<K>, kube::Error> {
    let finalizers = object.finalizers().iter().filter(|name| *name != K::FINALIZER).cloned().collect();
    set_finalizers(writer, object, finalizers, &BTreeMap::<&str, &str>::new()).await
}

/// Sees to it that our finalizer is there or not, and sets an annotation or takes it off with it.
pub async fn mark<K: Kind>(
    writer: &Writer,
    object: &K,
    finalizer: bool,
    annotation: (&str, Option<&str>),
) -> Result<Written<K>, kube::Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|name| name != K::FINALIZER);
    finalizers.extend(finalizer.then(|| K::FINALIZER.to_owned()));
    set_finalizers(writer, object, finalizers, &BTreeMap::from([annotation])).await
}

/// The finalizers of an object, and ours.
fn with_ours<K: Kind>(object: &K) -> Vec<String> {
    let mut finalizers = object.finalizers().to_vec();
    if !finalizers.iter().any(|name| name == K::FINALIZER) {
        finalizers.push(K::FINALIZER.to_owned());
    }
    finalizers
}

async fn set_finalizers<K: Kind>(
    writer: &Writer,
    object: &K,
    finalizers: Vec<String>,
    annotations: &BTreeMap<&str, impl Serialize>,
) -> Result<Written<K>, kube::Error> {
    if writer.vanished.contains(object.meta().uid.as_deref()) {
        let mut object = later(object.clone());
        object.meta_mut().finalizers = Some(finalizers);
        return Ok(Written::Done(Arc::new(object)));
    }
    let body = json!({ "metadata": {
        "uid": object.meta().uid,
        "resourceVersion": object.meta().resource_version,
        "finalizers": finalizers,
        "annotations": annotations,
    }});
    patch(writer, object, &body).await
}

/// The object as a write would return it.
fn later<K: Kind>(mut object: K) -> K {
    object.meta_mut().resource_version = Some(version(&object).saturating_add(1).to_string());
    object
}

async fn patch<K: Kind>(writer: &Writer, object: &K, body: &Value) -> Result<Written<K>, kube::Error> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let request = request(object).patch(&object.name_any(), &params, &Patch::Merge(body));
    settle(writer, object, request).await
}

/// Sends a write, and says how it went.
async fn settle<K: Kind>(
    writer: &Writer,
    object: &K,
    write: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Written<K>, kube::Error> {
    let client = &writer.client;
    match writer.fence.within(send(client, write)).await {
        Ok(written) => Ok(Written::Done(Arc::new(written))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        // Either the version has moved on, or another object has taken the name; reading it tells.
        Err(kube::Error::Api(status)) if status.code == 409 => match read(client, object).await? {
            Some(now) => Ok(Written::Conflict(now)),
            None => Ok(Written::Gone),
        },
        Err(error) => Err(error),
    }
}

/// Reads the object, and says whether it is another than this process knows.
pub async fn newer<K: Kind>(writer: &Writer, object: &K) -> Result<Written<K>, kube::Error> {
    Ok(match read(&writer.client, object).await? {
        Some(now) if now.meta().resource_version == object.meta().resource_version => Written::Done(now),
        Some(now) => Written::Conflict(now),
        None => Written::Gone,
    })
}

/// Whether the object is there.
pub async fn exists<K: Kind>(writer: &Writer, object: &K) -> Result<bool, kube::Error> {
    read(&writer.client, object).await.map(|now| now.is_some())
}

/// The object as it is now, if it is still the same one.
async fn read<K: Kind>(client: &Client, object: &K) -> Result<Option<Arc<K>>, kube::Error> {
    match send(client, request(object).get(&object.name_any(), &GetParams::default())).await {
        Ok::<K, _>(now) => Ok((now.meta().uid == object.meta().uid).then(|| Arc::new(now))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::http::{Method, StatusCode};
    use emrcontainers_api::JobRun;
    use futures::FutureExt;

    use super::*;
    use crate::fence::Moment;

    #[tokio::test]
    async fn a_process_that_may_not_act_any_more_writes_nothing() {
        let run: JobRun = serde_json::from_value(json!({
            "metadata": {"name": "run", "namespace": "ns", "uid": "u", "resourceVersion": "1"}, "spec": {},
        }))
        .unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let server = Router::new().fallback(move |method: Method| {
            log.lock().unwrap().push(method);
            async { StatusCode::BAD_REQUEST }
        });
        let client = Client::new(server, "default");
        let writer = |fence| Writer { client: client.clone(), fence, vanished: Vanished::default() };

        let open = writer(Fence::open());
        assert!(status(&open, &run).await.is_err());
        assert!(remove_finalizer(&open, &run).await.is_err());
        assert_eq!(*asked.lock().unwrap(), [Method::PUT, Method::PATCH]);
        let shut = writer(Fence::until(Moment::now()));
        assert!(status(&shut, &run).now_or_never().is_none());
        assert!(add_finalizer(&shut, &run, &BTreeMap::new()).now_or_never().is_none());
        assert!(remove_finalizer(&shut, &run).now_or_never().is_none());
        assert!(shut.fence.shut().now_or_never().is_some(), "whoever waits for it is told");
        assert_eq!(asked.lock().unwrap().len(), 2);
    }
}

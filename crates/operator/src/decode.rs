//! Objects as the API server sends them: read past what no pass needs, and no reason to stop a watch.
//!
//! `managedFields` are most of an object's text and would be most of the work of decoding it; `ownerReferences` and the
//! like are of no use here either. kube's own `DeserializeGuard` builds the whole object as a tree first, and copies it.
//! Limit: reads JSON text; the kind must keep all it has in `metadata`, `spec` and `status`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A kind that is made of metadata, spec and status.
pub trait Assembled {
    /// Its spec.
    type Spec: DeserializeOwned + Default;
    /// Its status.
    type Status: DeserializeOwned + Clone;

    /// Puts an object together.
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
}

/// An object, or why it can't be read.
#[derive(Clone, Debug)]
pub struct Decoded<K>(pub Result<K, Undecodable>);

/// What is known of an object that can't be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct Undecodable {
    /// What is wrong with it.
    pub error: String,
    /// The part that can be read.
    pub metadata: ObjectMeta,
}

/// The metadata that is read.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            annotations: read.annotations,
            creation_timestamp: read.creation_timestamp,
            deletion_timestamp: read.deletion_timestamp,
            finalizers: read.finalizers,
            generation: read.generation,
            labels: read.labels,
            name: read.name,
            namespace: read.namespace,
            resource_version: read.resource_version,
            uid: read.uid,
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "Spec: DeserializeOwned + Default, Status: DeserializeOwned"))]
struct Document<Spec, Status> {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct MetadataOnly {
    metadata: Metadata,
}

impl<'de, K: Assembled> Deserialize<'de> for Decoded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Box<RawValue>>::deserialize(deserializer)?;
        match serde_json::from_str::<Document<K::Spec, K::Status>>(text.get()) {
            Ok(Document { metadata, spec, status }) => {
                Ok(Self(Ok(K::assemble(metadata.into(), spec, status))))
            }
            Err(error) => {
                let read: MetadataOnly = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                Ok(Self(Err(Undecodable { error: error.to_string(), metadata: read.metadata.into() })))
            }
        }
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Decoded<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|undecodable| &undecodable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|undecodable| &mut undecodable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use emrcontainers_api::JobRun;
    use kube::core::WatchEvent;
    use serde_json::json;

    use super::*;

    fn stored() -> serde_json::Value {
        json!({
            "apiVersion": "emrcontainers.services.k8s.aws/v1alpha1",
            "kind": "JobRun",
            "metadata": {
                "name": "pi", "namespace": "spark", "uid": "u", "resourceVersion": "7", "generation": 2,
                "creationTimestamp": "2026-01-02T03:04:05Z", "deletionTimestamp": "2026-01-02T03:04:06Z",
                "finalizers": ["f"], "labels": {"team": "a"}, "annotations": {"services.k8s.aws/region": "eu-west-1"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"releaseLabel": "emr-7.5.0-latest"},
            "status": {"id": "0000000", "state": "RUNNING"},
        })
    }

    #[test]
    fn an_object_is_what_kube_would_make_of_it_but_for_the_fields_of_others() {
        let text = stored().to_string();
        let read: Decoded<JobRun> = serde_json::from_str(&text).unwrap();
        let mut whole: JobRun = serde_json::from_str(&text).unwrap();
        whole.metadata.managed_fields = None;
        assert_eq!(read.0.unwrap(), whole);
    }

    #[test]
    fn an_object_that_cannot_be_read_says_whose_it_is() {
        let mut object = stored();
        object["spec"]["jobDriver"] = json!("not an object");
        let event = json!({"type": "MODIFIED", "object": object}).to_string();
        // With the type first, as the API server sends it.
        let event = event.replacen("{\"object\":", "{\"type\":\"MODIFIED\",\"object\":", 1);
        let event = event.replace(",\"type\":\"MODIFIED\"}", "}");
        let WatchEvent::Modified(read) = serde_json::from_str::<WatchEvent<Decoded<JobRun>>>(&event).unwrap()
        else {
            panic!("not a change");
        };
        let undecodable = read.0.unwrap_err();
        assert_eq!(undecodable.metadata.name.as_deref(), Some("pi"));
        assert!(undecodable.error.contains("not an object"), "{undecodable}");
    }
}

//! The ConfigMap or Secret that a value goes into: one key of it, owned by the export.
//!
//! A key is written by server-side apply under a field manager of the export's own. So the API server knows whose key it
//! is, and those of other exports and of people stay. Targets are read one by one, never listed or watched, and never made.
//! Must not tell a value, in an error neither. Invariant: every write names the UID and the version of the target that it
//! was decided on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use emrcontainers_api::field_export::{FieldExport, FieldExportOutputType};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request;
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::write::Writer;

/// Begins the name of the field manager of each export.
const MANAGER: &str = "fieldexport-";

/// How often a write is tried when others write the same target in between.
const TRIES: usize = 4;

/// A ConfigMap or a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Which of both.
    pub kind: FieldExportOutputType,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Target {
    /// Where an export goes.
    pub fn of(export: &FieldExport) -> Self {
        let to = &export.spec.to;
        let namespace = to.namespace.clone().filter(|namespace| !namespace.is_empty());
        Self {
            kind: to.kind,
            namespace: namespace.or_else(|| export.namespace()).unwrap_or_default(),
            name: to.name.clone(),
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let kind = match parts.next()? {
            "configmap" => FieldExportOutputType::ConfigMap,
            "secret" => FieldExportOutputType::Secret,
            _ => return None,
        };
        let mut part = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        Some(Self { kind, namespace: part()?, name: part()? })
    }

    /// Its kind, as upstream spells it in messages.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            FieldExportOutputType::ConfigMap => "configmap",
            FieldExportOutputType::Secret => "secret",
        }
    }

    fn request(&self) -> Request {
        let namespace = Some(self.namespace.as_str());
        Request::new(match self.kind {
            FieldExportOutputType::ConfigMap => ConfigMap::url_path(&(), namespace),
            FieldExportOutputType::Secret => Secret::url_path(&(), namespace),
        })
    }

    /// A value as it stands in the target.
    fn encode(&self, value: &str) -> Value {
        match self.kind {
            FieldExportOutputType::ConfigMap => Value::from(value),
            FieldExportOutputType::Secret => json!(ByteString(value.as_bytes().to_vec())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.kind(), self.namespace, self.name)
    }
}

/// Why a target doesn't have the value.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It isn't there. The words are upstream's.
    #[error(
        "unable to get existing {kind}: {kind}s \"{name}\" not found; create {kind} {name} in namespace {namespace}"
    )]
    Missing {
        /// What it would be.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Another export has the key.
    #[error("key {key} of {target} is written by FieldExport {owner}: give one of both another spec.to.key")]
    Taken {
        /// The key.
        key: String,
        /// The target.
        target: Target,
        /// Name of the other export.
        owner: String,
    },
    /// Others are writing it, or it takes long.
    #[error("{0} is being written")]
    Busy(Target),
    /// Others kept writing it.
    #[error("{0} kept changing while it was written")]
    Contended(Target),
    /// The API server refused, or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
}

impl TargetError {
    /// Whether the API server doesn't let us. It says so also of a namespace that isn't there, where rights are given
    /// by namespace.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }
}

/// The part of a target that is looked at.
#[derive(Deserialize)]
struct Found {
    metadata: Metadata,
    #[serde(default)]
    data: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
    #[serde(default)]
    managed_fields: Vec<ManagedFields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManagedFields {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    fields_v1: Value,
}

impl ManagedFields {
    /// The export that these belong to.
    fn export(&self) -> Option<&str> {
        self.manager.strip_prefix(MANAGER).filter(|_| self.operation == "Apply")
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let data = self.fields_v1.get("f:data").and_then(Value::as_object);
        data.into_iter().flat_map(Map::keys).filter_map(|field| field.strip_prefix("f:"))
    }
}

impl Found {
    fn value(&self, key: &str) -> Option<&Value> {
        self.data.as_ref()?.get(key)
    }

    /// The keys that an export has.
    fn keys_of(&self, uid: &str) -> BTreeSet<&str> {
        let own = self.metadata.managed_fields.iter().filter(|fields| fields.export() == Some(uid));
        own.flat_map(ManagedFields::keys).collect()
    }

    /// Whether nobody else has a key.
    fn is_alone(&self, key: &str, uid: &str) -> bool {
        let mut others = self.metadata.managed_fields.iter().filter(|fields| fields.export() != Some(uid));
        !others.any(|fields| fields.keys().any(|found| found == key))
    }

    /// The other exports that have a key.
    fn others<'a>(&'a self, key: &'a str, uid: &'a str) -> impl Iterator<Item = &'a str> {
        let with_key =
            self.metadata.managed_fields.iter().filter(move |fields| fields.keys().any(|found| found == key));
        with_key.filter_map(ManagedFields::export).filter(move |other| *other != uid)
    }
}

/// Whose key is read and written.
#[derive(Clone, Copy)]
pub struct Exporter<'a> {
    /// Where writes go.
    pub writer: &'a Writer,
    /// UID of the export.
    pub uid: &'a str,
}

impl Exporter<'_> {
    /// Sees to it that the target has the value, and no other key of the export; says whether it had to be written. `names`
    /// an export by its UID, if there is one.
    pub async fn put(
        &self,
        target: &Target,
        key: &str,
        value: &str,
        names: impl Fn(&str) -> Option<String>,
    ) -> Result<bool, TargetError> {
        let value = target.encode(value);
        for _ in 0..TRIES {
            let Some(found) = self.read(target).await? else {
                return Err(TargetError::Missing {
                    kind: target.kind(),
                    namespace: target.namespace.clone(),
                    name: target.name.clone(),
                });
            };
            let own = found.keys_of(self.uid);
            // Whoever had it first has it, also where both have the same value for now: each would find the other one later.
            if !own.contains(key)
                && let Some(owner) = found.others(key, self.uid).find_map(&names)
            {
                return Err(TargetError::Taken { key: key.to_owned(), target: target.clone(), owner });
            }
            if own == BTreeSet::from([key]) && found.value(key) == Some(&value) {
                return Ok(false);
            }
            if self.apply(target, &found, Some((key, &value))).await? {
                return Ok(true);
            }
        }
        Err(TargetError::Contended(target.clone()))
    }

    /// Finds out whether the target can be read; it may not be there yet.
    pub async fn look(&self, target: &Target) -> Result<(), TargetError> {
        self.read(target).await.map(drop).map_err(TargetError::from)
    }

    /// Takes the export's keys out of the target.
    pub async fn vacate(&self, target: &Target) -> Result<(), TargetError> {
        for _ in 0..TRIES {
            let Some(found) = self.read(target).await? else { return Ok(()) };
            let keys = found.keys_of(self.uid);
            let own: Map<_, _> = keys
                .iter()
                .filter(|key| found.is_alone(key, self.uid))
                .map(|key| ((*key).to_owned(), Value::Null))
                .collect();
            if keys.is_empty() {
                return Ok(());
            }
            if own.is_empty() {
                // Others have them too: only our claim goes.
                self.apply(target, &found, None).await?;
            } else {
                self.remove(target, &found, own).await?;
            }
        }
        Err(TargetError::Contended(target.clone()))
    }

    async fn read(&self, target: &Target) -> Result<Option<Found>, kube::Error> {
        let request = target.request().get(&target.name, &GetParams::default());
        match self.writer.client.request(request.map_err(kube::Error::BuildRequest)?).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Applies what the export has of the target; false if somebody wrote in between.
    async fn apply(
        &self,
        target: &Target,
        found: &Found,
        entry: Option<(&str, &Value)>,
    ) -> Result<bool, kube::Error> {
        let kind = match target.kind {
            FieldExportOutputType::ConfigMap => ConfigMap::kind(&()),
            FieldExportOutputType::Secret => Secret::kind(&()),
        };
        let Metadata { uid, resource_version, .. } = &found.metadata;
        // With the UID of one that is gone, none is made anew.
        let metadata = json!({ "name": target.name, "uid": uid, "resourceVersion": resource_version });
        let mut body = json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata });
        if let (Some((key, value)), Some(body)) = (entry, body.as_object_mut()) {
            body.insert("data".to_owned(), json!({ key: value }));
        }
        // Whoever else has the key is no export, over which upstream writes too, or has it only since both had the same
        // value.
        let params = PatchParams::apply(&self.manager()).force();
        self.patch(target, &params, &Patch::Apply(body)).await
    }

    /// Takes keys out that nobody else has. Not by applying nothing: where no other key has an owner in the managed fields
    /// (as after `stringData` was applied to a Secret) the API server would take those out as well.
    async fn remove(
        &self,
        target: &Target,
        found: &Found,
        keys: Map<String, Value>,
    ) -> Result<bool, kube::Error> {
        let Metadata { uid, resource_version, .. } = &found.metadata;
        let body = json!({ "metadata": { "uid": uid, "resourceVersion": resource_version }, "data": keys });
        let params = PatchParams { field_manager: Some(self.manager()), ..PatchParams::default() };
        self.patch(target, &params, &Patch::Merge(body)).await
    }

    fn manager(&self) -> String {
        format!("{MANAGER}{}", self.uid)
    }

    /// Sends a patch; false if somebody wrote in between.
    async fn patch(
        &self,
        target: &Target,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> Result<bool, kube::Error> {
        let request = target.request().patch(&target.name, params, patch);
        match self.writer.send::<IgnoredAny>(request.map_err(kube::Error::BuildRequest)?).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_as_it_is_written() {
        for kind in [FieldExportOutputType::ConfigMap, FieldExportOutputType::Secret] {
            let target = Target { kind, namespace: "ns".to_owned(), name: "a.b-c".to_owned() };
            assert_eq!(Target::parse(&target.to_string()), Some(target));
        }
        for text in
            ["", "configmap", "configmap/ns", "configmap//name", "configmap/ns/", "deployment/ns/name"]
        {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_owners_of_keys_are_read_from_the_managed_fields() {
        let found: Found = serde_json::from_value(json!({
            "metadata": {"uid": "t", "resourceVersion": "7", "managedFields": [
                {"manager": "fieldexport-a", "operation": "Apply", "fieldsV1": {"f:data": {"f:x": {}, "f:y.z": {}}}},
                {"manager": "fieldexport-b", "operation": "Apply", "fieldsV1": {"f:data": {"f:x": {}}}},
                {"manager": "fieldexport-c", "operation": "Update", "fieldsV1": {"f:data": {"f:x": {}}}},
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {".": {}, "f:x": {}}}},
                {"manager": "kubelet", "operation": "Update"},
            ]},
        }))
        .unwrap();
        assert_eq!(found.keys_of("a"), BTreeSet::from(["x", "y.z"]));
        assert_eq!(found.others("x", "a").collect::<Vec<_>>(), ["b"]);
        assert_eq!(found.others("y.z", "a").count(), 0);
        assert!(found.is_alone("y.z", "a") && !found.is_alone("x", "a"));
        assert_eq!(found.value("x"), None);
    }
}

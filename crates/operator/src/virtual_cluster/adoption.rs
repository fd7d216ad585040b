//! Which virtual cluster an object asks to take over, and how its spec compares with it. Pure.
//!
//! Invariant: a member of the spec that is set is never touched; one that is left out becomes what the cluster has.

use emrcontainers_api::virtual_cluster::{ContainerProvider, SchedulerConfiguration, VirtualClusterSpec};
use serde_json::{Map, Value, json};

use super::plan::limits_differ;
use crate::adoption::{Fields, Named, missing, own_tags};
use crate::emr::model;
use crate::tags::TagChange;

/// Reason of `ACK.Advisory` on a cluster that isn't what the spec says.
pub const SPEC_DIFFERS: &str = "SpecDiffers";

/// A cluster that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its id.
    pub id: String,
    /// Its ARN, if it was given.
    pub arn: Option<String>,
}

/// The cluster that the fields name.
///
/// # Errors
/// In words, when they name none.
pub fn existing(fields: &Fields) -> Result<Existing, String> {
    if let Some(arn) = fields.get("arn") {
        let named = Named::read(arn).filter(|named| named.job_run_id.is_none());
        return match named {
            Some(named) => {
                Ok(Existing { id: named.virtual_cluster_id.to_owned(), arn: Some(arn.to_owned()) })
            }
            None => Err(format!(
                "Error populating adoption fields: {arn} is no ARN of a virtual cluster; it has to look like \
                 arn:aws:emr-containers:REGION:ACCOUNT:/virtualclusters/ID"
            )),
        };
    }
    match fields.get("id") {
        Some(id) => Ok(Existing { id: id.to_owned(), arn: None }),
        None => Err(missing("id", "give id or arn")),
    }
}

/// The members that the spec leaves out, as the cluster has them.
pub fn left_out(
    spec: &VirtualClusterSpec,
    cluster: &model::VirtualCluster,
    defaults: &[(String, String)],
) -> Value {
    let mut members = Map::new();
    // The definition asks for both in a spec: one that has a name has a provider, be it empty, which can't be changed.
    let has_none = spec.name.is_empty();
    if has_none && let Some(name) = &cluster.name {
        members.insert("name".to_owned(), json!(name));
    }
    if has_none
        && spec.container_provider == ContainerProvider::default()
        && let Some(eks_cluster) = &cluster.eks_cluster
    {
        let mut provider = json!({ "id": eks_cluster, "type_": "EKS" });
        if let (Some(namespace), Some(provider)) = (&cluster.namespace, provider.as_object_mut()) {
            provider.insert("info".to_owned(), json!({ "eksInfo": { "namespace": namespace } }));
        }
        members.insert("containerProvider".to_owned(), provider);
    }
    if spec.tags.is_none()
        && let Some(tags) = own_tags(&cluster.tags, defaults)
    {
        members.insert("tags".to_owned(), json!(tags));
    }
    if spec.scheduler_configuration.is_none()
        && let Some(limits) = &cluster.scheduler_configuration
    {
        members.insert("schedulerConfiguration".to_owned(), json!(limits));
    }
    Value::Object(members)
}

/// The members that say something else than the cluster is, and that can't be changed at AWS.
pub fn fixed_differences(spec: &VirtualClusterSpec, cluster: &model::VirtualCluster) -> Vec<&'static str> {
    let mut differs = Vec::new();
    if !spec.name.is_empty() && cluster.name.as_ref().is_some_and(|name| *name != spec.name) {
        differs.push("spec.name");
    }
    let provider = &spec.container_provider;
    let info = provider.info.as_ref().and_then(|info| info.eks_info.as_ref());
    let namespace = info.and_then(|eks| eks.namespace.as_ref());
    let is_other = |wanted: Option<&String>, actual: &Option<String>| matches!((wanted, actual), (Some(w), Some(a)) if w != a);
    if is_other(provider.id.as_ref(), &cluster.eks_cluster) || is_other(namespace, &cluster.namespace) {
        differs.push("spec.containerProvider");
    }
    differs
}

/// The members that say something else than the cluster is, and that would be sent if anything were.
pub fn unsent_differences(
    spec: &VirtualClusterSpec,
    cluster: &model::VirtualCluster,
    tags: &TagChange,
    edited: bool,
) -> Vec<&'static str> {
    let mut differs = Vec::new();
    if spec.tags.is_some() && !tags.is_empty() {
        differs.push("spec.tags");
    }
    let limits = |of: &Option<SchedulerConfiguration>| of.clone().unwrap_or_default();
    if limits_differ(
        &limits(&spec.scheduler_configuration),
        &limits(&cluster.scheduler_configuration),
        edited,
    ) {
        differs.push("spec.schedulerConfiguration");
    }
    differs
}

/// What to tell of a spec that differs.
pub fn advice(differs: &[&str], read_only: bool) -> Option<String> {
    let why = if read_only { "the object is read-only" } else { "that can't be changed" };
    (!differs.is_empty()).then(|| {
        format!("the virtual cluster at AWS differs in {}: {why}, and is left as it is", differs.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use emrcontainers_api::VirtualCluster;

    use super::*;
    use crate::adoption::asked;

    fn fields(text: &str) -> Fields {
        let cluster: VirtualCluster =
            serde_json::from_value(json!({"metadata": {"name": "vc", "annotations": {
            "services.k8s.aws/adoption-policy": "adopt", "services.k8s.aws/adoption-fields": text,
        }}, "spec": {"name": "vc", "containerProvider": {}}}))
            .unwrap();
        asked(&cluster, false).unwrap().unwrap().fields
    }

    #[test]
    fn a_cluster_is_named_by_id_or_arn() {
        assert_eq!(existing(&fields(r#"{"id": "vc1"}"#)).unwrap(), Existing { id: "vc1".into(), arn: None });
        let arn = "arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/vc1";
        assert_eq!(existing(&fields(&format!(r#"{{"arn": "{arn}"}}"#))).unwrap().id, "vc1");
        let words = "Error populating adoption fields: required field missing: id;";
        assert!(existing(&fields("{}")).unwrap_err().starts_with(words));
        let of_a_run = format!(r#"{{"arn": "{arn}/jobruns/jr1"}}"#);
        assert!(existing(&fields(&of_a_run)).unwrap_err().contains("is no ARN of a virtual cluster"));
    }

    fn seen() -> model::VirtualCluster {
        let tags = [("by", "them"), ("team", "a")];
        model::VirtualCluster {
            name: Some("vc".into()),
            eks_cluster: Some("eks".into()),
            namespace: Some("spark".into()),
            scheduler_configuration: Some(SchedulerConfiguration {
                max_concurrent_job_runs: Some(5),
                max_in_queue_job_runs: None,
            }),
            tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..model::VirtualCluster::default()
        }
    }

    #[test]
    fn what_a_spec_leaves_out_becomes_what_the_cluster_has_and_the_rest_is_told() {
        let defaults = [("by".to_owned(), "us".to_owned())];
        let filled = left_out(&VirtualClusterSpec::default(), &seen(), &defaults);
        assert_eq!(
            filled,
            json!({
                "name": "vc",
                "containerProvider": {"id": "eks", "type_": "EKS", "info": {"eksInfo": {"namespace": "spark"}}},
                "tags": {"team": "a"},
                "schedulerConfiguration": {"maxConcurrentJobRuns": 5},
            })
        );
        let spec: VirtualClusterSpec = serde_json::from_value(filled).unwrap();
        assert_eq!(left_out(&spec, &seen(), &defaults), json!({}));
        let named = VirtualClusterSpec { name: "vc".into(), ..VirtualClusterSpec::default() };
        let least = json!({"tags": {"team": "a"}, "schedulerConfiguration": {"maxConcurrentJobRuns": 5}});
        assert_eq!(left_out(&named, &seen(), &defaults), least, "an empty provider can't be changed");
        assert!(fixed_differences(&spec, &seen()).is_empty());
        let tags = BTreeMap::from([("team".to_owned(), "b".to_owned())]);
        let other = VirtualClusterSpec {
            name: "other".into(),
            tags: Some(tags.clone()),
            scheduler_configuration: Some(SchedulerConfiguration::default()),
            ..VirtualClusterSpec::default()
        };
        assert_eq!(fixed_differences(&other, &seen()), ["spec.name"]);
        for (at, value) in [("/id", "other"), ("/info/eksInfo/namespace", "other")] {
            let mut provider = serde_json::to_value(&spec.container_provider).unwrap();
            *provider.pointer_mut(at).unwrap() = value.into();
            let container_provider = serde_json::from_value(provider).unwrap();
            let other = VirtualClusterSpec { container_provider, ..spec.clone() };
            assert_eq!(fixed_differences(&other, &seen()), ["spec.containerProvider"], "{at}");
        }
        let change = TagChange { set: tags, remove: Vec::new() };
        assert!(unsent_differences(&VirtualClusterSpec::default(), &seen(), &change, false).is_empty());
        assert!(unsent_differences(&spec, &seen(), &TagChange::default(), false).is_empty());
        assert_eq!(unsent_differences(&other, &seen(), &change, false), ["spec.tags"]);
        let both = ["spec.tags", "spec.schedulerConfiguration"];
        assert_eq!(unsent_differences(&other, &seen(), &change, true), both, "an edit has taken limits away");
        assert!(advice(&["spec.name"], true).unwrap().contains("spec.name: the object is read-only"));
    }
}

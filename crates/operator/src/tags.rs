//! Tags that every AWS resource gets: upstream's `%FORMATS%`, expanded for an object. Pure.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};

/// Expands the default tags for an object; a tag whose value is empty then is left out, as upstream does.
pub fn expand<K: Resource<DynamicType = ()>>(
    defaults: &[(String, String)],
    object: &K,
) -> Vec<(String, String)> {
    defaults
        .iter()
        .map(|(key, value)| (key.clone(), expand_value(value, object)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn expand_value<K: Resource<DynamicType = ()>>(value: &str, object: &K) -> String {
    let label = |key: &str| object.labels().get(key).cloned().unwrap_or_default();
    value
        .replace("%CONTROLLER_SERVICE%", "emrcontainers")
        .replace("%CONTROLLER_VERSION%", concat!("v", env!("CARGO_PKG_VERSION")))
        .replace("%K8S_NAMESPACE%", &object.namespace().unwrap_or_default())
        .replace("%K8S_RESOURCE_NAME%", &object.name_any())
        .replace("%K8S_RESOURCE_KIND%", &K::kind(&()))
        .replace("%MANAGED_BY%", &label("app.kubernetes.io/managed-by"))
        .replace("%KRO_VERSION%", &label("kro.run/kro-version"))
}

/// The tags of a resource: the defaults, over which the user's own win.
pub fn merge(
    defaults: &[(String, String)],
    own: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let mut tags: BTreeMap<String, String> = defaults.iter().cloned().collect();
    tags.extend(own.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    tags
}

/// What to do to make the observed tags the desired ones; AWS's own (`aws:…`) are not ours to touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagChange {
    /// Tags to set.
    pub set: BTreeMap<String, String>,
    /// Keys to remove.
    pub remove: Vec<String>,
}

impl TagChange {
    /// Compares both.
    pub fn between(observed: &BTreeMap<String, String>, desired: &BTreeMap<String, String>) -> Self {
        Self {
            set: desired
                .iter()
                .filter(|(key, value)| observed.get(*key) != Some(*value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            remove: observed
                .keys()
                .filter(|key| !desired.contains_key(*key) && !key.starts_with("aws:"))
                .cloned()
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emrcontainers_api::JobRun;
    use emrcontainers_api::job_run::JobRunSpec;

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn every_format_is_expanded_and_empty_ones_are_left_out() {
        let mut run = JobRun::new("r", JobRunSpec::default());
        run.metadata.namespace = Some("team".into());
        run.metadata.labels = Some([("kro.run/kro-version".to_owned(), "0.9".to_owned())].into());
        let tags = expand(
            &[
                pair("a", "%CONTROLLER_SERVICE%-%K8S_NAMESPACE%"),
                pair("b", "%K8S_RESOURCE_KIND%/%K8S_RESOURCE_NAME%"),
                pair("c", "%MANAGED_BY%"),
                pair("d", "%KRO_VERSION%"),
                pair("e", "x=y"),
            ],
            &run,
        );
        let expected =
            [pair("a", "emrcontainers-team"), pair("b", "JobRun/r"), pair("d", "0.9"), pair("e", "x=y")];
        assert_eq!(tags, expected);
    }

    #[test]
    fn only_differences_are_sent_and_aws_tags_are_left_alone() {
        let map = |tags: &[(&str, &str)]| tags.iter().map(|(k, v)| pair(k, v)).collect::<BTreeMap<_, _>>();
        let observed = map(&[("same", "1"), ("old", "1"), ("gone", "1"), ("aws:x", "1")]);
        let change = TagChange::between(&observed, &map(&[("same", "1"), ("old", "2"), ("new", "3")]));
        assert_eq!(change.set, map(&[("old", "2"), ("new", "3")]));
        assert_eq!(change.remove, ["gone"]);
    }
}

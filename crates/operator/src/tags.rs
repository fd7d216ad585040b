//! Tags of AWS resources: upstream's `%FORMATS%` expanded for an object, what AWS would refuse, and what an edit asks
//! for. Pure.
//!
//! Invariant: tags of AWS's own (`aws:…`) are never set and never taken away.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt};

/// The most tags that AWS takes on a resource; its model of the API says so, and how long keys and values may be.
const MAX_TAGS: usize = 50;
const MAX_KEY_CHARS: usize = 128;
const MAX_VALUE_CHARS: usize = 256;
/// What AWS's own tags begin with.
const RESERVED: &str = "aws:";
/// How much of a key a message shows.
const SHOWN_CHARS: usize = 40;

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

/// The tags that upstream's controller gives a resource with the same settings: the version in them is its own.
pub fn upstreams(
    templates: &[(String, String)],
    defaults: &[(String, String)],
    own: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let has_version = |key: &str| {
        templates.iter().any(|(other, value)| other == key && value.contains("%CONTROLLER_VERSION%"))
    };
    let lasting: Vec<_> = defaults.iter().filter(|(key, _)| !has_version(key)).cloned().collect();
    merge(&lasting, own)
}

/// What AWS would refuse of an object's tags: which tag it is, whose, and what helps. AWS's words would tell none of it.
pub fn problem(defaults: &[(String, String)], own: Option<&BTreeMap<String, String>>) -> Option<String> {
    let tags = merge(defaults, own);
    let whose = |key: &str| match own {
        Some(own) if own.contains_key(key) => "spec.tags",
        Some(_) | None => "--resource-tags of the operator",
    };
    let of_one = tags.iter().find_map(|(key, value)| {
        let shown: String = key.chars().take(SHOWN_CHARS).collect();
        let is = if key.trim().is_empty() {
            "is empty: name the tag".to_owned()
        } else if key.starts_with(RESERVED) {
            format!("begins with {RESERVED}, which is AWS's own: name the tag otherwise")
        } else if key.chars().count() > MAX_KEY_CHARS {
            format!("is longer than the {MAX_KEY_CHARS} characters that AWS takes: shorten it")
        } else if value.chars().count() > MAX_VALUE_CHARS {
            format!("has a value longer than the {MAX_VALUE_CHARS} characters that AWS takes: shorten it")
        } else {
            return None;
        };
        Some(format!("{}: the key {shown:?} {is}", whose(key)))
    });
    of_one.or_else(|| {
        let surplus = tags.len().checked_sub(MAX_TAGS).filter(|surplus| *surplus > 0)?;
        Some(format!(
            "spec.tags: with those of --resource-tags there are {} tags, and AWS takes {MAX_TAGS}: take {surplus} away",
            tags.len()
        ))
    })
}

/// What to do to make the observed tags the desired ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagChange {
    /// Tags to set.
    pub set: BTreeMap<String, String>,
    /// Keys to remove.
    pub remove: Vec<String>,
}

impl TagChange {
    /// Compares both, but for the keys that `is_left` names.
    pub fn between(
        observed: &BTreeMap<String, String>,
        desired: &BTreeMap<String, String>,
        is_left: impl Fn(&str) -> bool,
    ) -> Self {
        Self {
            set: desired
                .iter()
                .filter(|(key, value)| observed.get(*key) != Some(*value) && !is_left(key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            remove: observed
                .keys()
                .filter(|key| !desired.contains_key(*key) && !key.starts_with(RESERVED) && !is_left(key))
                .cloned()
                .collect(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
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

    fn map(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
        tags.iter().map(|(key, value)| pair(key, value)).collect()
    }

    #[test]
    fn only_differences_are_sent_and_aws_tags_are_left_alone() {
        let observed = map(&[("same", "1"), ("old", "1"), ("gone", "1"), ("aws:x", "1")]);
        let desired = map(&[("same", "1"), ("old", "2"), ("new", "3")]);
        let change = TagChange::between(&observed, &desired, |_| false);
        assert_eq!(change.set, map(&[("old", "2"), ("new", "3")]));
        assert_eq!(change.remove, ["gone"]);
        let change = TagChange::between(&observed, &desired, |key| key != "new");
        assert_eq!(change.set, map(&[("new", "3")]));
        assert!(change.remove.is_empty() && !change.is_empty());
        assert!(TagChange::between(&observed, &desired, |_| true).is_empty());
    }

    #[test]
    fn upstreams_tags_are_ours_but_for_those_that_name_the_controllers_version() {
        let pairs = |tags: [(&str, &str); 3]| tags.map(|(key, value)| pair(key, value));
        let templates = pairs([("by", "%CONTROLLER_VERSION%"), ("in", "%K8S_NAMESPACE%"), ("of", "a")]);
        let defaults = pairs([("by", "v1"), ("in", "team"), ("of", "a")]);
        let own = map(&[("of", "b")]);
        assert_eq!(upstreams(&templates, &defaults, Some(&own)), map(&[("in", "team"), ("of", "b")]));
        assert_eq!(upstreams(&templates, &defaults, None), map(&[("in", "team"), ("of", "a")]));
    }

    #[test]
    fn what_aws_would_refuse_is_told_with_the_tag_its_owner_and_a_remedy() {
        let (long, longer) = ("k".repeat(128), "k".repeat(129));
        let many: Vec<(String, String)> = (0..51).map(|index| pair(&format!("k{index}"), "")).collect();
        let many: BTreeMap<String, String> = many.into_iter().collect();
        let fifty: BTreeMap<String, String> = many.clone().into_iter().skip(1).collect();
        let cases = [
            (map(&[("", "x")]), r#"spec.tags: the key "" is empty"#),
            (map(&[("  ", "x")]), r#"spec.tags: the key "  " is empty"#),
            (map(&[("aws:x", "y")]), r#"spec.tags: the key "aws:x" begins with aws:"#),
            (map(&[(&longer, "x")]), "is longer than the 128 characters that AWS takes: shorten it"),
            (map(&[("k", &"é".repeat(257))]), "a value longer than the 256 characters"),
            (
                many,
                "spec.tags: with those of --resource-tags there are 51 tags, and AWS takes 50: take 1 away",
            ),
        ];
        for (own, expected) in cases {
            let told = problem(&[], Some(&own)).unwrap();
            assert!(told.contains(expected), "{told}");
        }
        // As much as AWS takes, and a default that the user's own tag replaces.
        let own = map(&[(&long, &"é".repeat(256)), ("empty", "")]);
        assert_eq!(problem(&[pair("empty", &"v".repeat(300))], Some(&own)), None);
        assert_eq!(problem(&[], Some(&fifty)), None);
        assert!(problem(&[pair("default", "")], Some(&fifty)).unwrap().contains("51 tags"));
        let told = problem(&[pair("where", &"v".repeat(300))], None).unwrap();
        assert!(told.starts_with("--resource-tags of the operator: the key \"where\""), "{told}");
        let told = problem(&[pair("where", &"v".repeat(300))], Some(&map(&[("by", "us")]))).unwrap();
        assert!(told.starts_with("--resource-tags of the operator: the key \"where\""), "{told}");
    }
}

//! What a namespace asks for its objects, by its annotations. Pure.
//!
//! Must not decide what an object gets: `decide` does. Invariant: a value that can't be followed is kept with the
//! reason, and is never taken for one that isn't there.

use std::collections::BTreeMap;

use emrcontainers_api::annotations;

use crate::settings::{self, DeletionPolicy};

/// Namespaces whose annotations count for nothing, as upstream has it.
const IGNORED: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// What a namespace asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// The region, or what is wrong with the one that is named.
    pub region: Option<Result<String, String>>,
    /// The account.
    pub owner: Option<String>,
    /// The team.
    pub team: Option<String>,
    /// The endpoint of emr-containers, or what is wrong with the one that is named.
    pub endpoint_url: Option<Result<String, String>>,
    /// What becomes of AWS resources when their objects are deleted, or what is wrong with what it says.
    pub deletion_policy: Option<Result<DeletionPolicy, String>>,
    /// Its labels, where a role can depend on them.
    pub labels: BTreeMap<String, String>,
}

impl Namespace {
    /// Reads the annotations of a namespace.
    pub fn read(
        name: &str,
        annotations: Option<&BTreeMap<String, String>>,
        labels: BTreeMap<String, String>,
        allow_unsafe: bool,
    ) -> Self {
        let given = |key: &str| {
            let value = annotations.and_then(|annotations| annotations.get(key)).map(|value| value.trim());
            value.filter(|value| !value.is_empty() && !IGNORED.contains(&name))
        };
        let wrong =
            |key: &str, problem: String| format!("annotation {key} of namespace \"{name}\" {problem}");
        let region = given(annotations::NAMESPACE_REGION).map(|value| {
            settings::region(value).map_err(|problem| wrong(annotations::NAMESPACE_REGION, problem))
        });
        let endpoint_url = given(annotations::ENDPOINT_URL).and_then(|value| {
            let read = settings::endpoint(value, allow_unsafe);
            read.map_err(|problem| wrong(annotations::ENDPOINT_URL, problem)).transpose()
        });
        let deletion_policy = given(annotations::NAMESPACE_DELETION_POLICY).map(|value| {
            settings::deletion(value)
                .map_err(|problem| wrong(annotations::NAMESPACE_DELETION_POLICY, problem))
        });
        Self {
            region,
            owner: given(annotations::OWNER_ACCOUNT_ID).map(str::to_owned),
            team: given(annotations::TEAM_ID).map(str::to_owned),
            endpoint_url,
            deletion_policy,
            labels,
        }
    }

    /// Whether the role that acts for its objects is looked up in a map.
    pub fn is_mapped(&self) -> bool {
        self.owner.is_some() || self.team.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, key: &str, value: &str) -> Namespace {
        let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Namespace::read(name, Some(&annotations), BTreeMap::new(), false)
    }

    #[test]
    fn what_is_asked_for_is_read_and_what_is_wrong_with_it_is_kept() {
        let region = read("a", annotations::NAMESPACE_REGION, "eu-west-1").region;
        assert_eq!(region, Some(Ok("eu-west-1".to_owned())));
        let endpoint = read("a", annotations::ENDPOINT_URL, "https://vpce.example.com").endpoint_url;
        assert_eq!(endpoint, Some(Ok("https://vpce.example.com".to_owned())));
        assert_eq!(read("a", annotations::OWNER_ACCOUNT_ID, "111122223333").owner.unwrap(), "111122223333");
        assert_eq!(read("a", annotations::TEAM_ID, "etl").team.unwrap(), "etl");
        let policy = read("a", annotations::NAMESPACE_DELETION_POLICY, "retain").deletion_policy;
        assert_eq!(policy, Some(Ok(DeletionPolicy::Retain)));
        for (key, value, expected) in [
            (
                annotations::NAMESPACE_REGION,
                "EU_1",
                "default-region of namespace \"a\" is `EU_1`, which is no",
            ),
            (annotations::ENDPOINT_URL, "http://x", "is `http://x`, which is not https: add --allow-unsafe"),
            (
                annotations::ENDPOINT_URL,
                "vpce",
                "endpoint-url of namespace \"a\" is `vpce`, which is no endpoint",
            ),
            (
                annotations::NAMESPACE_DELETION_POLICY,
                "keep",
                "deletion-policy of namespace \"a\" is `keep`: use delete or retain",
            ),
        ] {
            let namespace = read("a", key, value);
            let policy = namespace.deletion_policy.map(|read| read.map(|policy| format!("{policy:?}")));
            let problem = namespace.region.or(namespace.endpoint_url).or(policy).unwrap().unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn an_account_or_a_team_has_its_role_in_a_map() {
        for (key, value, expected) in [
            (annotations::OWNER_ACCOUNT_ID, "111122223333", true),
            (annotations::TEAM_ID, "etl", true),
            (annotations::NAMESPACE_REGION, "eu-west-1", false),
        ] {
            assert_eq!(read("a", key, value).is_mapped(), expected, "{key}");
        }
    }

    #[test]
    fn an_empty_value_and_the_namespaces_of_kubernetes_itself_ask_for_nothing() {
        for key in [
            annotations::NAMESPACE_REGION,
            annotations::ENDPOINT_URL,
            annotations::OWNER_ACCOUNT_ID,
            annotations::TEAM_ID,
            annotations::NAMESPACE_DELETION_POLICY,
        ] {
            assert_eq!(read("a", key, " "), Namespace::default(), "{key}");
            for name in IGNORED {
                assert_eq!(read(name, key, "retain"), Namespace::default(), "{name}");
            }
            assert_ne!(read("kube-systems", key, "retain"), Namespace::default(), "{key}");
        }
    }
}

//! What an object asks for in place of a resource of its own: to take over one that exists, or only to look at it. Pure.
//!
//! Reads annotations and nothing else. The texts of what is wrong are upstream's, with a remedy after them. Invariant: an
//! object that is adopted, or asks for `adopt`, never leads to a new resource.

use std::collections::BTreeMap;

use emrcontainers_api::annotations;
use kube::ResourceExt;

use crate::emr::pool::Scope;
use crate::write;

/// What came of a look for a resource that is to be taken over.
pub enum Adopted<R, S> {
    /// It is there, and the pass goes on with it; or what stands in the way was told.
    Progress(R),
    /// It isn't there: this step is to be done instead.
    Otherwise(S),
}

/// A resource to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Says which one.
    pub fields: Fields,
    /// Whether one is created where there is none.
    pub or_create: bool,
}

/// What says which resource: `id`, `arn` and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// A field that isn't empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether they say anything of which resource it is.
    fn name_one(&self) -> bool {
        ["id", "arn", "clientToken"].iter().any(|key| self.get(key).is_some())
    }
}

/// What an ARN of the service names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    region: &'a str,
    account: &'a str,
    /// The id of the virtual cluster.
    pub virtual_cluster_id: &'a str,
    /// The id of the run, if it names one.
    pub job_run_id: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// Reads `arn:aws:emr-containers:REGION:ACCOUNT:/virtualclusters/ID[/jobruns/ID]`.
    pub fn read(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next().unwrap_or_default();
        let (scheme, partition, service, region, account, path) =
            (next(), next(), next(), next(), next(), next());
        let is_ours = scheme == "arn" && partition.starts_with("aws") && service == "emr-containers";
        let path = path.strip_prefix("/virtualclusters/").filter(|_| is_ours)?;
        let (virtual_cluster_id, job_run_id) = match path.split_once("/jobruns/") {
            Some((cluster, run)) => (cluster, Some(run)),
            None => (path, None),
        };
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_whole = is_id(virtual_cluster_id) && job_run_id.is_none_or(is_id);
        is_whole.then_some(Self { region, account, virtual_cluster_id, job_run_id })
    }
}

/// Why an ARN names nothing that calls in this scope could reach.
pub fn elsewhere(arn: &str, scope: &Scope) -> Option<String> {
    let named = Named::read(arn)?;
    if named.region != scope.region {
        return Some(format!(
            "Error populating adoption fields: {arn} is in region {}, and the object in {}; set the annotation {} to {}",
            named.region,
            scope.region,
            annotations::REGION,
            named.region
        ));
    }
    (named.account != scope.account).then(|| {
        format!(
            "Error populating adoption fields: {arn} is in account {}, and the object in {}",
            named.account, scope.account
        )
    })
}

/// Upstream's words for a field that is missing.
pub fn missing(field: &str, remedy: &str) -> String {
    format!(
        "Error populating adoption fields: required field missing: {field}; {remedy} in the annotation {}",
        annotations::ADOPTION_FIELDS
    )
}

/// What is told where the object can't be marked as one that has taken a resource over.
pub fn unmarked(error: &kube::Error) -> Option<String> {
    let why = write::refusal(error)?;
    Some(format!(
        "the object can't be marked as adopted, and the resource is left alone: {why}; let the operator write what the spec \
         leaves out, or set spec.tags to the tags that the resource has"
    ))
}

/// What the object asks to take over; `is_managed` says that a resource of its own may have been made for it already.
///
/// # Errors
/// In words, when the annotations can't be read.
pub fn asked<K: ResourceExt>(object: &K, is_managed: bool) -> Result<Option<Adoption>, String> {
    let annotations = object.annotations();
    let or_create = if is_adopted(object) {
        false
    } else if is_managed {
        return Ok(None);
    } else {
        match annotations.get(annotations::ADOPTION_POLICY).map(String::as_str) {
            None => return Ok(None),
            Some("adopt") => false,
            Some("adopt-or-create") => true,
            Some(other) => {
                return Err(format!("unrecognized adoption policy {other}; use adopt or adopt-or-create"));
            }
        }
    };
    let text = annotations.get(annotations::ADOPTION_FIELDS).map(String::as_str).unwrap_or_default();
    if or_create && text.trim().is_empty() {
        return Ok(None);
    }
    let fields = serde_json::from_str(text).map_err(|error| {
        // Go's words for an empty text.
        let why = if text.is_empty() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        format!(
            "unmarshalling adoption-fields annotation: {why}; set {} to a JSON object of strings, such as \
             {{\"id\": \"0a1b2c\"}}",
            annotations::ADOPTION_FIELDS
        )
    })?;
    let fields = Fields(fields);
    // Where no resource is named, one is created, as by upstream.
    Ok((!or_create || fields.name_one()).then_some(Adoption { fields, or_create }))
}

/// Whether the policy is `adopt`.
pub fn is_adopt<K: ResourceExt>(object: &K) -> bool {
    object.annotations().get(annotations::ADOPTION_POLICY).is_some_and(|policy| policy == "adopt")
}

/// Whether the object has taken a resource over.
pub fn is_adopted<K: ResourceExt>(object: &K) -> bool {
    is_true(object, annotations::ADOPTED)
}

/// Whether the object only looks.
pub fn is_read_only<K: ResourceExt>(object: &K) -> bool {
    is_true(object, annotations::READ_ONLY)
}

fn is_true<K: ResourceExt>(object: &K, annotation: &str) -> bool {
    object.annotations().get(annotation).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A resource's own tags: without AWS's, and without those that every resource gets from us.
pub fn own_tags(
    tags: &BTreeMap<String, String>,
    defaults: &[(String, String)],
) -> Option<BTreeMap<String, String>> {
    let is_own = |key: &str| !key.starts_with("aws:") && defaults.iter().all(|(default, _)| default != key);
    let own: BTreeMap<_, _> =
        tags.iter().filter(|(key, _)| is_own(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    (!own.is_empty()).then_some(own)
}

#[cfg(test)]
mod tests {
    use emrcontainers_api::JobRun;
    use serde_json::json;

    use super::*;

    fn object(annotations: &[(&str, &str)]) -> JobRun {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(json!({"metadata": {"name": "r", "annotations": annotations}, "spec": {}}))
            .unwrap()
    }

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        for (policy, fields, words) in [
            ("import", "{}", "unrecognized adoption policy import"),
            ("", "{}", "unrecognized adoption policy "),
            ("adopt", "not-json", "unmarshalling adoption-fields annotation: expected ident"),
            ("adopt", "", "unmarshalling adoption-fields annotation: unexpected end of JSON input"),
            ("adopt", r#"{"id": 7}"#, "unmarshalling adoption-fields annotation: invalid type: integer"),
        ] {
            let run =
                object(&[(annotations::ADOPTION_POLICY, policy), (annotations::ADOPTION_FIELDS, fields)]);
            let why = asked(&run, false).unwrap_err();
            assert!(why.starts_with(words), "{why}");
        }
        assert!(
            missing("id", "set it")
                .starts_with("Error populating adoption fields: required field missing: id; ")
        );
    }

    #[test]
    fn an_object_is_adopted_while_nothing_was_made_for_it_and_never_creates_after_that() {
        let fields = (annotations::ADOPTION_FIELDS, r#"{"id": "a1"}"#);
        let policy = (annotations::ADOPTION_POLICY, "adopt-or-create");
        let asks = |run: &JobRun, managed| asked(run, managed).unwrap().map(|adoption| adoption.or_create);
        assert_eq!(asks(&object(&[]), false), None);
        assert_eq!(asks(&object(&[policy, fields]), false), Some(true));
        assert_eq!(asks(&object(&[policy, fields]), true), None, "it may have one of its own");
        for unnamed in ["", " ", "{}", r#"{"id": ""}"#, r#"{"virtualClusterID": "vc1"}"#] {
            let run = object(&[policy, (annotations::ADOPTION_FIELDS, unnamed)]);
            assert_eq!(asks(&run, false), None, "none is named by {unnamed:?}");
        }
        let adopted = object(&[policy, fields, (annotations::ADOPTED, "True")]);
        assert_eq!(asks(&adopted, true), Some(false));
    }

    #[test]
    fn annotations_count_only_with_the_values_that_mean_something() {
        for (value, adopt, yes) in [
            ("adopt", true, false),
            ("Adopt", false, false),
            ("true", false, true),
            ("TRUE", false, true),
            ("", false, false),
        ] {
            assert_eq!(is_adopt(&object(&[(annotations::ADOPTION_POLICY, value)])), adopt, "{value}");
            assert_eq!(is_read_only(&object(&[(annotations::READ_ONLY, value)])), yes, "{value}");
            assert_eq!(is_adopted(&object(&[(annotations::ADOPTED, value)])), yes, "{value}");
        }
        assert!(!is_adopt(&object(&[])) && !is_read_only(&object(&[(annotations::ADOPTED, "true")])));
    }

    #[test]
    fn only_a_refusal_of_the_api_server_is_told_as_one() {
        let answer = |code: u16| {
            kube::Error::Api(Box::new(kube::core::Status::failure("no tags", "x").with_code(code)))
        };
        let told = unmarked(&answer(422)).unwrap();
        assert!(told.contains("no tags; let the operator write what the spec leaves out"), "{told}");
        assert_eq!(unmarked(&answer(500)), None);
    }

    #[test]
    fn an_arn_names_a_cluster_or_a_run_in_it() {
        let arn = "arn:aws-cn:emr-containers:cn-north-1:123456789012:/virtualclusters/vc1/jobruns/jr1";
        let named = Named::read(arn).unwrap();
        assert_eq!((named.virtual_cluster_id, named.job_run_id), ("vc1", Some("jr1")));
        let scope = |account: &str, region: &str| Scope::new(account, region);
        assert_eq!(elsewhere(arn, &scope("123456789012", "cn-north-1")), None);
        assert!(
            elsewhere(arn, &scope("123456789012", "eu-west-1")).unwrap().contains("services.k8s.aws/region")
        );
        assert!(
            elsewhere(arn, &scope("999999999999", "cn-north-1")).unwrap().contains("account 123456789012")
        );
        let cluster =
            Named::read("arn:aws:emr-containers:us-west-2:123456789012:/virtualclusters/vc1").unwrap();
        assert_eq!((cluster.virtual_cluster_id, cluster.job_run_id), ("vc1", None));
        for arn in [
            "",
            "vc1",
            "arn:aws:s3:::bucket",
            "arn:aws:s3:r:a:/virtualclusters/vc1",
            "arn:gcp:emr-containers:r:a:/virtualclusters/vc1",
            "urn:aws:emr-containers:r:a:/virtualclusters/vc1",
            "arn:aws:emr-containers:r:a:/virtualclusters/",
            "arn:aws:emr-containers:r:a:/virtualclusters/vc-1",
            "arn:aws:emr-containers:r:a:/virtualclusters/vc1/jobruns/",
        ] {
            assert_eq!(Named::read(arn), None, "{arn}");
        }
    }

    #[test]
    fn tags_of_aws_and_of_every_resource_are_nobodys_own() {
        let tags = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let defaults = [("by".to_owned(), "us".to_owned())];
        let own = own_tags(&tags(&[("aws:x", "1"), ("by", "them"), ("team", "a")]), &defaults);
        assert_eq!(own, Some(tags(&[("team", "a")])));
        assert_eq!(own_tags(&tags(&[("by", "us")]), &defaults), None);
    }
}

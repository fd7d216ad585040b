//! Whether a run is one that upstream's controller started for an object and was stopped before it wrote the id down. Pure.
//!
//! Upstream gives its runs tokens that it forgets, so nothing names the object. What is left: the name, the tags, the time,
//! and what was asked for. Invariant: `Sure` never for a run that belongs to another namespace, was there before the object
//! or was started by us; whatever else could be the object's is `Doubtful`, and not passed over.

use std::collections::BTreeMap;

use emrcontainers_api::JobRun;
use jiff::Timestamp;
use kube::ResourceExt;

use super::plan;
use super::request;
use crate::emr::model;
use crate::timing;

/// The tag by which upstream says whose a resource is.
const NAMESPACE_TAG: &str = "services.k8s.aws/namespace";

/// How much a run looks like the object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// It is another's.
    None,
    /// It may be, and something doesn't fit.
    Doubtful,
    /// Everything that a list tells fits.
    Sure,
}

/// Whether upstream put the finalizer on: none of ours goes without its origin.
pub fn is_handed_over(run: &JobRun) -> bool {
    plan::has_finalizer(run) && !request::is_managed(run)
}

/// Compares what a list tells of a run with the object. `tags` are those that every run of the object gets.
pub fn likeness(object: &JobRun, tags: &BTreeMap<String, String>, run: &model::JobRun) -> Likeness {
    let namespace = object.namespace().unwrap_or_default();
    let of_another = run.tags.get(NAMESPACE_TAG).is_some_and(|tag| *tag != namespace);
    if of_another || run.name != object.spec.name || is_ours(run.client_token.as_deref()) {
        return Likeness::None;
    }
    let born = object.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
    let created = run.created_at.unwrap_or(Timestamp::MAX);
    if born.checked_sub(timing::CLOCK_SKEW).is_ok_and(|earliest| created < earliest) {
        return Likeness::None;
    }
    let is_tagged = tags.iter().all(|(key, value)| run.tags.get(key) == Some(value));
    if is_tagged && created >= born { Likeness::Sure } else { Likeness::Doubtful }
}

/// Compares what was asked for. The service adds defaults of its own to the overrides, so that those may differ.
pub fn like_what_was_asked_for(like: Likeness, differs: &[&str]) -> Option<Likeness> {
    if differs.is_empty() {
        return Some(like);
    }
    let is_of_overrides = |path: &&str| matches!(*path, "spec.configurationOverrides" | "spec.overrides");
    differs.iter().all(is_of_overrides).then_some(Likeness::Doubtful)
}

/// Whether a token is one that we make: it ends in a digest and a number.
fn is_ours(token: Option<&str>) -> bool {
    let Some((rest, number)) = token.and_then(|token| token.rsplit_once('-')) else { return false };
    let digest = rest.rsplit_once('-').map(|(_, digest)| digest).unwrap_or_default();
    number.bytes().all(|b| b.is_ascii_digit())
        && digest.len() == 16
        && digest.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether another object could as well be the one that a run was started for.
pub fn is_rival(object: &JobRun, other: &JobRun) -> bool {
    let of = |run: &JobRun| {
        let spec = &run.spec;
        (
            spec.name.clone(),
            spec.job_driver.clone(),
            spec.execution_role_arn.clone(),
            spec.virtual_cluster_id.clone(),
            spec.virtual_cluster_ref.clone(),
        )
    };
    other.metadata.uid != object.metadata.uid
        && is_handed_over(other)
        && other.status.as_ref().is_none_or(|status| status.id.is_none())
        && of(other) == of(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> JobRun {
        serde_json::from_value(json!({
            "metadata": {"name": "r", "namespace": "team", "uid": "u", "creationTimestamp": "2026-01-01T12:00:00Z",
                "finalizers": ["finalizers.emrcontainers.services.k8s.aws/JobRun"]},
            "spec": {"name": "etl"},
        }))
        .unwrap()
    }

    fn tags(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn run() -> model::JobRun {
        model::JobRun {
            name: Some("etl".into()),
            created_at: Some("2026-01-01T12:00:00Z".parse().unwrap()),
            client_token: Some("7f9a4f4e-0b6c-4b57-9b6e-6f305ca21458".into()),
            tags: tags(&[(NAMESPACE_TAG, "team"), ("team", "a")]),
            ..model::JobRun::default()
        }
    }

    #[test]
    fn a_run_is_the_objects_when_name_tags_time_and_token_say_so() {
        let wanted = tags(&[(NAMESPACE_TAG, "team")]);
        let like = |change: &dyn Fn(&mut model::JobRun)| {
            let mut run = run();
            change(&mut run);
            likeness(&object(), &wanted, &run)
        };
        let at = |run: &mut model::JobRun, time: &str| run.created_at = Some(time.parse().unwrap());
        assert_eq!(like(&|_| ()), Likeness::Sure);
        assert_eq!(like(&|run| run.name = Some("other".into())), Likeness::None);
        assert_eq!(like(&|run| run.name = None), Likeness::None);
        assert_eq!(like(&|run| run.tags = tags(&[(NAMESPACE_TAG, "others")])), Likeness::None);
        assert_eq!(like(&|run| run.tags = tags(&[("team", "a")])), Likeness::Doubtful);
        assert_eq!(like(&|run| at(run, "2026-01-01T11:59:59Z")), Likeness::Doubtful, "clocks differ");
        let earliest = object().creation_timestamp().unwrap().0 - timing::CLOCK_SKEW;
        assert_eq!(
            like(&|run| run.created_at = Some(earliest)),
            Likeness::Doubtful,
            "as far as clocks may differ"
        );
        assert_eq!(like(&|run| at(run, "2026-01-01T11:50:00Z")), Likeness::None);
        let ours = request::tokens(&object()) + "1";
        assert_eq!(like(&|run| run.client_token = Some(ours.clone())), Likeness::None);
        for others in
            ["etl-0123456789abcdef-x1", "etl-0123456789abcde-1", "etl-0123456789abcdeg-1", "0123456789abcdef"]
        {
            assert_eq!(like(&|run| run.client_token = Some(others.to_owned())), Likeness::Sure, "{others}");
        }
    }

    #[test]
    fn what_the_service_may_have_added_to_is_in_doubt_and_anything_else_is_another_run() {
        let like = |differs: &[&str]| like_what_was_asked_for(Likeness::Sure, differs);
        assert_eq!(like(&[]), Some(Likeness::Sure));
        assert_eq!(like(&["spec.overrides"]), Some(Likeness::Doubtful));
        assert_eq!(like(&["spec.jobDriver", "spec.overrides"]), None);
    }

    #[test]
    fn an_equal_object_without_an_id_is_a_rival() {
        let other = || {
            let mut other = object();
            other.metadata.uid = Some("other".into());
            other
        };
        assert!(is_rival(&object(), &other()) && !is_rival(&object(), &object()));
        let mut started = other();
        started.status = Some(serde_json::from_value(json!({"id": "jr1"})).unwrap());
        let mut ours = other();
        ours.metadata.annotations =
            Some([(emrcontainers_api::annotations::ORIGIN.to_owned(), "other".to_owned())].into());
        let mut renamed = other();
        renamed.spec.name = Some("other".into());
        for other in [started, ours, renamed] {
            assert!(!is_rival(&object(), &other), "{other:?}");
        }
    }
}

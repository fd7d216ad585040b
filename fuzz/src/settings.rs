//! The command line: an argument on each line. It is either refused with the flags and remedies, or gives settings that
//! can be worked with.

use emrcontainers_operator::metrics::Kind;
use emrcontainers_operator::quotas::{Bucket, Quotas};
use emrcontainers_operator::selector;
use emrcontainers_operator::settings::{Settings, SettingsError};

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    quotas(text);
    selector_is_kubes(text);
    let arguments = ["emrcontainers-operator"].into_iter().chain(text.lines());
    match Settings::from_command_line(arguments) {
        Ok(settings) => fit(&settings),
        Err(SettingsError::Problems(problems)) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|problem| problem.starts_with("--")), "no flag: {problems:?}");
        }
        Err(SettingsError::Usage(error)) => assert!(!error.to_string().is_empty()),
    }
}

fn fit(settings: &Settings) {
    assert!(!settings.aws_region.is_empty());
    assert!(
        [Kind::JobRun, Kind::VirtualCluster].iter().all(|kind| settings.max_concurrent_syncs.of(*kind) > 0)
    );
    assert!(settings.watch_namespaces.iter().all(|namespace| (1..=63).contains(&namespace.len())));
    assert!(settings.resource_tags.iter().all(|(key, _)| !key.is_empty()));
    sound(&settings.aws_quotas);
    assert!(
        settings
            .event_queue
            .as_ref()
            .is_none_or(|queue| queue.url().to_ascii_lowercase().starts_with("http"))
    );
    let times = &settings.lease_times;
    assert!(times.retry_period < times.renew_deadline && times.renew_deadline < times.lease_duration);
}

/// A selector that was read means the same in the form that kube sends.
fn selector_is_kubes(text: &str) {
    let Ok(selector) = selector::parse(text) else { return };
    assert_eq!(selector::parse(&selector.to_string()), Ok(selector));
}

/// Quotas that were read can be written down and read again.
fn quotas(text: &str) {
    let Ok(quotas) = Quotas::parse(text) else { return };
    sound(&quotas);
    let Quotas::PerOperation { buckets, all } = &quotas else { return };
    let entry =
        |(name, bucket): (&str, &Bucket)| format!("{name}={}:{}", bucket.refill_per_second, bucket.bucket);
    let entries: Vec<_> =
        buckets.iter().map(|(name, bucket)| (*name, bucket)).chain([("all", all)]).map(entry).collect();
    assert_eq!(Quotas::parse(&entries.join(",")), Ok(quotas));
}

fn sound(quotas: &Quotas) {
    let Quotas::PerOperation { buckets, all } = quotas else { return };
    for bucket in buckets.values().chain([all]) {
        assert!(bucket.refill_per_second.is_finite() && bucket.refill_per_second > 0.0 && bucket.bucket > 0);
    }
}

//! How long a lease is valid, and how often it is renewed: three flags, checked as client-go checks them.
//!
//! Invariant: who leads stops before another may begin, and has time for more than one try to renew.

use std::time::Duration;

use jiff::SignedDuration;

/// The least time for one request: what controller-runtime grants whatever the renew deadline is.
const LEAST_REQUEST: Duration = Duration::from_secs(1);

/// How much a retry period may be lengthened at random; client-go's.
pub(crate) const JITTER: f64 = 1.2;

/// The times of the election. The defaults are client-go's, and so upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long others respect a lease that isn't renewed; whole seconds, as the lease says it.
    pub lease_duration: Duration,
    /// How long the leader goes on without having renewed it.
    pub renew_deadline: Duration,
    /// How often the leader renews it, and others look.
    pub retry_period: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl LeaseTimes {
    /// Reads the values of the three flags, or says for each what is wrong with it.
    pub(crate) fn parse(
        lease_duration: &str,
        renew_deadline: &str,
        retry_period: &str,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut read = |flag: &str, text: &str| {
            duration(text)
                .map_err(|problem| problems.push(format!("--leader-election-{flag} {problem}")))
                .unwrap_or_default()
        };
        let times = Self {
            lease_duration: read("lease-duration", lease_duration),
            renew_deadline: read("renew-deadline", renew_deadline),
            retry_period: read("retry-period", retry_period),
        };
        if problems.is_empty() {
            problems.extend(times.problem());
        }
        if problems.is_empty() { Ok(times) } else { Err(problems) }
    }

    fn problem(&self) -> Option<String> {
        let Self { lease_duration, renew_deadline, retry_period } = self;
        if lease_duration.subsec_nanos() > 0 || i32::try_from(lease_duration.as_secs()).is_err() {
            return Some(format!(
                "--leader-election-lease-duration is {lease_duration:?}, which a lease can't say: use whole seconds"
            ));
        }
        if renew_deadline >= lease_duration {
            return Some(format!(
                "--leader-election-renew-deadline is {renew_deadline:?}: use less than the lease duration, \
                 {lease_duration:?}, so that a leader stops before another begins"
            ));
        }
        (retry_period.mul_f64(JITTER) >= *renew_deadline).then(|| {
            format!(
                "--leader-election-retry-period is {retry_period:?}: use less than the renew deadline, \
                 {renew_deadline:?}, divided by {JITTER}, so that one lost renewal is no lost lease"
            )
        })
    }

    /// How long one request may take; what controller-runtime grants.
    pub(crate) fn request(&self) -> Duration {
        (self.renew_deadline / 2).max(LEAST_REQUEST)
    }

    /// The lease duration as the lease says it.
    pub(crate) fn lease_seconds(&self) -> i32 {
        i32::try_from(self.lease_duration.as_secs()).unwrap_or(i32::MAX)
    }
}

/// Reads a duration as Go writes it, such as `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.trim().parse::<SignedDuration>().ok();
    let parsed = parsed.and_then(|parsed| Duration::try_from(parsed).ok());
    let positive = parsed.filter(|duration| !duration.is_zero());
    positive.ok_or_else(|| format!("is `{text}`, which is no time above zero: use the form 15s or 1m30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(lease_duration: &str, renew_deadline: &str, retry_period: &str) -> Vec<String> {
        LeaseTimes::parse(lease_duration, renew_deadline, retry_period).unwrap_err()
    }

    #[test]
    fn the_defaults_are_client_gos_and_fit_together() {
        assert_eq!(LeaseTimes::parse("15s", "10s", "2s"), Ok(LeaseTimes::default()));
        let odd = LeaseTimes::parse("1m30s", "1m", "500ms").unwrap();
        assert_eq!(odd.lease_seconds(), 90);
        assert_eq!(odd.retry_period, Duration::from_millis(500));
        assert_eq!(odd.request(), Duration::from_secs(30));
        assert_eq!(LeaseTimes::parse("2s", "1500ms", "1s").unwrap().request(), LEAST_REQUEST);
    }

    #[test]
    fn times_that_do_not_fit_together_are_refused_with_a_remedy() {
        for (times, flag, words) in [
            (["15", "10s", "2s"], "lease-duration", "is `15`"),
            (["15s", "0s", "2s"], "renew-deadline", "no time above zero"),
            (["15s", "10s", "-2s"], "retry-period", "no time above zero"),
            (["1500ms", "1s", "100ms"], "lease-duration", "use whole seconds"),
            (["10s", "10s", "2s"], "renew-deadline", "less than the lease duration, 10s"),
            (["15s", "10s", "9s"], "retry-period", "less than the renew deadline, 10s, divided by 1.2"),
            (["15s", "3s", "2500ms"], "retry-period", "less than the renew deadline, 3s"),
            (["2147483648s", "10s", "2s"], "lease-duration", "use whole seconds"),
        ] {
            let problems = problems(times[0], times[1], times[2]);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(&format!("--leader-election-{flag} ")), "{problems:?}");
            assert!(problems[0].contains(words), "{problems:?}");
        }
        assert_eq!(problems("x", "y", "z").len(), 3, "all are told at once");
    }
}

//! The queue of `--event-queue-url`, read from its URL. Pure.
//!
//! Invariant: a queue's URL has the account and the name in its path, and is where SQS is asked: endpoints of a VPC, of FIPS
//! and of dual stack need no other setting.

use axum::http::Uri;

use crate::settings;

/// An SQS queue that EventBridge writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQueue {
    url: String,
    endpoint: String,
    region: Option<String>,
}

impl EventQueue {
    /// Reads a queue's URL; empty is none.
    pub(crate) fn parse(text: &str, allow_unsafe: bool) -> Result<Option<Self>, String> {
        let Some(url) = settings::endpoint(text, allow_unsafe)? else { return Ok(None) };
        let malformed = || {
            format!(
                "is `{url}`, which is no URL of a queue: use the form https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
            )
        };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(malformed());
        };
        let path = uri.path().strip_prefix('/').and_then(|path| path.split_once('/'));
        let (account, name) = path.ok_or_else(malformed)?;
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        if name.strip_suffix(".fifo").is_some() {
            return Err(format!(
                "is `{url}`, a FIFO queue: use a standard one, the order of events doesn't matter"
            ));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > 80 || !name.bytes().all(allowed) {
            return Err(malformed());
        }
        let region = authority.host().split('.').find(|label| is_region(label)).map(str::to_owned);
        let endpoint = format!("{scheme}://{authority}");
        Ok(Some(Self { url, endpoint, region }))
    }

    /// The URL, as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where SQS is asked.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region that the host names; without one it is that of `--aws-region`.
    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }
}

/// Whether a part of a host's name is a region, such as `eu-central-1` or `us-gov-west-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let [place, middle @ .., number] = parts.as_slice() else { return false };
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    place.len() >= 2
        && word(place)
        && !middle.is_empty()
        && middle.iter().all(word)
        && number.len() == 1
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_says_where_the_queue_is() {
        for (url, endpoint, region) in [
            (
                "https://sqs.eu-central-1.amazonaws.com/111122223333/emr-events",
                "https://sqs.eu-central-1.amazonaws.com",
                Some("eu-central-1"),
            ),
            (
                " https://sqs.cn-north-1.amazonaws.com.cn/111122223333/a_b ",
                "https://sqs.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            (
                "https://sqs-fips.us-gov-west-1.amazonaws.com/111122223333/q",
                "https://sqs-fips.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            (
                "https://vpce-0a1-2b.sqs.us-east-1.vpce.amazonaws.com/111122223333/q",
                "https://vpce-0a1-2b.sqs.us-east-1.vpce.amazonaws.com",
                Some("us-east-1"),
            ),
            ("https://127.0.0.1:5000/111122223333/q", "https://127.0.0.1:5000", None),
        ] {
            let queue = EventQueue::parse(url, false).unwrap().unwrap();
            assert_eq!((queue.url(), queue.endpoint(), queue.region()), (url.trim(), endpoint, region));
        }
        assert_eq!(EventQueue::parse(" ", false), Ok(None));
        let longest = format!("https://sqs.eu-west-1.amazonaws.com/111122223333/{}", "q".repeat(80));
        assert!(EventQueue::parse(&longest, false).is_ok());
        assert!(EventQueue::parse(&format!("{longest}q"), false).unwrap_err().contains("/ACCOUNT/NAME"));
        assert!(EventQueue::parse("http://localhost:5000/111122223333/q", true).unwrap().is_some());
    }

    #[test]
    fn a_part_of_a_host_is_a_region_only_in_the_form_of_one() {
        for label in ["eu-central-1", "us-gov-west-1", "cn-north-1"] {
            assert!(is_region(label), "{label}");
        }
        for label in [
            "sqs",
            "1",
            "eu-1",
            "e-west-1",
            "e1-west-1",
            "EU-west-1",
            "-west-1",
            "eu-w3st-1",
            "eu--1",
            "eu-west-",
            "eu-west-12",
            "eu-west-x",
            "eu-west",
        ] {
            assert!(!is_region(label), "{label}");
        }
    }

    #[test]
    fn what_is_no_queue_is_refused_with_the_remedy() {
        for (url, words) in [
            ("http://sqs.eu-central-1.amazonaws.com/111122223333/q", "--allow-unsafe-aws-endpoint-urls"),
            ("arn:aws:sqs:eu-central-1:111122223333:q", "https://"),
            ("https://sqs.eu-central-1.amazonaws.com", "/ACCOUNT/NAME"),
            ("https://sqs.eu-central-1.amazonaws.com/q", "/ACCOUNT/NAME"),
            ("https://sqs.eu-central-1.amazonaws.com/1111/q", "/ACCOUNT/NAME"),
            ("https://sqs.eu-central-1.amazonaws.com/111122223333/q/r", "/ACCOUNT/NAME"),
            ("https://sqs.eu-central-1.amazonaws.com/111122223333/", "/ACCOUNT/NAME"),
            ("https://sqs.eu-central-1.amazonaws.com/111122223333/q.fifo", "standard"),
        ] {
            let problem = EventQueue::parse(url, false).unwrap_err();
            assert!(problem.contains(words), "{url}: {problem}");
        }
    }
}

//! How many AWS calls we may make: the token buckets of `--aws-quotas`, as plain data.
//!
//! Holds the service's documented quotas and reads the flag. It limits nothing itself (the limiter of the AWS client
//! does) and knows neither a clock nor AWS. Invariant: every operation name in a [`Quotas`] is one of [`operations`].

use std::collections::BTreeMap;

/// The name under which `--aws-quotas` takes the bucket that all operations share.
const ALL: &str = "all";

/// A token bucket: a call takes one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Tokens that come back each second; finite and above zero.
    pub refill_per_second: f64,
    /// Tokens that the bucket holds when it is full, at least one: the size of a burst.
    pub bucket: u32,
}

/// What bounds our calls, for each AWS account and region.
#[derive(Clone, Debug, PartialEq)]
pub enum Quotas {
    /// Nothing does; AWS alone throttles.
    Off,
    /// A bucket for each operation that is named, and one that every operation takes from too.
    PerOperation {
        /// By the operation's name in the API; an operation that is not here is bounded by `all` alone.
        buckets: BTreeMap<&'static str, Bucket>,
        /// The bucket that all operations share.
        all: Bucket,
    },
}

const SLOW: Option<Bucket> = Some(Bucket { refill_per_second: 1.0, bucket: 25 });
const READ: Option<Bucket> = Some(Bucket { refill_per_second: 5.0, bucket: 100 });
const DOCUMENTED_ALL: Bucket = Bucket { refill_per_second: 20.0, bucket: 200 };

/// Every operation of the API with the bucket that the development guide's page on service quotas gives it. The
/// operations without one aren't in AWS's table.
const DOCUMENTED: [(&str, Option<Bucket>); 25] = [
    ("CancelJobRun", SLOW),
    ("CreateJobTemplate", SLOW),
    ("CreateManagedEndpoint", SLOW),
    ("CreateSecurityConfiguration", SLOW),
    ("CreateVirtualCluster", SLOW),
    ("DeleteJobTemplate", SLOW),
    ("DeleteManagedEndpoint", SLOW),
    ("DeleteSecurityConfiguration", None),
    ("DeleteVirtualCluster", SLOW),
    ("DescribeJobRun", Some(Bucket { refill_per_second: 20.0, bucket: 100 })),
    ("DescribeJobTemplate", SLOW),
    ("DescribeManagedEndpoint", READ),
    ("DescribeSecurityConfiguration", SLOW),
    ("DescribeVirtualCluster", READ),
    ("GetManagedEndpointSessionCredentials", SLOW),
    ("ListJobRuns", READ),
    ("ListJobTemplates", SLOW),
    ("ListManagedEndpoints", SLOW),
    ("ListSecurityConfigurations", SLOW),
    ("ListTagsForResource", None),
    ("ListVirtualClusters", READ),
    ("StartJobRun", SLOW),
    ("TagResource", None),
    ("UntagResource", None),
    ("UpdateVirtualCluster", None),
];

/// The names of all operations, as the API spells them, sorted.
pub fn operations() -> impl Iterator<Item = &'static str> {
    DOCUMENTED.iter().map(|(operation, _)| *operation)
}

impl Quotas {
    /// The quotas that AWS documents for an account that never asked for more.
    pub fn documented() -> Self {
        let buckets = DOCUMENTED.iter().filter_map(|(name, bucket)| Some((*name, (*bucket)?))).collect();
        Self::PerOperation { buckets, all: DOCUMENTED_ALL }
    }

    /// Reads `documented`, `off`, or a list `Operation=refill_per_second:bucket,…` in which `all` stands for all
    /// operations together. What a list doesn't name keeps its documented bucket.
    pub fn parse(text: &str) -> Result<Self, QuotasError> {
        match text.trim() {
            "documented" => return Ok(Self::documented()),
            "off" => return Ok(Self::Off),
            "" => return Err(QuotasError::Empty),
            _ => {}
        }
        let mut buckets: BTreeMap<_, _> =
            DOCUMENTED.iter().filter_map(|(name, bucket)| Some((*name, (*bucket)?))).collect();
        let mut all = DOCUMENTED_ALL;
        let mut seen = Vec::new();
        for entry in text.split(',') {
            let (name, bucket) = parse_entry(entry.trim())?;
            if seen.contains(&name) {
                return Err(QuotasError::Twice(name));
            }
            seen.push(name);
            if name == ALL {
                all = bucket;
            } else {
                buckets.insert(name, bucket);
            }
        }
        Ok(Self::PerOperation { buckets, all })
    }
}

fn parse_entry(entry: &str) -> Result<(&'static str, Bucket), QuotasError> {
    let malformed = || QuotasError::Malformed(entry.to_owned());
    let (name, bucket) = entry.split_once('=').ok_or_else(malformed)?;
    let (refill, size) = bucket.split_once(':').ok_or_else(malformed)?;
    let name = name.trim();
    let name = operations()
        .chain([ALL])
        .find(|known| *known == name)
        .ok_or_else(|| QuotasError::UnknownOperation(name.to_owned()))?;
    let refill_per_second: f64 = refill.trim().parse().map_err(|_| malformed())?;
    let bucket: u32 = size.trim().parse().map_err(|_| malformed())?;
    if !refill_per_second.is_finite() || refill_per_second <= 0.0 || bucket == 0 {
        return Err(malformed());
    }
    Ok((name, Bucket { refill_per_second, bucket }))
}

/// Why a text is no set of quotas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotasError {
    /// Nothing was given.
    #[error("is empty: give `documented`, `off` or a list such as `StartJobRun=2:50,all=40:400`")]
    Empty,
    /// An entry isn't of the form that is expected.
    #[error(
        "entry `{0}` is not `Operation=refill_per_second:bucket` with a refill above 0 and a bucket of at least 1, such \
         as `StartJobRun=2:50`"
    )]
    Malformed(String),
    /// An entry names an operation that the API doesn't have.
    #[error("unknown operation `{0}`: use one of all, {known}", known = operations().collect::<Vec<_>>().join(", "))]
    UnknownOperation(String),
    /// The same operation is given twice.
    #[error("gives `{0}` twice: remove one of them")]
    Twice(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(quotas: Quotas) -> (BTreeMap<&'static str, Bucket>, Bucket) {
        match quotas {
            Quotas::PerOperation { buckets, all } => (buckets, all),
            Quotas::Off => panic!("expected quotas"),
        }
    }

    fn bucket(refill_per_second: f64, bucket: u32) -> Bucket {
        Bucket { refill_per_second, bucket }
    }

    #[test]
    fn the_documented_quotas_are_those_of_the_development_guide() {
        let (buckets, all) = parts(Quotas::parse("documented").unwrap());
        for (operation, expected) in [
            ("StartJobRun", bucket(1.0, 25)),
            ("CancelJobRun", bucket(1.0, 25)),
            ("DescribeJobRun", bucket(20.0, 100)),
            ("ListJobRuns", bucket(5.0, 100)),
            ("DescribeVirtualCluster", bucket(5.0, 100)),
            ("CreateVirtualCluster", bucket(1.0, 25)),
        ] {
            assert_eq!(buckets.get(operation), Some(&expected), "{operation}");
        }
        for unlisted in ["UpdateVirtualCluster", "TagResource", "UntagResource", "ListTagsForResource"] {
            assert_eq!(buckets.get(unlisted), None, "{unlisted}");
        }
        assert_eq!(all, bucket(20.0, 200));
    }

    #[test]
    fn a_list_replaces_only_what_it_names() {
        let (buckets, all) = parts(Quotas::parse("StartJobRun=2.5:50, TagResource=1:1,all=40:400").unwrap());
        assert_eq!(buckets["StartJobRun"], bucket(2.5, 50));
        assert_eq!(buckets["TagResource"], bucket(1.0, 1));
        assert_eq!(buckets["ListJobRuns"], bucket(5.0, 100));
        assert_eq!(all, bucket(40.0, 400));
        assert_eq!(Quotas::parse("off").unwrap(), Quotas::Off);
    }

    #[test]
    fn a_text_that_gives_no_quotas_says_what_would() {
        for (text, expected) in [
            ("", "is empty"),
            ("none", "entry `none` is not"),
            ("StartJobRun", "entry `StartJobRun` is not"),
            ("StartJobRun=1", "entry `StartJobRun=1` is not"),
            ("StartJobRun=0:25", "a refill above 0"),
            ("StartJobRun=-1:25", "a refill above 0"),
            ("StartJobRun=inf:25", "a refill above 0"),
            ("StartJobRun=1:0", "a bucket of at least 1"),
            ("StartJobRun=1:25,", "entry `` is not"),
            ("StartJobRun=1:25,StartJobRun=2:25", "gives `StartJobRun` twice"),
            ("startJobRun=1:25", "unknown operation `startJobRun`: use one of all, CancelJobRun, "),
        ] {
            let error = Quotas::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_operations_are_sorted_and_single() {
        assert!(operations().zip(operations().skip(1)).all(|(left, right)| left < right));
    }
}

//! AWS's documented quotas, with time made to pass faster.
//!
//! A test can't wait a quarter of an hour for a thousand starts. So every refill is multiplied, and every bucket by less:
//! calls are on their way for as long as ever, and in that time the service takes in more of them. The text is
//! understood by `--aws-quotas` of the operator and by the simulator.

/// Operation, refill a second, bucket.
const DOCUMENTED: [(&str, f64, u32); 9] = [
    ("StartJobRun", 1.0, 25),
    ("CancelJobRun", 1.0, 25),
    ("DescribeJobRun", 20.0, 100),
    ("ListJobRuns", 5.0, 100),
    ("CreateVirtualCluster", 1.0, 25),
    ("DescribeVirtualCluster", 5.0, 100),
    ("ListVirtualClusters", 5.0, 100),
    ("DeleteVirtualCluster", 1.0, 25),
    ("all", 20.0, 200),
];

/// The documented quotas of the operations that are called, with refills and buckets multiplied.
pub fn scaled(refills: f64, buckets: u32) -> String {
    let entries =
        DOCUMENTED.map(|(name, refill, bucket)| format!("{name}={}:{}", refill * refills, bucket * buckets));
    entries.join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use emr_simulator::Quotas;

    use super::*;

    #[test]
    fn at_their_own_pace_they_are_what_the_simulator_takes_for_documented() {
        let (ours, documented) = (scaled(1.0, 1).parse::<Quotas>(), Quotas::documented());
        let ours = ours.ok();
        for (name, ..) in DOCUMENTED.iter().filter(|(name, ..)| *name != "all") {
            for seconds in [0, 100] {
                let within = Duration::from_secs(seconds);
                let allowed = ours.as_ref().and_then(|ours| ours.allows(name, within));
                assert!(allowed.is_some() && allowed == documented.allows(name, within), "{name}");
            }
        }
    }
}

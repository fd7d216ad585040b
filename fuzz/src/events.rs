//! Messages of the event queue, which whoever may write to it can fill with anything: one is a hint that says what its
//! members say, or there is a reason why it is none.

use emrcontainers_operator::emr::hint::{NoHint, parse};
use serde_json::Value;

const ACCOUNT: &str = "111122223333";

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = parse(text, ACCOUNT);
    let Ok(event) = serde_json::from_str::<Value>(text) else {
        return assert_eq!(read, Err(NoHint::Unreadable), "no JSON");
    };
    assert_eq!(parse(&event.to_string(), ACCOUNT), read, "in canonical form");
    let is_ours = event["source"] == "aws.emr-containers"
        && event["detail-type"] == "EMR Job Run State Change"
        && (event["account"] == ACCOUNT || event["account"].is_null());
    match read {
        Ok(hint) => {
            assert!(is_ours, "a hint of others' events");
            assert_eq!(hint.account, ACCOUNT);
            assert_eq!(event["region"], *hint.region);
            assert_eq!(event["detail"]["virtualClusterId"], *hint.virtual_cluster_id);
            assert_eq!(event["detail"]["id"], *hint.run_id);
            assert_eq!(event["detail"]["state"], *hint.state);
            assert_eq!(event["time"].as_str().and_then(|time| time.parse().ok()), Some(hint.at));
        }
        Err(NoHint::Foreign) => assert!(!is_ours, "an event of ours is called foreign"),
        Err(NoHint::Unreadable) => {}
    }
}

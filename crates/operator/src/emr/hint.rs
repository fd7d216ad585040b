//! What an event of EventBridge says of a run. Pure: a text in, a hint or the reason why there is none out.
//!
//! Believes nothing: whether there is such a run, and whether it is true, is for others. Invariant: a hint names a run, its
//! virtual cluster, account and region, a state, and a time, all as the message's members do.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Who sends the events.
const SOURCE: &str = "aws.emr-containers";
/// The one sort of event that tells of states.
const DETAIL_TYPE: &str = "EMR Job Run State Change";

/// A run is said to be in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The account that the run is in.
    pub account: String,
    /// The region that the run is in.
    pub region: String,
    /// The virtual cluster that the run is in.
    pub virtual_cluster_id: String,
    /// Id of the run.
    pub run_id: String,
    /// The state that it is said to be in.
    pub state: String,
    /// When AWS sent the event, to the second.
    pub at: Timestamp,
}

/// Why a message is no hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHint {
    /// It is something else than an event of a run.
    Unreadable,
    /// It is an event of another account or sort.
    Foreign,
}

#[derive(Deserialize)]
struct Event {
    source: String,
    #[serde(rename = "detail-type")]
    detail_type: String,
    /// Absent from what emulators send.
    account: Option<String>,
    region: String,
    time: Timestamp,
    detail: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    id: String,
    virtual_cluster_id: String,
    state: String,
}

/// Reads the body of a message to `account`.
pub fn parse(body: &str, account: &str) -> Result<Hint, NoHint> {
    let event: Event = read(serde_json::from_str(body).map_err(|_| NoHint::Unreadable)?)?;
    if event.source != SOURCE
        || event.detail_type != DETAIL_TYPE
        || event.account.is_some_and(|sender| sender != account)
    {
        return Err(NoHint::Foreign);
    }
    let detail: Detail = read(event.detail)?;
    Ok(Hint {
        account: account.to_owned(),
        region: event.region,
        virtual_cluster_id: detail.virtual_cluster_id,
        run_id: detail.id,
        state: detail.state,
        at: event.time,
    })
}

/// By the names of members: serde would read a list, too, by the order of its items.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, NoHint> {
    Some(value)
        .filter(Value::is_object)
        .and_then(|object| serde_json::from_value(object).ok())
        .ok_or(NoHint::Unreadable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ACCOUNT: &str = "111122223333";

    fn event() -> Value {
        json!({
            "version": "0", "id": "6f4a2c2e-0000-4000-8000-000000000000", "detail-type": DETAIL_TYPE, "source": SOURCE,
            "account": ACCOUNT, "time": "2026-03-22T22:10:47Z", "region": "us-east-1", "resources": [],
            "detail": {
                "severity": "ERROR", "name": "word-count", "id": "0000000378nj1d2s7lo", "virtualClusterId": "0b0ywvksaltbxpnlf",
                "state": "FAILED", "releaseLabel": "emr-7.10.0-latest", "failureReason": "USER_ERROR",
                "stateDetails": "JobRun failed.", "message": "Job Run 0000000378nj1d2s7lo (word-count) failed.",
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Result<Hint, NoHint> {
        let mut event = event();
        *event.pointer_mut(pointer).unwrap() = value;
        parse(&event.to_string(), ACCOUNT)
    }

    #[test]
    fn an_event_of_a_run_is_a_hint() {
        let hint = Hint {
            account: ACCOUNT.to_owned(),
            region: "us-east-1".to_owned(),
            virtual_cluster_id: "0b0ywvksaltbxpnlf".to_owned(),
            run_id: "0000000378nj1d2s7lo".to_owned(),
            state: "FAILED".to_owned(),
            at: "2026-03-22T22:10:47Z".parse().unwrap(),
        };
        assert_eq!(parse(&event().to_string(), ACCOUNT), Ok(hint));
    }

    #[test]
    fn what_is_no_event_of_a_run_is_told_apart() {
        for (pointer, value) in [
            ("/source", json!("aws.emr-serverless")),
            ("/source", json!("my.app")),
            ("/account", json!("999999999999")),
            ("/detail-type", json!("EMR Job Run New Driver Attempt")),
            ("/detail-type", json!("AWS API Call via CloudTrail")),
        ] {
            assert_eq!(with(pointer, value.clone()), Err(NoHint::Foreign), "{pointer} {value}");
        }
        for (pointer, value) in [
            ("/time", json!("yesterday")),
            ("/account", json!(111_122_223_333_u64)),
            ("/detail", json!("text")),
            ("/detail", json!(["0000000378nj1d2s7lo", "0b0ywvksaltbxpnlf", "FAILED"])),
            ("/detail/id", Value::Null),
            ("/detail/state", json!(["FAILED"])),
        ] {
            assert_eq!(with(pointer, value.clone()), Err(NoHint::Unreadable), "{pointer} {value}");
        }
        let members = ["source", "detail-type", "account", "region", "time", "detail"];
        let list = json!(members.map(|name| event()[name].clone())).to_string();
        for body in ["", "null", "{}", "\u{0}", "{\"Type\":\"Notification\",\"Message\":\"{}\"}", &list] {
            assert_eq!(parse(body, ACCOUNT), Err(NoHint::Unreadable), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(body in ".{0,200}") {
            prop_assert_eq!(parse(&body, ACCOUNT), Err(NoHint::Unreadable));
        }

        #[test]
        fn an_event_that_is_cut_off_is_no_hint(cut in 0_usize..600) {
            let whole = event().to_string();
            let part: String = whole.chars().take(cut).collect();
            prop_assert_eq!(parse(&part, ACCOUNT).is_ok(), part.len() == whole.len());
        }
    }
}

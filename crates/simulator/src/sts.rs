//! GetCallerIdentity, AssumeRole and AssumeRoleWithWebIdentity in the query protocol.
//!
//! Must not refuse by itself: who may assume what is for faults to say.
//! Invariant: every AssumeRole gives new credentials.

use std::time::Duration;

use jiff::Timestamp;

use crate::caller::{Callers, Identity};
use crate::clock::{later, whole_seconds};
use crate::error::ApiError;
use crate::ids::Ids;
use crate::operation::Operation;
use crate::paging::Query;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Answers one of the three operations; `caller` is who signed the request.
pub(crate) fn answer(
    operation: Operation,
    form: &Query,
    caller: &Identity,
    callers: &mut Callers,
    ids: &mut Ids,
) -> Result<Vec<u8>, ApiError> {
    let result = if operation == Operation::GetCallerIdentity {
        format!(
            "<Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account>",
            escape(&caller.arn),
            caller.user_id,
            caller.account
        )
    } else {
        assume(form, callers, ids)?
    };
    let request_id = ids.random(32);
    Ok(format!(
        "<{operation}Response xmlns=\"{NAMESPACE}\"><{operation}Result>{result}</{operation}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    )
    .into_bytes())
}

fn assume(form: &Query, callers: &mut Callers, ids: &mut Ids) -> Result<String, ApiError> {
    let invalid = |what: &str| ApiError::new(400, "ValidationError", format!("{what} is invalid"));
    let role = form.first("RoleArn").ok_or_else(|| invalid("RoleArn"))?;
    let session = form.first("RoleSessionName").ok_or_else(|| invalid("RoleSessionName"))?;
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else {
        return Err(invalid("RoleArn"));
    };
    let Some((_, name)) = resource.strip_prefix("role").and_then(|path| path.rsplit_once('/')) else {
        return Err(invalid("RoleArn"));
    };
    let seconds = form.first("DurationSeconds").and_then(|text| text.parse().ok()).unwrap_or(3600);
    // Callers compare the expiry with their own clock, not with the simulator's.
    let expiry = whole_seconds(later(Timestamp::now(), Duration::from_secs(seconds)));
    let access_key = format!("ASIA{}", ids.random(16).to_uppercase());
    let identity = Identity {
        account: (*account).to_owned(),
        arn: format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}"),
        user_id: format!("AROA{}:{session}", ids.random(17).to_uppercase()),
    };
    let result = format!(
        "<Credentials><AccessKeyId>{access_key}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{expiry}</Expiration></Credentials>\
         <AssumedRoleUser><Arn>{}</Arn><AssumedRoleId>{}</AssumedRoleId></AssumedRoleUser>",
        ids.random(40),
        ids.random(64),
        escape(&identity.arn),
        escape(&identity.user_id)
    );
    callers.remember(access_key, identity);
    Ok(result)
}

/// An error in the query protocol.
pub(crate) fn error_body(error: &ApiError) -> Vec<u8> {
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message>\
         </Error></ErrorResponse>",
        escape(&error.code),
        escape(&error.message)
    )
    .into_bytes()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

//! How the value of a flag is read: from its text to a value of ours, or what is wrong with it and the remedy.
//!
//! Knows no flag by name. Invariant: the text of an error completes the sentence that the flag's name begins.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::Uri;
use jiff::SignedDuration;

use crate::args::go_bool;
use crate::settings::{DeletionPolicy, JobReadyPolicy, LeaderElection, LogLevel};
use crate::timing;

pub(crate) fn switch(text: &str) -> Result<bool, String> {
    go_bool(text).ok_or_else(|| format!("is `{text}`: use true or false"))
}

pub(crate) fn region(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty: give the region, such as eu-central-1, here or in AWS_REGION".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        Ok(text.to_owned())
    } else {
        Err(format!("is `{text}`, which is no region: use a code such as eu-central-1"))
    }
}

/// Checks an endpoint URL; empty is none.
pub(crate) fn endpoint(text: &str, allow_unsafe: bool) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let malformed =
        || format!("is `{text}`, which is no endpoint URL: use the form https://host[:port][/path]");
    let uri: Uri = text.parse().map_err(|_| malformed())?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty()
        || uri.query().is_some()
        || uri.authority().is_some_and(|part| part.as_str().contains('@'))
    {
        return Err(malformed());
    }
    match uri.scheme_str() {
        Some("https") => Ok(Some(text.to_owned())),
        Some("http") if allow_unsafe => Ok(Some(text.to_owned())),
        Some("http") => {
            Err(format!("is `{text}`, which is not https: add --allow-unsafe-aws-endpoint-urls to accept it"))
        }
        _ => Err(malformed()),
    }
}

/// Reads `host:port` or Go's `:port`; Go's `0` and nothing at all mean that nothing is served.
pub(crate) fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    let text = text.trim();
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let parsed = match text.split_once(':') {
        Some(("", port)) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        Some(("localhost", port)) => {
            port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        }
        _ => text.parse().ok(),
    };
    parsed
        .map(Some)
        .ok_or_else(|| format!("is `{text}`, which is no address: use the form 0.0.0.0:8080, or 0 for none"))
}

/// The same for the metrics, which are served on a port by default where upstream's library is told none.
pub(crate) fn metrics_address(text: &str) -> Result<Option<SocketAddr>, String> {
    address(if text.trim().is_empty() { ":8080" } else { text })
}

/// Reads how long a request may take; 0 is for ever.
pub(crate) fn request_timeout(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!("is `{text}`, which is no time: use the form 30s or 1m30s, or 0 for as long as is possible")
    };
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::MAX);
    }
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    let timeout = Duration::try_from(parsed).map_err(|_| wrong())?;
    Ok(if timeout.is_zero() { Duration::MAX } else { timeout })
}

/// Nothing may hang for ever, so that no request may take longer than a step of a pass.
pub(crate) fn bounded_timeout(timeout: Duration, text: &str) -> Result<Duration, String> {
    let most = timing::STEP.as_secs();
    let why = || {
        format!("is `{text}`, for which {most}s is taken: nothing may hang for longer; use {most}s or less")
    };
    if timeout > timing::STEP { Err(why()) } else { Ok(timeout) }
}

/// Reads a number of seconds; none is 0.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("is `{text}`: use a whole number of seconds, or 0 for the default"))
}

pub(crate) fn election(text: &str) -> Result<LeaderElection, String> {
    match go_bool(text) {
        Some(true) => Ok(LeaderElection::On),
        Some(false) => Ok(LeaderElection::Off),
        None if text == "auto" => Ok(LeaderElection::IfAllowed),
        None => Err(format!("is `{text}`: use true, false or auto")),
    }
}

pub(crate) fn level(text: &str) -> Result<LogLevel, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "trace" => Ok(LogLevel::Trace),
        "debug" => Ok(LogLevel::Debug),
        "" | "info" => Ok(LogLevel::Info),
        "warn" | "warning" => Ok(LogLevel::Warn),
        // The levels above error are upstream's; nothing of ours is logged at them.
        "error" | "dpanic" | "panic" | "fatal" => Ok(LogLevel::Error),
        _ => Err(format!("is `{text}`, for which info is taken: use trace, debug, info, warn or error")),
    }
}

pub(crate) fn namespaces(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for part in text.split(',') {
        if part.trim().is_empty() {
            return Err(format!("is `{text}`, which has a blank entry: remove the comma too many"));
        }
        let name = namespace(part)?;
        if names.contains(&name) {
            return Err(format!("names `{name}` twice: remove one of them"));
        }
        names.push(name);
    }
    Ok(names)
}

pub(crate) fn optional_namespace(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() { Ok(None) } else { namespace(text).map(Some) }
}

/// Upstream's, of three: the variable, the one it was called before, and a fixed one.
pub(crate) fn system_namespace(text: &str, former: &str) -> Result<String, String> {
    match (text, former) {
        ("", "") => Ok("ack-system".to_owned()),
        ("", former) => namespace(former),
        (text, _) => namespace(text),
    }
}

fn namespace(name: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label =
        name.len() <= 63 && name.bytes().all(allowed) && !name.starts_with('-') && !name.ends_with('-');
    if label && !name.is_empty() {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "has `{name}`, which can't be a namespace: use up to 63 of a-z, 0-9 and - that don't start or end in -"
        ))
    }
}

/// Each text is a line of CSV, so that a value can have a comma in quotes. As upstream reads them: what has no key or no value
/// is no tag, and the last one of a key counts.
pub(crate) fn tags(texts: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut tags: Vec<(String, String)> = Vec::new();
    // One empty text is how a chart says that there are none.
    for text in texts.iter().filter(|text| !text.trim().is_empty()) {
        for part in list(text)? {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("has `{part}`, which is no tag: use the form key=value,key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() || value.is_empty() {
                continue;
            }
            tags.retain(|(known, _)| known != key);
            tags.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(tags)
}

fn list(text: &str) -> Result<Vec<String>, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let line = reader.records().next().transpose().map_err(|error| format!("is no line of CSV: {error}"))?;
    Ok(line.into_iter().flat_map(|line| line.iter().map(str::to_owned).collect::<Vec<_>>()).collect())
}

pub(crate) fn deletion(text: &str) -> Result<DeletionPolicy, String> {
    match text.trim() {
        "delete" => Ok(DeletionPolicy::Delete),
        "retain" => Ok(DeletionPolicy::Retain),
        _ => Err(format!("is `{text}`: use delete or retain")),
    }
}

pub(crate) fn concurrency(text: &str) -> Result<u16, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number >= 1)
        .ok_or_else(|| format!("is `{text}`: use a whole number from 1 to {}", u16::MAX))
}

pub(crate) fn ready(text: &str) -> Result<JobReadyPolicy, String> {
    match text.trim() {
        "outcome" => Ok(JobReadyPolicy::Outcome),
        "synced" => Ok(JobReadyPolicy::Synced),
        _ => Err(format!("is `{text}`: use outcome or synced")),
    }
}

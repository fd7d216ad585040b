//! The one variable that the AWS SDK must not see: `AWS_ENDPOINT_URL`.
//!
//! Upstream's Deployment sets it, to nothing by default, and means emr-containers by it. The SDK reads it for every
//! service, the exchange of a service account's token included, and takes nothing for a URL. A process can't take a
//! variable out of its own environment safely, so it is started anew without, with the flag instead. Invariant: once
//! [`begin`] returns `Ok`, the variable isn't there.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::args::AWS_ENDPOINT_URL;

/// Starts this process anew, in its place, if the variable is there.
///
/// # Errors
/// When it can't be started anew.
pub fn begin() -> io::Result<()> {
    let Some(url) = std::env::var_os(AWS_ENDPOINT_URL) else { return Ok(()) };
    let mut typed = std::env::args_os();
    let mut command = Command::new(std::env::current_exe()?);
    command.env_remove(AWS_ENDPOINT_URL);
    if let Some(name) = typed.next() {
        command.arg0(name);
    }
    Err(command.args(arguments(url, typed)).exec())
}

/// The arguments, with the flag before what was typed, which goes before the variable.
fn arguments(url: OsString, typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let flag = (!url.is_empty()).then(|| {
        let mut flag = OsString::from("--aws-endpoint-url=");
        flag.push(url);
        flag
    });
    flag.into_iter().chain(typed).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Args;

    fn endpoint(url: &str, typed: &[&str]) -> String {
        let arguments = arguments(url.into(), typed.iter().map(OsString::from));
        let name = std::iter::once(OsString::from("operator"));
        let matches = Args::command().try_get_matches_from(name.chain(arguments)).unwrap();
        matches.get_one::<String>("aws_endpoint_url").cloned().unwrap()
    }

    #[test]
    fn the_variable_counts_as_the_flag_and_the_flag_goes_before_it() {
        assert_eq!(endpoint("", &[]), "");
        assert_eq!(endpoint("https://one", &["--log-level", "debug"]), "https://one");
        assert_eq!(endpoint("https://one", &["--aws-endpoint-url", "https://two"]), "https://two");
        assert_eq!(endpoint("https://one", &["--aws-endpoint-url="]), "");
    }
}

//! The log: JSON lines for machines, text for a terminal.
//!
//! Installs the one subscriber of the process, on standard error. Must be called once; messages before it are lost.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use crate::log_lines::Lines;
use crate::settings::{LogLevel, Settings};

/// The environment variable with the finer filter that wins over the flag.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// The libraries that narrate every frame or header at debug: they are wanted only by who names them in RUST_LOG.
const QUIET: &str = "aws_config=info,aws_runtime=info,aws_sdk_emrcontainers=info,aws_sdk_sts=info,aws_sigv4=info,\
                     aws_smithy_http_client=info,aws_smithy_runtime=info,aws_smithy_runtime_api=info,h2=info,hyper=info,\
                     hyper_util=info,kube_client=info,rustls=info,tower=info";

/// Starts the log.
pub fn start(settings: &Settings) -> anyhow::Result<()> {
    let directives = match std::env::var(FILTER_VARIABLE) {
        Ok(filter) if !filter.trim().is_empty() => filter,
        _ => directives(settings.log_level),
    };
    let filter = EnvFilter::builder().parse(&directives).with_context(|| {
        format!("the filter `{directives}` of {FILTER_VARIABLE} can't be read: use the form info,kube=debug")
    })?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if terminal || settings.development_logging {
        builder.with_ansi(terminal).with_target(false).try_init()
    } else {
        builder.fmt_fields(JsonFields::new()).event_format(Lines).try_init()
    }
    .map_err(|error| anyhow::anyhow!("the log can't be started: {error}"))
}

fn directives(level: LogLevel) -> String {
    let level = match level {
        LogLevel::Trace => return format!("trace,{QUIET}"),
        LogLevel::Debug => return format!("debug,{QUIET}"),
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    level.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_a_filter() {
        for level in [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error] {
            let directives = directives(level);
            EnvFilter::builder().parse(&directives).unwrap_or_else(|error| panic!("{directives}: {error}"));
        }
    }
}

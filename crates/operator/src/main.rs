//! The process: allocator, TLS provider, arguments, log, runtime and signals; then [`emrcontainers_operator::run`].

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use emrcontainers_operator::api_requests;
use emrcontainers_operator::environment;
use emrcontainers_operator::metrics::Metrics;
use emrcontainers_operator::settings::{Settings, SettingsError};
use emrcontainers_operator::telemetry;
use kube::Client;
use kube::config::KubeConfigOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Static images are built with musl, whose own allocator is slow. Elsewhere the system's is taken, which needed half the
/// memory when both were measured.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a shell reports for a process that a signal ended, less the number of the signal.
const SIGNALLED: i32 = 128;

fn main() -> ExitCode {
    if let Err(error) = environment::begin() {
        eprintln!(
            "the operator can't start itself without AWS_ENDPOINT_URL ({error}): use --aws-endpoint-url instead"
        );
        return ExitCode::FAILURE;
    }
    let settings = match Settings::from_command_line(std::env::args_os()) {
        Ok(settings) => settings,
        // clap prints help to standard output and gives it the code 0.
        Err(SettingsError::Usage(error)) => error.exit(),
        Err(error @ SettingsError::Problems(_)) => {
            eprint!("{error}");
            return ExitCode::from(2);
        }
    };
    match start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not have started.
            if tracing::dispatcher::has_been_set() {
                tracing::error!(error = format!("{error:#}"), "the operator ends");
            } else {
                eprintln!("the operator ends: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

/// One thread does it all. The work is to wait, and a third of what it costs with more threads is to wake them; the
/// longest steps, to decode a page of a list and to take a whole list in, take milliseconds for thousands of objects.
fn start(settings: Settings) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    telemetry::start(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone())?);
        let metrics = Metrics::new();
        let client = connect(&metrics).await?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
        emrcontainers_operator::run(settings, client, metrics, stop).await
    });
    // Tasks that are left must not delay the exit.
    runtime.shutdown_background();
    result
}

/// The future that stops on the first SIGTERM or SIGINT, and exits at once on the second.
fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be received")?;
    Ok(async move {
        loop {
            let kind = tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            };
            if stop.is_cancelled() {
                std::process::exit(SIGNALLED + kind.as_raw_value());
            }
            tracing::info!(signal = kind.as_raw_value(), "stopping; a second signal exits at once");
            stop.cancel();
        }
    })
}

/// Connects as kubectl would: KUBECONFIG if it is set, else the file in the home directory, else the pod's own account.
async fn connect(metrics: &Metrics) -> anyhow::Result<Client> {
    let config = match std::env::var("KUBECONFIG") {
        // A file that was named must not be passed over in silence.
        Ok(path) if !path.is_empty() => kube::Config::from_kubeconfig(&KubeConfigOptions::default())
            .await
            .with_context(|| format!("KUBECONFIG names {path}, which can't be used: correct or unset it"))?,
        _ => kube::Config::infer().await.context(
            "no API server is known: tried ~/.kube/config, then the service account of a pod; set KUBECONFIG to the \
             path of a kubeconfig file",
        )?,
    };
    api_requests::client(config, metrics.clone()).context("the connection to the API server can't be set up")
}

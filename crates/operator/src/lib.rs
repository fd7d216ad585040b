//! placeholder
pub mod args;
pub mod health;
mod metric_labels;
pub mod metrics;
mod process_metrics;
pub mod quotas;
pub mod server;
pub mod settings;
pub mod telemetry;
pub mod timing;

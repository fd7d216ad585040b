//! The operator as a library: the same code runs in the binary and in the tests.

pub mod args;
pub mod context;
pub mod controllers;
pub mod emr;
pub mod health;
pub mod job_run;
pub mod memory;
mod metric_labels;
pub mod metrics;
pub mod pass;
mod process_metrics;
pub mod quotas;
pub mod server;
pub mod settings;
pub mod tags;
pub mod telemetry;
pub mod timing;
pub mod virtual_cluster;
pub mod watch;
pub mod write;

//! placeholder
pub mod quotas;

//! wip
mod bucket;
pub mod error;
pub mod limit;
pub mod observe;
pub mod operation;
mod queue;

//! The operator as a library: the same code runs in the binary and in the tests.

pub mod emr;
pub mod quotas;

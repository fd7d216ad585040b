//! What must hold for any input, as targets that two engines drive: `tests/bounded.rs` with the kept corpus and what it
//! makes of it, for seconds and in every test run, and libFuzzer by coverage, by way of cargo-fuzz and one binary of
//! `fuzz_targets` for each (`make fuzz`), for as long as one likes.
//!
//! A target takes bytes and panics where something doesn't hold. Invariant: what it does depends on its input alone, so
//! that an input that fails once fails again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a target stops with a message"
)]

mod events;
#[cfg(feature = "libfuzzer")]
pub mod libfuzzer;
pub mod mutate;
mod objects;
mod overrides;
mod paths;
mod settings;
mod simulator;

/// Something that must hold for any input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, which is also that of its folder in `corpus`.
    pub name: &'static str,
    /// Panics when it does not hold.
    pub check: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 6] = [
    Target { name: "events", check: events::check },
    Target { name: "objects", check: objects::check },
    Target { name: "overrides", check: overrides::check },
    Target { name: "paths", check: paths::check },
    Target { name: "settings", check: settings::check },
    Target { name: "simulator", check: simulator::check },
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

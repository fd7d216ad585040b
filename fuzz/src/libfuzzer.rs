//! What the binaries that cargo-fuzz builds have in common.

use libfuzzer_sys::fuzzer_mutate;

use crate::mutate::mutate;

/// The target of a binary, by its name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> crate::Target {
    crate::target(name).expect("the binary is called as its target")
}

/// Changes an input in place and says how long it is then. Half of the inputs are changed by members instead of bytes:
/// most changes of bytes only break JSON.
pub fn change(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    if seed.is_multiple_of(2) {
        return fuzzer_mutate(data, size, max_size);
    }
    let old = data[..size].to_vec();
    let new = mutate(&old, &old, u64::from(seed));
    let length = new.len().min(max_size);
    data[..length].copy_from_slice(&new[..length]);
    length
}

//! libFuzzer on the target `paths`.
#![no_main]

use fuzz::libfuzzer::{change, target};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| (target("paths").check)(data));
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    change(data, size, max_size, seed)
});

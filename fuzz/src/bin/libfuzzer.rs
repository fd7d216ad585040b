//! libFuzzer on the target that `FUZZ_TARGET` names; `tools/fuzz.sh` builds and runs it.
#![no_main]
#![allow(clippy::expect_used, reason = "a fuzzer that can't begin stops with a message")]

use std::sync::LazyLock;

use fuzz::Target;
use fuzz::mutate::mutate;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    fuzz::target(&name).expect("FUZZ_TARGET names a target that there is")
});

fuzz_target!(|data: &[u8]| (TARGET.check)(data));

// Half of the inputs are changed by members instead of bytes: most changes of bytes only break JSON.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(2) {
        return fuzzer_mutate(data, size, max_size);
    }
    let old = data.get(..size).unwrap_or_default().to_vec();
    let new = mutate(&old, &old, u64::from(seed));
    let length = new.len().min(max_size);
    for (place, byte) in data.iter_mut().zip(new.into_iter().take(length)) {
        *place = byte;
    }
    length
});

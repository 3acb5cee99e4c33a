#!/usr/bin/env bash
# Prints the folder that holds the Gateway API's CRDs (standard channel), from its Go module.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/versions.env"
version=$GATEWAY_API_VERSION
dir=$(cd "${TMPDIR:-/tmp}" && GOFLAGS=-mod=mod go mod download -json "sigs.k8s.io/gateway-api@$version" |
  sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$dir" ] || { echo "the Gateway API's module $version could not be had: is Go installed, and its module proxy reachable?" >&2; exit 1; }
echo "$dir/config/crd/standard"

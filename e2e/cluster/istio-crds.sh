#!/usr/bin/env bash
# Prints the file that holds Istio's CRDs, from its API's Go module.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/versions.env"
version=$ISTIO_API_VERSION
dir=$(cd "${TMPDIR:-/tmp}" && GOFLAGS=-mod=mod go mod download -json "istio.io/api@$version" |
  sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$dir" ] || { echo "the module of Istio's API $version could not be had: is Go installed, and its module proxy reachable?" >&2; exit 1; }
echo "$dir/kubernetes/customresourcedefinitions.gen.yaml"

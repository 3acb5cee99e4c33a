#!/usr/bin/env bash
# import.sh addons | ARCHIVE…: archives into the containerd of $CLUSTER, each only if it is new there.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
cluster_vars "$CLUSTER"
[ "$1" != addons ] || set -- "$MOLT_IMAGES"/{pause,coredns,envoy-gateway,envoy,prometheus}.tar
wait_for 30 "containerd" ctr_ version
marks=$CONTAINERD_ROOT/molt-imported
mkdir -p "$marks"
for archive in "$@"; do
  mark=$marks/$(basename "$archive")
  now=$(stat -c '%s %Y' "$archive")
  [ "$(cat "$mark" 2>/dev/null)" != "$now" ] || continue
  ctr_ images import --digests=false "$archive" >/dev/null
  echo "$now" >"$mark"
done

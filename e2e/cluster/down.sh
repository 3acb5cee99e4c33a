#!/usr/bin/env bash
# down.sh [NAME]: ends the cluster and leaves nothing of it but the cache (binaries, images).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
cluster_vars "${1:-molt}"
need_root
mkdir -p "$MOLT_CACHE_HOME/clusters"
exec 9>"$MOLT_CACHE_HOME/clusters/.$CLUSTER.lock"
flock -w 600 9 || fail "another up.sh or down.sh of '$CLUSTER' has been running for 10 minutes" "end it and try again"
"$MOLT_CLUSTER_DIR/node/clear.sh"
rm -f "$MOLT_CACHE_HOME/clusters/.$CLUSTER.lock"
say "cluster '$CLUSTER' is down"

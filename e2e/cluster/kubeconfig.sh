#!/usr/bin/env bash
# kubeconfig.sh [NAME]: prints the path of the cluster's kubeconfig.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
cluster_vars "${1:-molt}"
[ -e "$STATE/kubeconfig" ] || fail "there is no cluster '$CLUSTER'" "e2e/cluster/up.sh $CLUSTER"
echo "$STATE/kubeconfig"

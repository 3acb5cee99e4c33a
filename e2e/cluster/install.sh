#!/usr/bin/env bash
# install.sh [NAME]: installs the operator into the cluster NAME (default molt) by its Helm chart, from the
# image that image.sh has imported, and waits until it is ready. Run again, it takes a new image.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
cluster_vars "${1:-molt}"
[ -e "$STATE/env" ] || fail "the cluster '$CLUSTER' is not up" "e2e/cluster/up.sh $CLUSTER"
# shellcheck source=/dev/null
. "$STATE/env"
export KUBECONFIG
repo=$(cd "$MOLT_CLUSTER_DIR/../.." && pwd)
tag=$(cat "$MOLT_IMAGES/operator.tar.tag")
# Helm installs CRDs once and never changes them again: they are applied before it.
kctl apply --server-side --force-conflicts -f "$repo/crds" >/dev/null
# The image's digest in an annotation: the same tag with other content is another rollout.
digest=$(sha256sum "$MOLT_IMAGES/operator.tar" | cut -c1-16)
"$MOLT_BIN/helm" upgrade --install molt "$repo/charts/molt" --namespace molt-system --create-namespace --skip-crds \
  --set image.repository="${tag%:*}" --set image.tag="${tag##*:}" --set image.pullPolicy=Never \
  --set prometheus.address=http://prometheus.monitoring:9090 --set-string podAnnotations."molt\.dev/image"="$digest" \
  --wait --timeout 3m >/dev/null
kctl label namespace molt-system pod-security.kubernetes.io/enforce=restricted --overwrite >/dev/null
say "the operator runs in cluster '$CLUSTER', namespace molt-system"

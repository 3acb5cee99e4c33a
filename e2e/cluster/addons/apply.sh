#!/usr/bin/env bash
# Applies DNS, Prometheus and the gateway to $CLUSTER.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
cluster_vars "$CLUSTER"
here=$MOLT_CLUSTER_DIR/addons
EG=${ENVOY_GATEWAY_VERSION:-v1.9.1} GWAPI=${GATEWAY_API_VERSION:-v1.6.1}

# The chart and the CRDs lie in Go modules. Rendering them costs seconds, so the result is kept.
rendered=$MOLT_CACHE/addons
# By content alone, so that another checkout of the same finds it.
key=$(cat "$here/envoy-gateway-values.yaml" "$here/apply.sh" | sha256sum | cut -c1-16)-$EG-$GWAPI
if [ ! -e "$rendered/$key/eg.yaml" ]; then
  module() { go mod download -json "$1" | jq -er .Dir || fail "cannot find the Go module $1" "run e2e/cluster/build.sh all"; }
  eg=$(module "github.com/envoyproxy/gateway@$EG") gwapi=$(module "sigs.k8s.io/gateway-api@$GWAPI")
  # Not in place of another: a second cluster may be reading that one.
  mkdir -p "$rendered/$key"
  for f in "$gwapi"/config/crd/standard/*.yaml "$eg"/charts/gateway-helm/charts/crds/crds/generated/*.yaml; do
    echo ---
    cat "$f"
  done >"$rendered/$key/crds.yaml"
  sed -e 's|\${GatewayImage}|""|; s|\${GatewayImagePullPolicy}|""|' "$eg/charts/gateway-helm/values.tmpl.yaml" >"$rendered/$key/values.yaml"
  # Without hooks: the only one makes certificates, which is done from here below.
  "$MOLT_BIN/helm" template eg "$eg/charts/gateway-helm" -n envoy-gateway-system --no-hooks --skip-crds \
    -f "$rendered/$key/values.yaml" -f "$here/envoy-gateway-values.yaml" >"$rendered/$key/eg.yaml.part"
  mv "$rendered/$key/eg.yaml.part" "$rendered/$key/eg.yaml"
fi

apply() { kctl apply --server-side --force-conflicts -f "$1" >/dev/null; }
sed "s|@DNS_IP@|$DNS_IP|" "$here/coredns.yaml" | apply - &
dns=$!
apply "$here/prometheus.yaml" &
prometheus=$!
(
  kctl create namespace envoy-gateway-system --dry-run=client -o yaml | apply -
  # The chart does this in a job; a process on the host is seconds faster.
  KUBECONFIG=$STATE/kubeconfig ENVOY_GATEWAY_NAMESPACE=envoy-gateway-system \
    "$MOLT_BIN/envoy-gateway" certgen --disable-topology-injector >"$STATE/logs/certgen.log" 2>&1 ||
    fail "envoy-gateway certgen: $(tail -1 "$STATE/logs/certgen.log")" "see $STATE/logs/certgen.log"
) &
certs=$!
apply "$rendered/$key/crds.yaml"
wait "$certs"
apply "$rendered/$key/eg.yaml"
kctl wait --for=condition=Established --timeout=30s crd/envoyproxies.gateway.envoyproxy.io \
  crd/gateways.gateway.networking.k8s.io crd/gatewayclasses.gateway.networking.k8s.io >/dev/null
apply "$here/gateway.yaml"
wait "$dns" && wait "$prometheus"

#!/usr/bin/env bash
# up.sh [NAME]: a full Kubernetes node with gateway, DNS and Prometheus, without Docker. Idempotent.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
cluster_vars "${1:-molt}"
need_root

# One run at a time per cluster: two would tear down each other's half-made node.
mkdir -p "$MOLT_CACHE_HOME/clusters"
exec 9>"$MOLT_CACHE_HOME/clusters/.$CLUSTER.lock"
flock -w 600 9 || fail "another up.sh or down.sh of '$CLUSTER' has been running for 10 minutes" "end it and try again"

finish() {
  # shellcheck source=/dev/null
  . "$STATE/env"
  say "cluster '$CLUSTER' is up"
  printf 'KUBECONFIG=%s\nGATEWAY_URL=%s\nPROMETHEUS_URL=%s\n' "$KUBECONFIG" "$GATEWAY_URL" "$PROMETHEUS_URL"
}
# healthy: the API server, the gateway and Prometheus answer at the addresses that were written down.
healthy() (
  node_pid >/dev/null && [ -e "$STATE/env" ] || return 1
  . "$STATE/env"
  kctl get --raw /readyz --request-timeout=3s >/dev/null 2>&1 &&
    curl -sf --noproxy '*' -m 3 -o /dev/null "$PROMETHEUS_URL/-/ready" &&
    # No route yet means 404: any answer shows that the gateway works.
    curl -s --noproxy '*' -m 3 -o /dev/null "$GATEWAY_URL/"
)
if healthy; then
  finish
  exit
fi
# A component that was just killed comes back by itself, and a busy machine answers late: only a node
# that stays silent is thrown away with all that is in it.
if node_pid >/dev/null && [ -e "$STATE/env" ]; then
  say "the node runs but does not answer: giving it a minute"
  for _ in $(seq 120); do
    sleep 0.5
    if healthy; then
      finish
      exit
    fi
  done
fi

say "binaries and images"
# The lock stays with this script: a daemon that inherited it would hold it for good.
[ ! -x "$MOLT_CLUSTER_DIR/build.sh" ] || "$MOLT_CLUSTER_DIR/build.sh" all >&2 9>&-
"$MOLT_CLUSTER_DIR/images/addons.sh" 9>&-

if [ -d "$STATE" ] || [ -e "/var/run/netns/$NETNS" ]; then
  say "clearing what an earlier run left"
  "$MOLT_CLUSTER_DIR/node/clear.sh"
fi
for net in "$SERVICE_NET.0.0/16" "$POD_NET.0.0/16" "$HOST_IP/30"; do
  [ -z "$(ip route show to root "$net")" ] ||
    fail "addresses $net are in use: $(ip route show to root "$net" | head -1)" "choose another cluster name, or down.sh the cluster that has them"
done

say "node process"
mkdir -p "$STATE/logs" "$STATE/cni" "$CONTAINERD_ROOT"
chmod 700 "$STATE"
"$MOLT_CLUSTER_DIR/node/certs.sh"
for f in containerd.toml cni.conflist kubelet.yaml; do
  to=$STATE/$f
  [ $f != cni.conflist ] || to=$STATE/cni/10-molt.conflist
  sed -e "s|@STATE@|$STATE|g" -e "s|@CONTAINERD_ROOT@|$CONTAINERD_ROOT|g" -e "s|@CONTAINERD_SOCK@|$CONTAINERD_SOCK|g" \
    -e "s|@POD_NET@|$POD_NET|g" -e "s|@DNS_IP@|$DNS_IP|g" -e "s|@CGROUP@|$CGROUP|g" "$MOLT_CLUSTER_DIR/node/$f.tmpl" >"$to"
done

ip netns add "$NETNS"
ip link add "$VETH" type veth peer name eth0 netns "$NETNS"
ip addr add "$HOST_IP/30" dev "$VETH"
ip link set "$VETH" up
ip -n "$NETNS" link set lo up
ip -n "$NETNS" addr add "$NODE_IP/30" dev eth0
ip -n "$NETNS" link set eth0 up
ip -n "$NETNS" route add default via "$HOST_IP"
ip route add "$SERVICE_NET.0.0/16" via "$NODE_IP"
ip route add "$POD_NET.0.0/16" via "$NODE_IP"

# Not `ip netns exec`: it remounts /sys and hides the cgroup mounts from the kubelet.
# setsid: the cluster outlives the terminal. The marker in the arguments is how node_pid knows it.
setsid nsenter --net="/var/run/netns/$NETNS" unshare -m -p -f --kill-child --mount-proc \
  "$MOLT_CLUSTER_DIR/node/run.sh" molt-node "$CLUSTER" >"$STATE/logs/node.log" 2>&1 </dev/null 9>&- &
echo $! >"$STATE/pid"

wait_for 60 "API server" kctl get --raw /readyz
say "API server ready"
"$MOLT_CLUSTER_DIR/images/import.sh" addons 9>&- &
import=$!
"$MOLT_CLUSTER_DIR/addons/apply.sh" 9>&-
say "add-ons applied"
wait "$import" || fail "importing the images" "see above, and $STATE/logs/containerd.log"
say "images imported"

wait_for 120 "node Ready" kctl wait --for=condition=Ready "node/$CLUSTER" --timeout=1s
say "node Ready"
wait_for 180 "Prometheus" kctl -n monitoring wait --for=condition=Available deployment/prometheus --timeout=5s
say "Prometheus up"
wait_for 180 "gateway Programmed" kctl -n gateways wait --for=condition=Programmed gateway/public --timeout=5s
say "gateway Programmed"
gateway=$(kctl -n gateways get gateway public -o jsonpath='{.status.addresses[0].value}')
prometheus=$(kctl -n monitoring get service prometheus -o jsonpath='{.spec.clusterIP}')
cat >"$STATE/env.part" <<ENV
KUBECONFIG=$STATE/kubeconfig
GATEWAY_URL=http://$gateway
PROMETHEUS_URL=http://$prometheus:9090
ENV
mv "$STATE/env.part" "$STATE/env"
wait_for 60 "gateway and Prometheus, seen from the host" healthy
finish

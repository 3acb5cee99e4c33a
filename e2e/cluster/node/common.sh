# shellcheck shell=bash
# Names, paths and subnets of one cluster, shared by up.sh, down.sh, image.sh and kubeconfig.sh.
# Source it; it reads the cluster's name from $1 of `cluster_vars`.

MOLT_CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MOLT_REPO=$(cd "$MOLT_CLUSTER_DIR/../.." && pwd)
# shellcheck source=/dev/null
[ ! -e "$MOLT_CLUSTER_DIR/versions.env" ] || . "$MOLT_CLUSTER_DIR/versions.env"

MOLT_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}/molt
MOLT_CACHE=$MOLT_CACHE_HOME/${MOLT_CACHE_VERSION:?not set in versions.env}
# One variable decides where the binaries come from, so that a developer can try his own build.
MOLT_BIN=${MOLT_BIN:-$MOLT_CACHE/bin}
MOLT_IMAGES=$MOLT_CACHE/images

MOLT_T0=${MOLT_T0:-$(date +%s.%N)}
export MOLT_T0

# say TEXT: one progress line with the time since the script began.
say() { printf '%7.1fs  %s\n' "$(awk -v a="$(date +%s.%N)" -v b="$MOLT_T0" 'BEGIN { print a - b }')" "$*" >&2; }
# fail REASON [FIX]: stop with the reason and what to do about it.
fail() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  fix: %s\n' "$2" >&2
  exit 1
}

# wait_for SECONDS WHAT COMMAND…: poll five times a second until the command succeeds.
wait_for() {
  local limit=$1 what=$2 end
  shift 2
  end=$(($(date +%s) + limit))
  until "$@" >/dev/null 2>&1; do
    if [ "$(date +%s)" -ge "$end" ]; then
      fail "$what: not there after $limit s" "look at the logs in $STATE/logs, and at: kubectl --kubeconfig $STATE/kubeconfig get pods -A"
    fi
    sleep 0.2
  done
}

# cluster_vars NAME: everything that depends on the cluster's name.
cluster_vars() {
  CLUSTER=$1
  [[ $CLUSTER =~ ^[a-z][a-z0-9-]{0,30}$ ]] ||
    fail "'$CLUSTER' is no cluster name" "use lower-case letters, digits and '-', at most 31, first a letter"
  STATE=$MOLT_CACHE_HOME/clusters/$CLUSTER
  # containerd's images outlive the cluster: importing them again costs more than all else at start.
  CONTAINERD_ROOT=$MOLT_CACHE_HOME/containerd/$CLUSTER
  CONTAINERD_SOCK=$STATE/containerd.sock
  # 'molt' has the documented addresses; another name gets one of 50 other sets by its checksum.
  # up.sh refuses to start when two names meet in the same set.
  if [ "$CLUSTER" = molt ]; then
    SLOT=0 SERVICE_NET=10.96 POD_NET=10.244
  else
    SLOT=$(($(printf %s "$CLUSTER" | cksum | cut -d' ' -f1) % 50 + 1))
    SERVICE_NET=10.$((120 + SLOT)) POD_NET=10.$((180 + SLOT))
  fi
  HOST_IP=10.99.$SLOT.1
  NODE_IP=10.99.$SLOT.2
  DNS_IP=$SERVICE_NET.0.10
  NETNS=molt-$CLUSTER
  # An interface's name has at most 15 characters: the slot identifies the cluster.
  VETH=molt-h$SLOT
  CGROUP=molt-$CLUSTER
  export CLUSTER STATE CONTAINERD_ROOT CONTAINERD_SOCK SERVICE_NET POD_NET HOST_IP NODE_IP DNS_IP NETNS VETH CGROUP
  export MOLT_BIN MOLT_IMAGES
}

# node_pid: the process that is the cluster (on the host), if it lives.
node_pid() {
  local pid
  pid=$(cat "$STATE/pid" 2>/dev/null) || return 1
  # The number alone may belong to another process by now: the marker in its command line decides.
  [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "molt-node $CLUSTER " && echo "$pid"
}

kctl() { "$MOLT_BIN/kubectl" --kubeconfig "$STATE/kubeconfig" "$@"; }
ctr_() { ctr -a "$CONTAINERD_SOCK" -n k8s.io "$@"; }
need_root() { [ "$(id -u)" = 0 ] || fail "a full node needs root (namespaces, iptables, cgroups)" "run as root; the control plane alone (control-plane.sh) needs none"; }

#!/usr/bin/env bash
# The node: first process of its own PID, mount and network namespace (see up.sh). It starts every
# component, starts again what ends, and never returns: when it is killed, all of them die with it.
# Arguments: the marker `molt-node` and the cluster's name, by which down.sh knows the process.
set -euo pipefail
[ "$1" = molt-node ]
certs=$STATE/certs
logs=$STATE/logs
mkdir -p "$logs"

# Sockets, CNI state and the like go to a /run of our own, and vanish with the mount namespace.
mount -t tmpfs -o mode=755 molt-run /run
mkdir -p /run/netns /run/etcd /run/lock
# Paths that components have compiled in, each pointed at this cluster's own directory.
mkdir -p /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers "$STATE/kubelet" "$STATE/pod-logs"
mount --bind "$STATE/kubelet" /var/lib/kubelet
mount --bind "$STATE/pod-logs" /var/log/pods
mount -t tmpfs molt-log /var/log/containers
mount -t tmpfs molt-cni /var/lib/cni
# The kubelet hands mounts on to containers, so its directory must propagate them.
mount --make-rshared /var/lib/kubelet
mount --make-rshared /run

# Pods and host talk through this namespace: it has to forward.
echo 1 >/proc/sys/net/ipv4/ip_forward || echo "cannot switch forwarding on: /proc/sys is read-only" >&2

# One parent cgroup per cluster, so that down.sh can find and remove all of it.
for c in /sys/fs/cgroup/*/; do
  [ -w "$c" ] && mkdir -p "$c$CGROUP" 2>/dev/null || true
  # A fresh cpuset has no cpus and refuses processes until it gets some.
  if [ -e "$c$CGROUP/cpuset.cpus" ]; then
    cat "${c}cpuset.cpus" >"$c$CGROUP/cpuset.cpus"
    cat "${c}cpuset.mems" >"$c$CGROUP/cpuset.mems"
  fi
done

# Only what a component needs from the caller's environment: proxies and CA overrides would leak in.
keep() { env -i PATH="$MOLT_BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root "$@"; }
# run NAME COMMAND…: in the background; once it ends, again, so that killing one is a fault test.
run() {
  local name=$1
  shift
  (
    while :; do
      rc=0
      keep "$@" >>"$logs/$name.log" 2>&1 || rc=$?
      echo "$(date +%T) $name ended with $rc, starting it again" >>"$logs/node.log"
      sleep 0.5
    done
  ) &
}

run etcd etcd --name node --data-dir /run/etcd/data --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
  --initial-cluster node=http://127.0.0.1:2380

run containerd containerd --config "$STATE/containerd.toml"

# InternalIP: `kubectl logs` would look up the node's name otherwise.
run kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
  --advertise-address="$NODE_IP" --secure-port=6443 \
  --service-cluster-ip-range="$SERVICE_NET.0.0/16" \
  --tls-cert-file="$certs/apiserver.crt" --tls-private-key-file="$certs/apiserver.key" \
  --client-ca-file="$certs/ca.crt" \
  --kubelet-client-certificate="$certs/admin.crt" --kubelet-client-key="$certs/admin.key" \
  --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file="$certs/service-account.key" \
  --service-account-signing-key-file="$certs/service-account.key" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --allow-privileged=true --anonymous-auth=true

until bash -c ': </dev/tcp/127.0.0.1/6443' 2>/dev/null; do sleep 0.1; done

run kube-controller-manager kube-controller-manager --kubeconfig="$certs/controller-manager.kubeconfig" \
  --leader-elect=false --use-service-account-credentials=true \
  --root-ca-file="$certs/ca.crt" --service-account-private-key-file="$certs/service-account.key" \
  --cluster-signing-cert-file="$certs/ca.crt" --cluster-signing-key-file="$certs/ca.key" \
  --kube-api-qps=100 --kube-api-burst=200

run kube-scheduler kube-scheduler --kubeconfig="$certs/scheduler.kubeconfig" --leader-elect=false

until [ -S "$CONTAINERD_SOCK" ]; do sleep 0.1; done
run kubelet kubelet --config="$STATE/kubelet.yaml" --kubeconfig="$certs/kubelet.kubeconfig" \
  --hostname-override="$CLUSTER" --node-ip="$NODE_IP" --root-dir=/var/lib/kubelet

# The conntrack options: these sysctls are read-only in a container, and kube-proxy would stop.
run kube-proxy kube-proxy --kubeconfig="$certs/kube-proxy.kubeconfig" --hostname-override="$CLUSTER" \
  --proxy-mode=iptables --cluster-cidr="$POD_NET.0.0/16" --oom-score-adj=0 \
  --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s

echo "$(date +%T) all components started" >>"$logs/node.log"
# As first process of the namespace this shell also reaps orphans: bash does so while it waits.
while :; do wait || true; sleep 1; done

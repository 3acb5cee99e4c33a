#!/usr/bin/env bash
# control-plane.sh start DIR | stop DIR: etcd, kube-apiserver and kube-controller-manager on loopback, for
# tests that need a real API server and no node. No root, free ports, several side by side.
# DIR/kubeconfig is an administrator's, DIR/etcd-address is etcd's URL. With MOLT_CP_PARENT_PID set, everything ends with that process.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
command=${1:-} dir=${2:-}
[[ ($command = start || $command = stop) && -n $dir ]] || fail "usage: control-plane.sh start|stop DIR"

# Only what this run started counts: each process was recorded with its start time.
alive() { [ "$(cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null)" = "$2" ]; }
stop() {
  local pid started
  # In reverse order: an API server whose etcd is gone does not finish its shutdown.
  while read -r pid started; do
    ! alive "$pid" "$started" || kill "$pid" 2>/dev/null || true
    for _ in $(seq 50); do
      alive "$pid" "$started" || break
      sleep 0.1
    done
    ! alive "$pid" "$started" || kill -KILL "$pid" 2>/dev/null || true
  done < <(tac "$dir/pids")
  rm -rf "$dir"
}
if [ "$command" = stop ]; then
  [ -e "$dir/pids" ] || exit 0
  stop
  exit
fi

"$MOLT_CLUSTER_DIR/build.sh" control-plane
[ ! -e "$dir/pids" ] || fail "$dir holds a control plane already" "control-plane.sh stop $dir"
mkdir -p "$dir/pki" "$dir/logs"
chmod 700 "$dir"
: >"$dir/pids"
# A start that fails leaves nothing running; its logs are shown, since they go as well.
trap 'tail -n 5 "$dir"/logs/*.log >&2 || true; stop' EXIT

# Ports that are free now; all are asked for at once, so that no two are the same.
read -r etcd_port peer_port api_port manager_port < <(python3 - <<'PY'
import socket
sockets = [socket.socket() for _ in range(4)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PY
)

cert() { # cert NAME SUBJECT [EXTENSION]
  openssl req -newkey rsa:2048 -nodes -keyout "$dir/pki/$1.key" -subj "$2" -out "$dir/pki/$1.csr" 2>/dev/null
  openssl x509 -req -in "$dir/pki/$1.csr" -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial -days 30 \
    -extfile <(echo "${3:-keyUsage=digitalSignature}") -out "$dir/pki/$1.crt" 2>/dev/null
}
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/pki/ca.key" -out "$dir/pki/ca.crt" -subj /CN=molt-test -days 30 2>/dev/null
cert server /CN=kube-apiserver "subjectAltName=IP:127.0.0.1,DNS:localhost,IP:10.0.0.1"
cert admin "/O=system:masters/CN=admin"
openssl genrsa -out "$dir/pki/sa.key" 2048 2>/dev/null

kubeconfig() { # data is embedded, so that the file can be read from anywhere
  local b64="base64 -w0"
  cat <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$api_port", certificate-authority-data: $($b64 "$dir/pki/ca.crt")}}]
users: [{name: admin, user: {client-certificate-data: $($b64 "$dir/pki/admin.crt"), client-key-data: $($b64 "$dir/pki/admin.key")}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
YAML
}
kubeconfig >"$dir/kubeconfig"
echo "http://127.0.0.1:$etcd_port" >"$dir/etcd-address"

run() { # run NAME COMMAND…
  local name=$1
  shift
  setsid "$@" >"$dir/logs/$name.log" 2>&1 </dev/null &
  echo "$! $(cut -d' ' -f22 "/proc/$!/stat")" >>"$dir/pids"
}
run etcd "$MOLT_BIN/etcd" --data-dir "$dir/etcd" --unsafe-no-fsync \
  --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
  --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
  --initial-cluster "default=http://127.0.0.1:$peer_port"
run kube-apiserver "$MOLT_BIN/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd_port" \
  --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$api_port" --service-cluster-ip-range 10.0.0.0/16 \
  --tls-cert-file "$dir/pki/server.crt" --tls-private-key-file "$dir/pki/server.key" --client-ca-file "$dir/pki/ca.crt" \
  --authorization-mode RBAC --service-account-issuer https://kubernetes.default.svc \
  --service-account-key-file "$dir/pki/sa.key" --service-account-signing-key-file "$dir/pki/sa.key" \
  --endpoint-reconciler-type none
run kube-controller-manager "$MOLT_BIN/kube-controller-manager" --kubeconfig "$dir/kubeconfig" --leader-elect=false \
  --secure-port "$manager_port" --bind-address 127.0.0.1 --use-service-account-credentials=false \
  --service-account-private-key-file "$dir/pki/sa.key" --root-ca-file "$dir/pki/ca.crt" \
  --controllers '*,-nodelifecycle,-nodeipam,-attachdetach' --kube-api-qps 200 --kube-api-burst 400 \
  --horizontal-pod-autoscaler-sync-period 2s

# No fault of the test's may leave processes behind.
if [ -n "${MOLT_CP_PARENT_PID:-}" ]; then
  # It ends with the folder as well, so that it never stops another control plane in the same place.
  setsid bash -c 'while [ -d "/proc/$1" ] && [ "$4" = "$(head -n 1 "$3/pids")" ]; do sleep 1; done 2>/dev/null
    [ "$4" != "$(head -n 1 "$3/pids" 2>/dev/null)" ] || exec "$2" stop "$3"' watch \
    "$MOLT_CP_PARENT_PID" "$MOLT_CLUSTER_DIR/control-plane.sh" "$dir" "$(head -n 1 "$dir/pids")" >/dev/null 2>&1 </dev/null &
fi

STATE=$dir
wait_for 60 "API server" "$MOLT_BIN/kubectl" --kubeconfig "$dir/kubeconfig" get --raw /readyz
# The default namespace is the last thing that the server makes for itself.
wait_for 60 "namespace default" "$MOLT_BIN/kubectl" --kubeconfig "$dir/kubeconfig" get namespace default
trap - EXIT
say "control plane ready: $dir/kubeconfig"

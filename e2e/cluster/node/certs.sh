#!/usr/bin/env bash
# Certificates and kubeconfigs of one cluster into $STATE. Every component has its own identity, so
# that RBAC and the node authorizer are as real as elsewhere.
set -euo pipefail
dir=$STATE/certs
mkdir -p "$dir"
cd "$dir"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>/dev/null; }

key ca.key
openssl req -x509 -new -key ca.key -subj "/CN=molt-$CLUSTER" -days 3650 -out ca.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
key service-account.key

# cert FILE SUBJECT [SUBJECT-ALT-NAMES]
cert() {
  key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 3650 -out "$1.crt" \
    -extfile <(echo "extendedKeyUsage=serverAuth,clientAuth${3:+
subjectAltName=$3}") 2>/dev/null
  rm "$1.csr"
}
# kubeconfig FILE CERT SERVER
kubeconfig() {
  cat >"$1" <<YAML
apiVersion: v1
kind: Config
current-context: molt-$CLUSTER
clusters:
- name: molt-$CLUSTER
  cluster:
    server: $3
    certificate-authority-data: $(base64 -w0 ca.crt)
contexts:
- name: molt-$CLUSTER
  context: { cluster: molt-$CLUSTER, user: $2 }
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w0 "$2.crt")
    client-key-data: $(base64 -w0 "$2.key")
YAML
  chmod 600 "$1"
}

server=https://$NODE_IP:6443
cert apiserver /CN=kube-apiserver "IP:$NODE_IP,IP:127.0.0.1,IP:$SERVICE_NET.0.1,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost" &
cert admin /O=system:masters/CN=admin &
cert controller-manager /CN=system:kube-controller-manager &
cert scheduler /CN=system:kube-scheduler &
cert kubelet "/O=system:nodes/CN=system:node:$CLUSTER" &
cert kube-proxy /CN=system:kube-proxy &
wait
for c in controller-manager scheduler kubelet kube-proxy; do kubeconfig "$c.kubeconfig" "$c" "$server"; done
kubeconfig "$STATE/kubeconfig" admin "$server"

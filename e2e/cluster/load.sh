#!/usr/bin/env bash
# load.sh [--new-connections|--streams|--grpc|--grpc-streams] URL HOST RATE DURATION OUT: RATE requests per second at URL with this Host
# header, for DURATION (such as 30s or 5m), by k6. The rate is kept even when answers are slow (open loop).
# --new-connections: each request has a connection of its own. --streams: instead of requests, RATE WebSockets at
# URL (ws://…), which say something twice a second; OUT gets one line per connection that has ended, as streams.js says.
# --grpc, --grpc-streams: the same by gRPC, as rpc.js says; URL is host:port.
# OUT gets one JSON line per request, as soon as it is answered:
#   {"t": start in epoch seconds, "status": 0 without an answer, "version": "", "ms": 1.2, "error": ""}
# SIGTERM ends it at once and cleanly: every answer so far is in OUT, whole lines only, and the exit code is 0.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/node/common.sh"
script=load.js reuse=1 streams=0
case ${1:-} in
  --new-connections) reuse=0 && shift ;;
  --streams) script=streams.js && shift ;;
  --grpc) script=rpc.js && shift ;;
  --grpc-streams) script=rpc.js streams=1 && shift ;;
esac
[ $# = 5 ] || fail "usage: load.sh [--new-connections|--streams|--grpc|--grpc-streams] URL HOST RATE DURATION OUT" "for example: load.sh \"\$GATEWAY_URL/\" sample.example 50 30s /tmp/load.jsonl"
[[ $3 =~ ^[1-9][0-9]*$ ]] || fail "RATE '$3' is no whole number above 0"
[[ $4 =~ ^([0-9]+(ms|s|m|h))+$ ]] || fail "DURATION '$4' is no duration" "write for example 30s or 5m"
[ -x "$MOLT_BIN/k6" ] || fail "$MOLT_BIN/k6 is missing" "e2e/cluster/build.sh all"
: >"$5"

# The gateway is on this machine: no proxy. GOMAXPROCS: leave the processors to what is being tested.
env -u HTTP_PROXY -u http_proxy -u HTTPS_PROXY -u https_proxy GOMAXPROCS=1 \
  TARGET_URL="$1" TARGET_HOST="$2" RATE="$3" DURATION="$4" REUSE=$reuse \
  STREAMS=$streams PROTO_DIR="$MOLT_REPO/e2e/apps/sample" \
  "$MOLT_BIN/k6" run --include-system-env-vars --quiet --no-usage-report --summary-mode disabled \
  --no-thresholds --address "" --log-format raw --console-output "$5" "$MOLT_CLUSTER_DIR/$script" \
  >&2 2> >(grep -vE --line-buffered "^(Request Failed|test run was aborted because k6 received a 'terminated' signal)\$" >&2) & # the first are in OUT, the last was asked for
k6=$!
stopped=
# A background job ignores SIGINT: hand on SIGTERM for both.
trap 'stopped=1; kill -TERM "$k6" 2>/dev/null' TERM INT
rc=0
while :; do
  rc=0
  wait "$k6" || rc=$?
  # `wait` also returns when the trap ran: go on until k6 is really gone.
  kill -0 "$k6" 2>/dev/null || break
done
[ -n "$stopped" ] && exit 0
exit "$rc"

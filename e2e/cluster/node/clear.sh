#!/usr/bin/env bash
# Removes every trace of one cluster but its cached images. Safe whatever is or is not there.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if pid=$(node_pid); then
  kill -KILL "$pid" 2>/dev/null || true
fi
# The kernel ends all of a PID namespace with its first process; whatever still sits in the network
# namespace or the cgroups (a shim, a pod) belongs to this cluster too.
for _ in $(seq 100); do
  left=$(ip netns pids "$NETNS" 2>/dev/null || true)
  left+=" $(cat /sys/fs/cgroup/*/"$CGROUP"/cgroup.procs 2>/dev/null || true)"
  for c in /sys/fs/cgroup/*/"$CGROUP"; do
    [ ! -d "$c" ] || left+=" $(find "$c" -name cgroup.procs -exec cat {} + 2>/dev/null || true)"
  done
  [ -n "${left//[$' \n\t']/}" ] || break
  # shellcheck disable=SC2086
  kill -KILL $left 2>/dev/null || true
  sleep 0.1
done

# Pods' namespaces, mounts, iptables rules and CNI's state live in the node's own namespaces.
ip link del "$VETH" 2>/dev/null || true
ip netns del "$NETNS" 2>/dev/null || true
for net in "$SERVICE_NET.0.0/16" "$POD_NET.0.0/16"; do
  ip route del "$net" via "$NODE_IP" 2>/dev/null || true
done
for c in /sys/fs/cgroup/*/"$CGROUP"; do
  [ ! -d "$c" ] || find "$c" -depth -type d -exec rmdir {} + 2>/dev/null || true
done
# An older run may have mounted where the host sees it.
grep -o " $STATE/[^ ]*" /proc/mounts | sort -r | while read -r m; do umount -l "$m"; done || true
rm -rf --one-file-system "$STATE"

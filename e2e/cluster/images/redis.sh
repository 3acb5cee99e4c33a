#!/usr/bin/env bash
# Redis as Debian packages it, $MOLT_IMAGES/redis.tar: one layer, by debootstrap.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
here=$MOLT_CLUSTER_DIR/images
. "$here/oci.sh"
tag=molt.local/redis:dev
layers=$MOLT_IMAGES/layers
mkdir -p "$layers"
layer=$layers/redis-$( (declare -f layer_of; cat "${BASH_SOURCE[0]}" "$here/start-redis.sh") | sha256sum | cut -c1-16).tar

if [ ! -e "$layer" ]; then
  say "Redis (debootstrap, a minute or two)"
  work=$(mktemp -d "$MOLT_IMAGES/.redis.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  root=$work/root
  mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)}
  [ -n "$mirror" ] || fail "apt knows no mirror of Debian bookworm" "set DEBIAN_MIRROR to one"
  debootstrap --variant=minbase --include=redis-server bookworm "$root" "$mirror" >"$work/log" 2>&1 ||
    { tail -5 "$work/log" >&2; fail "debootstrap failed" "see above"; }
  rm -rf "$root"/var/{cache,lib/apt,lib/dpkg,lib/redis,log} "$root"/usr/share/{doc,man,info,locale,lintian,perl,perl5} \
    "$root"/etc/{machine-id,hostname,resolv.conf} "$root"/etc/ssl/private/*
  find "$root/dev" -mindepth 1 -delete
  mkdir -p "$root/var/log" "$root/var/cache"
  echo 'nonroot:x:65532:65532:nonroot:/tmp:/usr/sbin/nologin' >>"$root/etc/passwd"
  echo 'nonroot:x:65532:' >>"$root/etc/group"
  install -m 755 "$here/start-redis.sh" "$root/usr/local/bin/start-redis"
  layer_of "$root" "$layer"
fi

key="$(basename "$layer") $(sha256sum <"${BASH_SOURCE[0]}")"
if [ ! -e "$MOLT_IMAGES/redis.tar" ] || [ "$(cat "$MOLT_IMAGES/redis.tar.key" 2>/dev/null)" != "$key" ]; then
  oci_archive "$MOLT_IMAGES/redis.tar" "$tag" '{
    "Entrypoint": ["/usr/local/bin/start-redis"], "User": "65532:65532",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"]
  }' "$layer"
  echo "$tag" >"$MOLT_IMAGES/redis.tar.tag"
  echo "$key" >"$MOLT_IMAGES/redis.tar.key"
fi

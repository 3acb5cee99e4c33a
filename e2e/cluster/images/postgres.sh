#!/usr/bin/env bash
# PostgreSQL and its exporter of metrics as Debian packages them, $MOLT_IMAGES/postgres.tar: one layer, by debootstrap,
# without what only JIT needs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
here=$MOLT_CLUSTER_DIR/images
. "$here/oci.sh"
tag=molt.local/postgres:dev
layers=$MOLT_IMAGES/layers
mkdir -p "$layers"
layer=$layers/postgres-$( (declare -f layer_of; cat "${BASH_SOURCE[0]}" "$here/start-postgres.sh") | sha256sum | cut -c1-16).tar

if [ ! -e "$layer" ]; then
  say "PostgreSQL (debootstrap, a minute or two)"
  work=$(mktemp -d "$MOLT_IMAGES/.postgres.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  root=$work/root
  mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)}
  [ -n "$mirror" ] || fail "apt knows no mirror of Debian bookworm" "set DEBIAN_MIRROR to one"
  debootstrap --variant=minbase --include=postgresql-15,prometheus-postgres-exporter bookworm "$root" "$mirror" >"$work/log" 2>&1 ||
    { tail -5 "$work/log" >&2; fail "debootstrap failed" "see above"; }
  rm -rf "$root"/var/{cache,lib/apt,lib/dpkg,lib/postgresql,log} "$root"/usr/share/{doc,man,info,locale,lintian,perl,perl5} \
    "$root"/usr/lib/x86_64-linux-gnu/libLLVM* "$root"/usr/lib/llvm* "$root"/usr/lib/postgresql/15/lib/{llvmjit*,bitcode} \
    "$root"/etc/{machine-id,hostname,resolv.conf} "$root"/etc/ssl/private/*
  find "$root/dev" -mindepth 1 -delete
  mkdir -p "$root/var/log" "$root/var/cache"
  echo 'nonroot:x:65532:65532:nonroot:/tmp:/usr/sbin/nologin' >>"$root/etc/passwd"
  echo 'nonroot:x:65532:' >>"$root/etc/group"
  install -m 755 "$here/start-postgres.sh" "$root/usr/local/bin/start-postgres"
  layer_of "$root" "$layer"
fi

key="$(basename "$layer") $(sha256sum <"${BASH_SOURCE[0]}")"
if [ ! -e "$MOLT_IMAGES/postgres.tar" ] || [ "$(cat "$MOLT_IMAGES/postgres.tar.key" 2>/dev/null)" != "$key" ]; then
  oci_archive "$MOLT_IMAGES/postgres.tar" "$tag" '{
    "Entrypoint": ["/usr/local/bin/start-postgres"], "User": "65532:65532",
    "Env": ["PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "PGDATA=/data/db"]
  }' "$layer"
  echo "$tag" >"$MOLT_IMAGES/postgres.tar.tag"
  echo "$key" >"$MOLT_IMAGES/postgres.tar.key"
fi

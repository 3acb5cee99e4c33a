#!/usr/bin/env bash
# The sample application's image, $MOLT_IMAGES/app.tar, in three layers, each known by its inputs' hash:
# Debian with Python (by debootstrap), the packages of requirements.txt (by pip), the program.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
here=$MOLT_CLUSTER_DIR/images
. "$here/oci.sh"
src=$MOLT_REPO/e2e/apps/sample
tag=molt.local/sample:dev
layers=$MOLT_IMAGES/layers
mkdir -p "$layers"
hash() { sha256sum | cut -c1-16; }
# The digest of a layer depends on the script that makes it, too.
base=$layers/python-$(declare -f layer_of | cat - "$here/python-base.sh" | hash).tar
deps=$layers/deps-$( (basename "$base"; cat "$src/requirements.txt") | hash).tar
program=$layers/program-$(cat "$src/app.py" "$src/rpc.py" | hash).tar

work=$(mktemp -d "$MOLT_IMAGES/.app.XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ ! -e "$base" ]; then
  say "Debian with Python (debootstrap, a minute or two)"
  "$here/python-base.sh" "$work/base"
  layer_of "$work/base" "$base"
fi
if [ ! -e "$deps" ]; then
  say "Python packages"
  mkdir -p "$work/deps/opt/site-packages"
  chmod -R 755 "$work/deps"
  # For the image's Python, whatever the host has; wheels only, so nothing is compiled.
  python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
    --target "$work/deps/opt/site-packages" --python-version 3.11 --only-binary=:all: \
    --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -r "$src/requirements.txt" >&2 ||
    fail "pip could not install e2e/apps/sample/requirements.txt" "see its message above"
  rm -rf "$work/deps/opt/site-packages/bin"
  # Compiled once here instead of at every container's start; by the image's own Python.
  tar -C "$work/deps" -xf "$base"
  chroot "$work/deps" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/site-packages || true
  mkdir "$work/deps-only" && chmod 755 "$work/deps-only" && mv "$work/deps/opt" "$work/deps-only/"
  layer_of "$work/deps-only" "$deps"
fi
if [ ! -e "$program" ]; then
  install -D -m 644 -t "$work/program/app" "$src/app.py" "$src/rpc.py"
  chmod -R a+rX "$work/program"
  layer_of "$work/program" "$program"
fi

key="$(basename -a "$base" "$deps" "$program" | tr '\n' ' ')$(sha256sum <"${BASH_SOURCE[0]}")"
if [ ! -e "$MOLT_IMAGES/app.tar" ] || [ "$(cat "$MOLT_IMAGES/app.tar.key" 2>/dev/null)" != "$key" ]; then
  oci_archive "$MOLT_IMAGES/app.tar" "$tag" '{
    "Entrypoint": ["/usr/bin/python3", "/app/app.py"], "WorkingDir": "/app", "User": "65532:65532",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONPATH=/opt/site-packages", "PYTHONUNBUFFERED=1",
            "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8"]
  }' "$base" "$deps" "$program"
  echo "$tag" >"$MOLT_IMAGES/app.tar.tag"
  echo "$key" >"$MOLT_IMAGES/app.tar.key"
fi

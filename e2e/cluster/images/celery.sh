#!/usr/bin/env bash
# The Celery application of e2e/apps/celery-app, $MOLT_IMAGES/celery.tar: the sample's Debian with Python, one layer of
# packages (its requirements.txt, by pip) and one with the application.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
here=$MOLT_CLUSTER_DIR/images
. "$here/oci.sh"
src=$MOLT_REPO/e2e/apps/celery-app
tag=molt.local/celery:dev
layers=$MOLT_IMAGES/layers
"$here/app.sh"
read -r base _ <"$MOLT_IMAGES/app.tar.key"
hash() { sha256sum | cut -c1-16; }
packages=$layers/celery-deps-$(cat "$src/requirements.txt" "${BASH_SOURCE[0]}" | hash).tar
program=$layers/celery-$(cat "$src"/*.py | hash).tar

work=$(mktemp -d "$MOLT_IMAGES/.celery.XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ ! -e "$packages" ]; then
  say "Python packages of the Celery application"
  mkdir -p "$work/deps/opt/celery-packages"
  chmod -R 755 "$work/deps"
  python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
    --target "$work/deps/opt/celery-packages" --python-version 3.11 --only-binary=:all: \
    --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -r "$src/requirements.txt" >&2 ||
    fail "pip could not install e2e/apps/celery-app/requirements.txt" "see its message above"
  rm -rf "$work/deps/opt/celery-packages/bin"
  layer_of "$work/deps" "$packages"
fi
if [ ! -e "$program" ]; then
  install -D -m 644 -t "$work/program/app" "$src"/*.py
  chmod -R a+rX "$work/program"
  layer_of "$work/program" "$program"
fi

key="$base $(basename "$packages") $(basename "$program") $(sha256sum <"${BASH_SOURCE[0]}")"
if [ ! -e "$MOLT_IMAGES/celery.tar" ] || [ "$(cat "$MOLT_IMAGES/celery.tar.key" 2>/dev/null)" != "$key" ]; then
  oci_archive "$MOLT_IMAGES/celery.tar" "$tag" '{
    "Entrypoint": ["/usr/bin/python3"], "WorkingDir": "/app", "User": "65532:65532",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONPATH=/opt/celery-packages:/app", "PYTHONUNBUFFERED=1",
            "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8"]
  }' "$layers/$base" "$packages" "$program"
  echo "$tag" >"$MOLT_IMAGES/celery.tar.tag"
  echo "$key" >"$MOLT_IMAGES/celery.tar.key"
fi

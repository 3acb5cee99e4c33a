#!/usr/bin/env bash
# The sample application beside an Alembic and a Django project, $MOLT_IMAGES/projects.tar: the sample's image with one
# layer of packages (e2e/apps/projects.txt, by pip) and one with the projects more.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
here=$MOLT_CLUSTER_DIR/images
. "$here/oci.sh"
src=$MOLT_REPO/e2e/apps
tag=molt.local/projects:dev
layers=$MOLT_IMAGES/layers
"$here/app.sh"
read -r base deps program _ <"$MOLT_IMAGES/app.tar.key"
hash() { sha256sum | cut -c1-16; }
packages=$layers/projects-deps-$(cat "$src/projects.txt" "${BASH_SOURCE[0]}" | hash).tar
projects=$layers/projects-$(cd "$src" && find alembic-app django-app -name __pycache__ -prune -o -type f -print | sort | xargs sha256sum | hash).tar

work=$(mktemp -d "$MOLT_IMAGES/.projects.XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ ! -e "$packages" ]; then
  say "Python packages of the projects"
  mkdir -p "$work/deps/opt/projects-packages"
  chmod -R 755 "$work/deps"
  python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
    --target "$work/deps/opt/projects-packages" --python-version 3.11 --only-binary=:all: \
    --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -r "$src/projects.txt" >&2 ||
    fail "pip could not install e2e/apps/projects.txt" "see its message above"
  rm -rf "$work/deps/opt/projects-packages/bin"
  layer_of "$work/deps" "$packages"
fi
if [ ! -e "$projects" ]; then
  mkdir -p "$work/projects/projects"
  cp -r "$src/alembic-app" "$src/django-app" "$work/projects/projects/"
  find "$work/projects" -name __pycache__ -prune -exec rm -rf {} +
  chmod -R a+rX "$work/projects"
  layer_of "$work/projects" "$projects"
fi

key="$base $deps $program $(basename "$packages") $(basename "$projects") $(sha256sum <"${BASH_SOURCE[0]}")"
if [ ! -e "$MOLT_IMAGES/projects.tar" ] || [ "$(cat "$MOLT_IMAGES/projects.tar.key" 2>/dev/null)" != "$key" ]; then
  oci_archive "$MOLT_IMAGES/projects.tar" "$tag" '{
    "Entrypoint": ["/usr/bin/python3", "/app/app.py"], "WorkingDir": "/app", "User": "65532:65532",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONPATH=/opt/site-packages:/opt/projects-packages",
            "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8"]
  }' "$layers/$base" "$layers/$deps" "$layers/$program" "$packages" "$projects"
  echo "$tag" >"$MOLT_IMAGES/projects.tar.tag"
  echo "$key" >"$MOLT_IMAGES/projects.tar.key"
fi

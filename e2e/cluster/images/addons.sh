#!/usr/bin/env bash
# Archives of the add-ons' images in $MOLT_IMAGES, each made once and again when its inputs changed.
# Everything in them was built or downloaded by build.sh: nothing is pulled.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/oci.sh"
mkdir -p "$MOLT_IMAGES"
ENVOY_PATH='"PATH=/usr/local/bin:/usr/bin:/bin"'

# image NAME TAG CONFIG BINARY…: an image with these programs in /usr/local/bin.
image() {
  local tag=$2 config=$3 out=$MOLT_IMAGES/$1.tar key root b
  shift 3
  for b in "$@"; do
    [ -x "$b" ] || { echo "error: $b is missing; fix: run e2e/cluster/build.sh all" >&2; return 1; }
  done
  # Size and time of change stand for the content: hashing 400 MB at every start costs seconds.
  key="$tag $config $(stat -Lc '%n %s %Y' "$@" | tr '\n' ' ') $(sha256sum <"$here/oci.sh")"
  if [ -e "$out" ] && [ "$(cat "$out.key" 2>/dev/null)" = "$key" ]; then return; fi
  echo "         image $tag" >&2
  root=$(mktemp -d "$MOLT_IMAGES/.root.XXXXXX")
  chmod 755 "$root"
  mkdir -p "$root/tmp" "$root/etc" "$root/usr/local/bin" "$root/var/lib"
  chmod 1777 "$root/tmp"
  printf 'root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/tmp:/none\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  for b in "$@"; do
    install -m 755 "$b" "$root/usr/local/bin/"
    with_libraries "$root" "$b"
  done
  layer_of "$root" "$root.layer"
  oci_archive "$out" "$tag" "$config" "$root.layer"
  echo "$key" >"$out.key"
  rm -rf "$root" "$root.layer"
}

pause=$MOLT_IMAGES/bin/pause
# By its content: in a fresh checkout every file is newer than what was built before.
if [ ! -e "$pause" ] || ! cmp -s "$here/pause.c" "$pause.c"; then
  mkdir -p "$(dirname "$pause")"
  cc -static -Os -s -o "$pause" "$here/pause.c" ||
    { echo "error: cannot compile pause.c; fix: apt-get install gcc libc6-dev" >&2; exit 1; }
  cp "$here/pause.c" "$pause.c"
fi

image pause molt.local/pause:1 '{"Entrypoint":["/usr/local/bin/pause"],"User":"65535:65535"}' "$pause"
image coredns molt.local/coredns:local '{"Entrypoint":["/usr/local/bin/coredns"]}' "$MOLT_BIN/coredns"
image envoy-gateway molt.local/envoy-gateway:local "{\"Entrypoint\":[\"/usr/local/bin/envoy-gateway\"],\"Env\":[$ENVOY_PATH],\"User\":\"65532:65532\"}" "$MOLT_BIN/envoy-gateway"
image envoy molt.local/envoy:local "{\"Entrypoint\":[\"/usr/local/bin/envoy\"],\"Env\":[$ENVOY_PATH]}" "$MOLT_BIN/envoy"
image prometheus molt.local/prometheus:local '{"Entrypoint":["/usr/local/bin/prometheus"],"User":"65532:65532"}' "$MOLT_BIN/prometheus"

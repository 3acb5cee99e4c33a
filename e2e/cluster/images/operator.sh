#!/usr/bin/env bash
# The operator's image, $MOLT_IMAGES/operator.tar: the repository's Dockerfile on a base of our own,
# because the tests must not depend on a registry. The base has the same files as distroless/cc:
# glibc, libgcc_s, CA certificates, a non-root user.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../node/common.sh"
here=$MOLT_CLUSTER_DIR/images
. "$here/oci.sh"
binary=${MOLT_BINARY:-${CARGO_TARGET_DIR:-$MOLT_REPO/target}/release/molt}
tag=molt.local/molt:dev
[ -x "$binary" ] || fail "there is no binary $binary" "cargo build --release, or set MOLT_BINARY"

key=$(sha256sum "$binary" "$MOLT_REPO/Dockerfile" "${BASH_SOURCE[0]}" | cut -d' ' -f1 | tr '\n' ' ')
[ ! -e "$MOLT_IMAGES/operator.tar" ] || [ "$(cat "$MOLT_IMAGES/operator.tar.key" 2>/dev/null)" != "$key" ] || exit 0

work=$(mktemp -d "$MOLT_IMAGES/.operator.XXXXXX")
trap 'rm -rf "$work"' EXIT
base=$MOLT_IMAGES/operator-base-$(sha256sum <"${BASH_SOURCE[0]}" | cut -c1-16).tar
if [ ! -e "$base" ]; then
  say "base of the operator's image"
  root=$work/root
  mkdir -p "$work/debs" "$root/etc/ssl/certs" "$root/tmp"
  (cd "$work/debs" && apt-get -qq -o APT::Sandbox::User=root download libc6 libgcc-s1 ca-certificates >&2) ||
    fail "apt-get could not download libc6, libgcc-s1 and ca-certificates" "apt-get update, and try again"
  for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/all"; done
  # From the package, not from this machine, whose bundle may hold more authorities than Mozilla's.
  cat "$work"/all/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
  cp -a "$work/all/lib" "$work/all/lib64" "$root/"
  cp -a "$work"/all/usr/lib/x86_64-linux-gnu/libgcc_s* "$root/lib/x86_64-linux-gnu/" 2>/dev/null || true
  rm -rf "$root/lib/x86_64-linux-gnu/gconv"
  printf 'root:x:0:0:root:/:/none\nnonroot:x:65532:65532:nonroot:/tmp:/none\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  chmod 755 "$root" && chmod 1777 "$root/tmp"
  layer_of "$root" "$work/layer"
  oci_archive "$base" molt.local/operator-base:dev \
    '{"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]}' "$work/layer"
fi

mkdir "$work/context"
# Without symbols: in a container nobody reads them.
strip -o "$work/context/molt" "$binary"
chmod 755 "$work/context/molt"
# A store of its own, thrown away after: the machine's is left alone.
b=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
BUILDAH_ISOLATION=chroot "${b[@]}" build --quiet --timestamp 0 --build-arg "BASE_IMAGE=oci-archive:$base" \
  -f "$MOLT_REPO/Dockerfile" -t "$tag" "$work/context" >&2
"${b[@]}" push --quiet --disable-compression "$tag" "oci-archive:$work/operator.tar:$tag"
"${b[@]}" rmi --all >/dev/null
mv "$work/operator.tar" "$MOLT_IMAGES/operator.tar"
echo "$tag" >"$MOLT_IMAGES/operator.tar.tag"
echo "$key" >"$MOLT_IMAGES/operator.tar.key"

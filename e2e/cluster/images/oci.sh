# shellcheck shell=bash
# An image without an image builder: an OCI archive is a tar of layers and three JSON files.

# layer_of DIR FILE: DIR as a layer. Fixed times and owners: equal content gives equal digests.
layer_of() {
  tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$2.part" .
  mv "$2.part" "$2"
}

# oci_archive OUT TAG CONFIG-JSON LAYER…: CONFIG-JSON is the image's `config` object (Entrypoint, Env, User, …).
oci_archive() {
  local out=$1 tag=$2 config=$3 dir layer digest size diff_ids='[]' layers='[]'
  shift 3
  dir=$(mktemp -d "$(dirname "$out")/.oci.XXXXXX")
  mkdir -p "$dir/blobs/sha256"
  for layer in "$@"; do
    digest=$(sha256sum <"$layer" | cut -d' ' -f1)
    size=$(stat -c %s "$layer")
    ln "$layer" "$dir/blobs/sha256/$digest" 2>/dev/null || cp "$layer" "$dir/blobs/sha256/$digest"
    diff_ids=$(jq -c --arg d "sha256:$digest" '. + [$d]' <<<"$diff_ids")
    layers=$(jq -c --arg d "sha256:$digest" --argjson s "$size" \
      '. + [{mediaType: "application/vnd.oci.image.layer.v1.tar", digest: $d, size: $s}]' <<<"$layers")
  done
  # blob JSON: stores it and prints its descriptor's digest and size
  blob() {
    local d
    d=$(printf %s "$1" | sha256sum | cut -d' ' -f1)
    printf %s "$1" >"$dir/blobs/sha256/$d"
    printf '"digest":"sha256:%s","size":%s' "$d" "$(printf %s "$1" | wc -c)"
  }
  local image manifest
  image=$(jq -nc --argjson c "$config" --argjson d "$diff_ids" \
    '{architecture: "amd64", os: "linux", config: $c, rootfs: {type: "layers", diff_ids: $d}}')
  manifest="{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",$(blob "$image")},\"layers\":$layers}"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$dir/oci-layout"
  # containerd reads the full name from the first annotation, other tools the tag from the second.
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
    "$(blob "$manifest")" "$tag" "${tag##*:}" >"$dir/index.json"
  tar -C "$dir" -cf "$out.part" oci-layout index.json blobs
  mv "$out.part" "$out"
  rm -rf "$dir"
}

# with_libraries ROOT BINARY: the shared libraries and the loader that BINARY needs, into ROOT.
with_libraries() {
  local lib
  { ldd "$2" 2>/dev/null || true; } | sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p' | sort -u | while read -r lib; do
    # Debian has /lib as a link to /usr/lib, and containers look for the loader in /lib64: keep the path that ldd names.
    install -D "$(readlink -f "$lib")" "$1$lib"
  done
}

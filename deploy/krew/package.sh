#!/usr/bin/env bash
# package.sh BASE_URL: packs target/release/kubectl-molt for this platform, and writes krew's manifest beside it: dist/krew.
# The archives of a release will be at BASE_URL/vVERSION/; try one that is not there yet with
#   kubectl krew install --manifest dist/krew/molt.yaml --archive dist/krew/kubectl-molt-linux-amd64.tar.gz
# Archives of other platforms that are in dist/krew (kubectl-molt-OS-ARCH.tar.gz) are part of the manifest as well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[[ ${1:-} =~ ^https://[^[:space:]]+$ ]] ||
  { echo "package.sh: say where releases are: package.sh https://…, or make krew KREW_URL=https://…" >&2; exit 64; }
url=${1%/}
binary=${CARGO_TARGET_DIR:-target}/release/kubectl-molt
[ -x "$binary" ] || { echo "package.sh: $binary is missing: run \`make binaries\`" >&2; exit 1; }
version=v$("$binary" --version | awk '{ print $NF }')
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) echo "package.sh: $(uname -m) is no platform of krew's" >&2; exit 1 ;; esac
os=$(uname -s | tr '[:upper:]' '[:lower:]')
mkdir -p dist/krew
# The same content gives the same archive, whoever packs it and when.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$(dirname "$binary")" -cf dist/krew/archive.tar kubectl-molt
tar --owner=0 --group=0 --numeric-owner --mtime=@0 -rf dist/krew/archive.tar LICENSE
gzip -9n <dist/krew/archive.tar >"dist/krew/kubectl-molt-$os-$arch.tar.gz"
rm dist/krew/archive.tar
{
  cat <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: molt
spec:
  version: $version
  homepage: $url
  shortDescription: See, explain and steer rollouts of Python services
  description: |
    Shows what is rolling out, why it is where it is and what it costs users; promotes, aborts, pauses and undoes;
    checks manifests, simulates rollouts and replays recorded ones. For clusters with the Molt operator; checks and
    simulations need none.
  caveats: |
    What changes something makes a RolloutAction in your own name, for which you need rights: see the chart's roles.
  platforms:
YAML
  for archive in dist/krew/kubectl-molt-*.tar.gz; do
    name=$(basename "$archive" .tar.gz) platform=${name#kubectl-molt-}
    cat <<YAML
  - selector:
      matchLabels: { os: ${platform%-*}, arch: ${platform#*-} }
    uri: $url/$version/$name.tar.gz
    sha256: $(sha256sum "$archive" | cut -d' ' -f1)
    bin: kubectl-molt
YAML
  done
} >dist/krew/molt.yaml
echo "dist/krew/molt.yaml"

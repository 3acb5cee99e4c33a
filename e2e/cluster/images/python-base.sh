#!/usr/bin/env bash
# python-base.sh DIR: Debian 12 with Python 3.11 in DIR, without what only matters for installing more.
set -euo pipefail
root=$1
mkdir -p "$root"
# From where this machine's apt has its packages.
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)}
[ -n "$mirror" ] || { echo "error: apt knows no mirror of Debian bookworm; fix: set DEBIAN_MIRROR to one" >&2; exit 1; }
debootstrap --variant=minbase --include=python3 bookworm "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -5 "$root.log" >&2; echo "error: debootstrap failed; fix: see above" >&2; exit 1; }
cd "$root"
rm -rf var/cache/apt/* var/lib/apt/lists/* var/log/* var/lib/dpkg var/cache/debconf \
  usr/share/{doc,man,info,locale,lintian,perl5,bash-completion,zoneinfo} usr/lib/x86_64-linux-gnu/{perl-base,gconv} \
  usr/bin/perl* usr/lib/apt usr/bin/apt* usr/lib/x86_64-linux-gnu/libapt-* tmp/* root/.[a-z]*
# debootstrap makes device files; containers have their own.
find dev -mindepth 1 -delete
echo 'nonroot:x:65532:65532:nonroot:/tmp:/usr/sbin/nologin' >>etc/passwd
echo 'nonroot:x:65532:' >>etc/group
# Its state would change the digest at every build.
rm -f etc/machine-id etc/hostname etc/resolv.conf var/log/* "$root.log"
find . -name __pycache__ -prune -exec rm -rf {} +
chroot . /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.11 || true

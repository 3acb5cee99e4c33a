#!/usr/bin/env bash
# install.sh: what e2e/browser needs: Debian's Chromium, and from npm what drives it and what checks accessibility.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if ! command -v chromium >/dev/null; then
  echo "e2e/browser: installing chromium"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core >/dev/null
fi
command -v node >/dev/null || { echo "e2e/browser: node is missing: install Node.js 20 or later" >&2; exit 1; }
# Chromium is the system's: no browser is downloaded.
if [ ! -d node_modules/playwright-core ] || [ ! -d node_modules/axe-core ] || [ package.json -nt node_modules ]; then
  npm install --no-package-lock --no-audit --no-fund --silent
  touch node_modules
fi

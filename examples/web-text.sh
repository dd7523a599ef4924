#!/usr/bin/env bash
# Fetches two manuals (Debian's packages, unpacked into .assets/ and not installed) and runs examples/web-text.yaml on their pages.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh
need_cargo
need cc gcc libc6-dev
need make make
need python3 python3
need_web_text .assets/web-text .assets/python-doc .assets/apache-doc
[ -e .assets/web-text/apache.warc.gz ] || exit 1
exec cargo run --quiet --package pipeline -- run examples/web-text.yaml "$@"

#!/usr/bin/env bash
# Fetches Debian's installation guides (unpacked into .assets/, not installed) and runs examples/slimpajama.yaml on them.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh
need_cargo
need cc gcc libc6-dev
need make make
need python3 python3
need_guides .assets/installation-guide
[ -e .assets/installation-guide/.installed ] || exit 1
exec cargo run --quiet --package pipeline -- run examples/slimpajama.yaml "$@"

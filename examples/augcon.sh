#!/usr/bin/env bash
# Fetches a small language model and what serves it (unpacked into .assets/, not installed) and runs examples/augcon.yaml, which asks it.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh
need_cargo
need cc gcc libc6-dev
need make make
need python3 python3
need_llm .assets/llm
[ -e .assets/llm/.installed ] || exit 1
exec cargo run --quiet --package pipeline -- run examples/augcon.yaml "$@"

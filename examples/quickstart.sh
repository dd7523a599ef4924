#!/usr/bin/env bash
# Builds the `pipeline` command and runs examples/quickstart.yaml with it; installs a C compiler first where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh
need_cargo
need cc gcc libc6-dev
need make make
exec cargo run --quiet --package pipeline -- run examples/quickstart.yaml "$@"

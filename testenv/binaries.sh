#!/usr/bin/env bash
# Prints the folder of this tree's binaries (dev profile, every feature), once they are built. WEIR_BUILT=1 says that `make test` has just
# built them: it does so with features of its own, and a build without those would compile most dependencies again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${WEIR_BUILT:-}" ] || ${CARGO:-cargo} build --locked --quiet --workspace --bins --features weir/cluster
target=$(${CARGO:-cargo} metadata --format-version 1 --no-deps --quiet | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')
printf '%s/debug\n' "$target"

#!/usr/bin/env bash
# The drift check: generated files are committed, and generating them again changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

UPDATE=1 cargo test --locked --quiet -p weir-crds -p weir-reconcile >/dev/null
charts/generate.py
charts/dashboards.py
drift=$(git status --porcelain -- crds operator/reconcile charts)
if [ -n "$drift" ]; then
  echo "generated files differ from what the code generates; run 'make generate' and commit:" >&2
  echo "$drift" >&2
  git --no-pager diff --stat -- crds operator/reconcile charts >&2
  exit 1
fi
echo "generated files: ok"

#!/usr/bin/env bash
# The drift check: generated files are committed, and generating them again changes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

# As `make test` builds them, so that nothing is compiled twice.
cargo test --locked --quiet --workspace --features weir/cluster --test it --no-run --message-format json | python3 -c '
import json, os, subprocess, sys
for line in sys.stdin:
    built = json.loads(line)
    manifest = built.get("manifest_path", "")
    # Of the gateway only the document of its surface is generated.
    only = {"/crds/Cargo.toml": [], "/operator/reconcile/Cargo.toml": [], "/gateway/server/Cargo.toml": ["openapi"]}
    for tests in (tests for end, tests in only.items() if built.get("executable") and manifest.endswith(end)):
        folder = os.path.dirname(manifest)
        subprocess.run([built["executable"], "--quiet", *tests], cwd=folder, env=os.environ | {"UPDATE": "1"}, stdout=subprocess.DEVNULL, check=True)
'
charts/generate.py
charts/dashboards.py
drift=$(git status --porcelain -- crds operator/reconcile charts docs/openapi.json)
if [ -n "$drift" ]; then
  echo "generated files differ from what the code generates; run 'make generate' and commit:" >&2
  echo "$drift" >&2
  git --no-pager diff --stat -- crds operator/reconcile charts docs/openapi.json >&2
  exit 1
fi
echo "generated files: ok"

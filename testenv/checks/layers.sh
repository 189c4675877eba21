#!/usr/bin/env bash
# The layer check: crates that must stay pure never see an async runtime, an HTTP or gRPC stack or a Kubernetes client,
# the gateway and the operator never depend on each other, and no test component is shipped (ARCHITECTURE.md, "Who may
# use whom").
set -euo pipefail
cd "$(dirname "$0")/../.."

failed=0
# refuse CRATE PATTERN REASON: no dependency of CRATE, at any depth, may match PATTERN.
refuse() {
  local tree found
  tree=$(cargo tree --locked --quiet -p "$1" --edges normal --prefix none --format '{p}' | awk '{print $1}' | sort -u)
  found=$(grep -xE "$2" <<<"$tree" | grep -vx "$1" | tr '\n' ' ' || true)
  if [ -n "$found" ]; then
    echo "layers: $1 must not depend on: $found($3)" >&2
    failed=1
  fi
}

impure='tokio|axum|tonic|hyper|reqwest|kube-client|kube-runtime'
for crate in weir-crds weir-plan weir-router weir-reconcile weir-memory; do
  refuse "$crate" "$impure" "pure crates hold data and decisions only"
done
for crate in weir-crds weir-plan weir-router weir-memory; do
  refuse "$crate" 'weir-.*' "these stand alone"
done
refuse weir-reconcile 'tract-.*' "reconciling reads manifests, it does not evaluate networks"
refuse weir-engine 'weir-(memory|router|gateway|crds|reconcile|local|lab)' "the engine client knows the plan only"
refuse weir-gateway 'weir-(crds|reconcile|local|lab)|kube|kube-core' "the gateway's world is the plan"
refuse weir 'weir-testenv' "what tests run on is not shipped"
refuse weir 'kube-client|kube-runtime|qdrant-client|neo4rs' "local mode builds without a cluster client or store clients"
[ "$failed" = 0 ] && echo "layers: ok"
exit "$failed"

#!/usr/bin/env bash
# The layer check: who may use whom, as ARCHITECTURE.md says it. Crates that must stay pure never see an async runtime, an
# HTTP or gRPC stack or a Kubernetes client, the gateway and the operator never depend on each other, and no test component
# is shipped.
set -euo pipefail
cd "$(dirname "$0")/../.."

failed=0
ruled=""

# uses CRATE: its dependencies at any depth, one name a line.
uses() {
  cargo tree --locked --quiet -p "$1" --edges normal --prefix none --format '{p}' | awk -v own="$1" '$1 != own {print $1}' | sort -u
}

# complain CRATE FOUND REASON: counts as a failure when FOUND names anything.
complain() {
  if [ -n "$2" ]; then
    echo "layers: $1 must not depend on: $(tr '\n' ' ' <<<"$2")($3)" >&2
    failed=1
  fi
}

# refuse CRATE PATTERN REASON: no dependency of CRATE may match PATTERN.
refuse() {
  complain "$1" "$(uses "$1" | grep -xE "$2" || true)" "$3"
}

# only CRATE [OTHER...]: of our crates, CRATE may use these and no other.
only() {
  local crate=$1 allowed
  shift
  ruled+="$crate "
  allowed=$(printf '|weir-%s' "$@")
  complain "$crate" "$(uses "$crate" | grep -E '^weir' | grep -vxE "${allowed#|}" || true)" "ARCHITECTURE.md, \"Who may use whom\""
}

only weir-crds
only weir-plan
only weir-router
only weir-memory
only weir-models
only weir-embed models
only weir-engine plan
only weir-proto
only weir-certificates plan
only weir-memory-live memory embed models engine plan
only weir-memory-external memory-live memory embed models engine plan
only weir-memory-service proto certificates memory-external memory-live memory embed models engine plan
only weir-gateway-cluster proto certificates gateway engine memory memory-live embed models router plan
only weir-reconcile crds plan router
only weir-operator proto certificates reconcile crds plan router
only weir-e2e crds lab gateway proto engine memory memory-live embed models router plan
only weir-gateway proto engine memory memory-live embed models router plan
only weir-testenv
only weir-lab gateway proto engine memory memory-live embed models router plan
only weir-bench testenv lab gateway proto engine memory memory-live embed models router plan
only weir-local gateway proto engine memory memory-live embed models router plan reconcile crds
only weir local lab gateway proto engine memory memory-live embed models router plan reconcile crds

members=$(cargo metadata --locked --quiet --no-deps --format-version 1 |
  python3 -c 'import json,sys; print(*(package["name"] for package in json.load(sys.stdin)["packages"]))')
for member in $members; do
  case " $ruled" in
    *" $member "*) ;;
    *) echo "layers: no rule for $member: add one here and to ARCHITECTURE.md" >&2; failed=1 ;;
  esac
done

impure='tokio|axum|tonic|hyper|reqwest|kube-client|kube-runtime'
for crate in weir-crds weir-plan weir-router weir-reconcile weir-memory; do
  refuse "$crate" "$impure" "pure crates hold data and decisions only"
done
refuse weir-reconcile 'tract-.*' "reconciling reads manifests, it does not evaluate networks"
refuse weir-gateway 'kube|kube-core' "the gateway's world is the plan"
refuse weir 'kube-client|kube-runtime|qdrant-client|neo4rs' "local mode builds without a cluster client or store clients"
[ "$failed" = 0 ] && echo "layers: ok"
exit "$failed"

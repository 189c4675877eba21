#!/usr/bin/env bash
# The operator's numbers: build it for release, start a control plane without a node, measure, end the control plane.
#
#   testenv/bench_operator.sh                   as benches/results/operator.md says; eight minutes after the build
#   testenv/bench_operator.sh --pools 200       options go to weir-operator-bench
#
# The cluster must be down before: what other objects cost would be measured too. Needs what cluster.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=testenv/cluster/cluster.sh
target=${CARGO_TARGET_DIR:-target}

kubeconfig=$($cluster kubeconfig)
[ ! -e "$kubeconfig" ] || { echo "bench_operator: a cluster is up: $cluster down" >&2; exit 1; }
# The profile of `make bench`, so that both share one build.
${CARGO:-cargo} build --locked --profile bench --workspace --bins --features weir/cluster
trap '$cluster down' EXIT
$cluster up --no-node
"$target/release/weir-operator-bench" --kubeconfig "$kubeconfig" --weir "$target/release/weir" "$@"

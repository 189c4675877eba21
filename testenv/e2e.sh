#!/usr/bin/env bash
# Weir on a real cluster: start it, render the charts, build the images, run the scenarios of operator/e2e, end the cluster.
#
#   testenv/e2e.sh                    every scenario
#   testenv/e2e.sh install scale      only these; `install` must have run on the cluster before the others
#   testenv/e2e.sh --full             planned changes under 100,000 requests, not 5,000
#   testenv/e2e.sh --keep install     keep what a failed scenario left
#
# A cluster that was up before stays up: the inner loop is `make cluster-up` once, then this. WEIR_IMAGE_PROFILE as in image.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=testenv/cluster/cluster.sh
images=${CARGO_TARGET_DIR:-target}/images

kubeconfig=$($cluster kubeconfig)
[ -e "$kubeconfig" ] || trap '$cluster down' EXIT
$cluster up
charts/tests/run.sh

binaries=$(testenv/binaries.sh)
WEIR_BUILT=1 testenv/image.sh --output "$images"
# The second names are what the scenarios `fields` and `upgrade` go to: the same program, as far as everything the operator builds can
# tell another.
$cluster load "$images/llama-server.tar" weir.local/llama-next:dev
$cluster load "$images/weir.tar" weir.local/weir-next:dev

"$binaries/weir-e2e" --kubeconfig "$kubeconfig" --weir "$binaries/weir" "$@"

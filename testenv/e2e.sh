#!/usr/bin/env bash
# Weir on a real cluster: start it, render the charts, build the images, run the scenarios of operator/e2e, end the cluster.
#
#   testenv/e2e.sh                    every scenario
#   testenv/e2e.sh install scale      only these; `install` must have run on the cluster before the others, but for `manual`, which needs
#                                     a cluster without Weir
#   testenv/e2e.sh --full             planned changes under 100,000 requests, not 5,000; ten idle minutes; the image is the release one; the upgrade
#                                     comes from the last tag, or from the commit before this one
#   testenv/e2e.sh --keep install     keep what a failed scenario left
#
# A cluster that was up before stays up: the inner loop is `make cluster-up` once, then this. WEIR_IMAGE_PROFILE as in image.sh.
# WEIR_UPGRADE_FROM is the commit that the scenario `upgrade` comes from; empty: the same program under another name.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=testenv/cluster/cluster.sh
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
images=$target/images
arguments=("$@")

for argument in "$@"; do
  [ "$argument" = --full ] || continue
  export WEIR_IMAGE_PROFILE=${WEIR_IMAGE_PROFILE:-release}
  WEIR_UPGRADE_FROM=${WEIR_UPGRADE_FROM-$(git describe --tags --abbrev=0 2>/dev/null || git rev-parse HEAD~1)}
done

# former COMMIT: its charts and its image, as weir.local/weir:former. It is built apart: one folder of build products for two checkouts
# would be built anew for each.
former() {
  local folder=$target/former
  echo "e2e: building $1, from which to upgrade"
  rm -rf "$folder/checkout"
  mkdir -p "$folder/checkout"
  git archive "$1" | tar --extract --directory "$folder/checkout"
  (
    unset WEIR_BUILT WEIR_IMAGE_PROFILE
    cd "$folder/checkout"
    CARGO_TARGET_DIR=$folder/target testenv/image.sh --tag former --output "$folder/images" weir
  )
  $cluster load "$folder/images/weir.tar"
  arguments+=(--former "$folder/checkout")
}

kubeconfig=$($cluster kubeconfig)
[ -e "$kubeconfig" ] || trap '$cluster down' EXIT
$cluster up
charts/tests/run.sh

binaries=$(testenv/binaries.sh)
WEIR_BUILT=1 testenv/image.sh --output "$images"
# The second names are what the scenarios `fields` and `upgrade` go to: the same program, as far as everything the operator builds can
# tell another. The third is what the charts ask for when nobody names a tag, as on the pages that `manual` follows.
version=$(sed -n 's/^appVersion: //p' charts/weir/Chart.yaml)
$cluster load "$images/llama-server.tar" weir.local/llama-next:dev
$cluster load "$images/weir.tar" weir.local/weir-next:dev
$cluster load "$images/weir.tar" "weir.local/weir:$version"
[ -z "${WEIR_UPGRADE_FROM:-}" ] || former "$WEIR_UPGRADE_FROM"

"$binaries/weir-e2e" --kubeconfig "$kubeconfig" --weir "$binaries/weir" "${arguments[@]}"

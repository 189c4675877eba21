#!/usr/bin/env bash
# Fuzzes every parser of outside input: fuzz.sh [SECONDS a target, default 60] [TARGET...]
#
# Seeds are fuzz/seeds and files of the repository; what is found on the way is kept in fuzz/corpus, not committed. A crash ends
# the run, names its input and leaves it in fuzz/artifacts. Needs a nightly toolchain and cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- call_text document gguf grpc_chat json_span log_row memory_export messages plan router_artifact sse stack token
toolchain=${FUZZ_TOOLCHAIN:-nightly}

if ! cargo "+$toolchain" fuzz --version >/dev/null 2>&1; then
    echo "fuzz.sh: cargo-fuzz or the toolchain $toolchain is absent: rustup toolchain install $toolchain && cargo install cargo-fuzz" >&2
    exit 1
fi

for target; do
    features=() seeds=("fuzz/seeds/$target") more=()
    case $target in
    grpc_chat | log_row | messages | token) features=(--features gateway) ;;
    stack) seeds=(examples/stacks crds/tests/it/bad) ;;
    router_artifact) seeds=() more=(-seed_inputs=router/artifacts/default.onnx) ;;
    esac
    [ -d "fuzz/seeds/$target" ] || [ "${seeds[*]}" != "fuzz/seeds/$target" ] || seeds=()
    mkdir -p "fuzz/corpus/$target"
    echo "fuzz.sh: $target, $seconds s"
    cargo "+$toolchain" fuzz run "${features[@]}" "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "${more[@]}"
done
echo "fuzz.sh: no crash in $# targets"

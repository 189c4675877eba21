#!/usr/bin/env bash
# The matrix of models: LFM2's shapes with random weights and the real models of `make components`, by threads and context, on this
# machine and as on a small device (one core, 2 GiB; needs root).
#
#   testenv/bench_matrix.sh                                     all of it; the shapes take 12 GB of disk, in the cache
#   testenv/bench_matrix.sh --shapes 350M,1.2B --quantizations Q4_0   only these shapes; `--shapes none` for the real models alone
#   testenv/bench_matrix.sh --results FOLDER                    where the results go [benches/results]
#   testenv/bench_matrix.sh -- --context 512 --repeats 5        what follows goes to `weir bench matrix`
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${WEIR_CACHE:-$HOME/.cache/weir}
shapes=350M,700M,1.2B,2.6B
quantizations=Q4_0,Q5_0,Q8_0
results=benches/results
small=weir-matrix-$$

while [ $# -gt 0 ]; do
  case $1 in
    --shapes) shapes=${2:?--shapes needs a list} && shift 2 ;;
    --quantizations) quantizations=${2:?--quantizations needs a list} && shift 2 ;;
    --results) results=${2:?--results needs a folder} && shift 2 ;;
    --) shift && break ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
  esac
done
[ "$shapes" != none ] || shapes=

# small_device COMMAND...: runs it on one core with 2 GiB of memory, what it maps from files included.
small_device() {
  local memory=/sys/fs/cgroup/memory limit=memory.limit_in_bytes
  [ -d "$memory" ] || { memory=/sys/fs/cgroup limit=memory.max; }
  mkdir "$memory/$small"
  trap "rmdir '$memory/$small'" EXIT
  echo $((2 << 30)) >"$memory/$small/$limit"
  (echo "$BASHPID" >"$memory/$small/cgroup.procs" && exec taskset --cpu-list 0 "$@")
}

models=()
for shape in ${shapes//,/ }; do
  for quantization in ${quantizations//,/ }; do
    file=$cache/shapes/lfm2-${shape,,}-random-${quantization,,}.gguf
    mkdir -p "$cache/shapes"
    [ -e "$file" ] || testenv/lfm2_model.py "$shape" "$quantization" "$file"
    models+=("$file")
  done
done
for model in smollm2-135m-instruct-q4_1 qwen2.5-coder-0.5b-instruct-q4_k_m qwen2.5-coder-1.5b-instruct-q4_k_m; do
  [ ! -e "$cache/models/$model.gguf" ] || models+=("$cache/models/$model.gguf")
done

weir=$(testenv/binaries.sh)/weir
"$weir" bench matrix "${models[@]}" --docs "$cache/corpus/python-docs" --results "$results" "$@"
if [ "$(id -u)" = 0 ]; then
  small_device "$weir" bench matrix "${models[@]}" --threads 1 --questions 0 --name matrix-small-device --results "$results" "$@"
else
  echo "bench_matrix: SKIPPED the small device: only root may limit memory" >&2
fi

#!/usr/bin/env bash
# The demo: bring the stack up, read the Python documentation into the memory, ask real questions, show why each model answered.
#
# Everything happens in a folder of its own and on a free port, beside whatever else runs here. It fails when an answer is
# empty or when the first one took longer than WEIR_DEMO_LIMIT_S seconds after `weir up`.
set -euo pipefail
cd "$(dirname "$0")/.."
stack=${1:-examples/stacks/offline.yaml}
limit=${WEIR_DEMO_LIMIT_S:-180}
corpus=$HOME/.cache/weir/corpus/python-docs
weir=$(WEIR_BUILT=1 testenv/binaries.sh)/weir
work=$(mktemp -d)
export WEIR_HOME=$work/home

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || step() { printf '\n%s\n' "$*"; }
fact() { "$weir" status --output json 2>/dev/null | python3 -c "import json,sys; s=json.load(sys.stdin); print($1)" 2>/dev/null || true; }
fail() {
  printf '\ndemo: FAILED: %s\n' "$*" >&2
  tail -n 20 "$WEIR_HOME"/*/logs/gateway.log >&2 2>/dev/null || true
  exit 1
}
# within SECONDS COMMAND...: as far as this system has `timeout`; a gateway also ends each request itself.
within() {
  if command -v timeout >/dev/null; then timeout "$@"; else "${@:2}"; fi
}

step "weir up -f $stack --port 0"
started=$SECONDS
"$weir" up -f "$stack" --port 0 &
up=$!
stop() {
  "$weir" down --timeout 30 >/dev/null 2>&1 || kill "$up" 2>/dev/null || true
  wait "$up" 2>/dev/null || true
  rm -rf "$work"
}
trap stop EXIT
until [ "$(fact 's["ready"]')" = True ]; do
  kill -0 "$up" 2>/dev/null || fail "weir up ended before it was ready"
  [ $((SECONDS - started)) -lt "$limit" ] || fail "the stack was not ready $limit s after weir up"
  sleep 0.5
done

step "weir memory ingest $corpus --domain python"
within "$limit" "$weir" memory ingest "$corpus" --domain python || fail "the corpus could not be read into the memory"

again=0
ask() {
  step "weir ask \"$1\""
  within "$limit" "$weir" ask "$1" 2>"$work/route" | tee "$work/answer" || { cat "$work/route" >&2; fail "no answer to: $1"; }
  cat "$work/route" >&2
  grep -q '[^[:space:]]' "$work/answer" || fail "an empty answer to: $1"
  if grep -q '^model .*second attempt' "$work/route"; then again=$((again + 1)); fi
}
ask "Hello!"
first=$((SECONDS - started))
[ "$first" -le "$limit" ] || fail "the first answer came $first s after weir up, $limit s are allowed"
printf '\nFirst answer %s s after weir up.\n' "$first"
ask "In Python, what is the default value of the maxsize parameter of functools.lru_cache? Answer with the number only."
ask 'Which function of the inspect module is documented with the words "Return True if the type of object is a MethodWrapperType"? Answer with the name only.'
ask "In which Python version was the match statement added? Answer with the version only."

step "weir status"
"$weir" status
printf '\ndemo: four answers, the first %s s after weir up, %s of them asked again of a bigger model\n' "$first" "$again"

#!/usr/bin/env bash
# The demo: bring the stack up, read the Python documentation into the memory, ask real questions, show why each model answered.
set -euo pipefail
cd "$(dirname "$0")/.."
stack=${1:-examples/stacks/offline.yaml}
corpus=$HOME/.cache/weir/corpus/python-docs
weir=$(cargo metadata --format-version 1 --no-deps --quiet | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')/debug/weir
log=$(mktemp)
started=$SECONDS

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || step() { printf '\n%s\n' "$*"; }
fact() { "$weir" status --output json 2>/dev/null | python3 -c "import json,sys; s=json.load(sys.stdin); print($1)" 2>/dev/null || true; }

step "weir up -f $stack"
"$weir" up -f "$stack" >"$log" 2>&1 &
up=$!
stop() {
  "$weir" down >/dev/null 2>&1 || kill "$up" 2>/dev/null || true
  wait "$up" 2>/dev/null || true
  rm -f "$log"
}
trap stop EXIT
until [ "$(fact 's["ready"]')" = True ]; do
  kill -0 "$up" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.5
done
cat "$log"

step "weir memory ingest $corpus --domain python"
"$weir" memory ingest "$corpus" --domain python

ask() {
  step "weir ask \"$1\""
  "$weir" ask "$@"
}
ask "Reply with the single word: hello"
echo
echo "First answer $((SECONDS - started)) seconds after weir up."
ask "In Python, what is the default value of the maxsize parameter of functools.lru_cache? Answer with the number only."
ask "In which Python version was math.lcm added, and does it accept more than two arguments? Answer in one short sentence."
ask "Which exception does int('x') raise in Python, and is it a subclass of OSError? Answer in one short sentence."

step "weir status"
"$weir" status

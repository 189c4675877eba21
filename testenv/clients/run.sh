#!/usr/bin/env bash
# OpenAI's own clients, unmodified, against `weir up` on real models; then requests that schemathesis makes of docs/openapi.json, right
# ones and wrong ones, against every route: none may end with a 5xx that no fault explains, or with an answer that the document does not
# have.
set -euo pipefail
cd "$(dirname "$0")"
cache=$HOME/.cache/weir/clients
openai_python=3.54.0
openai_node=7.57.0
schemathesis=4.32.5

for tool in python3 node npm; do
  command -v "$tool" >/dev/null || { echo "clients: $tool is missing: install it to run this test" >&2; exit 1; }
done
if [ ! -e "$cache/python-$openai_python/done" ]; then
  python3 -m venv --clear "$cache/python-$openai_python"
  "$cache/python-$openai_python/bin/pip" install --quiet "openai==$openai_python"
  touch "$cache/python-$openai_python/done"
fi
if [ ! -e "$cache/node-$openai_node/done" ]; then
  npm install --silent --no-fund --no-audit --prefix "$cache/node-$openai_node" "openai@$openai_node"
  touch "$cache/node-$openai_node/done"
fi
if [ ! -e "$cache/schemathesis-$schemathesis/done" ]; then
  python3 -m venv --clear "$cache/schemathesis-$schemathesis"
  "$cache/schemathesis-$schemathesis/bin/pip" install --quiet "schemathesis==$schemathesis"
  touch "$cache/schemathesis-$schemathesis/done"
fi

work=$(mktemp -d)
export WEIR_HOME=$work/home
weir=$(../binaries.sh)/weir
running=
stop() {
  [ -z "$running" ] || "$weir" down --name "$running" >/dev/null 2>&1 || kill "$up" 2>/dev/null || true
  wait "$up" 2>/dev/null || true
  running=
}
trap 'stop; rm -rf "$work"' EXIT

# serve STACK NAME: starts the stack of that gateway and sets WEIR_ADDRESS when it is ready.
serve() {
  "$weir" up -f "$1" --port 0 >"$work/up.log" 2>&1 &
  up=$! running=$2
  local address=
  for _ in $(seq 240); do
    address=$("$weir" status --output json 2>/dev/null | python3 -c 'import json,sys; s=json.load(sys.stdin); print(s["address"] if s["ready"] else "")' 2>/dev/null || true)
    [ -n "$address" ] && break
    kill -0 "$up" 2>/dev/null || { cat "$work/up.log" >&2; exit 1; }
    sleep 0.5
  done
  [ -n "$address" ] || { echo "clients: the stack was not ready in two minutes:" >&2; cat "$work/up.log" >&2; exit 1; }
  export WEIR_ADDRESS=$address
}

serve stack.yaml clients
"$cache/python-$openai_python/bin/python" test_openai.py
cp openai.test.mjs "$cache/node-$openai_node/"
node --test "$cache/node-$openai_node/openai.test.mjs"
stop

serve surface.yaml surface
"$cache/schemathesis-$schemathesis/bin/schemathesis" run ../../docs/openapi.json --url "$WEIR_ADDRESS" --seed 1 --max-examples 20 \
  --phases examples,coverage,fuzzing --warnings off --no-color \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance

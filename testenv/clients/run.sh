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

. ./serve.sh

serve stack.yaml clients
"$cache/python-$openai_python/bin/python" test_openai.py
cp openai.test.mjs "$cache/node-$openai_node/"
node --test "$cache/node-$openai_node/openai.test.mjs"
stop

serve surface.yaml surface
"$cache/schemathesis-$schemathesis/bin/schemathesis" run ../../docs/openapi.json --url "$WEIR_ADDRESS" --seed 1 --max-examples 20 \
  --phases examples,coverage,fuzzing --warnings off --no-color \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance

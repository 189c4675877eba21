#!/usr/bin/env bash
# llama.cpp's own tests of its server, as far as they are OpenAI's, asked of the engine and of Weir in front of it. llama_cpp.py compares the
# answers and knows what differs and why.
set -euo pipefail
cd "$(dirname "$0")"
cache=$HOME/.cache/weir
python=$cache/clients/python-server-tests
packages=(pytest==9.2.0 requests==2.34.2 wget==3.2 filelock==4.3.1 numpy==2.4.6 openai==3.54.0)

../fetch.py engine-static tiny-random server-tests
if [ "$(cat "$python/done" 2>/dev/null)" != "${packages[*]}" ]; then
  python3 -m venv --clear "$python"
  "$python/bin/pip" install --quiet "${packages[@]}"
  echo "${packages[*]}" >"$python/done"
fi
. ./serve.sh
# Each test starts its engine here, and the run that goes around Weir one port further: where no connection that goes out takes the port
# while no engine has it.
port=$(python3 -c '
import random, socket
while True:
    port = random.randrange(20000, 30000, 2)
    try:
        for one in (port, port + 1):
            with socket.socket() as s:
                s.bind(("127.0.0.1", one))
        break
    except OSError:
        pass
print(port)')
sed "s/PORT/$port/" llama_cpp.yaml >"$work/llama_cpp.yaml"
# It is ready only while a test has its engine up.
serve "$work/llama_cpp.yaml" llama-cpp address
"$python/bin/python" llama_cpp.py "$cache"/clients/server-tests-* "$cache/bin/llama-server-static" "$cache/models/tiny-random.gguf" "$port"
stop

# A stack of `weir up` for a client to ask; for scripts of this folder, which run with their folder as the working one. What it starts ends
# with them.
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

# serve STACK NAME [FIELD]: starts the stack of that gateway and sets WEIR_ADDRESS once its status has the field; without one, once it is ready.
serve() {
  "$weir" up -f "$1" --port 0 >"$work/up.log" 2>&1 &
  up=$! running=$2
  local address= field=${3:-ready}
  for _ in $(seq 240); do
    address=$("$weir" status --output json 2>/dev/null | python3 -c 'import json,sys; s=json.load(sys.stdin); print(s["address"] if s[sys.argv[1]] else "")' "$field" 2>/dev/null || true)
    [ -n "$address" ] && break
    kill -0 "$up" 2>/dev/null || { cat "$work/up.log" >&2; exit 1; }
    sleep 0.5
  done
  [ -n "$address" ] || { echo "clients: the stack was not ready in two minutes:" >&2; cat "$work/up.log" >&2; exit 1; }
  export WEIR_ADDRESS=$address
}

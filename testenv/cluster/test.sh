#!/usr/bin/env bash
# What the head of cluster.sh promises, asked of a running cluster: pod security, volumes, names, a model that is downloaded by a pod
# and answers through a Service, and a policy that keeps others out. The images of testenv/image.sh llama-server must have been made:
# its archive is the argument.
#
#   testenv/cluster/test.sh target/images/llama-server.tar
set -euo pipefail
cd "$(dirname "$0")"
kubeconfig=$(./cluster.sh kubeconfig)
bin=${WEIR_CLUSTER_HOME:-$HOME/.cache/weir/cluster}/bin
namespace=weir-cluster-test
model=smollm2-135m-instruct-q4_1.gguf
work=$(mktemp -d)

kubectl() { "$bin/kubectl" --kubeconfig "$kubeconfig" --namespace $namespace "$@"; }

fail() {
  printf 'cluster test: FAILED: %s\n' "$*" >&2
  kubectl get pods,pvc,events >&2 || true
  exit 1
}

# within SECONDS COMMAND...: until it works.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

connects() { kubectl exec probe -- /probe connect engine:80; }
is_kept_out() { ! connects; }

step() { printf 'cluster test: %3s s  %s\n' "$SECONDS" "$*"; }

stop() {
  [ ! -f "$work/hub" ] || kill "$(cat "$work/hub")" 2>/dev/null || true
  "$bin/kubectl" --kubeconfig "$kubeconfig" delete namespace $namespace --ignore-not-found --wait=false >/dev/null || true
  rm -rf "$work"
}
trap stop EXIT

[ $# = 1 ] || fail "the archive of the llama-server image is needed"
./cluster.sh load "$1"
told=$(./cluster.sh status) || fail "a process of the cluster is not alive: $told"
step "every process is alive"
kubectl create namespace $namespace >/dev/null
kubectl label namespace $namespace pod-security.kubernetes.io/enforce=restricted >/dev/null
# Pods are refused until the controller manager has made the account that they run as.
kubectl wait --for=create serviceaccount/default --timeout=30s >/dev/null

if refused=$(kubectl run root --image weir.local/probe:dev 2>&1); then fail "restricted let a plain pod in"; fi
grep -q 'violates PodSecurity "restricted' <<<"$refused" || fail "a plain pod was refused for another reason: $refused"
step "pod security is enforced"

python3 models.py --state "$work/models" >"$work/facts" &
echo $! >"$work/hub"
until [ -s "$work/facts" ]; do
  kill -0 "$(cat "$work/hub")" 2>/dev/null || fail "the model hub ended at its start"
  sleep 0.1
done
url=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["url"])' <"$work/facts")
kubectl create configmap roots --from-file="$work/models/ca.crt" >/dev/null

sed -e "s#@URL@#$url/models/$model#" test.yaml | kubectl apply --filename - >/dev/null
kubectl wait --for=jsonpath='{.status.phase}'=Bound pvc/note --timeout=30s >/dev/null || fail "the claim is not bound"
kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/writer --timeout=60s >/dev/null || fail "a volume is not writable for its pod's group"
step "a claim is bound and its volume writable for a pod that is not root"

kubectl wait --for=condition=Ready pod/probe --timeout=60s >/dev/null || fail "the probe is not ready"
[ "$(kubectl exec probe -- /probe read /note/text)" = kept ] || fail "another pod does not find what was written to the volume"
step "the volume keeps what was written"

address=$(kubectl get service engine --output jsonpath='{.spec.clusterIP}')
[ "$(kubectl exec probe -- /probe lookup engine)" = "$address" ] || fail "a Service's short name does not resolve in a pod"
kubectl wait --for=condition=Ready pod/engine --timeout=120s >/dev/null || fail "the engine is not ready"
step "a pod downloaded the model and its engine is ready"

question='{"messages": [{"role": "user", "content": "Reply with the single word: hello"}], "max_tokens": 16, "temperature": 0}'
answer=$(kubectl exec probe -- /probe post "http://engine.$namespace.svc.cluster.local/v1/chat/completions" "$question" 2>/dev/null) ||
  fail "no answer through the Service"
grep -q '"content":"[^"]' <<<"$answer" || fail "an empty answer: $answer"
step "another pod asked it by its name: $(python3 -c 'import json, sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])' <<<"$answer")"

asked=$(curl --silent --noproxy '*' --cacert "$work/models/ca.crt" "$url/control/requests")
[ "$(python3 -c 'import json, sys; print(len(json.load(sys.stdin)))' <<<"$asked")" = 1 ] || fail "the hub counted other requests: $asked"

kubectl label pod probe may- >/dev/null
within 10 is_kept_out || fail "a pod that no policy lets in connects"
kubectl label pod probe may=ask >/dev/null
within 10 connects || fail "a pod that a policy lets in does not connect"
kubectl label pod probe may- >/dev/null
within 10 is_kept_out || fail "a pod that is let in no longer connects"
kubectl delete networkpolicy engine >/dev/null
within 10 connects || fail "a policy that is gone keeps a pod out"
step "a policy keeps out whom it does not let in, the node's probes excepted"

kubectl delete --filename test.yaml --ignore-not-found --wait --timeout=60s >/dev/null
for _ in $(seq 50); do
  left=$(kubectl get persistentvolumes --output jsonpath="{.items[?(@.spec.claimRef.namespace==\"$namespace\")].metadata.name}")
  [ -n "$left" ] || break
  sleep 0.2
done
[ -z "$left" ] || fail "volumes outlive their claims: $left"
step "a deleted claim takes its volume with it"

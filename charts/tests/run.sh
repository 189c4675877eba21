#!/usr/bin/env bash
# The charts as Helm renders them, against reviewed files; and values that the schema must refuse.
#
#   charts/tests/run.sh              compare
#   UPDATE=1 charts/tests/run.sh     write the goldens again, to be reviewed in the diff
#
# A case is cases/NAME.values.yaml with cases/NAME.golden.yaml; its first line names the chart. cases/refused.txt holds a chart, an
# assignment and a part of the message that Helm must give. Helm is $HELM, or that of testenv/cluster/cluster.sh build.
set -euo pipefail
cd "$(dirname "$0")/.."
helm=${HELM:-$HOME/.cache/weir/cluster/bin/helm}
command -v "$helm" >/dev/null || { echo "charts: no helm at $helm: testenv/cluster/cluster.sh build, or set HELM" >&2; exit 1; }
failed=0

complain() {
  echo "charts: $*" >&2
  failed=1
}

render() { "$helm" template release "$@" --namespace weir-system; }

"$helm" lint --quiet weir weir-crds || complain "helm lint found mistakes"

cases=0
for values in tests/cases/*.values.yaml; do
  golden=${values%.values.yaml}.golden.yaml
  chart=$(sed -n '1s/^# chart: //p' "$values")
  rendered=$(render "$chart" --values "$values") || { complain "$values does not render"; continue; }
  if [ "${UPDATE:-0}" = 1 ]; then
    printf '%s\n' "$rendered" >"$golden"
  else
    diff -u "$golden" - <<<"$rendered" || complain "$chart with $values differs from $golden; UPDATE=1 $0 writes it again"
  fi
  cases=$((cases + 1))
done

# Every metric that a dashboard asks for is one that the code counts.
metrics=$(grep -rhoE 'weir_[a-z_]+' weir/dashboards | sed 's/_bucket$//' | sort -u)
for metric in $metrics; do
  grep -rqF --include='*.rs' "\"$metric\"" ../gateway ../memory ../operator || complain "a dashboard asks for $metric, which nothing counts"
done
dashboards=$(render weir --set dashboards.enabled=true | grep -c 'grafana_dashboard: "1"' || true)
[ "$dashboards" = 3 ] || complain "there are $dashboards dashboards, not 3"
cases=$((cases + 2))

# The definitions are generated from crds/yaml and reviewed there; here it counts whether an uninstall spares them.
kept() { render weir-crds --set "keep=$1" | grep -c 'helm.sh/resource-policy: keep' || true; }
[ "$(kept true)" = "$(find ../crds/yaml -name '*.yaml' | wc -l)" ] || complain "an uninstall of weir-crds does not spare every definition"
[ "$(kept false)" = 0 ] || complain "weir-crds keeps definitions with keep=false"
cases=$((cases + 2))

# What people may do is said beside the definitions, so that an operator of one namespace asks for nothing beyond namespaces.
scopes() { render "$@" | grep -c '^kind: Cluster' || true; }
[ "$(scopes weir)" = 2 ] || complain "weir for all namespaces does not have one ClusterRole and its binding"
[ "$(scopes weir --set watchNamespace=team)" = 0 ] || complain "weir for one namespace makes something of the whole cluster"
[ "$(scopes weir-crds)" = 3 ] || complain "weir-crds does not have the roles weir-view, weir-edit and weir-install"
[ "$(scopes weir-crds --set roles.create=false)" = 0 ] || complain "weir-crds makes roles with roles.create=false"
cases=$((cases + 4))

# The pod of `helm test` is let in by the policy that keeps others out: what that selects are the pod's own labels.
peers() { render weir --show-only "$1" --set 'networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus' | grep -A 5 "$2" | grep -o 'app.kubernetes.io/.*' || true; }
tested=$(peers templates/tests/ready.yaml '^  labels:')
allowed=$(peers templates/networkpolicy.yaml '^    from:')
[ -n "$tested" ] && [ "$tested" = "$allowed" ] || complain "the policy lets '$allowed' in and not the pod of helm test, '$tested'"
cases=$((cases + 1))

while IFS='|' read -r chart assignment message; do
  case $chart in "" | "#"*) continue ;; esac
  if answer=$(render "$chart" --set "$assignment" 2>&1); then
    complain "$chart takes $assignment"
  elif ! grep -qF -- "$message" <<<"$answer"; then
    complain "$chart refuses $assignment without saying '$message': $answer"
  fi
  cases=$((cases + 1))
done <tests/cases/refused.txt

[ "$failed" = 0 ] && echo "charts: ok, $cases cases"
exit "$failed"

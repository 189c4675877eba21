#!/usr/bin/env python3
"""Write the Grafana dashboards of charts/weir/dashboards, each panel from one line below.

    charts/dashboards.py

The JSON is committed; testenv/checks/generated.sh runs this and fails on a difference, and charts/tests/run.sh looks every metric up
in the code, so that no panel stays empty because a name changed.
"""

import json
import pathlib

TARGET = pathlib.Path(__file__).resolve().parent / "weir" / "dashboards"
WINDOW = "$__rate_interval"
SELECTED = 'namespace=~"$namespace"'


def rate(metric, by, where=""):
    return f"sum by ({by}) (rate({metric}{{{SELECTED}{where}}}[{WINDOW}]))"


def quantile(q, metric, by):
    buckets = f"sum by (le, {by}) (rate({metric}_bucket{{{SELECTED}}}[{WINDOW}]))"
    return f"histogram_quantile({q}, {buckets})"


def share(part, whole):
    return f"{part} / {whole}"


def total(metric, by):
    return f"sum by ({by}) ({metric}{{{SELECTED}}})"


def largest(metric):
    return f"max by (pod) ({metric}{{{SELECTED}}})"


# title, unit, then queries with their legends.
GATEWAY = [
    ("Requests by status", "reqps", (rate("weir_requests_total", "status"), "{{status}}")),
    ("Time to the head of an answer", "s",
     (quantile(0.5, "weir_response_head_seconds", "route"), "{{route}} p50"),
     (quantile(0.99, "weir_response_head_seconds", "route"), "{{route}} p99")),
    ("Time of a step, half of the requests", "s", (quantile(0.5, "weir_step_seconds", "step"), "{{step}} p50")),
    ("Time of a step, 99 of 100 requests", "s", (quantile(0.99, "weir_step_seconds", "step"), "{{step}} p99")),
    ("Routed answers by tier", "reqps", (rate("weir_answers_total", "tier"), "{{tier}}")),
    ("Routed answers by model", "reqps", (rate("weir_answers_total", "model"), "{{model}}")),
    ("Share of answers that a bigger model gave again", "percentunit",
     (share(rate("weir_answers_total", "namespace", ',escalated="true"'), rate("weir_answers_total", "namespace")),
      "{{namespace}}")),
    ("Routed answers by recall", "reqps", (rate("weir_answers_total", "recall"), "{{recall}}")),
    ("Pinned answers by model", "reqps", (rate("weir_pinned_answers_total", "model"), "{{model}}")),
    ("Failures by reason", "reqps", (rate("weir_failures_total", "kind"), "{{kind}}")),
    ("Tokens by model and kind", "short", (rate("weir_tokens_total", "model, kind"), "{{model}} {{kind}}")),
    ("Answers from the cache", "reqps", (rate("weir_answer_cache_hits_total", "pod"), "{{pod}} given again"),
     (rate("weir_answer_cache_misses_total", "pod"), "{{pod}} made and kept")),
    ("In flight and queued", "short",
     (total("weir_in_flight", "pod"), "{{pod}} in flight"), (total("weir_queued", "pod"), "{{pod}} queued")),
    ("In flight by pool", "short", (total("weir_pool_in_flight", "pool"), "{{pool}}")),
    ("Replicas by pool, as a gateway sees them", "short", (f"max by (pool) (weir_pool_replicas{{{SELECTED}}})", "{{pool}}")),
    ("Pools that can be asked", "bool", (f"min by (pool) (weir_pool_available{{{SELECTED}}})", "{{pool}}")),
    ("Rollout: the candidate's share", "percent", (f"max(weir_rollout_weight{{{SELECTED}}})", "weight")),
    ("Rollout: requests by version", "reqps", (rate("weir_rollout_requests_total", "version"), "{{version}}")),
    ("Rollout: share of errors by version", "percentunit",
     (share(rate("weir_rollout_errors_total", "version"), rate("weir_rollout_requests_total", "version")), "{{version}}")),
    ("Rollout: decisions that differ", "reqps",
     (rate("weir_rollout_shadowed_total", "namespace"), "decided twice"),
     (rate("weir_rollout_disagreements_total", "namespace"), "differ"),
     (rate("weir_rollout_labels_total", "namespace"), "judged")),
    ("Router: requests unlike training", "percentunit",
     (share(rate("weir_router_unusual_total", "pod"), rate("weir_router_compared_total", "pod")), "{{pod}}")),
    ("Router: drift", "bool", (f"max by (of) (weir_router_drift{{{SELECTED}}})", "{{of}}")),
    ("Router: small answers held back", "reqps", (rate("weir_router_held_back_total", "pod"), "{{pod}}")),
    ("Age of the plan", "s", (largest("weir_plan_age_seconds"), "{{pod}}")),
    ("Tokens refused by reason", "reqps", (rate("weir_jwt_refused_total", "reason"), "{{reason}}")),
    ("Age of the issuer's keys", "s", (largest("weir_jwks_age_seconds"), "{{pod}}")),
    ("Fetches of the issuer's keys", "short", (rate("weir_jwks_fetches_total", "outcome"), "{{outcome}}")),
    ("Decision records lost", "short", (rate("weir_log_rows_lost_total", "pod"), "{{pod}}")),
]

MEMORY = [
    ("Calls", "reqps", (rate("weir_memory_calls_total", "call, code"), "{{call}} {{code}}")),
    ("Time of a call", "s",
     (quantile(0.5, "weir_memory_call_seconds", "call"), "{{call}} p50"),
     (quantile(0.99, "weir_memory_call_seconds", "call"), "{{call}} p99")),
    ("Recall from the cache", "reqps", (rate("weir_memory_recall_cache_hits_total", "pod"), "{{pod}} hits"),
     (rate("weir_memory_recall_cache_misses_total", "pod"), "{{pod}} misses")),
    ("Upkeep", "reqps", (rate("weir_memory_upkeep_slices_total", "pod"), "{{pod}} slices"),
     (rate("weir_memory_upkeep_waits_total", "pod"), "{{pod}} waits"),
     (rate("weir_memory_pruned_total", "why"), "let go: {{why}}")),
    ("Nodes", "short", (largest("weir_memory_nodes"), "{{pod}}"), (largest("weir_memory_summaries"), "{{pod}} summaries")),
    ("Edges", "short", (largest("weir_memory_edges"), "{{pod}}")),
    ("Nodes with a vector", "short", (largest("weir_memory_vectors"), "{{pod}}")),
    ("Nodes that wait for a vector, or never get one", "short",
     (largest("weir_memory_vectors_pending"), "{{pod}} wait"), (largest("weir_memory_vectors_refused"), "{{pod}} refused")),
]

OPERATOR = [
    ("Who leads", "bool", (largest("weir_leader"), "{{pod}}")),
    ("Gateways on the control stream", "short", (largest("weir_gateways_connected"), "{{pod}}")),
    ("Reconciles by kind", "ops", (rate("weir_reconciles_total", "kind"), "{{kind}}")),
    ("Reconciles by result", "ops", (rate("weir_reconciles_total", "result"), "{{result}}")),
    ("Time of a reconcile", "s", (quantile(0.99, "weir_reconcile_seconds", "kind"), "{{kind}} p99")),
    ("Objects that are due or wait", "short", (largest("weir_queue_length"), "{{pod}}")),
    ("Plans told to gateways", "ops", (rate("weir_plans_published_total", "pod"), "{{pod}}")),
    ("Regret of versions on trial", "short",
     (f"max by (gateway) (weir_rollout_regret{{{SELECTED}}})", "{{gateway}}"),
     (f"max by (gateway) (weir_rollout_regret_upper{{{SELECTED}}})", "{{gateway}} at most")),
    ("Watches that failed", "ops", (rate("weir_watch_errors_total", "kind"), "{{kind}}")),
    ("Objects that this version cannot read", "short", (largest("weir_unreadable_objects"), "{{pod}}")),
]


def panel(number, title, unit, *queries):
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull"]}},
        "targets": [{"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
                    for index, (expression, legend) in enumerate(queries)],
    }


def dashboard(name, metric, rows):
    def variable(kind, called, query):
        return {"type": kind, "name": called, "query": query, "refresh": 2}

    namespaces = variable("query", "namespace", f"label_values({metric}, namespace)")
    namespaces |= {"datasource": {"type": "prometheus", "uid": "$datasource"}, "includeAll": True, "multi": True}
    return {
        "uid": f"weir-{name}",
        "title": f"Weir {name}",
        "tags": ["weir"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [variable("datasource", "datasource", "prometheus"), namespaces]},
        "panels": [panel(number, *row) for number, row in enumerate(rows)],
    }


def main():
    TARGET.mkdir(exist_ok=True)
    for name, metric, rows in [("gateway", "weir_requests_total", GATEWAY), ("memory", "weir_memory_nodes", MEMORY),
                               ("operator", "weir_leader", OPERATOR)]:
        text = json.dumps(dashboard(name, metric, rows), indent=1)
        (TARGET / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

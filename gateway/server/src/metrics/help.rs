//! What each metric counts, in the words that a scrape shows.

/// Histogram of the times of steps.
pub(super) const STEP: &str = "weir_step_seconds";

/// Tells the recorder of this thread.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        metrics::describe_counter!(name, help);
    }
    metrics::describe_histogram!(
        "weir_response_head_seconds",
        "Time until the head of a response"
    );
    metrics::describe_histogram!(STEP, "Time of a step of requests that have ended, by step");
    for (name, help) in GAUGES {
        metrics::describe_gauge!(name, help);
    }
}

const COUNTERS: [(&str, &str); 29] = [
    (
        "weir_traces_refused_total",
        "Batches of traces that the collector did not take",
    ),
    ("weir_requests_total", "Requests by route and status"),
    (
        "weir_answers_total",
        "Routed answers by model, its tier, recall and second attempt",
    ),
    (
        "weir_pinned_answers_total",
        "Answers of models that the client named",
    ),
    ("weir_failures_total", "Failed answers by kind"),
    (
        "weir_over_budget_total",
        "Requests refused because a budget of their tenant was used up, by kind",
    ),
    (
        "weir_jwt_refused_total",
        "Tokens of callers that opened nothing, by reason",
    ),
    (
        "weir_jwks_fetches_total",
        "Fetches of the issuer's keys, by outcome",
    ),
    ("weir_tokens_total", "Tokens by model and kind"),
    (
        "weir_answer_cache_hits_total",
        "Requests answered with what was answered before",
    ),
    (
        "weir_answer_cache_near_hits_total",
        "Of these, those whose question had been written in another way",
    ),
    (
        "weir_answer_cache_misses_total",
        "Requests whose answers are kept, and that a model was asked",
    ),
    (
        "weir_log_rows_lost_total",
        "Decision rows that the log could not take or write",
    ),
    ("weir_plans_refused_total", "Plans refused, by reason"),
    ("weir_pool_requests_total", "Requests that asked a pool"),
    (
        "weir_pool_errors_total",
        "Requests that got no whole answer from the pool they asked",
    ),
    (
        "weir_pool_hedged_total",
        "Requests for which a second replica was asked while the first said nothing",
    ),
    (
        "weir_pool_wanted_total",
        "Times that a pool was wanted which no request in flight shows: at zero, or for a memory's vectors",
    ),
    (
        "weir_rollout_requests_total",
        "Requests of a canary that ended, by the version that was dispatched",
    ),
    (
        "weir_rollout_errors_total",
        "Requests of a canary that failed, by the version that was dispatched",
    ),
    (
        "weir_rollout_shadowed_total",
        "Requests that two versions of the router decided",
    ),
    (
        "weir_rollout_disagreements_total",
        "Of them, those that the versions would have answered differently",
    ),
    (
        "weir_rollout_labels_total",
        "Of these, those of a canary whose answers were judged",
    ),
    (
        "weir_router_compared_total",
        "Requests that the active router compared with those of its training",
    ),
    (
        "weir_router_unusual_total",
        "Of these, those that are unlike them",
    ),
    (
        "weir_router_held_back_total",
        "Decisions that a certificate moved from the least capable model to the biggest permitted",
    ),
    (
        "weir_summaries_total",
        "Summaries of what was recalled together, by what became of them",
    ),
    (
        "weir_memory_recall_cache_hits_total",
        "Questions answered from what was recalled for them before, of a memory in this process",
    ),
    (
        "weir_memory_recall_cache_misses_total",
        "Questions that were recalled for, of a memory in this process",
    ),
];

const GAUGES: [(&str, &str); 19] = [
    ("weir_jwks_keys", "Keys of the issuer that can sign tokens"),
    (
        "weir_jwks_age_seconds",
        "Time since the issuer's keys were fetched",
    ),
    ("weir_in_flight", "Requests being answered"),
    ("weir_queued", "Requests waiting for a place"),
    (
        "weir_plan_age_seconds",
        "Time since the plan that serves arrived",
    ),
    (
        "weir_plan_stale",
        "Whether the operator that should confirm the plan does not",
    ),
    (
        "weir_router_missing",
        "Whether the router artifact of the plan is not to be had",
    ),
    (
        "weir_router_drift",
        "Whether the last requests differ from those that the router was trained on, by what differs",
    ),
    (
        "weir_pool_waiting",
        "Requests that wait for a place at a pool, or for the first replica of one at zero",
    ),
    ("weir_pool_in_flight", "Requests at a pool's replicas"),
    ("weir_answer_cache_entries", "Answers that are kept"),
    ("weir_pool_replicas", "Replicas that a pool has"),
    ("weir_pool_available", "Whether a pool can be asked now"),
    (
        "weir_memory_away",
        "Whether answers go without recall because the memory cannot be asked",
    ),
    ("weir_memory_nodes", "Nodes of the memory"),
    ("weir_memory_edges", "Edges of the memory"),
    (
        "weir_memory_vectors_pending",
        "Nodes that wait for a vector",
    ),
    (
        "weir_rollout_weight",
        "Percent of users that the candidate answers",
    ),
    (
        "weir_rollout_candidate_missing",
        "Whether the plan names a candidate that could not be loaded",
    ),
];

//! How long one whole decision takes: four observed steps, the choice and the verdict, on the built-in artifact.

use std::hint::black_box;
use std::time::Instant;
use weir_lab::results::{Goal, Results, Row};
use weir_lab::stats::quantile;
use weir_router::{
    AnswerFacts, ChoiceInputs, Finish, QueryFacts, RecallFacts, Router, SearchFacts, State,
    VerdictInputs,
};

const DECISIONS: usize = 20_000;
const WARM_UP: usize = 500;
/// Slowest percentile allowed, in microseconds.
const P99_US: f64 = 100.0;
/// Half of the decisions are faster than this, in microseconds.
const P50_US: f64 = 10.0;

fn main() -> anyhow::Result<()> {
    let router = Router::builtin().bind(3);
    let embedding = weir_bench::direction(1, 384);
    let (mut features, mut decisions) = (Vec::new(), Vec::new());
    for index in 0..WARM_UP + DECISIONS {
        let started = Instant::now();
        let steps = before_choice(index, &embedding);
        let measured = started.elapsed();
        let started = Instant::now();
        let mut state = router.start();
        for step in &steps {
            router.observe(&mut state, step);
        }
        let arm = router.choose(&state, &choice_inputs(&router))?.arm;
        black_box(judge(&router, &mut state, arm)?);
        if index >= WARM_UP {
            features.push(measured.as_secs_f64() * 1e6);
            decisions.push(started.elapsed().as_secs_f64() * 1e6);
        }
    }
    let mut results = Results::new("router", "cargo bench -p weir-bench --bench router");
    results.notes.push(format!(
        "{DECISIONS} decisions: three steps, choice, answer step, verdict; inputs are made inside the measured time"
    ));
    let p99 = Row::new("decision.p99", "us", quantile(&decisions, 0.99));
    results.rows.push(p99.goal(Goal::AtMost(P99_US)));
    let p50 = Row::new("decision.p50", "us", quantile(&decisions, 0.5));
    results.rows.push(p50.goal(Goal::AtMost(P50_US)));
    results
        .rows
        .push(Row::new("features.p50", "us", quantile(&features, 0.5)));
    results
        .rows
        .push(Row::new("features.p99", "us", quantile(&features, 0.99)));
    weir_bench::publish(&results)
}

fn before_choice(index: usize, embedding: &[f32]) -> [weir_router::StepFeatures; 3] {
    let cosines = [0.71, 0.66, 0.64, 0.6, 0.55, 0.5, 0.45, 0.4, 0.38, 0.3];
    let text = "What is the default value of the parameter `timeout` of `queue.Queue.get()`?";
    let query = QueryFacts {
        text: &text[..text.len() - index % 7],
        domain: None,
        turns: 1,
        conversation_tokens: 24,
        max_tokens: Some(48),
        tools: false,
        json: false,
        budget_ms: None,
        device_class: None,
        privacy: 0,
        embedding: Some(embedding),
    };
    let search = SearchFacts {
        cosines: &cosines,
        bm25: &[9.0, 8.5, 4.0],
        filter_share: 1.0,
    };
    let recall = RecallFacts {
        entropy: 0.6,
        depth: 2,
        nodes_used: 180,
        top_mass: 0.4,
        agreement: 0.3,
    };
    [query.features(), search.features(), recall.features()]
}

fn choice_inputs(router: &Router) -> ChoiceInputs {
    let arms = router.arms().arms.len();
    ChoiceInputs {
        permitted: vec![true; arms],
        latency_s: (0..arms).map(|arm| 1.0 + arm as f64 * 0.2).collect(),
        cost: vec![0.0; arms],
        per_second: 0.05,
        per_cost_unit: 0.1,
        floor: 0.01,
        near_tie_margin: 0.02,
        draw: 0.4,
    }
}

fn judge(router: &Router, state: &mut State, arm: usize) -> anyhow::Result<Option<usize>> {
    let arms = router.arms();
    let rank = arms.arms[arm].rank;
    let facts = AnswerFacts {
        mean_logprob: Some(-0.4),
        min_logprob: Some(-2.0),
        tokens: 9,
        finish: Finish::Stop,
        overlap: 0.5,
        rank,
        models: arms.models,
        context_tokens: 380,
    };
    router.observe(state, &facts.features());
    let inputs = VerdictInputs {
        rank,
        permitted: vec![true; arms.models],
        latency_s: vec![1.0, 2.0, 4.0],
        cost: vec![0.0; arms.models],
        per_second: 0.05,
        per_cost_unit: 0.1,
        floor: 0.0,
        draw: 0.4,
        arm,
    };
    Ok(router.judge(state, &inputs)?.ask)
}

//! What a user reads below an answer, of decisions as a gateway records them.

use super::*;
use weir_gateway::record::{
    ChoiceRow, ChosenRow, ExecutedRow, FailedPool, RetrievalRow, RouterRow,
};
use weir_router::{Choice, ChoiceInputs, Step, StepFeatures, Verdict, VerdictInputs};

/// The text without its styles.
fn shown(record: &Record) -> String {
    anstream::adapter::strip_str(&text(record)).to_string()
}

fn executed(pool: &str) -> ExecutedRow {
    ExecutedRow {
        arm: Some(0),
        recall: RecallMode::None,
        model: format!("{pool}-model"),
        pool: pool.to_owned(),
        context_tokens: 0,
        sampling: Some("plain".to_owned()),
        temperature: Some(0.2),
        top_p: Some(1.0),
        client_set: Vec::new(),
        fallback_to_cloud: false,
        turns_cut: 0,
        token_counts: None,
    }
}

/// The small pool was chosen: the first of four ways, of which the last is masked.
fn choice() -> ChoiceRow {
    ChoiceRow {
        chosen: Some(ChosenRow {
            recall: RecallMode::Graph,
            model: "small-model".to_owned(),
            pool: "small".to_owned(),
            context_tokens: 400,
            sampling: "plain".to_owned(),
            temperature: 0.2,
            top_p: 1.0,
            fallback_to_cloud: false,
        }),
        tau: None,
        inputs: ChoiceInputs {
            permitted: vec![true, true, true, false],
            latency_s: vec![0.84, 1.0, 4.0, 9.0],
            cost: vec![0.0; 4],
            per_second: 0.05,
            per_cost_unit: 1.0,
            floor: 0.0,
            near_tie_margin: 0.0,
            draw: 0.0,
        },
        outcome: Choice {
            arm: 0,
            greedy: 0,
            sampling: 0,
            qualities: vec![3.62, 3.1, 3.7, 4.9],
            probabilities: vec![1.0, 0.0, 0.0, 0.0],
            propensity: 1.0,
            explored: false,
            held: Vec::new(),
            held_back: None,
        },
        mask: Vec::new(),
    }
}

/// A verdict on an answer that looked like this, after which the big model was asked, or nobody.
fn judged(quality: f64, asked: bool) -> VerdictRow {
    VerdictRow {
        features: StepFeatures {
            step: Step::Answer,
            values: Vec::new(),
        },
        inputs: VerdictInputs {
            rank: 0,
            permitted: vec![true; 2],
            latency_s: vec![0.8, 4.0],
            cost: vec![0.0; 2],
            per_second: 0.05,
            per_cost_unit: 1.0,
            floor: 0.0,
            draw: 0.0,
            arm: 0,
        },
        outcome: Verdict {
            ask: asked.then_some(1),
            quality,
            expected: vec![quality, 4.0],
            probabilities: vec![0.0, 1.0],
            propensity: 1.0,
            explored: false,
        },
        asked: asked.then(|| "big-model".to_owned()),
        error: None,
    }
}

/// The memory gave two passages, and the big model answered after the small one.
fn escalated() -> Record {
    let block = |number, title: Option<&str>, uri: Option<&str>, score| Source {
        number,
        id: format!("node-{number}"),
        title: title.map(str::to_owned),
        uri: uri.map(str::to_owned),
        score,
        summarises: Vec::new(),
    };
    Record {
        decision_id: "0197-escalated".to_owned(),
        router: RouterRow::default(),
        choice: Some(choice()),
        verdict: Some(judged(2.14, true)),
        executed: Some(ExecutedRow {
            recall: RecallMode::Graph,
            context_tokens: 400,
            ..executed("big")
        }),
        retrieval: Some(RetrievalRow {
            k: 10,
            nodes_used: Some(37),
            ..RetrievalRow::default()
        }),
        sources: vec![
            block(1, Some("Key rotation"), Some("docs/keys.md"), 0.41),
            block(2, None, Some("docs/signing.md"), 0.2),
        ],
        latency_ms: LatencyRow {
            total: 4000.0,
            embed: 20.0,
            retrieval: 4.25,
            attention: 1.5,
            router: 0.08,
            prompt: 2.0,
            llm: 3900.0,
            ttft: 310.4,
            ..LatencyRow::default()
        },
        tokens: TokensRow {
            prompt: 812,
            cached: 300,
            completion: 96,
            counted: false,
        },
        ..Record::default()
    }
}

#[test]
fn a_second_attempt_says_what_the_first_looked_like_and_what_both_took() {
    let expected = "\
model    big-model  second attempt
why      small-model, the best value of 3 permitted ways to answer: quality 3.6 of 5 expected in 0.8 s
verdict  the first answer looked like 2.1 of 5, so big-model was asked
recall   graph: 2 blocks, together at most 400 tokens, from 37 passages
         [1] 0.41  Key rotation
         [2] 0.20  docs/signing.md
tokens   812 prompt (300 cached), 96 answer, of both attempts
embed         20.0 ms  █
search         4.2 ms  █
attend         1.5 ms  █
router         0.1 ms  █
prompt         2.0 ms  █
model       3900.0 ms  ███████████████████████████████
total       4000.0 ms  first token after 310 ms
decision 0197-escalated";
    assert_eq!(shown(&escalated()), expected);
}

#[test]
fn a_failover_names_the_pool_that_failed_and_how() {
    let failed = |pool: &str, error: &str| FailedPool {
        pool: pool.to_owned(),
        error: error.to_owned(),
    };
    let record = Record {
        decision_id: "0197-failover".to_owned(),
        choice: Some(choice()),
        verdict: Some(judged(4.4, false)),
        failover: vec![failed("small", "timed_out"), failed("mid", "refused")],
        executed: Some(executed("big")),
        retrieval: Some(RetrievalRow {
            k: 10,
            ..RetrievalRow::default()
        }),
        latency_ms: LatencyRow {
            total: 1000.0,
            queue: 250.0,
            llm: 700.0,
            ttft: 800.0,
            ..LatencyRow::default()
        },
        tokens: TokensRow {
            prompt: 40,
            cached: 0,
            completion: 9,
            counted: false,
        },
        ..Record::default()
    };
    let expected = "\
model    big-model  pool small failed (timed out)  pool mid failed (refused)
why      small-model, the best value of 3 permitted ways to answer: quality 3.6 of 5 expected in 0.8 s
verdict  accepted: the answer looks like 4.4 of 5
recall   none in the prompt, 10 passages were looked at
tokens   40 prompt (0 cached), 9 answer
queue        250.0 ms  ████████
model        700.0 ms  ██████████████████████
total       1000.0 ms  first token after 800 ms
decision 0197-failover";
    assert_eq!(shown(&record), expected);
}

#[test]
fn a_pinned_model_is_said_to_be_the_clients_choice() {
    let record = Record {
        decision_id: "0197-pinned".to_owned(),
        executed: Some(ExecutedRow {
            arm: None,
            client_set: vec!["model".to_owned()],
            ..executed("small")
        }),
        latency_ms: LatencyRow {
            total: 500.0,
            llm: 500.0,
            ttft: 120.0,
            ..LatencyRow::default()
        },
        tokens: TokensRow {
            prompt: 0,
            cached: 0,
            completion: 12,
            counted: true,
        },
        ..Record::default()
    };
    let expected = "\
model    small-model
why      the request names this model
recall   none: no memory was searched
tokens   12 answer, counted: the engine did not say
model        500.0 ms  ████████████████████████████████
total        500.0 ms  first token after 120 ms
decision 0197-pinned";
    assert_eq!(shown(&record), expected);
}

#[test]
fn what_is_no_best_value_is_not_called_so() {
    let line = |record: &Record, start: &str| {
        let text = shown(record);
        let line = text.lines().find(|line| line.starts_with(start));
        line.unwrap_or_default().to_owned()
    };
    let mut record = escalated();
    let expects = "quality 3.6 of 5 expected in 0.8 s";
    if let (Some(choice), Some(verdict)) = (&mut record.choice, &mut record.verdict) {
        choice.outcome.explored = true;
        verdict.outcome.explored = true;
    }
    assert_eq!(
        line(&record, "why"),
        format!("why      small-model to explore, one of 3 permitted ways to answer: {expects}")
    );
    assert_eq!(
        line(&record, "verdict"),
        "verdict  the first answer looked like 2.1 of 5, big-model was asked to explore"
    );
    if let (Some(choice), Some(verdict)) = (&mut record.choice, &mut record.verdict) {
        choice.outcome.held_back = Some(1);
        verdict.error = Some("breaker_open".to_owned());
    }
    assert_eq!(
        line(&record, "why"),
        format!(
            "why      small-model, since the smallest model is not certified for this: {expects}"
        )
    );
    assert_eq!(
        line(&record, "verdict"),
        "verdict  the answer looks like 2.1 of 5; big-model was asked and failed (breaker open)"
    );
    assert_eq!(line(&record, "model "), "model    big-model");
    record.guardrail = Some("medical".to_owned());
    assert_eq!(
        line(&record, "why"),
        "why      guardrail \"medical\" decided, not the router"
    );
}

#[test]
fn an_answer_that_is_given_again_names_the_decision_that_made_it() {
    for (near, told) in [
        (
            false,
            "cache    the answer of decision 0193-first, given again",
        ),
        (
            true,
            "cache    the answer of decision 0193-first to its question in another spelling, given again",
        ),
    ] {
        let record = Record {
            cache: Some(CacheRow::Hit {
                decision: "0193-first".to_owned(),
                near,
            }),
            ..escalated()
        };
        assert!(shown(&record).lines().any(|line| line == told));
    }
    let missed = Record {
        cache: Some(CacheRow::Miss),
        ..escalated()
    };
    assert!(!shown(&missed).contains("cache  "));
}

#[test]
fn bars_share_the_total_and_are_never_empty() {
    assert_eq!(bar(50.0, 100.0).chars().count(), BAR / 2);
    assert_eq!(bar(0.001, 100.0).chars().count(), 1);
    assert_eq!(bar(100.0, 100.0).chars().count(), BAR);
    assert_eq!(bar(5.0, 0.0).chars().count(), 1);
}

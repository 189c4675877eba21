//! A synthetic log with structure planted in it, and routers trained on it.
//!
//! Short questions are answered as well by the smallest model, long ones need the biggest; bigger
//! models are slower; an answer's log-probability tells its quality. Five of fifteen arms are
//! observed on each question.

use std::sync::OnceLock;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weir_router::artifact::Compression;
use weir_router::train::{Episode, Outcome, TrainOptions, TrainReport, train};
use weir_router::{
    AnswerFacts, ArmTable, Artifact, QueryFacts, RecallFacts, RecallMode, SearchFacts,
};

pub(crate) const MODELS: usize = 3;

pub(crate) fn options() -> TrainOptions {
    TrainOptions {
        epochs_max: 40,
        folds: 3,
        ..TrainOptions::default()
    }
}

pub(crate) fn table() -> ArmTable {
    ArmTable::standard(MODELS)
}

/// Trained once for all tests that need any trained artifact.
pub(crate) fn trained() -> &'static (Artifact, TrainReport) {
    static TRAINED: OnceLock<(Artifact, TrainReport)> = OnceLock::new();
    TRAINED.get_or_init(|| train(&episodes(120, 1), &table(), &options()).expect("a usable log"))
}

/// The same with weights of every kind, from full floats to thin factors in 8 bits.
pub(crate) fn trained_kinds() -> &'static [(Compression, Artifact)] {
    static TRAINED: OnceLock<Vec<(Compression, Artifact)>> = OnceLock::new();
    let full = Compression::default();
    let low = Compression {
        rank_input: Some(8),
        rank_state: Some(6),
        ..full
    };
    let thin = Compression {
        sparsity: 0.6,
        ..full
    };
    let bytes = Compression { int8: true, ..full };
    let all = Compression {
        sparsity: 0.5,
        int8: true,
        ..low
    };
    TRAINED.get_or_init(|| {
        let log = episodes(60, 1);
        let train_as = |compression| {
            let options = TrainOptions {
                epochs_max: 12,
                compression,
                ..options()
            };
            let (artifact, _) = train(&log, &table(), &options).expect("a usable log");
            (compression, artifact)
        };
        [full, low, thin, bytes, all].map(train_as).to_vec()
    })
}

pub(crate) fn episodes(questions: usize, seed: u64) -> Vec<Episode> {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    (0..questions).map(|index| episode(index, rng)).collect()
}

fn episode(index: usize, rng: &mut ChaCha8Rng) -> Episode {
    let hard = rng.random::<bool>();
    let text = if hard {
        "Why does it differ from the other of the two? ".repeat(4)
    } else {
        "Who is it?".to_owned()
    };
    let noise: Vec<f32> = (0..32).map(|_| rng.random_range(-0.3..0.3)).collect();
    let cosines: Vec<f32> = (0..10)
        .map(|rank| rng.random_range(0.3..0.6) - rank as f32 * 0.02)
        .collect();
    let query = QueryFacts {
        text: &text,
        embedding: Some(&noise),
        ..QueryFacts::default()
    };
    let search = SearchFacts {
        cosines: &cosines,
        bm25: &[],
        filter_share: 1.0,
    };
    let recall = RecallFacts {
        entropy: rng.random(),
        ..RecallFacts::default()
    };
    let table = table();
    let mut arms: Vec<usize> = (0..table.arms.len()).collect();
    arms.shuffle(rng);
    let outcomes = arms[..5].iter().map(|&arm| outcome(arm, hard, &table, rng));
    Episode {
        question: format!("q{index}"),
        source: "planted".to_owned(),
        query: query.features(),
        search: Some(search.features()),
        recall: (!index.is_multiple_of(4)).then(|| recall.features()),
        outcomes: outcomes.collect(),
    }
}

fn outcome(arm: usize, hard: bool, table: &ArmTable, rng: &mut ChaCha8Rng) -> Outcome {
    let chosen = table.arms[arm];
    let needed = if hard { 2 } else { 0 };
    let mut right: f64 = if chosen.rank >= needed { 0.9 } else { 0.1 };
    if chosen.recall == RecallMode::None {
        right *= 0.5;
    }
    let score = if rng.random::<f64>() < right {
        1.0
    } else {
        0.0
    };
    let logprob = -0.2 - 1.5 * (1.0 - score as f32) + rng.random_range(-0.2..0.2);
    let answer = AnswerFacts {
        mean_logprob: Some(logprob),
        min_logprob: Some(logprob * 3.0),
        tokens: rng.random_range(4..40),
        overlap: rng.random(),
        rank: chosen.rank,
        models: MODELS,
        context_tokens: chosen.context_tokens,
        ..AnswerFacts::default()
    };
    Outcome {
        arm,
        sampling: rng.random_range(0..2),
        seed: 0,
        quality: 1.0 + 4.0 * score,
        latency_s: [2.0, 6.0, 20.0][chosen.rank],
        prompt_tokens: 100 + chosen.context_tokens,
        completion_tokens: 20,
        cost: 0.0,
        answer: answer.features(),
        prefix: arm.is_multiple_of(2).then(|| answer.features()),
        probability: 5.0 / table.arms.len() as f64,
    }
}

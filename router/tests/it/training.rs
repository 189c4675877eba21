//! Training learns what is there, nothing that is not, and says which.

use weir_router::artifact::Compression;
use weir_router::train::{
    DataError, Episode, QUESTIONS_MIN, TrainError, TrainOptions, evaluate, permuted, read_episodes,
    train, write_episodes,
};
use weir_router::{AnswerFacts, RecallMode, Router, VerdictInputs};

use crate::planted::{episodes, options, table, trained};

#[test]
fn a_planted_structure_beats_the_best_single_arm_on_held_out_questions() {
    let evaluation = evaluate(&episodes(180, 5), &table(), &options()).unwrap();
    assert!(
        evaluation.gain_over_best_single.low > 0.0,
        "{evaluation:#?}"
    );
    assert!(evaluation.gain_over_random.low > 0.0, "{evaluation:#?}");
    assert!(
        evaluation.finding.contains("better than"),
        "{}",
        evaluation.finding
    );
}

#[test]
fn permuted_labels_lose_or_tie_and_gain_less_than_true_ones() {
    let log = permuted(&episodes(180, 5), 9);
    let evaluation = evaluate(&log, &table(), &options()).unwrap();
    assert!(
        evaluation.gain_over_best_single.low <= 0.0,
        "{evaluation:#?}"
    );
    assert!(
        !evaluation.finding.contains("better than"),
        "{}",
        evaluation.finding
    );
    let labelled = evaluate(&episodes(180, 5), &table(), &options()).unwrap();
    let (permuted, labelled) = (
        evaluation.gain_over_best_single.value,
        labelled.gain_over_best_single.value,
    );
    assert!(permuted < labelled, "{permuted} and {labelled}");
}

#[test]
fn the_same_log_and_seed_give_the_same_bytes() {
    let log = episodes(40, 2);
    let options = TrainOptions {
        epochs_max: 8,
        ..options()
    };
    let bytes = || {
        train(&log, &table(), &options)
            .unwrap()
            .0
            .to_bytes()
            .to_vec()
    };
    assert_eq!(bytes(), bytes());
    let seed = TrainOptions {
        seed: 2,
        ..options.clone()
    };
    assert_ne!(bytes(), train(&log, &table(), &seed).unwrap().0.to_bytes());
}

#[test]
fn a_trained_router_asks_again_after_a_doubtful_answer_and_accepts_a_confident_one() {
    let router = Router::new(trained().0.clone()).unwrap();
    let table = table();
    let arm = table.find(RecallMode::Vector, 0, 400).unwrap();
    let inputs = VerdictInputs {
        rank: 0,
        permitted: vec![true; 3],
        latency_s: vec![2.0, 6.0, 20.0],
        cost: vec![0.0; 3],
        per_second: 0.05,
        per_cost_unit: 0.0,
        floor: 0.0,
        draw: 0.0,
        arm,
    };
    let asked = |episode: &Episode, logprob: f32| {
        let mut state = router.start();
        let steps = [
            Some(&episode.query),
            episode.search.as_ref(),
            episode.recall.as_ref(),
        ];
        steps
            .into_iter()
            .flatten()
            .for_each(|step| router.observe(&mut state, step));
        let answer = AnswerFacts {
            mean_logprob: Some(logprob),
            min_logprob: Some(logprob * 3.0),
            tokens: 20,
            overlap: 0.5,
            models: 3,
            context_tokens: 400,
            ..AnswerFacts::default()
        };
        router.observe(&mut state, &answer.features());
        router.judge(&state, &inputs).unwrap().ask.is_some()
    };
    let log = episodes(40, 77);
    let share = |logprob| log.iter().filter(|episode| asked(episode, logprob)).count();
    let (confident, doubtful) = (share(-0.2), share(-1.7));
    assert!(
        confident <= 2 && doubtful >= 36,
        "{confident} and {doubtful} of 40 asked again"
    );
}

#[test]
fn columns_without_variance_are_frozen_and_listed() {
    let (artifact, report) = trained();
    assert!(report.frozen.iter().any(|name| name == "query.cjk"));
    assert!(report.frozen.iter().any(|name| name == "search.bm25_max"));
    assert!(!report.frozen.iter().any(|name| name == "query.chars"));
    assert_eq!(artifact.manifest().frozen, report.frozen);
}

#[test]
fn a_log_survives_writing_and_reading() {
    let log = episodes(30, 3);
    assert_eq!(read_episodes(&write_episodes(&log)).unwrap(), log);
}

#[test]
fn a_broken_line_is_named() {
    let text = write_episodes(&episodes(2, 3)) + "\n{\"question\": 4}\n";
    assert!(matches!(
        read_episodes(&text),
        Err(DataError::Parse { line: 4, .. })
    ));
}

#[test]
fn logs_that_contradict_themselves_are_refused_by_question() {
    let refused = |change: &dyn Fn(&mut weir_router::train::Episode)| {
        let mut log = episodes(QUESTIONS_MIN, 4);
        change(&mut log[7]);
        train(&log, &table(), &options()).unwrap_err().to_string()
    };
    let named = |message: String, what: &str| {
        assert!(
            message.contains("question `q7`") && message.contains(what),
            "{message}"
        );
    };
    named(refused(&|episode| episode.outcomes[0].arm = 99), "arm 99");
    named(
        refused(&|episode| episode.outcomes[0].quality = 0.5),
        "quality 0.5",
    );
    named(
        refused(&|episode| episode.outcomes[0].probability = 0.0),
        "probability 0",
    );
    named(
        refused(&|episode| episode.outcomes[0].latency_s = f64::NAN),
        "NaN",
    );
    named(
        refused(&|episode| {
            episode.query.values.pop();
        }),
        "of step query belong",
    );
}

#[test]
fn small_weights_are_trained_to_the_same_bytes_too() {
    let log = episodes(40, 2);
    let options = TrainOptions {
        epochs_max: 8,
        compression: Compression {
            rank_input: Some(4),
            rank_state: None,
            sparsity: 0.5,
            int8: true,
        },
        ..options()
    };
    let bytes = || {
        let (artifact, report) = train(&log, &table(), &options).unwrap();
        // Only passes whose zeros and bytes are settled are kept.
        assert!(report.epochs > 4, "{}", report.epochs);
        artifact.to_bytes().to_vec()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn weights_that_cannot_be_made_small_that_way_are_refused() {
    let refused = |compression| {
        let options = TrainOptions {
            compression,
            ..options()
        };
        let refused = train(&episodes(QUESTIONS_MIN, 4), &table(), &options);
        refused.unwrap_err().to_string()
    };
    let rank = refused(Compression {
        rank_state: Some(33),
        ..Compression::default()
    });
    assert!(
        rank.contains("state matrix is 33, it goes from 1 to 32"),
        "{rank}"
    );
    let zeros = refused(Compression {
        sparsity: 1.0,
        ..Compression::default()
    });
    assert!(zeros.contains("the sparsity is 1"), "{zeros}");
}

#[test]
fn too_small_a_log_is_refused() {
    let refused = train(&episodes(5, 4), &table(), &options());
    assert!(matches!(refused, Err(TrainError::TooFew { questions: 5 })));
}

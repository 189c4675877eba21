//! Features are finite and in range whatever the facts hold.

use proptest::prelude::*;
use weir_router::{
    AnswerFacts, FeatureSchema, Finish, QueryFacts, RecallFacts, Router, SearchFacts, Step,
    StepFeatures,
};

fn assert_in_range(features: &StepFeatures) {
    let specs: Vec<_> = FeatureSchema::current().of(features.step).collect();
    assert_eq!(
        features.values.len(),
        specs.len(),
        "{} features",
        features.step
    );
    for (value, spec) in features.values.iter().zip(specs) {
        match value {
            Some(value) => {
                let [low, high] = spec.range;
                assert!((low..=high).contains(value), "{} is {value}", spec.name);
            }
            None => assert!(spec.optional, "{} is missing", spec.name),
        }
    }
}

fn hostile() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<f32>(),
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        -1.0f32..1.0,
    ]
}

proptest! {
    #[test]
    fn hostile_queries_give_features_in_range(
        text in ".{0,400}",
        embedding in prop::option::of(prop::collection::vec(hostile(), 0..40)),
        numbers in any::<(u32, u32, Option<u32>, Option<u64>, u8)>(),
    ) {
        let (turns, conversation_tokens, max_tokens, budget_ms, privacy) = numbers;
        let facts = QueryFacts {
            text: &text,
            domain: Some(&text),
            turns,
            conversation_tokens,
            max_tokens,
            tools: true,
            json: false,
            budget_ms,
            device_class: Some(&text),
            privacy,
            embedding: embedding.as_deref(),
        };
        assert_in_range(&facts.features());
    }

    #[test]
    fn hostile_scores_give_features_in_range(
        cosines in prop::collection::vec(hostile(), 0..30),
        bm25 in prop::collection::vec(hostile(), 0..30),
        numbers in prop::array::uniform4(hostile()),
        counts in any::<(u32, u32)>(),
        ranks in any::<(usize, usize)>(),
    ) {
        let [a, b, c, d] = numbers;
        let (depth, nodes_used) = counts;
        let search = SearchFacts { cosines: &cosines, bm25: &bm25, filter_share: a };
        let recall = RecallFacts { entropy: b, depth, nodes_used, top_mass: c, agreement: d };
        let answer = AnswerFacts {
            mean_logprob: Some(a),
            min_logprob: Some(b),
            tokens: depth,
            finish: Finish::Length,
            overlap: c,
            rank: ranks.0,
            models: ranks.1,
            context_tokens: nodes_used,
        };
        for features in [search.features(), recall.features(), answer.features()] {
            assert_in_range(&features);
        }
    }

    #[test]
    fn features_of_any_length_and_content_never_upset_the_state(
        step in prop::sample::select(Step::ALL.to_vec()),
        values in prop::collection::vec(prop::option::of(hostile()), 0..120),
    ) {
        let router = Router::builtin();
        let mut state = router.start();
        router.observe(&mut state, &StepFeatures { step, values });
        let arms = router.arms().arms.len();
        let inputs = crate::decisions::inputs(arms);
        let choice = router.choose(&state, &inputs).unwrap();
        prop_assert!(choice.qualities.iter().all(|quality| (1.0..=5.0).contains(quality)));
    }
}

#[test]
fn a_text_cut_inside_a_character_is_measured() {
    let text = "é".repeat(20_000);
    assert_in_range(
        &QueryFacts {
            text: &text,
            ..QueryFacts::default()
        }
        .features(),
    );
}

#[test]
fn the_domain_enters_only_as_given_or_not() {
    let of = |domain| {
        QueryFacts {
            text: "Who?",
            domain,
            ..QueryFacts::default()
        }
        .features()
    };
    assert_eq!(of(Some("python")), of(Some("medicine")));
    assert_ne!(of(Some("python")), of(None));
}

#[test]
fn kinds_of_question_differ_in_the_features_named_after_them() {
    let schema = FeatureSchema::current();
    let value = |text: &str, name: &str| {
        let index = schema
            .of(Step::Query)
            .position(|spec| spec.name == name)
            .unwrap();
        QueryFacts {
            text,
            ..QueryFacts::default()
        }
        .features()
        .values[index]
    };
    assert_eq!(value("Why is the sky blue?", "query.asks_why"), Some(1.0));
    assert_eq!(value("The sky is blue.", "query.asks_why"), Some(0.0));
    assert_eq!(value("Is it blue?", "query.asks_yes_no"), Some(1.0));
    assert_eq!(
        value("List three colours as JSON", "query.wants_structure"),
        Some(1.0)
    );
    assert!(value("What is 17 * 23 - 4?", "query.numbers") > Some(1.0));
    assert!(value("call os.path.join()", "query.identifiers") > Some(0.0));
    assert!(value("When did Ada Lovelace die?", "query.entities") > Some(1.0));
    assert_eq!(value("天空是什么颜色", "query.cjk"), Some(1.0));
}

#[test]
fn names_are_unique_and_defaults_lie_in_range() {
    let features = FeatureSchema::current().features();
    for (index, spec) in features.iter().enumerate() {
        let [low, high] = spec.range;
        assert!((low..=high).contains(&spec.default), "{}", spec.name);
        assert!(
            features[..index]
                .iter()
                .all(|other| other.name != spec.name),
            "{}",
            spec.name
        );
    }
}

//! Requests unlike those of training, one by one and in a window.

use crate::planted::{episodes, options, table, trained};
use std::sync::OnceLock;
use weir_router::drift::{Drift, Of, REMEMBERED, Window};
use weir_router::train::{Episode, train};
use weir_router::{Artifact, QueryFacts, Router, StepFeatures};

/// A planted log whose long questions are of another kind than its short ones.
fn of_two_kinds(questions: usize, seed: u64) -> Vec<Episode> {
    let mut log = episodes(questions, seed);
    for episode in &mut log {
        let is_long = episode.query.values[0].is_some_and(|characters| characters > 3.5);
        let kind = if is_long { "long" } else { "short" };
        episode.source = format!("{kind}/{}", episode.question);
    }
    log
}

fn router() -> &'static Router {
    static TRAINED: OnceLock<Router> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let (artifact, _) =
            train(&of_two_kinds(160, 1), &table(), &options()).expect("a usable log");
        Router::new(artifact).expect("it has arms")
    })
}

fn steps(episode: &Episode) -> Vec<StepFeatures> {
    let steps = [
        Some(&episode.query),
        episode.search.as_ref(),
        episode.recall.as_ref(),
    ];
    steps.into_iter().flatten().cloned().collect()
}

fn window<'a>(requests: impl IntoIterator<Item = &'a Episode>) -> Window {
    let mut window = Window::default();
    for episode in requests {
        window.add(&router().compare(&steps(episode)).expect("a profile"), 2);
    }
    window
}

fn judged(window: &Window) -> Drift {
    window.judge(router().artifact()).expect("a profile")
}

fn found(drift: &Drift) -> Vec<Of> {
    drift.findings.iter().map(|finding| finding.of).collect()
}

#[test]
fn one_in_twenty_requests_like_those_of_training_is_unusual_and_others_are() {
    let fresh = of_two_kinds(1_000, 77);
    let unusual = |episode: &&Episode| {
        router()
            .compare(&steps(episode))
            .expect("a profile")
            .unusual
    };
    let alarms = fresh.iter().filter(unusual).count();
    // 50 are promised of a log of 1,000; the threshold itself is known from 160 questions.
    assert!((10..=90).contains(&alarms), "{alarms} of 1000");
    let facts = QueryFacts {
        text: "SELECT 1; ```sql\nSELECT * FROM t WHERE a = 17 AND b < 3\n``` {\"x\": [1, 2]}",
        ..QueryFacts::default()
    };
    let reading = router().compare(&[facts.features()]).expect("a profile");
    assert!(reading.unusual && reading.distance > 1.5, "{reading:?}");
}

#[test]
fn a_constant_router_compares_nothing() {
    let constant = Router::new(Artifact::constant(&table(), &[3.0; 15])).expect("it has arms");
    assert_eq!(constant.compare(&steps(&episodes(1, 1)[0])), None);
    assert_eq!(Window::default().judge(constant.artifact()), None);
}

#[test]
fn nothing_is_found_in_requests_like_those_of_training_nor_in_few() {
    for seed in 100..110 {
        let drift = judged(&window(&of_two_kinds(600, seed)));
        assert_eq!(drift.findings, [], "seed {seed}");
        assert!(drift.is_known());
    }
    let few: Vec<Episode> = of_two_kinds(800, 5)
        .into_iter()
        .filter(|e| e.source.starts_with("long"))
        .take(150)
        .collect();
    let drift = judged(&window(&few));
    assert!(!drift.is_known() && drift.findings.is_empty(), "{drift:?}");
}

#[test]
fn another_mix_of_tasks_and_moved_features_are_named() {
    let long: Vec<Episode> = of_two_kinds(800, 5)
        .into_iter()
        .filter(|e| e.source.starts_with("long"))
        .collect();
    let drift = judged(&window(&long));
    assert_eq!(found(&drift), [Of::Features, Of::Tasks], "{drift:?}");
    assert!(
        drift.findings[1].says.contains(" % of requests are like "),
        "{drift:?}"
    );
    let mut moved = of_two_kinds(600, 6);
    for episode in &mut moved {
        if let Some(recall) = &mut episode.recall {
            recall.values[0] = Some(0.999);
        }
    }
    let drift = judged(&window(&moved));
    assert_eq!(found(&drift), [Of::Features], "{drift:?}");
    assert!(
        drift.findings[0].says.starts_with("recall.entropy is "),
        "{drift:?}"
    );
}

#[test]
fn windows_forget_and_those_of_processes_add_up() {
    let mut one = window(&of_two_kinds(600, 5));
    let more = window(&of_two_kinds(5_000, 5));
    assert!(one.requests < more.requests && more.requests < REMEMBERED + 1.0);
    let requests = one.requests;
    one.merge(&more);
    assert!((one.requests - requests - more.requests).abs() < 1e-9);
    assert_eq!(judged(&one).findings, []);
    one.columns.pop();
    assert_eq!(one.judge(router().artifact()), None, "of another shape");
}

#[test]
fn a_profile_travels_with_its_artifact_and_one_that_does_not_fit_is_refused() {
    let artifact = router().artifact();
    let again = Artifact::from_bytes(artifact.to_bytes()).expect("it reads back");
    assert_eq!(again.manifest().profile, artifact.manifest().profile);
    let kinds = again.inspect().kinds;
    assert_eq!(kinds.len(), 2);
    assert!(
        (kinds.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9,
        "{kinds:?}"
    );
    // Columns that the profile was not made for.
    let other = trained().0.manifest().clone();
    let broken = artifact.clone().with_manifest(|manifest| {
        manifest.normaliser = other.normaliser;
        manifest.normaliser.scale.fill(0.0);
    });
    let error = Artifact::from_bytes(broken.to_bytes()).expect_err("no fit");
    assert!(error.to_string().contains("profile of training"), "{error}");
}

//! The embedder next to its reference.

use weir_embed::{EmbedError, EmbedQueue, Embedder, LoadError};
use weir_testenv::{MINILM, component};

fn load() -> Option<Embedder> {
    component(MINILM).map(|folder| Embedder::load(&folder).unwrap())
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

/// First components by an independent evaluation of the same weights in double precision
/// (`embed/tests/reference.py`).
#[test]
fn vectors_equal_the_reference() {
    let Some(embedder) = load() else { return };
    let cases: [(&str, [f32; 6]); 2] = [
        (
            "How do I copy a file in Python?",
            [
                -0.056_733, 0.036_145, -0.065_846, 0.032_718, 0.021_322, -0.099_540,
            ],
        ),
        (
            "Ünïcödé 漢字 🙂 and a somewhat longer sentence about rivers.",
            [
                -0.001_909, 0.079_939, 0.052_625, 0.044_598, 0.003_544, -0.046_477,
            ],
        ),
    ];
    for (text, expected) in cases {
        let vector = embedder.embed(&[text]).unwrap().remove(0);
        for (here, there) in vector.iter().zip(expected) {
            assert!(
                (here - there).abs() < 1e-5,
                "{text}: {here} instead of {there}"
            );
        }
    }
}

#[test]
fn related_sentences_are_near_and_unrelated_ones_far() {
    let Some(embedder) = load() else { return };
    let vectors = embedder
        .embed(&[
            "How do I copy a file in Python?",
            "Python: duplicating a file on disk",
            "The cat sat on the mat.",
        ])
        .unwrap();
    assert_eq!(embedder.dimensions(), 384);
    assert!(cosine(&vectors[0], &vectors[1]) > 0.6);
    assert!(cosine(&vectors[0], &vectors[2]) < 0.2);
    for vector in &vectors {
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5, "unit length");
    }
}

#[test]
fn vector_does_not_depend_on_its_neighbours_in_the_batch() {
    let Some(embedder) = load() else { return };
    let texts = [
        "short",
        "a somewhat longer sentence about rivers and weirs",
        "",
    ];
    let together = embedder.embed(&texts).unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        let alone = embedder.embed(&[text]).unwrap();
        assert!(cosine(&alone[0], vector) > 0.999_999, "{text:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn candle_starts_no_threads_of_its_own() {
    let Some(embedder) = load() else { return };
    embedder.embed(&[&"river ".repeat(300)]).unwrap();
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end while the list is read.
        let name = std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default();
        assert!(
            !name.starts_with("candle"),
            "thread {name} takes a core from the engines"
        );
    }
}

#[test]
fn text_beyond_the_limit_is_cut_and_not_refused() {
    let Some(embedder) = load() else { return };
    let head = "river ".repeat(254);
    let long = head.clone() + &"desert ".repeat(20_000);
    let vectors = embedder.embed(&[&head, &long]).unwrap();
    assert!(cosine(&vectors[0], &vectors[1]) > 0.999_999);
}

#[tokio::test]
async fn queue_answers_queries_and_bulk_work_alike() {
    let Some(embedder) = load() else { return };
    let queue = EmbedQueue::new(embedder);
    let bulk = queue
        .embed_many(vec!["one".into(), "two".into()])
        .await
        .unwrap();
    assert!(cosine(&bulk[0], &queue.embed("one").await.unwrap()) > 0.999_999);
    assert!(cosine(&bulk[1], &queue.embed("two").await.unwrap()) > 0.999_999);
}

/// A copy of the real folder whose files can be spoilt.
fn copy() -> Option<tempfile::TempDir> {
    let from = component(MINILM)?;
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    Some(folder)
}

#[test]
fn missing_truncated_and_mismatched_files_are_told_apart() {
    let Some(folder) = copy() else { return };
    let path = |name: &str| folder.path().join(name);
    let config = std::fs::read_to_string(path("config.json")).unwrap();

    let spoilt = config.replace("\"hidden_size\": 384", "\"hidden_size\": 768");
    std::fs::write(path("config.json"), spoilt).unwrap();
    let error = Embedder::load(folder.path()).unwrap_err();
    assert!(matches!(error, LoadError::Shape { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("[30522, 384], config.json asks for [30522, 768]")
    );

    std::fs::write(path("config.json"), config.replace("\"bert\"", "\"gpt2\"")).unwrap();
    let error = Embedder::load(folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("model_type is gpt2, only bert"),
        "{error}"
    );
    std::fs::write(path("config.json"), config).unwrap();

    let weights = std::fs::File::options()
        .write(true)
        .open(path("model.safetensors"))
        .unwrap();
    let whole = weights.metadata().unwrap().len();
    weights.set_len(1_000_000).unwrap();
    let error = Embedder::load(folder.path()).unwrap_err();
    let told = format!("1000000 bytes, the header needs {whole}");
    assert!(error.to_string().contains(&told), "{error}");

    std::fs::write(path("tokenizer.json"), "{").unwrap();
    let error = Embedder::load(folder.path()).unwrap_err();
    assert!(matches!(error, LoadError::Damaged { .. }), "{error}");

    std::fs::remove_file(path("tokenizer.json")).unwrap();
    let error = Embedder::load(folder.path()).unwrap_err();
    assert!(matches!(&error, LoadError::Missing(file) if *file == path("tokenizer.json")));
}

#[test]
fn weights_that_are_cut_short_while_they_are_in_use_give_an_error() {
    let Some(folder) = copy() else { return };
    let embedder = Embedder::load(folder.path()).unwrap();
    embedder.embed(&["a river"]).unwrap();
    let weights = folder.path().join("model.safetensors");
    let file = std::fs::File::options().write(true).open(weights);
    file.unwrap().set_len(100_000).unwrap();
    let error = embedder.embed(&["a river"]).unwrap_err();
    assert!(matches!(error, EmbedError::Evaluate(_)), "{error}");
}

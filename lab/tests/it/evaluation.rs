//! The comparison on the committed log: everything is in it, and logs that would flatter are refused.

use std::path::{Path, PathBuf};
use weir_lab::evaluation::{EvalCommand, EvalError, eval};

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../router/artifacts/outcomes.jsonl")
}

fn command(log: PathBuf, folds: usize) -> EvalCommand {
    EvalCommand {
        log: Some(log),
        tables: Vec::new(),
        seeds: 1,
        folds,
        vectors: None,
    }
}

#[test]
fn every_row_of_the_comparison_is_there_with_its_interval() {
    let (mut last, mut total) = (0, 0);
    let evaluated = eval(&command(committed(), 2), &mut |done, of, _| {
        (last, total) = (done, of);
    });
    let evaluated = evaluated.unwrap();
    assert!(total > 0 && last == total);
    let section = |title: &str| {
        let found = evaluated.sections.iter().find(|s| s.title == title);
        found.unwrap_or_else(|| panic!("no section {title}"))
    };
    let names = |title: &str| -> Vec<&str> {
        section(title)
            .rows
            .iter()
            .map(|row| row[0].as_str())
            .collect()
    };
    for name in [
        "FastGRNN",
        "random",
        "best single",
        "kNN",
        "ridge",
        "oracle over the arms tried",
    ] {
        assert!(names("On the ladder").contains(&name), "{name}");
    }
    let ablations = names("Ablations");
    assert_eq!(ablations.len(), 10, "{ablations:?}");
    assert_eq!(
        names("One kind of question left out"),
        ["knowledge", "library", "task"]
    );
    for section in &evaluated.sections {
        for row in &section.rows {
            assert_eq!(row.len(), section.columns.len(), "{}", section.title);
        }
    }
    let rows = &evaluated.results.rows;
    let regret = rows
        .iter()
        .find(|row| row.metric.contains("quality_regret"))
        .unwrap();
    assert!(
        regret.lower < regret.value && regret.value < regret.upper,
        "{regret:?}"
    );
    // A missed goal has its cause beside it.
    let missed = rows.iter().filter(|row| row.met == Some(false)).count();
    let causes = evaluated
        .results
        .notes
        .iter()
        .filter(|note| note.starts_with("missed, "));
    assert_eq!(missed, causes.count());
    assert_eq!(evaluated.figures.len(), 2);
}

#[test]
fn logs_that_would_flatter_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(committed()).unwrap();
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let refused =
        |path: PathBuf, folds| eval(&command(path, folds), &mut |_, _, _| ()).unwrap_err();
    let question = text
        .lines()
        .find(|line| line.starts_with("{\"row\":\"question\""));
    let twice = written("twice.jsonl", &format!("{text}{}\n", question.unwrap()));
    let error = refused(twice, 2);
    assert!(matches!(error, EvalError::Twice { .. }), "{error}");
    let error = refused(committed(), 500).to_string();
    assert!(error.contains("74 sources, 500 folds"), "{error}");
    let error = refused(written("no.jsonl", ""), 2).to_string();
    assert!(error.contains("no.jsonl is no outcome log"), "{error}");
}

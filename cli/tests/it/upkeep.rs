//! `weir memory export`, `import`, `erase`, `stats`, `show`, `doctor` and `prune`, on files and through a running gateway.

use crate::memory::{json, said, with_memory};
use crate::support::Stage;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use weir_testenv::servable_model;

/// A stack whose memory holds two passages about jane and one about weirs, read in from an export.
fn filled(stage: &Stage, model: &Path) -> String {
    stage.write_stack(&["small"], model, "");
    with_memory(stage, &stage.path("no-embedder"));
    let stack = stage.stack().to_str().unwrap().to_owned();
    std::fs::write(stage.path("people.jsonl"), PEOPLE).unwrap();
    let people = stage.path("people.jsonl");
    let imported = json(stage, &["import", people.to_str().unwrap(), "-f", &stack]);
    assert_eq!(imported["inserted"], 3, "{imported}");
    stack
}

const PEOPLE: &str = r#"{"memory":{"format":1,"dimensions":384,"embedding_model":"all-minilm-l6-v2","nodes":3,"edges":1}}
{"node":{"id":"00000000-0000-4000-8000-000000000001","tenant":"shared","text":"jane keeps geese","metadata":{"subject":"jane","title":"Jane"}}}
{"node":{"id":"00000000-0000-4000-8000-000000000002","tenant":"shared","text":"jane was born in spring","metadata":{"subject":"jane"}}}
{"node":{"id":"00000000-0000-4000-8000-000000000003","tenant":"shared","text":"geese graze by the weir"}}
{"edge":{"src":"00000000-0000-4000-8000-000000000001","dst":"00000000-0000-4000-8000-000000000003","rel":"mentions","weight":0.5,"metadata":{"confidence":0.9}}}
"#;

/// The passages that a search for a word finds and that have it, those that the graph led to left aside.
fn hits(stage: &Stage, word: &str, wher: &[&str]) -> usize {
    let found = json(stage, &[&["search", word], wher].concat());
    let found = found.as_array().unwrap().iter();
    found
        .filter(|hit| hit["text"].as_str().unwrap().contains(word))
        .count()
}

#[test]
fn an_export_is_whole_private_and_read_in_again() {
    let stage = Stage::new();
    let stack = filled(&stage, &stage.path("none.gguf"));
    let out = stage.path("kb.jsonl");
    let out = out.to_str().unwrap();
    let exported = json(&stage, &["export", "--out", out, "-f", &stack]);
    assert_eq!(
        (exported["nodes"].as_u64(), exported["edges"].as_u64()),
        (Some(3), Some(1))
    );
    let mode = std::fs::metadata(out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!stage.path("kb.jsonl.part").exists());
    let (code, lines, err) = said(&stage, &["export", "-f", &stack]);
    assert_eq!(
        (code, lines),
        (Some(0), std::fs::read_to_string(out).unwrap()),
        "{err}"
    );
    assert!(err.contains("3 nodes"), "counts go beside the lines: {err}");

    let again = json(&stage, &["import", out, "-f", &stack]);
    assert_eq!(
        (again["inserted"].as_u64(), again["unchanged"].as_u64()),
        (Some(0), Some(3))
    );
    let fresh = Stage::new();
    fresh.write_stack(&["small"], &fresh.path("none.gguf"), "");
    with_memory(&fresh, &fresh.path("no-embedder"));
    let other = fresh.stack();
    let other = other.to_str().unwrap();
    assert_eq!(json(&fresh, &["import", out, "-f", other])["inserted"], 3);
    assert_eq!(hits(&fresh, "geese", &["-f", other]), 2);

    let broken = std::fs::read_to_string(out)
        .unwrap()
        .replacen("{\"node\"", "{\"nude\"", 2);
    std::fs::write(fresh.path("broken.jsonl"), broken).unwrap();
    let broken = fresh.path("broken.jsonl");
    let (code, _, err) = said(&fresh, &["import", broken.to_str().unwrap(), "-f", other]);
    assert!(
        code == Some(1) && err.contains("line 2") && err.contains("broken.jsonl"),
        "{err}"
    );
    let (code, _, err) = said(&fresh, &["import", "nowhere.jsonl", "-f", other]);
    assert!(code == Some(1) && err.contains("nowhere.jsonl"), "{err}");
}

#[test]
fn a_subject_is_erased_with_a_receipt() {
    let stage = Stage::new();
    let stack = filled(&stage, &stage.path("none.gguf"));
    let wher = ["-f", stack.as_str()];
    assert_eq!(hits(&stage, "jane", &wher), 2);
    let receipt = json(&stage, &["erase", "--subject", "jane", "-f", &stack]);
    assert_eq!(
        (receipt["nodes"].as_u64(), receipt["edges"].as_u64()),
        (Some(2), Some(1))
    );
    assert!(
        receipt["notErased"].to_string().contains("log rows"),
        "{receipt}"
    );
    assert_eq!(hits(&stage, "jane", &wher), 0);
    assert_eq!(hits(&stage, "geese", &wher), 1);
    let (code, out, _) = said(&stage, &["erase", "--subject", "jane", "-f", &stack]);
    assert!(
        code == Some(0) && out.contains("nothing is about this subject"),
        "{out}"
    );
}

#[test]
fn a_memory_is_counted_shown_and_checked() {
    let stage = Stage::new();
    let stack = filled(&stage, &stage.path("none.gguf"));
    let stats = json(&stage, &["stats", "-f", &stack]);
    assert_eq!(
        (stats["nodes"].as_u64(), stats["pending"].as_u64()),
        (Some(3), Some(3))
    );
    assert!(stats["bytesOnDisk"].as_u64().unwrap() > 4096, "{stats}");
    let (_, out, _) = said(&stage, &["stats", "-f", &stack]);
    assert!(
        out.contains("RELATION") && out.contains("mentions"),
        "{out}"
    );

    let id = "00000000-0000-4000-8000-000000000001";
    let shown = json(&stage, &["show", id, "-f", &stack]);
    assert_eq!(shown["edges"][0]["rel"], "mentions", "{shown}");
    let (_, out, _) = said(&stage, &["show", id, "-f", &stack]);
    for part in [
        "jane keeps geese",
        "-> ",
        "0.500",
        "geese graze",
        "confidence=0.9",
        "Jane",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let svg = stage.path("jane.svg");
    let found = json(
        &stage,
        &[
            "search",
            "jane",
            "-f",
            &stack,
            "--svg",
            svg.to_str().unwrap(),
        ],
    );
    assert_eq!(found.as_array().unwrap().len(), 3, "{found}");
    let drawn = std::fs::read_to_string(svg).unwrap();
    assert!(
        drawn.starts_with("<svg") && drawn.contains("mentions 0.500"),
        "{drawn}"
    );
    assert_eq!(
        drawn.matches("<circle").count(),
        4,
        "the question and three nodes"
    );

    let nobody = "00000000-0000-4000-8000-00000000000f";
    let (code, _, err) = said(&stage, &["show", nobody, "-f", &stack]);
    assert!(code == Some(1) && err.contains(nobody), "{err}");

    let (code, out, err) = said(&stage, &["doctor", "-f", &stack]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(
        out.contains("dangling edges") && out.contains("good"),
        "{out}"
    );
    let (code, out, _) = said(&stage, &["prune", "--degree-max", "0", "-f", &stack]);
    assert!(
        code == Some(0) && out.starts_with("1 edges beyond the budget"),
        "{out}"
    );
    let refused = stage.weir(&["memory", "prune", "--max-age", "soon", "-f", &stack]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_damaged_memory_is_opened_again_by_the_doctor() {
    let stage = Stage::new();
    let stack = filled(&stage, &stage.path("none.gguf"));
    let folder = stage.path("home").join("it");
    let file = walk(&folder, "memory.redb").unwrap();
    let database = redb::Database::open(&file).unwrap();
    let nodes: redb::TableDefinition<'_, u128, &[u8]> = redb::TableDefinition::new("nodes");
    let transaction = database.begin_write().unwrap();
    let key = 0x0000_0000_0000_4000_8000_0000_0000_0003_u128;
    transaction
        .open_table(nodes)
        .unwrap()
        .insert(key, b"{".as_slice())
        .unwrap();
    transaction.commit().unwrap();
    drop(database);

    let (code, _, err) = said(&stage, &["stats", "-f", &stack]);
    assert!(
        code == Some(1) && err.contains("weir memory doctor"),
        "{err}"
    );
    let (code, out, err) = said(&stage, &["doctor", "-f", &stack]);
    assert!(
        code == Some(1) && out.contains("000000000003"),
        "{out}{err}"
    );
    assert!(err.contains("--repair"), "{err}");
    let (code, _, err) = said(&stage, &["doctor", "--repair", "-f", &stack]);
    assert_eq!(code, Some(0), "{err}");
    let kept = std::fs::read_dir(file.parent().unwrap()).unwrap();
    let kept = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.starts_with("damaged-")).count(), 1);
    let (code, out, _) = said(&stage, &["doctor", "-f", &stack]);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(hits(&stage, "jane", &["-f", &stack]), 2);
}

fn walk(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.into_iter().find_map(|path| match path.is_dir() {
        true => walk(&path, name),
        false => path.ends_with(name).then_some(path),
    })
}

#[test]
fn a_running_gateway_does_it_all_and_serves_on() {
    let Some(model) = servable_model() else {
        return;
    };
    let mut stage = Stage::new();
    stage.write_stack(&["small"], &model, "");
    let Some(embedder) = weir_testenv::component(weir_testenv::MINILM) else {
        return;
    };
    with_memory(&stage, &embedder);
    stage.up();
    std::fs::write(stage.path("people.jsonl"), PEOPLE).unwrap();
    let people = stage.path("people.jsonl");
    let imported = json(&stage, &["import", people.to_str().unwrap()]);
    assert_eq!(imported["inserted"], 3, "{imported}");
    stage.status_when("vectors are there", |status| {
        status["memory"]["vectors"] == 3
    });
    let (code, lines, err) = said(&stage, &["export"]);
    assert_eq!((code, lines.lines().count()), (Some(0), 5), "{err}");
    assert_eq!(lines.matches("\"vector\":\"").count(), 3);
    let receipt = json(&stage, &["erase", "--subject", "jane"]);
    assert_eq!(receipt["vectors"], 2, "{receipt}");
    let found = json(&stage, &["search", "jane"]);
    assert!(!found.to_string().contains("jane"), "{found}");
    assert_eq!(json(&stage, &["stats"])["nodes"], 1);
    let (code, out, _) = said(&stage, &["doctor", "--repair"]);
    assert_eq!(code, Some(0), "{out}");
    let shown = json(&stage, &["show", "00000000-0000-4000-8000-000000000003"]);
    assert_eq!(shown["hasVector"], true, "{shown}");
    assert_eq!(json(&stage, &["prune"])["beyondBudget"], 0);
    assert!(stage.weir(&["down", "--now"]).status.success());
}

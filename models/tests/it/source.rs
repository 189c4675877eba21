//! Sources as stacks write them.

use std::path::{Path, PathBuf};

use weir_models::Source;

fn parse(text: &str) -> Result<Source, String> {
    Source::parse(text, Path::new("/stacks/demo")).map_err(|error| error.to_string())
}

#[test]
fn hub_source_names_repository_file_and_revision() {
    let hub = |repo: &str, file: Option<&str>, revision: &str| Source::HuggingFace {
        repo: repo.into(),
        file: file.map(Into::into),
        revision: revision.into(),
    };
    let file = Some("LFM2-700M-Q4_0.gguf");
    let plain = "hf://LiquidAI/LFM2-700M-GGUF/LFM2-700M-Q4_0.gguf";
    assert_eq!(
        parse(plain),
        Ok(hub("LiquidAI/LFM2-700M-GGUF", file, "main"))
    );
    let pinned = "hf://LiquidAI/LFM2-700M-GGUF@1a2b/q4/x.gguf";
    assert_eq!(
        parse(pinned),
        Ok(hub("LiquidAI/LFM2-700M-GGUF", Some("q4/x.gguf"), "1a2b"))
    );
    let whole = parse("hf://sentence-transformers/all-MiniLM-L6-v2");
    assert_eq!(
        whole,
        Ok(hub("sentence-transformers/all-MiniLM-L6-v2", None, "main"))
    );
    for text in [plain, pinned] {
        assert_eq!(parse(text).unwrap().to_string(), text, "printed as written");
    }
}

#[test]
fn file_source_starts_at_the_stack_the_home_folder_or_the_root() {
    let file = |path: &str| Ok(Source::File(PathBuf::from(path)));
    assert_eq!(
        parse("file://./models/a.gguf"),
        file("/stacks/demo/models/a.gguf")
    );
    assert_eq!(parse("file://../a.gguf"), file("/stacks/demo/../a.gguf"));
    assert_eq!(parse("file:///data/a.gguf"), file("/data/a.gguf"));
    let home = std::env::home_dir().unwrap().join(".cache/weir/a.gguf");
    assert_eq!(parse("file://~/.cache/weir/a.gguf"), Ok(Source::File(home)));
}

#[test]
fn wrong_source_is_told_what_to_write() {
    let cases = [
        (
            "models/a.gguf",
            "has no known scheme: write hf://owner/repo/file.gguf",
        ),
        ("ftp://host/a.gguf", "has no known scheme"),
        ("hf://LiquidAI", "names no repository"),
        ("hf://LiquidAI//a.gguf", "names no repository"),
        ("hf://a/b@/c", "names no repository"),
        ("hf://a/b/../../c", "has an empty part or `..`"),
        ("hf://a/b@../c", "has an empty part or `..`"),
        ("https://", "names no host"),
        ("file://", "names no file"),
    ];
    for (text, told) in cases {
        let error = parse(text).unwrap_err();
        assert!(
            error.contains(told) && error.contains(text),
            "{text}: {error}"
        );
    }
    assert!(matches!(parse("https://host/a.gguf"), Ok(Source::Https(_))));
}

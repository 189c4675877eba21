//! `hf://` sources against a server that speaks the hub's addresses.

use std::path::Path;
use std::sync::Mutex;

use weir_models::{Access, Fetcher, Progress, Source};

use crate::fetch::{content, served, sum};
use crate::server::{Behaviour, Server};

const FILE: &str = "hf://owner/name/a.gguf";

fn fetcher(server: &Server, cache: &Path, token: Option<&str>) -> Fetcher {
    let access = Access {
        hub_endpoint: Some(server.url.trim_end_matches("/models/a.gguf").to_owned()),
        hub_token: token.map(str::to_owned),
        ..Access::default()
    };
    Fetcher::new(cache, access).unwrap()
}

fn source(text: &str) -> Source {
    Source::parse(text, Path::new("/")).unwrap()
}

async fn refusal(server: &Server, token: Option<&str>, text: &str) -> String {
    let cache = tempfile::tempdir().unwrap();
    let fetcher = fetcher(server, cache.path(), token);
    let error = fetcher.fetch(&source(text), None, &|_| {}).await;
    error.unwrap_err().to_string()
}

#[tokio::test]
async fn a_file_of_the_hub_is_resumed_where_it_broke_and_kept() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(100_000, &[30_000, 20_000])).await;
    let fetcher = fetcher(&server, cache.path(), Some("hf_secret"));
    let steps = Mutex::new(Vec::new());
    let told = |step: Progress| steps.lock().unwrap().push(step);
    let expected = sum(&content(100_000));
    let path = fetcher
        .fetch(&source(FILE), Some(&expected), &told)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content(100_000));
    assert_eq!(server.ranges(), [None, Some(30_000), Some(50_000)]);
    for asked in server.requests() {
        assert!(
            asked.starts_with("GET /owner/name/resolve/main/a.gguf "),
            "{asked}"
        );
        assert!(asked.contains("authorization: Bearer hf_secret"), "{asked}");
    }
    let end = Progress {
        downloaded: 100_000,
        total: Some(100_000),
    };
    assert_eq!(steps.into_inner().unwrap().last(), Some(&end));

    let again = fetcher.fetch(&source(FILE), Some(&expected), &|_| {}).await;
    assert_eq!(again.unwrap(), path);
    let files = ["config.json", "tokenizer.json"];
    let folder = fetcher
        .fetch_dir(&source("hf://owner/name@refs%2Fpr%2F1"), &files, &|_| {})
        .await
        .unwrap();
    assert!(files.iter().all(|file| folder.join(file).is_file()));
    assert_eq!(
        server.requests().len(),
        5,
        "a whole file is not asked for again"
    );
}

#[tokio::test]
async fn the_next_start_takes_a_broken_download_up() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(50_000, &[10_000, 1000, 1000, 1000])).await;
    let fetcher = fetcher(&server, cache.path(), None);
    let error = fetcher.fetch(&source(FILE), None, &|_| {}).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("download hf://owner/name/a.gguf: "),
        "{error}"
    );
    assert!(error.contains("try again to resume"), "{error}");
    fetcher.fetch(&source(FILE), None, &|_| {}).await.unwrap();
    assert_eq!(server.ranges().last(), Some(&Some(13_000)));
}

#[tokio::test]
async fn each_refusal_of_the_hub_says_what_to_do() {
    let refusing = |status, listing| Behaviour {
        status: Some(status),
        listing,
        ..Behaviour::default()
    };
    let listing = r#"{"siblings":[{"rfilename":"b.gguf"},{"rfilename":"README.md"}]}"#;
    for (status, token, listing, says) in [
        ("401 Unauthorized", None, None, "set HF_TOKEN"),
        ("401 Unauthorized", Some("hf_x"), None, "check HF_TOKEN"),
        ("403 Forbidden", Some("hf_x"), None, "accept its terms"),
        (
            "404 Not Found",
            None,
            Some(listing),
            "has no file a.gguf; it has b.gguf",
        ),
        (
            "404 Not Found",
            None,
            None,
            "no repository owner/name with a revision v9",
        ),
        (
            "503 Service Unavailable",
            None,
            None,
            "the server answered 503",
        ),
    ] {
        let server = Server::start(refusing(status, listing)).await;
        let error = refusal(&server, token, "hf://owner/name@v9/a.gguf").await;
        assert!(
            error.starts_with("download hf://owner/name@v9/a.gguf: "),
            "{error}"
        );
        assert!(error.contains(says) && error.contains(status), "{error}");
        assert!(!error.contains("hf_x"), "{error}");
    }
}

#[tokio::test]
async fn the_token_stays_with_the_hub_where_it_sends_the_reader_on() {
    let cache = tempfile::tempdir().unwrap();
    let store = Server::start(served(1000, &[])).await;
    let hub = Server::start(Behaviour {
        elsewhere: Some(store.url.clone()),
        ..Behaviour::default()
    })
    .await;
    let fetcher = fetcher(&hub, cache.path(), Some("hf_secret"));
    fetcher.fetch(&source(FILE), None, &|_| {}).await.unwrap();
    assert!(hub.requests()[0].contains("hf_secret"));
    assert!(!store.requests()[0].contains("hf_secret"));
}

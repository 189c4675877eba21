//! Downloads that break, resume, and turn out to be something else.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use weir_models::{Access, FetchError, Fetcher, Progress, S3Access, Source};

use crate::server::{Behaviour, Server};

pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

pub(crate) fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn served(len: usize, breaks: &[usize]) -> Behaviour {
    Behaviour {
        file: content(len),
        breaks: breaks.to_vec(),
        etag: "\"v1\"",
        ..Behaviour::default()
    }
}

fn open(cache: &Path) -> Fetcher {
    Fetcher::new(cache, Access::default()).unwrap()
}

async fn get(server: &Server, cache: &Path, sha256: Option<&str>) -> Result<PathBuf, FetchError> {
    let source = Source::Https(server.url.clone());
    open(cache).fetch(&source, sha256, &|_| {}).await
}

fn files_under(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(Result::unwrap)
        {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn broken_connections_are_resumed_where_they_broke() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(100_000, &[30_000, 20_000])).await;
    let steps = Mutex::new(Vec::new());
    let told = |step: Progress| steps.lock().unwrap().push(step);
    let source = Source::Https(server.url.clone());
    let expected = sum(&content(100_000));
    let path = open(cache.path())
        .fetch(&source, Some(&expected), &told)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content(100_000));
    assert_eq!(server.ranges(), [None, Some(30_000), Some(50_000)]);
    let steps = steps.into_inner().unwrap();
    assert!(
        steps.is_sorted_by_key(|step| step.downloaded),
        "progress never runs back"
    );
    let end = Progress {
        downloaded: 100_000,
        total: Some(100_000),
    };
    assert_eq!(steps.last(), Some(&end));

    assert_eq!(
        get(&server, cache.path(), Some(&expected)).await.unwrap(),
        path
    );
    assert_eq!(
        server.ranges().len(),
        3,
        "a whole file is not asked for again"
    );
}

#[tokio::test]
async fn download_is_taken_up_by_the_next_start() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(50_000, &[10_000, 1000, 1000, 1000])).await;
    let error = get(&server, cache.path(), None).await.unwrap_err();
    assert!(error.to_string().contains("try again to resume"), "{error}");
    let downloads = cache.path().join("https");
    assert_eq!(files_under(&downloads), ["a.gguf.etag", "a.gguf.part"]);
    let path = get(&server, cache.path(), None).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(50_000));
    assert_eq!(server.ranges().last(), Some(&Some(13_000)));
    assert_eq!(files_under(&downloads), ["a.gguf"]);
}

#[tokio::test]
async fn who_shares_a_cache_downloads_one_after_the_other() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(100_000, &[30_000])).await;
    let (first, second) = tokio::join!(
        get(&server, cache.path(), None),
        get(&server, cache.path(), None)
    );
    let path = first.unwrap();
    assert_eq!(path, second.unwrap());
    assert_eq!(std::fs::read(path).unwrap(), content(100_000));
    assert_eq!(
        server.ranges(),
        [None, Some(30_000)],
        "the second found what the first had brought"
    );
}

#[tokio::test]
async fn a_file_and_the_folder_that_holds_it_are_downloaded_one_after_the_other() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(100_000, &[30_000])).await;
    let folder = Source::Https(server.url.trim_end_matches("/a.gguf").to_owned());
    let fetcher = open(cache.path());
    let (file, folder) = tokio::join!(
        get(&server, cache.path(), None),
        fetcher.fetch_dir(&folder, &["a.gguf"], &|_| {})
    );
    let file = file.unwrap();
    assert_eq!(file, folder.unwrap().join("a.gguf"));
    assert_eq!(std::fs::read(file).unwrap(), content(100_000));
    assert_eq!(server.ranges(), [None, Some(30_000)]);
}

#[tokio::test]
async fn a_model_that_is_there_is_served_from_a_cache_that_nobody_can_lock() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(1000, &[])).await;
    let path = get(&server, cache.path(), None).await.unwrap();
    // A file in the place of the folder keeps out whoever runs the test, also one who may write everywhere.
    let locks = cache.path().join("locks");
    std::fs::remove_dir_all(&locks).unwrap();
    std::fs::write(&locks, "").unwrap();
    assert_eq!(get(&server, cache.path(), None).await.unwrap(), path);
}

#[tokio::test]
async fn without_an_entity_tag_only_a_checksum_lets_a_download_go_on() {
    let untagged = || Behaviour {
        etag: "",
        ..served(50_000, &[10_000])
    };
    let right = sum(&content(50_000));
    for (sha256, ranges) in [
        (None, [None, None]),
        (Some(right.as_str()), [None, Some(10_000)]),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::start(untagged()).await;
        let path = get(&server, cache.path(), sha256).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), content(50_000));
        assert_eq!(server.ranges(), ranges);
    }
}

#[tokio::test]
async fn a_part_that_begins_elsewhere_is_not_joined_to_what_is_there() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(Behaviour {
        misplaced: true,
        ..served(50_000, &[10_000])
    })
    .await;
    let path = get(&server, cache.path(), None).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(50_000));
    assert_eq!(server.ranges(), [None, Some(10_000), None]);
}

#[tokio::test]
async fn what_is_forgotten_is_downloaded_again() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(1000, &[])).await;
    let path = get(&server, cache.path(), None).await.unwrap();
    let source = Source::Https(server.url.clone());
    open(cache.path()).forget(&source).await;
    assert!(!path.exists());
    get(&server, cache.path(), None).await.unwrap();
    assert_eq!(server.ranges().len(), 2);
}

#[tokio::test]
async fn file_that_changed_meanwhile_starts_over() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(50_000, &[10_000; 4])).await;
    get(&server, cache.path(), None).await.unwrap_err();
    let other: Vec<u8> = content(60_000).into_iter().rev().collect();
    server.change(|behaviour| {
        behaviour.file.clone_from(&other);
        behaviour.etag = "\"v2\"";
        behaviour.breaks.clear();
    });
    let path = get(&server, cache.path(), None).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), other);
}

#[tokio::test]
async fn part_that_is_already_whole_is_accepted() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(5000, &[1000; 4])).await;
    get(&server, cache.path(), None).await.unwrap_err();
    let part = walk_to(cache.path(), "a.gguf.part");
    std::fs::write(part, content(5000)).unwrap();
    let path = get(&server, cache.path(), Some(&sum(&content(5000))))
        .await
        .unwrap();
    assert_eq!(std::fs::read(path).unwrap(), content(5000));
}

fn walk_to(folder: &Path, name: &str) -> PathBuf {
    let https = folder.join("https");
    let inner = std::fs::read_dir(https)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    inner.join(name)
}

#[tokio::test]
async fn wrong_checksum_names_both_sums_and_leaves_nothing_behind() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(1000, &[])).await;
    let wrong = "0".repeat(64);
    let error = get(&server, cache.path(), Some(&wrong))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&wrong) && error.contains(&sum(&content(1000))),
        "{error}"
    );
    assert!(
        error.contains("check that `sha256` belongs to this file"),
        "{error}"
    );
    let left = files_under(cache.path());
    assert!(
        left.iter().all(|name| !name.starts_with("a.gguf")),
        "{left:?}"
    );

    let path = get(&server, cache.path(), None).await.unwrap();
    get(&server, cache.path(), Some(&wrong)).await.unwrap_err();
    assert!(
        !path.exists(),
        "an older download that is wrong is not kept either"
    );
}

#[tokio::test]
async fn refusal_names_address_and_status_and_is_not_repeated() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(Behaviour {
        status: Some("404 Not Found"),
        ..served(1, &[])
    })
    .await;
    let error = get(&server, cache.path(), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&server.url) && error.contains("404 Not Found"),
        "{error}"
    );
    assert_eq!(server.ranges().len(), 1);
}

#[tokio::test]
async fn local_file_is_verified_once_and_again_after_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let (file, cache) = (folder.path().join("m.gguf"), folder.path().join("cache"));
    std::fs::write(&file, content(3000)).unwrap();
    let source = Source::File(file.clone());
    let get = async |sum: &str| open(&cache).fetch(&source, Some(sum), &|_| {}).await;
    let right = sum(&content(3000));
    assert_eq!(get(&right.to_uppercase()).await.unwrap(), file);
    assert_eq!(files_under(&cache).len(), 1, "the sum is remembered");

    // A note that lies is believed, which shows that the file is not read again.
    let note = cache.join("checksums").join(&files_under(&cache)[0]);
    let text = std::fs::read_to_string(&note).unwrap();
    let lie = "ab".repeat(32);
    std::fs::write(&note, text.replace(&right, &lie)).unwrap();
    get(&lie).await.unwrap();

    std::fs::write(&file, content(3001)).unwrap();
    let error = get(&lie).await.unwrap_err().to_string();
    assert!(
        error.contains(&sum(&content(3001))),
        "a file that changed is read again: {error}"
    );
    assert!(file.exists(), "a file of the user's own is never removed");
}

#[tokio::test]
async fn missing_file_folder_and_bad_sum_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Source::File(folder.path().join(name));
    let told = async |source: &Source, sum: Option<&str>| {
        let error = open(folder.path())
            .fetch(source, sum, &|_| {})
            .await
            .unwrap_err();
        error.to_string()
    };
    assert!(
        told(&at("none.gguf"), None)
            .await
            .contains("none.gguf does not exist")
    );
    assert!(
        told(&at("."), None)
            .await
            .contains("is a folder, a file is needed")
    );
    assert!(
        told(&at("."), Some("abc"))
            .await
            .contains("`abc` is not 64 hexadecimal digits")
    );
    let source = Source::parse("hf://a/b", folder.path()).unwrap();
    assert!(
        told(&source, None)
            .await
            .contains("names no file: write hf://a/b/file.gguf")
    );
}

#[tokio::test]
async fn embedder_folder_is_complete_or_names_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::File(folder.path().into());
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let files = ["config.json", "tokenizer.json"];
    let error = open(folder.path())
        .fetch_dir(&source, &files, &|_| {})
        .await
        .unwrap_err();
    assert!(error.to_string().contains("tokenizer.json does not exist"));
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    assert_eq!(
        open(folder.path())
            .fetch_dir(&source, &files, &|_| {})
            .await
            .unwrap(),
        folder.path()
    );
}

#[tokio::test]
async fn embedder_over_https_lands_in_one_folder() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(100, &[])).await;
    let base = server.url.trim_end_matches("/a.gguf");
    let source = Source::Https(base.to_owned());
    let files = ["config.json", "tokenizer.json"];
    let folder = open(cache.path())
        .fetch_dir(&source, &files, &|_| {})
        .await
        .unwrap();
    assert!(files.iter().all(|file| folder.join(file).is_file()));
}

#[tokio::test]
async fn tokens_and_signatures_open_doors_and_are_never_told() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(served(100, &[])).await;
    let host = server.url.trim_end_matches("/models/a.gguf").to_owned();
    let access = Access {
        bearer_token: Some("a-secret-token".into()),
        s3: S3Access {
            endpoint: Some(host),
            region: Some("eu-north-1".into()),
            key: Some(("AKIDEXAMPLE".into(), "a-secret-key".into())),
            session_token: None,
        },
        ..Access::default()
    };
    let debug = format!("{access:?}");
    let fetcher = Fetcher::new(cache.path(), access).unwrap();
    let https = Source::Https(server.url.clone());
    fetcher.fetch(&https, None, &|_| {}).await.unwrap();
    let asked = server.requests().remove(0);
    assert!(
        asked.contains("authorization: Bearer a-secret-token"),
        "{asked}"
    );

    let s3 = Source::parse("s3://models/lfm2/a.gguf", cache.path()).unwrap();
    fetcher.fetch(&s3, None, &|_| {}).await.unwrap();
    let asked = server.requests().remove(1);
    assert!(asked.starts_with("GET /models/lfm2/a.gguf?"), "{asked}");
    assert!(
        asked.contains("X-Amz-Credential=AKIDEXAMPLE%2F")
            && asked.contains("%2Feu-north-1%2Fs3%2F"),
        "{asked}"
    );
    assert!(
        !asked.contains("a-secret"),
        "no token of another place: {asked}"
    );

    server.change(|behaviour| behaviour.status = Some("403 Forbidden"));
    let other = Source::parse("s3://models/lfm2/b.gguf", cache.path()).unwrap();
    let error = fetcher.fetch(&other, None, &|_| {}).await.unwrap_err();
    let told = format!("{error} {error:?} {debug}");
    assert!(told.contains("s3://models/lfm2/b.gguf"), "{told}");
    assert!(
        !told.contains("a-secret") && !told.contains("X-Amz"),
        "{told}"
    );
}

#[tokio::test]
async fn unusable_ca_bundle_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    std::fs::write(&bundle, "no certificate").unwrap();
    let access = Access {
        ca_bundle: Some(bundle),
        ..Access::default()
    };
    let error = Fetcher::new(folder.path(), access).unwrap_err().to_string();
    assert!(
        error.contains("ca.pem: holds no PEM certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn delivered_file_replaces_what_was_there_and_survives_a_second_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let (file, to) = (
        folder.path().join("a"),
        folder.path().join("out/model.gguf"),
    );
    std::fs::write(&file, "new").unwrap();
    std::fs::create_dir(folder.path().join("out")).unwrap();
    std::fs::write(&to, "old").unwrap();
    let source = Source::File(file.clone());
    for _ in 0..2 {
        open(folder.path())
            .fetch_to(&source, None, &to, &|_| {})
            .await
            .unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "new");
    }
    assert_eq!(files_under(&folder.path().join("out")), ["model.gguf"]);
    assert!(file.exists());
}

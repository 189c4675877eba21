//! `weir model fetch` as the init container of a pod runs it: sources that are wrong for a while, and a pod that goes away.

use crate::server::{Server, answer};
use crate::support::{Stage, kill, until};
use std::process::{Output, Stdio};

/// The smallest file that is a model: a header that promises nothing.
fn model() -> Vec<u8> {
    [b"GGUF".as_slice(), &3_u32.to_le_bytes(), &[0; 16]].concat()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_no_model_is_downloaded_again_by_the_next_start() {
    let stage = Stage::new();
    let page = answer("200 OK", "etag: \"1\"\r\n", b"<html>please log in</html>");
    let server = Server::start(vec![page, answer("200 OK", "etag: \"2\"\r\n", &model())]);
    let source = format!("http://{}/m.gguf", server.address);
    let (to, facts) = (stage.path("out/m.gguf"), stage.path("facts.json"));
    let (to_word, facts_word) = (to.to_str().unwrap(), facts.to_str().unwrap());
    let words = [
        "model", "fetch", &source, "--to", to_word, "--facts", facts_word,
    ];
    let refused = stage.weir(&words);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("is not a GGUF model file"),
        "{}",
        said(&refused)
    );
    assert!(!to.exists() && !facts.exists());
    let fetched = stage.weir(&words);
    assert_eq!(fetched.status.code(), Some(0), "{}", said(&fetched));
    assert_eq!(std::fs::read(&to).unwrap(), model());
    assert!(facts.exists());
    assert_eq!(server.asked.try_iter().count(), 2);
}

#[test]
fn a_file_of_the_users_own_stays_also_where_it_is_no_model() {
    let stage = Stage::new();
    let own = stage.path("m.gguf");
    std::fs::write(&own, "notes").unwrap();
    let source = format!("file://{}", own.display());
    let (to, facts) = (own.to_str().unwrap(), stage.path("facts.json"));
    let facts = facts.to_str().unwrap();
    let refused = stage.weir(&["model", "fetch", &source, "--to", to, "--facts", facts]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("is not a GGUF model file"));
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "notes");
}

#[test]
fn a_connection_to_the_hub_that_breaks_is_taken_up_again() {
    let stage = Stage::new();
    let (tag, left) = ("etag: \"abc\"\r\n", 10);
    let (len, whole) = (model().len(), answer("200 OK", tag, &model()));
    let cut = whole[..whole.len() - left].to_vec();
    let range = format!(
        "{tag}content-range: bytes {}-{}/{len}\r\n",
        len - left,
        len - 1
    );
    let rest = answer("206 Partial Content", &range, &model()[len - left..]);
    let server = Server::start(vec![cut, rest]);
    let output = stage
        .command(&["model", "fetch", "hf://owner/repo/m.gguf"])
        .env("HF_ENDPOINT", format!("http://{}", server.address))
        .env("HOME", stage.folder.path())
        .env("WEIR_CACHE", stage.path("cache"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let path = String::from_utf8(output.stdout).unwrap();
    assert_eq!(std::fs::read(path.trim()).unwrap(), model());
    assert_eq!(server.asked.try_iter().count(), 2);
}

#[test]
fn a_download_that_is_told_to_end_ends_at_once() {
    let stage = Stage::new();
    let server = Server::start(Vec::new());
    let source = format!("http://{}/m.gguf", server.address);
    let to = stage.path("m.gguf");
    let words = ["model", "fetch", &source, "--to", to.to_str().unwrap()];
    for signal in ["-TERM", "-INT"] {
        let mut child = stage
            .command(&words)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        server.asked.recv().unwrap();
        kill(signal, &child.id().to_string());
        until("it has ended", || child.try_wait().unwrap());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "not by the signal itself");
        assert!(said(&output).contains("told to end"), "{}", said(&output));
    }
}

#[test]
fn a_big_file_that_is_being_checked_keeps_no_process_that_is_told_to_end() {
    let stage = Stage::new();
    let file = stage.path("big.gguf");
    // Holes take no room on the disk, and many minutes to read.
    let big = std::fs::File::create(&file).unwrap();
    big.set_len(1 << 40).unwrap();
    let (source, sha256) = (format!("file://{}", file.display()), "0".repeat(64));
    let mut child = stage
        .command(&["model", "fetch", &source, "--sha256", &sha256])
        .env("WEIR_CACHE", stage.path("cache"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let opened = format!("/proc/{}/fd", child.id());
    until("it reads the file", || {
        let mut open = std::fs::read_dir(&opened).unwrap().flatten();
        open.find(|link| std::fs::read_link(link.path()).is_ok_and(|to| to == file))
    });
    kill("-TERM", &child.id().to_string());
    until("it has ended", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

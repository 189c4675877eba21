//! A model hub of the test's own: `cluster/models.py`, which serves the fetched files over https and fails on demand.
//!
//! What it can be told is in that script's head. It speaks TLS, and this crate has no client, so curl asks it. Its authority and
//! its process end with the test.

use crate::{absent, in_path};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A running hub.
#[derive(Debug)]
pub struct ModelHub {
    process: Child,
    state: PathBuf,
    url: String,
}

impl ModelHub {
    /// A hub on a free port of `host`, an address of this machine: 127.0.0.1, or the test cluster's 10.244.0.1 for its pods.
    /// Nothing where `python3`, `openssl` or `curl` is absent.
    ///
    /// # Panics
    /// One of them is absent and required, or the hub does not start.
    pub fn start(host: &str) -> Option<Self> {
        for program in ["python3", "openssl", "curl"] {
            in_path(program).or_else(|| absent(program, "install it"))?;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/models.py");
        let state = std::env::temp_dir().join(format!("weir-hub-{}", unique()));
        let mut process = Command::new("python3")
            .arg(script)
            .arg("--state")
            .arg(&state)
            .args(["--listen", &format!("{host}:0")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a python3 that was found can be started");
        let mut facts = String::new();
        let printed = process.stdout.take().map(BufReader::new);
        let read = printed.map(|mut output| output.read_line(&mut facts));
        let url = facts.split('"').find(|word| word.starts_with("https://"));
        let Some(url) = url.map(str::to_owned) else {
            let _ = process.kill();
            let ended = process.wait();
            unreachable!("the model hub did not start: {ended:?}, {read:?}, {facts:?}");
        };
        Some(Self {
            process,
            state,
            url,
        })
    }

    /// Address of a file under `~/.cache/weir`, such as [`crate::SMOLLM2`].
    pub fn url(&self, file: &str) -> String {
        format!("{}/{file}", self.url)
    }

    /// The certificate of its authority, PEM.
    pub fn ca(&self) -> PathBuf {
        self.state.join("ca.crt")
    }

    /// From now on `rule`, in the words of `POST /control/faults`.
    ///
    /// # Panics
    /// The hub does not know the fault.
    pub fn fail(&self, rule: &str) {
        let answer = self.curl(&["--data", rule], "control/faults");
        let text = String::from_utf8_lossy(&answer.stdout);
        assert!(answer.status.success(), "{rule} was refused: {text}");
    }

    /// Every request for a file so far, as the JSON of `GET /control/requests`.
    pub fn requests(&self) -> String {
        let answer = self.curl(&[], "control/requests");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    fn curl(&self, words: &[&str], path: &str) -> Output {
        Command::new("curl")
            .args(["--silent", "--fail-with-body", "--noproxy", "*", "--cacert"])
            .arg(self.ca())
            .args(words)
            .arg(self.url(path))
            .output()
            .expect("a curl that was found can be started")
    }
}

impl Drop for ModelHub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

/// A name that no other hub of this machine has.
fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TINY_RANDOM, component};

    #[test]
    fn a_fault_holds_as_often_as_it_was_asked_for_and_requests_are_counted() {
        let (Some(hub), Some(model)) = (ModelHub::start("127.0.0.1"), component(TINY_RANDOM))
        else {
            return;
        };
        let path = format!("/{TINY_RANDOM}");
        hub.fail(&format!(
            r#"{{"path": "{path}", "times": 1, "fault": {{"status": 503}}}}"#
        ));
        assert!(!hub.curl(&[], TINY_RANDOM).status.success());
        let whole = hub.curl(&[], TINY_RANDOM).stdout;
        assert_eq!(whole, std::fs::read(model).unwrap());
        let cut = hub.curl(&[], &format!("{TINY_RANDOM}?cutAfterBytes=1000"));
        assert_eq!(cut.stdout, whole[..1000]);
        let rest = hub.curl(&["--range", "1000-"], TINY_RANDOM);
        assert_eq!(rest.stdout, whole[1000..]);
        let requests = hub.requests();
        assert_eq!(requests.matches(&path).count(), 4, "{requests}");
        assert!(
            requests.contains(r#""range": "bytes=1000-", "status": 206"#),
            "{requests}"
        );
    }
}

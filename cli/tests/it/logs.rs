//! `weir logs`, on files that a gateway left.

use crate::support::Stage;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// The state of a gateway that ran: two logs of six lines each.
fn that_ran() -> Stage {
    let stage = Stage::new();
    std::fs::create_dir_all(stage.path("home/it/logs")).unwrap();
    for name in ["gateway", "small"] {
        let lines: String = (1..=6).map(|line| format!("{name} {line}\n")).collect();
        std::fs::write(stage.path(&format!("home/it/logs/{name}.log")), lines).unwrap();
    }
    stage
}

/// Exit code and texts of `weir logs ...`.
fn logs(stage: &Stage, args: &[&str]) -> (Option<i32>, String, String) {
    let output = stage.weir(&[&["logs"], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), out, err)
}

#[test]
fn the_last_lines_of_what_is_named_are_shown() {
    let stage = that_ran();
    let (code, out, err) = logs(&stage, &["small", "-n", "2"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "small 5\nsmall 6\n"),
        "{err}"
    );
    let (_, out, _) = logs(&stage, &[]);
    assert_eq!(out.lines().count(), 6, "{out}");
    assert!(out.starts_with("gateway 1\n"), "{out}");
    // A log that was begun anew a moment ago goes on from the one before.
    let log = stage.path("home/it/logs/small.log");
    std::fs::rename(&log, stage.path("home/it/logs/small.log.1")).unwrap();
    std::fs::write(&log, "small 7\n").unwrap();
    let (_, out, _) = logs(&stage, &["small", "-n", "3"]);
    assert_eq!(out, "small 5\nsmall 6\nsmall 7\n");
}

#[test]
fn what_has_no_log_is_answered_with_what_has_one() {
    let stage = that_ran();
    let (code, _, err) = logs(&stage, &["big"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no log \"big\""), "{err}");
    assert!(
        err.contains("choose one of gateway, small, decisions"),
        "{err}"
    );
    let (code, _, err) = logs(&stage, &["decisions"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("write spec.logs.sink: file"), "{err}");
    let (code, _, err) = logs(&Stage::new(), &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("weir up -f"), "{err}");
}

#[test]
fn a_log_is_followed_also_where_it_begins_anew() {
    let stage = that_ran();
    let log = stage.path("home/it/logs/small.log");
    let mut follow: Command = stage.command(&["logs", "small", "-f", "-n", "1"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "small 6");
    let mut file = std::fs::File::options().append(true).open(&log).unwrap();
    writeln!(file, "small 7").unwrap();
    assert_eq!(next(), "small 7");
    std::fs::rename(&log, stage.path("home/it/logs/small.log.1")).unwrap();
    std::fs::write(&log, "small 8\n").unwrap();
    assert_eq!(next(), "small 8");
    follow.kill().unwrap();
    follow.wait().unwrap();
}

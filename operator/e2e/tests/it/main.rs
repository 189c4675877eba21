//! The program's own words; what it does to a cluster is `make e2e`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn e2e(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir-e2e"))
        .args(words)
        .output()
        .unwrap()
}

#[test]
fn the_list_begins_with_install_and_what_needs_the_operator_comes_before_uninstall() {
    let output = e2e(&["--list"]);
    assert!(output.status.success());
    let list = String::from_utf8(output.stdout).unwrap();
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names.first(), Some(&"install"));
    // The page is followed on a cluster without Weir.
    assert_eq!(names[names.len() - 2..], ["uninstall", "manual"]);
}

#[test]
fn a_scenario_that_is_not_there_is_refused_before_a_cluster_is_asked() {
    let output = e2e(&["--kubeconfig", "/nowhere", "instal"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("there is no scenario \"instal\": see --list"),
        "{said}"
    );
}

//! Commands in documents and stacks.

use super::{commands, words};
use crate::args::Cli;
use clap::Parser;
use clap::error::ErrorKind;
use std::path::{Path, PathBuf};

/// Folders whose documents and stacks show commands.
const FOLDERS: [&str; 4] = ["", "docs", "docs/adr", "examples/stacks"];

/// Commands inside a sentence, which may leave out what is required.
fn mentions(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|code| code.starts_with("weir ") && !code.contains('\n'))
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = FOLDERS.iter().map(|folder| root.join(folder));
    let entries = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let shows = |path: &PathBuf| {
        path.extension()
            .is_some_and(|kind| kind == "md" || kind == "yaml")
    };
    paths.filter(shows).collect()
}

/// Whether nothing is wrong but that something required was left out.
fn is_unfinished(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

#[test]
fn every_command_in_a_document_or_a_stack_is_taken_as_it_stands() {
    let mut seen = 0;
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in commands(&text) {
            if let Err(error) = Cli::try_parse_from(words(line)) {
                panic!("{}: {line}\n{error}", path.display());
            }
            seen += 1;
        }
        for code in mentions(&text) {
            let refused = Cli::try_parse_from(words(code)).err();
            let refused = refused.filter(|error| !is_unfinished(error));
            assert!(refused.is_none(), "{}: {code}: {refused:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} commands were found");
}

#[test]
fn a_sentence_may_leave_out_what_is_required_and_nothing_else() {
    let prose = "Say `weir ask` or `weir aks`.";
    let kinds = mentions(prose).map(|code| Cli::try_parse_from(words(code)).unwrap_err().kind());
    let expected = [
        ErrorKind::MissingRequiredArgument,
        ErrorKind::InvalidSubcommand,
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

//! Every command that the repository shows is one that the parser takes, flags included.

use super::Cli;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};
use std::path::{Path, PathBuf};

/// Folders whose documents and stacks show commands.
const FOLDERS: [&str; 4] = ["", "docs", "docs/adr", "examples/stacks"];

/// The words of a command as a shell splits it, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#' | '>' | '|') if word.is_none() => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Lines that are commands: in a block of code, in a comment of a stack, in an example of the help.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines();
    let lines = lines
        .map(|line| line.trim_start_matches(|c: char| c == '#' || c == '$' || c.is_whitespace()));
    lines.filter(|line| line.starts_with("weir "))
}

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
fn every_example_of_the_help_is_taken_as_it_stands() {
    fn collect(command: &Command, found: &mut Vec<String>) {
        let help = command.get_after_long_help().map(ToString::to_string);
        found.extend(commands(&help.unwrap_or_default()).map(str::to_owned));
        command
            .get_subcommands()
            .for_each(|inner| collect(inner, found));
    }
    let mut examples = Vec::new();
    collect(&Cli::command(), &mut examples);
    assert!(examples.len() > 15, "{examples:?}");
    for example in examples {
        if let Err(error) = Cli::try_parse_from(words(&example)) {
            panic!("{example}\n{error}");
        }
    }
}

#[test]
fn a_flag_that_does_not_exist_would_be_seen() {
    let line = commands("```sh\n  weir ask \"a b\" --citation # note\n```")
        .next()
        .unwrap();
    assert_eq!(words(line), ["weir", "ask", "a b", "--citation"]);
    let error = Cli::try_parse_from(words(line)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownArgument);
    let prose = "Say `weir ask` or `weir aks`.";
    let kinds = mentions(prose).map(|code| Cli::try_parse_from(words(code)).unwrap_err().kind());
    let expected = [
        ErrorKind::MissingRequiredArgument,
        ErrorKind::InvalidSubcommand,
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

//! Every command that the repository shows is one that the parser takes, flags included.

// Documents speak of every command, so the program must have them all.
#[cfg(feature = "cluster")]
mod documents;

use super::Cli;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};

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
fn every_command_shows_an_example_of_itself() {
    fn check(command: &Command, path: &str) {
        let path = format!("{path}{} ", command.get_name());
        if command.has_subcommands() {
            command
                .get_subcommands()
                .for_each(|inner| check(inner, &path));
        } else if !command.is_hide_set() {
            let help = command.get_after_long_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let shown = commands(&help).any(|line| format!("{line} ").starts_with(&path));
            assert!(shown, "{path}has no example: {help}");
        }
    }
    check(&Cli::command(), "");
}

#[test]
fn a_flag_that_does_not_exist_would_be_seen() {
    let line = commands("```sh\n  weir ask \"a b\" --citation # note\n```")
        .next()
        .unwrap();
    assert_eq!(words(line), ["weir", "ask", "a b", "--citation"]);
    let error = Cli::try_parse_from(words(line)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownArgument);
}

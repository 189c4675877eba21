//! Styles and tables. Colour appears only where the stream is a terminal and NO_COLOR is not set (anstream sees to it).

use crate::fail::Failure;
use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets};
use std::fmt::Display;
use std::path::Path;

/// Writes a file.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

/// Why a file was not written.
pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}", path.display()))
}

/// Marks an error.
pub(crate) fn error(text: impl Display) -> String {
    styled(AnsiColor::Red.on_default().bold(), text)
}

/// Marks something that is as it should be.
pub(crate) fn good(text: impl Display) -> String {
    styled(AnsiColor::Green.on_default(), text)
}

/// Marks something to look at.
pub(crate) fn warning(text: impl Display) -> String {
    styled(AnsiColor::Yellow.on_default(), text)
}

/// A heading.
pub(crate) fn bold(text: impl Display) -> String {
    styled(Style::new().bold(), text)
}

/// Less important text.
pub(crate) fn dim(text: impl Display) -> String {
    styled(Style::new().dimmed(), text)
}

fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Columns as `kubectl get` prints them: upper-case heads, no lines.
pub(crate) fn columns(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(head.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.trim_fmt()
}

/// A number of weights or bytes, short: `135M`, `1.5B`.
pub(crate) fn short_count(count: u64) -> String {
    let scaled = |by: f64, unit: &str| {
        let value = count as f64 / by;
        let digits = usize::from(value < 10.0);
        format!("{value:.digits$}{unit}")
    };
    match count {
        0 => "-".into(),
        1..1_000 => count.to_string(),
        1_000..1_000_000 => scaled(1e3, "K"),
        1_000_000..1_000_000_000 => scaled(1e6, "M"),
        _ => scaled(1e9, "B"),
    }
}

/// Time since a moment, as `kubectl` writes ages: `42s`, `7m`, `3h`, `2d`.
pub(crate) fn age(started: &str) -> String {
    let Ok(started) = started.parse::<jiff::Timestamp>() else {
        return "-".into();
    };
    let seconds = jiff::Timestamp::now().as_second() - started.as_second();
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_short() {
        let cases = [
            (0, "-"),
            (950, "950"),
            (134_515_008, "135M"),
            (1_543_714_304, "1.5B"),
        ];
        for (count, text) in cases {
            assert_eq!(short_count(count), text);
        }
    }

    #[test]
    fn columns_look_like_kubectl() {
        let text = columns(
            &["NAME", "READY"],
            vec![vec!["small".into(), "True".into()]],
        );
        assert_eq!(text, "NAME    READY\nsmall   True");
    }
}

//! The log files of a gateway's folder, and the end of one for error messages.
//!
//! It does not parse lines and keeps none in memory. Written to by `output.rs` (engines) and by the `weir` binary
//! (the gateway's own log).

pub use weir_gateway::rotating_log::{RotatingLog, previous};

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A file grows to this size; then it becomes `<name>.1` and a new one begins.
const ROTATE_AT_BYTES: u64 = 8 << 20;

/// Bytes read at a time, from the end of a file backwards, to find its last lines.
const PIECE_BYTES: u64 = 64 << 10;

/// Opens or creates a log file and appends to it.
///
/// # Errors
/// The file system refuses.
pub fn open_log(path: &Path) -> io::Result<RotatingLog> {
    RotatingLog::open(path, ROTATE_AT_BYTES)
}

/// The last `count` lines of a file, oldest first; from its predecessor too when the file is young. A file that does not
/// exist has none.
///
/// # Errors
/// The file cannot be read.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut lines = tail(path, count)?;
    if lines.len() < count {
        let mut older = tail(&previous(path), count - lines.len())?;
        older.append(&mut lines);
        lines = older;
    }
    Ok(lines)
}

/// The last `count` lines of one file, or all when it has fewer.
fn tail(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut start = file.metadata()?.len();
    let (mut pieces, mut line_ends) = (Vec::new(), 0);
    // One line end more than lines: the line that reading began in may be cut and is not wanted.
    while start > 0 && line_ends <= count {
        let end = start;
        start = end.saturating_sub(PIECE_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        (&mut file).take(end - start).read_to_end(&mut piece)?;
        line_ends += piece.iter().filter(|byte| **byte == b'\n').count();
        pieces.push(piece);
    }
    pieces.reverse();
    let bytes = pieces.concat();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    Ok(lines[from..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_full_log_is_moved_aside_once_and_its_lines_are_still_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        let mut log = RotatingLog::open(&path, 40).unwrap();
        for number in 0..9 {
            writeln!(log, "line {number}").unwrap();
        }
        assert!(previous(&path).exists());
        assert!(std::fs::metadata(&path).unwrap().len() <= 40);
        let lines = last_lines(&path, 6).unwrap();
        assert_eq!(
            lines,
            ["line 3", "line 4", "line 5", "line 6", "line 7", "line 8"]
        );
    }

    #[test]
    fn long_lines_are_read_back_to_the_first_wanted_one_before_the_predecessor_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        std::fs::write(previous(&path), "older 0\nolder 1\n").unwrap();
        let line = |number: usize| format!("{number} {}", "x".repeat(2 << 10));
        let lines: Vec<String> = (0..100).map(line).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        assert_eq!(last_lines(&path, 90).unwrap(), lines[10..]);
        let all = last_lines(&path, 101).unwrap();
        assert_eq!(all[0], "older 1");
        assert_eq!(all[1..], lines);
    }

    #[test]
    fn a_log_that_was_never_written_has_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            last_lines(&folder.path().join("none.log"), 10)
                .unwrap()
                .is_empty()
        );
    }
}

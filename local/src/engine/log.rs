//! Log files that never fill the disk: one file and its predecessor, and the end of a file for error messages.
//!
//! It does not parse lines and keeps none in memory. Written to by `supervisor.rs` (engines) and by the `weir` binary
//! (the gateway's own log).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file grows to this size; then it becomes `<name>.1` and a new one begins.
const ROTATE_AT_BYTES: u64 = 8 << 20;

/// Bytes read from the end of a file to find its last lines.
const TAIL_BYTES: u64 = 64 << 10;

/// A log file that rotates by size.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    file: File,
    written: u64,
    rotate_at: u64,
    /// Whether the last byte ended a line: only there is the file cut, unless a line is as long as a whole file.
    line_ended: bool,
}

impl RotatingLog {
    /// Opens or creates the file and appends to it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_limit(path, ROTATE_AT_BYTES)
    }

    fn with_limit(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path: path.to_path_buf(),
            file,
            written,
            rotate_at,
            line_ended: true,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        std::fs::rename(&self.path, previous(&self.path))?;
        *self = Self::with_limit(&self.path, self.rotate_at)?;
        Ok(())
    }
}

impl Write for RotatingLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.written + bytes.len() as u64;
        let full = after > self.rotate_at && self.line_ended || after > 2 * self.rotate_at;
        if self.written > 0 && full {
            self.rotate()?;
        }
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        self.line_ended = bytes[..count].last() == Some(&b'\n');
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where the lines before the last rotation went.
pub fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

/// The last `count` lines of a file, oldest first; from its predecessor too when the file is young. A file that does not
/// exist has none.
///
/// # Errors
/// The file cannot be read.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut lines = tail(path)?;
    if lines.len() < count {
        let mut older = tail(&previous(path))?;
        older.append(&mut lines);
        lines = older;
    }
    let start = lines.len().saturating_sub(count);
    Ok(lines.split_off(start))
}

fn tail(path: &Path) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line is cut when reading began in the middle of the file.
    let skip = usize::from(start > 0);
    Ok(text.lines().skip(skip).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_is_moved_aside_once_and_its_lines_are_still_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.log");
        let mut log = RotatingLog::with_limit(&path, 40).unwrap();
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
    fn a_log_that_was_never_written_has_no_lines() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            last_lines(&folder.path().join("none.log"), 10)
                .unwrap()
                .is_empty()
        );
    }
}

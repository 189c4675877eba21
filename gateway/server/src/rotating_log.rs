//! A log file that never fills the disk: it rotates by size and keeps one predecessor, `NAME.1`.
//!
//! Lines stay whole, also behind one that a crash or a full disk cut short. It logs nothing itself, since a process may write its own log
//! through it. Written by `row_log.rs` (decisions) and by weir-local (engines, and `weir up` itself).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A log file that rotates by size.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    file: File,
    written: u64,
    rotate_at: u64,
    /// Whether the last byte ended a line: only there is the file cut, unless a line is as long as a whole file.
    line_ended: bool,
    /// Whether the last line was cut short and its rest never comes: the next write begins a new one.
    cut_short: bool,
    /// Why the last rotation failed.
    unrotated: Option<io::Error>,
}

impl RotatingLog {
    /// Opens or creates the file, to append to it. A line that was cut short is ended by the first write, so that the next one
    /// stands alone.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        let mut last = *b"\n";
        if written > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        let line_ended = last == *b"\n";
        Ok(Self {
            path: path.to_path_buf(),
            file,
            written,
            rotate_at,
            line_ended,
            cut_short: !line_ended,
            unrotated: None,
        })
    }

    /// Why the file grows on instead of being rotated; told once for each try.
    pub fn unrotated(&mut self) -> Option<io::Error> {
        self.unrotated.take()
    }

    fn rotate(&mut self) -> io::Result<()> {
        std::fs::rename(&self.path, previous(&self.path))?;
        *self = Self::open(&self.path, self.rotate_at)?;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        match &written {
            Ok(count) => {
                self.written += *count as u64;
                self.line_ended = bytes[..*count].last() == Some(&b'\n');
            }
            // The writer tries again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.cut_short = !self.line_ended,
        }
        written
    }

    fn end_what_was_cut_short(&mut self) -> io::Result<()> {
        if self.cut_short {
            self.append(b"\n")?;
            self.cut_short = false;
        }
        Ok(())
    }
}

impl Write for RotatingLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.end_what_was_cut_short()?;
        let after = self.written.saturating_add(bytes.len() as u64);
        let full = after > self.rotate_at && self.line_ended || after / 2 > self.rotate_at;
        if self.written > 0 && full {
            self.unrotated = self.rotate().err();
        }
        self.append(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "decisions.jsonl";

    #[test]
    fn a_full_file_is_moved_aside_and_one_predecessor_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut file = RotatingLog::open(&path, 20).unwrap();
        for number in 0..5 {
            writeln!(file, "row {number:04}").unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&path), "row 0004\n");
        assert_eq!(read(&previous(&path)), "row 0002\nrow 0003\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_not_torn_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut file = RotatingLog::open(&path, 20).unwrap();
        for piece in ["the first line\n", "in ", "pieces\n", "next\n"] {
            file.write_all(piece.as_bytes()).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&previous(&path)), "the first line\nin pieces\n");
        assert_eq!(read(&path), "next\n");
    }

    #[test]
    fn a_cut_line_is_ended_before_others_follow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, "row one\nrow t").unwrap();
        // Opening writes nothing: a disk that is full is no reason not to start.
        drop(RotatingLog::open(&path, 1000).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 13);
        for row in ["row three", "row four"] {
            let mut file = RotatingLog::open(&path, 1000).unwrap();
            writeln!(file, "{row}").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "row one\nrow t\nrow three\nrow four\n");
    }

    #[test]
    fn a_line_whose_rest_could_not_be_written_is_ended_before_others_follow() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let mut file = RotatingLog::open(&path, 1000).unwrap();
        file.write_all(b"row o").unwrap();
        let reader = File::open(&path).unwrap();
        let writer = std::mem::replace(&mut file.file, reader);
        for rest in ["ne\n", "row two\n"] {
            file.write_all(rest.as_bytes()).unwrap_err();
        }
        file.file = writer;
        for row in ["row three\n", "row four\n"] {
            file.write_all(row.as_bytes()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "row o\nrow three\nrow four\n");
    }

    #[test]
    fn a_file_that_cannot_be_moved_aside_grows_on_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::create_dir_all(previous(&path).join("in the way")).unwrap();
        let mut file = RotatingLog::open(&path, 5).unwrap();
        file.write_all(b"one\n").unwrap();
        assert!(file.unrotated().is_none());
        file.write_all(b"two\n").unwrap();
        assert!(file.unrotated().is_some());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}

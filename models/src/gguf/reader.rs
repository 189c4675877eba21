//! A reader that never trusts a length.
//!
//! It knows how many bytes the file has and counts what it has read; a length that the rest of the
//! file cannot hold is an error before it is an allocation.

use std::io::Read;
use std::path::Path;

use super::GgufError;

/// More tensors than any model has.
pub(super) const TENSORS_MAX: u64 = 1 << 20;
/// More keys than any header has.
pub(super) const KEYS_MAX: u64 = 1 << 16;
/// The longest key or tensor name.
pub(super) const KEY_BYTES_MAX: u64 = 1 << 16;
/// The longest text, a chat template.
const TEXT_BYTES_MAX: u64 = 1 << 24;
/// The longest token or merge.
const TOKEN_BYTES_MAX: u64 = 1 << 16;
/// The largest vocabulary.
const ITEMS_MAX: u64 = 1 << 22;
/// All texts of one array together.
const ARRAY_BYTES_MAX: u64 = 1 << 28;

/// A value that is kept.
#[derive(Debug)]
pub(super) enum Value {
    Integer(i128),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    Integers(Vec<i32>),
    Skipped,
}

/// What is wrong, before the path is known.
#[derive(Debug)]
pub(super) enum Fault {
    Io(std::io::Error),
    NotGguf(String),
    Version(u32),
    Truncated { expected: u64, actual: u64 },
    Malformed { at: u64, what: String },
}

impl Fault {
    pub(super) fn at_path(self, path: &Path) -> GgufError {
        let path = path.to_path_buf();
        match self {
            Self::Io(source) => GgufError::Io { path, source },
            Self::NotGguf(found) => GgufError::NotGguf { path, found },
            Self::Version(version) => GgufError::Version { path, version },
            Self::Truncated { expected, actual } => GgufError::Truncated {
                path,
                expected,
                actual,
            },
            Self::Malformed { at, what } => GgufError::Malformed { path, at, what },
        }
    }
}

/// The file, the bytes it has, the bytes that were read.
pub(super) struct Bounded<R> {
    source: R,
    len: u64,
    at: u64,
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(source: R, len: u64) -> Self {
        Self { source, len, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn malformed(&self, what: String) -> Fault {
        Fault::Malformed { at: self.at, what }
    }

    /// The first eight bytes: `GGUF` and the version.
    pub(super) fn magic(&mut self) -> Result<(), Fault> {
        let mut magic = [0; 4];
        if self.len < 4 {
            return Err(Fault::NotGguf(format!("{} bytes", self.len)));
        }
        self.fill(&mut magic)?;
        if &magic != b"GGUF" {
            return Err(Fault::NotGguf(magic.escape_ascii().to_string()));
        }
        match self.u32()? {
            2 | 3 => Ok(()),
            version => Err(Fault::Version(version)),
        }
    }

    /// A number of things that each take at least `each` bytes.
    pub(super) fn count(&mut self, max: u64, each: u64, what: &str) -> Result<u64, Fault> {
        let count = self.u64()?;
        if count > max {
            return Err(self.malformed(format!("{count} {what}, at most {max} are read")));
        }
        self.room(count.saturating_mul(each))?;
        Ok(count)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A text of at most `max` bytes; bytes that are not UTF-8 are replaced.
    pub(super) fn string(&mut self, max: u64) -> Result<String, Fault> {
        let len = self.u64()?;
        if len > max {
            return Err(self.malformed(format!("a text of {len} bytes, at most {max} are read")));
        }
        self.room(len)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.fill(&mut bytes)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A value of the type that stands before it; read past when it is not wanted.
    pub(super) fn value(&mut self, keep: bool) -> Result<Value, Fault> {
        let kind = self.u32()?;
        match kind {
            8 if keep => Ok(Value::String(self.string(TEXT_BYTES_MAX)?)),
            8 => self.skip_string(),
            9 => self.array(keep),
            _ => self.scalar(kind),
        }
    }

    fn array(&mut self, keep: bool) -> Result<Value, Fault> {
        let kind = self.u32()?;
        if kind == 8 {
            let count = self.count(u64::MAX, 8, "texts")?;
            if !keep {
                for _ in 0..count {
                    self.skip_string()?;
                }
                return Ok(Value::Skipped);
            }
            return self.strings(count);
        }
        let width = self.width(kind)?;
        let count = self.count(u64::MAX, width, "numbers")?;
        if keep && matches!(kind, 4 | 5) && count <= ITEMS_MAX {
            let mut numbers = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
            for _ in 0..count {
                numbers.push(self.u32()?.cast_signed());
            }
            return Ok(Value::Integers(numbers));
        }
        self.skip(count.saturating_mul(width))?;
        Ok(Value::Skipped)
    }

    fn strings(&mut self, count: u64) -> Result<Value, Fault> {
        if count > ITEMS_MAX {
            let what = format!("an array of {count} texts, at most {ITEMS_MAX} are read");
            return Err(self.malformed(what));
        }
        let start = self.at;
        let mut strings = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for _ in 0..count {
            strings.push(self.string(TOKEN_BYTES_MAX)?);
            if self.at - start > ARRAY_BYTES_MAX {
                return Err(self.malformed(format!("an array above {ARRAY_BYTES_MAX} bytes")));
            }
        }
        Ok(Value::Strings(strings))
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, Fault> {
        let width = usize::try_from(self.width(kind)?).unwrap_or(0);
        let mut bytes = [0; 8];
        self.fill(&mut bytes[..width])?;
        let unsigned = u64::from_le_bytes(bytes);
        let unused = 64 - 8 * u32::try_from(width).unwrap_or(8);
        let signed = (unsigned << unused).cast_signed() >> unused;
        Ok(match kind {
            0 | 2 | 4 | 10 => Value::Integer(unsigned.into()),
            1 | 3 | 5 | 11 => Value::Integer(signed.into()),
            7 => Value::Bool(unsigned != 0),
            _ => Value::Skipped,
        })
    }

    /// Bytes of one number of a kind.
    fn width(&self, kind: u32) -> Result<u64, Fault> {
        match kind {
            0 | 1 | 7 => Ok(1),
            2 | 3 => Ok(2),
            4..=6 => Ok(4),
            10..=12 => Ok(8),
            _ => Err(self.malformed(format!("value type {kind} is unknown"))),
        }
    }

    fn skip_string(&mut self) -> Result<Value, Fault> {
        let len = self.u64()?;
        self.skip(len)?;
        Ok(Value::Skipped)
    }

    fn skip(&mut self, len: u64) -> Result<(), Fault> {
        self.room(len)?;
        std::io::copy(&mut self.source.by_ref().take(len), &mut std::io::sink())
            .map_err(Fault::Io)?;
        self.at += len;
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        self.room(bytes.len() as u64)?;
        self.source.read_exact(bytes).map_err(Fault::Io)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// An error unless the file still has `len` bytes.
    fn room(&self, len: u64) -> Result<(), Fault> {
        let expected = self.at.saturating_add(len);
        if expected > self.len {
            return Err(Fault::Truncated {
                expected,
                actual: self.len,
            });
        }
        Ok(())
    }
}

//! The file of the weights: its header, and tensors read from it one by one.
//!
//! A safetensors file is eight bytes of header length, the header as JSON, and the tensors' bytes
//! (<https://huggingface.co/docs/safetensors>). What the network multiplies is read into memory. The
//! rows of the vocabulary are half of a small encoder and are looked up, a few at a time: they stay
//! in the file, which stays open ([`StoredRows`]).

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Error, Result, Tensor};
use serde::Deserialize;

use crate::LoadError;

/// The longest header of a safetensors file, as its own reader bounds it.
const HEADER_BYTES_MAX: u64 = 100 << 20;

/// Types of numbers that become `f32`.
const TYPES: &str = "F32, F16 or BF16";

/// An open file of weights.
#[derive(Debug)]
pub(super) struct TensorFile {
    path: PathBuf,
    file: File,
    /// By name, without the `bert.` that some files put before every name.
    tensors: HashMap<String, Stored>,
}

/// Where a tensor stands.
#[derive(Clone, Debug)]
struct Stored {
    dtype: String,
    shape: Vec<usize>,
    /// From the beginning of the file.
    at: u64,
    bytes: u64,
}

/// A tensor in the header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl TensorFile {
    /// Reads the header; an error when the file ends before its last tensor.
    pub(super) fn open(path: &Path) -> std::result::Result<Self, LoadError> {
        let io = |source| LoadError::Io {
            path: path.into(),
            source,
        };
        let damaged = |reason: String| LoadError::Damaged {
            path: path.into(),
            reason,
        };
        let mut file = File::open(path).map_err(io)?;
        let actual = file.metadata().map_err(io)?.len();
        let short = |expected| LoadError::Truncated {
            path: path.into(),
            expected,
            actual,
        };
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| short(8))?;
        let length = u64::from_le_bytes(length);
        if length > HEADER_BYTES_MAX {
            return Err(damaged(format!("a header of {length} bytes")));
        }
        let start = 8 + length;
        if start > actual {
            return Err(short(start));
        }
        let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut header).map_err(io)?;
        let header: HashMap<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let mut tensors = HashMap::with_capacity(header.len());
        let mut expected = start;
        for (name, entry) in header {
            if name == "__metadata__" {
                continue;
            }
            let entry: Entry = serde_json::from_value(entry)
                .map_err(|error| damaged(format!("tensor {name}: {error}")))?;
            let [from, to] = entry.data_offsets;
            let at = start.checked_add(from);
            let place = at.zip(start.checked_add(to)).zip(to.checked_sub(from));
            let ((at, end), bytes) =
                place.ok_or_else(|| damaged(format!("tensor {name} stands at {from} to {to}")))?;
            expected = expected.max(end);
            let name = name
                .strip_prefix("bert.")
                .map_or(name.clone(), str::to_owned);
            let stored = Stored {
                dtype: entry.dtype,
                shape: entry.shape,
                at,
                bytes,
            };
            tensors.insert(name, stored);
        }
        if expected > actual {
            return Err(short(expected));
        }
        Ok(Self {
            path: path.into(),
            file,
            tensors,
        })
    }

    /// An error unless the tensor is there in this shape, of numbers that can be read.
    pub(super) fn check(
        &self,
        name: String,
        expected: Vec<usize>,
    ) -> std::result::Result<(), LoadError> {
        let path = self.path.clone();
        let Some(stored) = self.tensors.get(&name) else {
            return Err(LoadError::NoTensor { path, tensor: name });
        };
        if stored.shape != expected {
            return Err(LoadError::Shape {
                path,
                tensor: name,
                found: stored.shape.clone(),
                expected,
            });
        }
        let Some(dtype) = dtype(&stored.dtype) else {
            return Err(LoadError::Unsupported {
                path,
                what: "the type of its numbers",
                found: stored.dtype.clone(),
                supported: TYPES,
            });
        };
        let bytes = expected.iter().product::<usize>() * dtype.size_in_bytes();
        if stored.bytes != bytes as u64 {
            let reason = format!("tensor {name} has {} bytes, not {bytes}", stored.bytes);
            return Err(LoadError::Damaged { path, reason });
        }
        Ok(())
    }

    /// A tensor as `f32`.
    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let stored = self.stored(name)?;
        let mut bytes = vec![0; usize::try_from(stored.bytes).map_err(Error::wrap)?];
        self.file.read_exact_at(&mut bytes, stored.at)?;
        numbers(&bytes, stored, &stored.shape)
    }

    /// A matrix whose rows stay in the file.
    pub(super) fn rows(&self, name: &str) -> Result<StoredRows> {
        Ok(StoredRows {
            file: self.file.try_clone()?,
            stored: self.stored(name)?.clone(),
        })
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        let stored = self.tensors.get(name);
        stored.ok_or_else(|| Error::msg(format!("no tensor {name}")))
    }
}

/// A matrix of which rows are read when they are wanted.
#[derive(Debug)]
pub(super) struct StoredRows {
    file: File,
    stored: Stored,
}

impl StoredRows {
    /// The rows of these numbers, as `f32`, in this order.
    pub(super) fn select(&self, numbers_of_rows: &[u32]) -> Result<Tensor> {
        let (count, width) = (self.stored.shape[0], self.stored.shape[1]);
        let length = usize::try_from(self.stored.bytes).map_err(Error::wrap)? / count.max(1);
        let mut bytes = vec![0; numbers_of_rows.len() * length];
        for (number, row) in numbers_of_rows
            .iter()
            .zip(bytes.chunks_exact_mut(length.max(1)))
        {
            if *number as usize >= count {
                return Err(Error::msg(format!("token {number} of {count}")));
            }
            let at = self.stored.at + u64::from(*number) * length as u64;
            self.file.read_exact_at(row, at)?;
        }
        numbers(&bytes, &self.stored, &[numbers_of_rows.len(), width])
    }
}

fn numbers(bytes: &[u8], stored: &Stored, shape: &[usize]) -> Result<Tensor> {
    let dtype = dtype(&stored.dtype).ok_or_else(|| Error::msg(&stored.dtype))?;
    Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu)?.to_dtype(DType::F32)
}

fn dtype(name: &str) -> Option<DType> {
    match name {
        "F32" => Some(DType::F32),
        "F16" => Some(DType::F16),
        "BF16" => Some(DType::BF16),
        _ => None,
    }
}

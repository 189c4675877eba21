//! The tensors of a GGUF file: how many weights they hold and how many bytes they take.
//!
//! Block sizes are those of ggml's type table (`ggml.c`, `type_traits`).

use std::collections::BTreeMap;
use std::io::Read;

use super::reader::{Bounded, Fault, KEY_BYTES_MAX};

/// More dimensions than ggml has.
const DIMENSIONS_MAX: u32 = 8;

/// What the tensor list adds up to.
pub(super) struct Tensors {
    /// Weights in all tensors.
    pub(super) parameters: u64,
    /// Bytes from the start of the data to the end of the last tensor.
    data_bytes: u64,
    /// Weights by ggml type.
    by_type: BTreeMap<u32, u64>,
}

impl Tensors {
    pub(super) fn read<R: Read>(input: &mut Bounded<R>, count: u64) -> Result<Self, Fault> {
        let mut all = Self {
            parameters: 0,
            data_bytes: 0,
            by_type: BTreeMap::new(),
        };
        for _ in 0..count {
            let name = input.string(KEY_BYTES_MAX)?;
            let dimensions = input.u32()?;
            if dimensions > DIMENSIONS_MAX {
                return Err(input.malformed(format!("tensor {name} has {dimensions} dimensions")));
            }
            let mut weights = 1_u64;
            for _ in 0..dimensions {
                weights = weights.saturating_mul(input.u64()?);
            }
            let kind = input.u32()?;
            let offset = input.u64()?;
            all.parameters = all.parameters.saturating_add(weights);
            let of_type = all.by_type.entry(kind).or_default();
            *of_type = of_type.saturating_add(weights);
            let end = offset.saturating_add(byte_size(kind, weights));
            all.data_bytes = all.data_bytes.max(end);
        }
        Ok(all)
    }

    /// An error unless the file holds every tensor.
    pub(super) fn check_fit<R: Read>(
        &self,
        input: &Bounded<R>,
        alignment: u64,
        bytes: u64,
    ) -> Result<(), Fault> {
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(input.malformed(format!("alignment {alignment} is no small power of two")));
        }
        let start = input.at().next_multiple_of(alignment);
        let expected = start.saturating_add(self.data_bytes);
        if self.data_bytes > 0 && expected > bytes {
            return Err(Fault::Truncated {
                expected,
                actual: bytes,
            });
        }
        Ok(())
    }

    /// The type that holds most of the weights.
    pub(super) fn main_type(&self) -> &'static str {
        let most = self.by_type.iter().max_by_key(|(_, weights)| **weights);
        most.map_or("unknown", |(kind, _)| tensor_type(*kind).0)
    }
}

/// Bytes of `weights` weights; 0 for a type that is not known here, so that the offset alone counts.
fn byte_size(kind: u32, weights: u64) -> u64 {
    let (_, block, bytes) = tensor_type(kind);
    weights.div_ceil(block).saturating_mul(bytes)
}

/// Name, weights in a block, bytes of a block.
fn tensor_type(kind: u32) -> (&'static str, u64, u64) {
    match kind {
        0 => ("F32", 1, 4),
        1 => ("F16", 1, 2),
        2 => ("Q4_0", 32, 18),
        3 => ("Q4_1", 32, 20),
        6 => ("Q5_0", 32, 22),
        7 => ("Q5_1", 32, 24),
        8 => ("Q8_0", 32, 34),
        9 => ("Q8_1", 32, 36),
        10 => ("Q2_K", 256, 84),
        11 => ("Q3_K", 256, 110),
        12 => ("Q4_K", 256, 144),
        13 => ("Q5_K", 256, 176),
        14 => ("Q6_K", 256, 210),
        15 => ("Q8_K", 256, 292),
        16 => ("IQ2_XXS", 256, 66),
        17 => ("IQ2_XS", 256, 74),
        18 => ("IQ3_XXS", 256, 98),
        19 => ("IQ1_S", 256, 50),
        20 => ("IQ4_NL", 32, 18),
        21 => ("IQ3_S", 256, 110),
        22 => ("IQ2_S", 256, 82),
        23 => ("IQ4_XS", 256, 136),
        24 => ("I8", 1, 1),
        25 => ("I16", 1, 2),
        26 => ("I32", 1, 4),
        27 => ("I64", 1, 8),
        28 => ("F64", 1, 8),
        29 => ("IQ1_M", 256, 56),
        30 => ("BF16", 1, 2),
        34 => ("TQ1_0", 256, 54),
        35 => ("TQ2_0", 256, 66),
        39 => ("MXFP4", 32, 17),
        _ => ("unknown", 1, 0),
    }
}

/// The name of a `general.file_type` (`llama.h`, `enum llama_ftype`).
pub(super) fn file_type(code: u64) -> Option<&'static str> {
    Some(match code {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}

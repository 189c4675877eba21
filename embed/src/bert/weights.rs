//! The weights of a BERT encoder: read, checked against the configuration, laid out for evaluation.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};

use super::{BertConfig, Layer, Linear, Norm};
use crate::LoadError;

/// The longest header of a safetensors file, as its own reader bounds it.
const HEADER_BYTES_MAX: u64 = 100 << 20;

/// Tensors by name, without the `bert.` that some files put before every name.
pub(super) struct Weights {
    tensors: HashMap<String, Tensor>,
    eps: f64,
    heads: usize,
}

impl Weights {
    pub(super) fn read(path: &Path, config: &BertConfig) -> std::result::Result<Self, LoadError> {
        check_whole(path)?;
        let damaged = |error: candle_core::Error| LoadError::Damaged {
            path: path.into(),
            reason: error.to_string(),
        };
        let named = candle_core::safetensors::load(path, &Device::Cpu).map_err(damaged)?;
        let plain = |name: String| {
            name.strip_prefix("bert.")
                .map_or(name.clone(), str::to_owned)
        };
        let tensors = named
            .into_iter()
            .map(|(name, tensor)| (plain(name), tensor))
            .collect();
        Ok(Self {
            tensors,
            eps: config.layer_norm_eps,
            heads: config.num_attention_heads,
        })
    }

    /// An error unless every tensor is there in the shape that the configuration asks for.
    pub(super) fn check_complete(
        &self,
        path: &Path,
        config: &BertConfig,
    ) -> std::result::Result<(), LoadError> {
        for (name, expected) in shapes(config) {
            let Some(tensor) = self.tensors.get(&name) else {
                return Err(LoadError::NoTensor {
                    path: path.into(),
                    tensor: name,
                });
            };
            if tensor.dims() != expected {
                return Err(LoadError::Shape {
                    path: path.into(),
                    tensor: name,
                    found: tensor.dims().to_vec(),
                    expected,
                });
            }
        }
        Ok(())
    }

    /// One tensor as `f32`, out of the map.
    pub(super) fn take(&mut self, name: &str) -> Result<Tensor> {
        let tensor = self.tensors.remove(name);
        tensor
            .ok_or_else(|| candle_core::Error::msg(name))?
            .to_dtype(DType::F32)
    }

    pub(super) fn norm(&mut self, name: &str) -> Result<Norm> {
        Ok(Norm {
            weight: self.take(&format!("{name}.weight"))?,
            bias: self.take(&format!("{name}.bias"))?,
            eps: self.eps as f32,
        })
    }

    /// Stored as `[out, in]`, wanted as `[in, out]`.
    fn linear(&mut self, name: &str) -> Result<Linear> {
        let weight = self.take(&format!("{name}.weight"))?.t()?.contiguous()?;
        Ok(Linear {
            weight,
            bias: self.take(&format!("{name}.bias"))?.to_vec1()?,
        })
    }

    pub(super) fn layer(&mut self, index: usize) -> Result<Layer> {
        let layer = format!("encoder.layer.{index}");
        let query = self.linear(&format!("{layer}.attention.self.query"))?;
        let key = self.linear(&format!("{layer}.attention.self.key"))?;
        let value = self.linear(&format!("{layer}.attention.self.value"))?;
        let scale = ((query.bias.len() / self.heads) as f32).sqrt().recip();
        let scaled = |numbers: Vec<f32>| numbers.into_iter().map(|x| x * scale).collect::<Vec<_>>();
        let weight = scaled(query.weight.flatten_all()?.to_vec1()?);
        let weight = Tensor::from_vec(weight, query.weight.shape(), &Device::Cpu)?;
        let qkv = Linear {
            weight: Tensor::cat(&[&weight, &key.weight, &value.weight], 1)?,
            bias: [scaled(query.bias), key.bias, value.bias].concat(),
        };
        Ok(Layer {
            qkv,
            output: self.linear(&format!("{layer}.attention.output.dense"))?,
            output_norm: self.norm(&format!("{layer}.attention.output.LayerNorm"))?,
            widen: self.linear(&format!("{layer}.intermediate.dense"))?,
            narrow: self.linear(&format!("{layer}.output.dense"))?,
            narrow_norm: self.norm(&format!("{layer}.output.LayerNorm"))?,
        })
    }
}

/// Every tensor that is used, with its shape as stored.
fn shapes(config: &BertConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let mut all: Vec<(String, Vec<usize>)> = vec![
        (
            "embeddings.word_embeddings.weight".into(),
            vec![config.vocab_size, hidden],
        ),
        (
            "embeddings.position_embeddings.weight".into(),
            vec![config.max_position_embeddings, hidden],
        ),
        (
            "embeddings.token_type_embeddings.weight".into(),
            vec![2, hidden],
        ),
        ("embeddings.LayerNorm.weight".into(), vec![hidden]),
        ("embeddings.LayerNorm.bias".into(), vec![hidden]),
    ];
    for index in 0..config.num_hidden_layers {
        let parts = [
            ("attention.self.query", hidden, Some(hidden)),
            ("attention.self.key", hidden, Some(hidden)),
            ("attention.self.value", hidden, Some(hidden)),
            ("attention.output.dense", hidden, Some(hidden)),
            ("attention.output.LayerNorm", hidden, None),
            ("intermediate.dense", wide, Some(hidden)),
            ("output.dense", hidden, Some(wide)),
            ("output.LayerNorm", hidden, None),
        ];
        for (part, out, input) in parts {
            let name = format!("encoder.layer.{index}.{part}");
            let weight = [Some(out), input].into_iter().flatten().collect();
            all.push((format!("{name}.weight"), weight));
            all.push((format!("{name}.bias"), vec![out]));
        }
    }
    all
}

/// An error when the file ends before its last tensor: eight bytes of header length, the header
/// as JSON, the data (<https://huggingface.co/docs/safetensors>).
fn check_whole(path: &Path) -> std::result::Result<(), LoadError> {
    let io = |source| LoadError::Io {
        path: path.into(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let actual = file.metadata().map_err(io)?.len();
    let short = |expected| LoadError::Truncated {
        path: path.into(),
        expected,
        actual,
    };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| short(8))?;
    let length = u64::from_le_bytes(length);
    let damaged = |reason| LoadError::Damaged {
        path: path.into(),
        reason,
    };
    if length > HEADER_BYTES_MAX {
        return Err(damaged(format!("a header of {length} bytes")));
    }
    if 8 + length > actual {
        return Err(short(8 + length));
    }
    let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact(&mut header).map_err(io)?;
    let header: HashMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let ends = header
        .values()
        .filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    let expected = ends.max().unwrap_or(0).saturating_add(8 + length);
    if expected > actual {
        Err(short(expected))
    } else {
        Ok(())
    }
}

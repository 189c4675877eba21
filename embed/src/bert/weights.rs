//! The weights of a BERT encoder: checked against the configuration, read (`bert/file.rs`), laid out for evaluation.

use std::path::Path;

use candle_core::{Device, Result, Tensor};

use super::file::{StoredRows, TensorFile};
use super::{BertConfig, Layer, Linear, Norm};
use crate::LoadError;

/// The tensors of a file whose shapes are those of the configuration.
pub(super) struct Weights {
    file: TensorFile,
    eps: f64,
    heads: usize,
}

impl Weights {
    /// An error unless every tensor is there in the shape that the configuration asks for.
    pub(super) fn open(path: &Path, config: &BertConfig) -> std::result::Result<Self, LoadError> {
        let file = TensorFile::open(path)?;
        for (name, expected) in shapes(config) {
            file.check(name, expected)?;
        }
        Ok(Self {
            file,
            eps: config.layer_norm_eps,
            heads: config.num_attention_heads,
        })
    }

    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        self.file.read(name)
    }

    pub(super) fn rows(&self, name: &str) -> Result<StoredRows> {
        self.file.rows(name)
    }

    pub(super) fn norm(&self, name: &str) -> Result<Norm> {
        Ok(Norm {
            weight: self.read(&format!("{name}.weight"))?,
            bias: self.read(&format!("{name}.bias"))?,
            eps: self.eps as f32,
        })
    }

    /// Stored as `[out, in]`, wanted as `[in, out]`.
    fn linear(&self, name: &str) -> Result<Linear> {
        let weight = self.read(&format!("{name}.weight"))?.t()?.contiguous()?;
        Ok(Linear {
            weight,
            bias: self.read(&format!("{name}.bias"))?.to_vec1()?,
        })
    }

    pub(super) fn layer(&self, index: usize) -> Result<Layer> {
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

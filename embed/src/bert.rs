//! A BERT encoder, as small as the sentence embedders of its family allow.
//!
//! Inputs are packed: the tokens of all texts stand in one `[tokens, hidden]` matrix for the linear
//! layers, and attention runs per text on its own rows. Nothing is padded and nothing is masked, so
//! a text's vector does not depend on its neighbours in the batch. The shapes of weights are
//! checked at load (`bert/weights.rs`), after which evaluation fails only on exhausted memory or a file
//! that was cut short meanwhile.
//!
//! Devlin et al., BERT, <https://arxiv.org/abs/1810.04805>; Reimers and Gurevych, Sentence-BERT,
//! <https://arxiv.org/abs/1908.10084>.

mod file;
mod rows;
mod weights;

use std::path::Path;

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use serde::Deserialize;

use crate::LoadError;
use file::StoredRows;
use rows::{AddBias, AddRows, BiasGelu};
use weights::Weights;

/// What `config.json` says about the network.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) max_position_embeddings: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    layer_norm_eps: f64,
    hidden_act: String,
    model_type: String,
}

impl BertConfig {
    pub(crate) fn read(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read(path).map_err(|source| LoadError::Io {
            path: path.into(),
            source,
        })?;
        let config: Self = serde_json::from_slice(&text).map_err(|error| LoadError::Damaged {
            path: path.into(),
            reason: error.to_string(),
        })?;
        let unsupported = |what, found: &dyn ToString, supported| {
            let (path, found) = (path.to_path_buf(), found.to_string());
            Err(LoadError::Unsupported {
                path,
                what,
                found,
                supported,
            })
        };
        if config.model_type != "bert" {
            return unsupported("model_type", &config.model_type, "bert");
        }
        if config.hidden_act != "gelu" {
            return unsupported("hidden_act", &config.hidden_act, "gelu");
        }
        let heads = config.num_attention_heads;
        if heads == 0 || !config.hidden_size.is_multiple_of(heads) {
            return unsupported("num_attention_heads", &heads, "a divisor of hidden_size");
        }
        Ok(config)
    }
}

/// The encoder.
pub(crate) struct Bert {
    /// `[vocabulary, hidden]`
    words: StoredRows,
    /// `[positions, hidden]`
    positions: Tensor,
    /// `[hidden]`, the type of a first sentence.
    sentence: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    hidden: usize,
}

struct Layer {
    /// Query, key and value side by side, `[hidden, 3 hidden]`; the query is already divided by
    /// the root of the head size.
    qkv: Linear,
    output: Linear,
    output_norm: Norm,
    widen: Linear,
    narrow: Linear,
    narrow_norm: Norm,
}

/// Weight `[in, out]` and bias `[out]`.
struct Linear {
    weight: Tensor,
    bias: Vec<f32>,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl Norm {
    fn forward(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        layer_norm(rows, &self.weight, &self.bias, self.eps)
    }
}

impl Bert {
    pub(crate) fn load(path: &Path, config: &BertConfig) -> Result<Self, LoadError> {
        let weights = Weights::open(path, config)?;
        let damaged = |error: candle_core::Error| LoadError::Damaged {
            path: path.into(),
            reason: error.to_string(),
        };
        Self::assemble(&weights, config).map_err(damaged)
    }

    fn assemble(weights: &Weights, config: &BertConfig) -> candle_core::Result<Self> {
        let types = weights.read("embeddings.token_type_embeddings.weight")?;
        let layers = (0..config.num_hidden_layers)
            .map(|layer| weights.layer(layer))
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Self {
            words: weights.rows("embeddings.word_embeddings.weight")?,
            positions: weights.read("embeddings.position_embeddings.weight")?,
            sentence: types.get(0)?.to_vec1()?,
            norm: weights.norm("embeddings.LayerNorm")?,
            layers,
            heads: config.num_attention_heads,
            hidden: config.hidden_size,
        })
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.hidden
    }

    /// One vector of unit length for each list of token ids; no list is empty.
    pub(crate) fn embed(&self, inputs: &[Vec<u32>]) -> candle_core::Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = inputs.iter().map(Vec::len).collect();
        let ids = inputs.concat();
        let places = lengths
            .iter()
            .flat_map(|len| 0..u32::try_from(*len).unwrap_or(u32::MAX));
        let places: Vec<u32> = places.collect();
        let places = Tensor::from_vec(places, ids.len(), &Device::Cpu)?;
        let words = self.words.select(&ids)?;
        let positions = self.positions.index_select(&places, 0)?;
        words.inplace_op2(&positions, &AddRows(&self.sentence))?;
        let mut hidden = self.norm.forward(&words)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &lengths, self.heads)?;
        }
        let mut vectors = Vec::with_capacity(inputs.len());
        let mut start = 0;
        for len in lengths {
            let mean = hidden.narrow(0, start, len)?.mean(0)?.to_vec1::<f32>()?;
            vectors.push(unit(mean));
            start += len;
        }
        Ok(vectors)
    }
}

impl Layer {
    fn forward(
        &self,
        rows: &Tensor,
        lengths: &[usize],
        heads: usize,
    ) -> candle_core::Result<Tensor> {
        let qkv = rows.matmul(&self.qkv.weight)?;
        qkv.inplace_op1(&AddBias(&self.qkv.bias))?;
        let mut attended = Vec::with_capacity(lengths.len());
        let mut start = 0;
        for len in lengths {
            attended.push(attend(&qkv.narrow(0, start, *len)?, heads)?);
            start += len;
        }
        let attended = Tensor::cat(&attended, 0)?;
        let mixed = attended.matmul(&self.output.weight)?;
        mixed.inplace_op2(rows, &AddRows(&self.output.bias))?;
        let rows = self.output_norm.forward(&mixed)?;
        let wide = rows.matmul(&self.widen.weight)?;
        wide.inplace_op1(&BiasGelu(&self.widen.bias))?;
        let narrow = wide.matmul(&self.narrow.weight)?;
        narrow.inplace_op2(&rows, &AddRows(&self.narrow.bias))?;
        self.narrow_norm.forward(&narrow)
    }
}

/// Scaled dot-product attention of one text: `[tokens, 3 hidden]` to `[tokens, hidden]`.
fn attend(qkv: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let (tokens, triple) = qkv.dims2()?;
    let hidden = triple / 3;
    // `[heads, tokens, head]`, a view: the rows stay where they are.
    let part = |index: usize| {
        let part = qkv.narrow(1, index * hidden, hidden)?;
        part.reshape((tokens, heads, hidden / heads))?
            .transpose(0, 1)?
            .contiguous()
    };
    let scores = part(0)?.matmul(&part(1)?.transpose(D::Minus2, D::Minus1)?)?;
    let mixed = softmax_last_dim(&scores)?.matmul(&part(2)?)?;
    mixed.transpose(0, 1)?.reshape((tokens, hidden))
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x /= norm);
    vector
}

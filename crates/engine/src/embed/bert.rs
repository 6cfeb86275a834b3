//! A BERT encoder: tokens in, one vector of length 1 for each text out.

use std::{collections::HashMap, path::Path};

use candle_core::{D, DType, Device, IndexOp, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

/// Attention heads of the models of this kind (MiniLM and BERT base alike); the weights do not tell.
const HEADS: usize = 12;
const NORM_EPSILON: f32 = 1e-12;

/// The weights.
pub(super) struct Bert {
    words: Tensor,
    positions: Tensor,
    kind: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

struct Linear {
    /// Transposed once, so that no step has to.
    weight: Tensor,
    bias: Tensor,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    output_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

impl Norm {
    fn load(weights: &HashMap<String, Tensor>, name: &str) -> Result<Self> {
        Ok(Self {
            weight: take(weights, &format!("{name}.weight"))?,
            bias: take(weights, &format!("{name}.bias"))?,
        })
    }

    fn apply(&self, input: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(&input.contiguous()?, &self.weight, &self.bias, NORM_EPSILON)
    }
}

impl Linear {
    fn load(weights: &HashMap<String, Tensor>, name: &str) -> Result<Self> {
        Ok(Self {
            weight: take(weights, &format!("{name}.weight"))?
                .t()?
                .contiguous()?,
            bias: take(weights, &format!("{name}.bias"))?,
        })
    }

    fn apply(&self, input: &Tensor) -> Result<Tensor> {
        let (texts, tokens, width) = input.dims3()?;
        let out = self.weight.dim(1)?;
        input
            .reshape((texts * tokens, width))?
            .matmul(&self.weight)?
            .broadcast_add(&self.bias)?
            .reshape((texts, tokens, out))
    }
}

fn take(weights: &HashMap<String, Tensor>, name: &str) -> Result<Tensor> {
    weights
        .get(name)
        .ok_or_else(|| candle_core::Error::Msg(format!("weight {name} is missing")))?
        .to_dtype(DType::F32)
}

impl Layer {
    fn load(weights: &HashMap<String, Tensor>, at: usize) -> Result<Self> {
        let linear = |name: &str| Linear::load(weights, &format!("encoder.layer.{at}.{name}"));
        let norm = |name: &str| Norm::load(weights, &format!("encoder.layer.{at}.{name}"));
        Ok(Self {
            query: linear("attention.self.query")?,
            key: linear("attention.self.key")?,
            value: linear("attention.self.value")?,
            output: linear("attention.output.dense")?,
            output_norm: norm("attention.output.LayerNorm")?,
            up: linear("intermediate.dense")?,
            down: linear("output.dense")?,
            down_norm: norm("output.LayerNorm")?,
        })
    }

    fn apply(&self, input: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (texts, tokens, width) = input.dims3()?;
        let split = |tensor: Tensor| {
            tensor
                .reshape((texts, tokens, HEADS, width / HEADS))?
                .transpose(1, 2)?
                .contiguous()
        };
        let query = split(self.query.apply(input)?)?;
        let key = split(self.key.apply(input)?)?;
        let value = split(self.value.apply(input)?)?;
        #[expect(clippy::cast_precision_loss, reason = "a width of some dozens")]
        let scale = 1.0 / ((width / HEADS) as f64).sqrt();
        let scores = (query.matmul(&key.t()?.contiguous()?)? * scale)?.broadcast_add(mask)?;
        let mixed = softmax_last_dim(&scores)?
            .matmul(&value)?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((texts, tokens, width))?;
        let attended = self
            .output_norm
            .apply(&(self.output.apply(&mixed)? + input)?)?;
        let widened = self.up.apply(&attended)?.gelu_erf()?;
        self.down_norm
            .apply(&(self.down.apply(&widened)? + attended)?)
    }
}

impl Bert {
    /// Reads the weights.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let weights = candle_core::safetensors::load(path, &Device::Cpu)?;
        let layers = (0..)
            .take_while(|at| {
                weights.contains_key(&format!("encoder.layer.{at}.attention.self.query.weight"))
            })
            .map(|at| Layer::load(&weights, at))
            .collect::<Result<Vec<_>>>()?;
        if layers.is_empty() {
            candle_core::bail!("no encoder layers in the file");
        }
        Ok(Self {
            words: take(&weights, "embeddings.word_embeddings.weight")?,
            positions: take(&weights, "embeddings.position_embeddings.weight")?,
            kind: take(&weights, "embeddings.token_type_embeddings.weight")?.i(0)?,
            norm: Norm::load(&weights, "embeddings.LayerNorm")?,
            layers,
        })
    }

    /// One vector for each text: the mean over its tokens, scaled to length 1.
    pub(super) fn embed(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>> {
        let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0).max(1);
        let mut ids = Vec::with_capacity(texts.len() * longest);
        let mut present = Vec::with_capacity(texts.len() * longest);
        for text in texts {
            ids.extend_from_slice(text);
            ids.resize(ids.len() + longest - text.len(), 0);
            present.resize(present.len() + text.len(), 1_f32);
            present.resize(present.len() + longest - text.len(), 0_f32);
        }
        let ids = Tensor::from_vec(ids, texts.len() * longest, &Device::Cpu)?;
        let present = Tensor::from_vec(present, (texts.len(), longest), &Device::Cpu)?;
        let width = self.words.dim(1)?;
        let mut hidden = self
            .words
            .index_select(&ids, 0)?
            .reshape((texts.len(), longest, width))?
            .broadcast_add(&self.positions.narrow(0, 0, longest)?)?
            .broadcast_add(&self.kind)?;
        hidden = self.norm.apply(&hidden)?;
        // 0 where there is a token, a very large negative number where there is none.
        let mask = ((&present - 1.0)? * 1e9)?.unsqueeze(1)?.unsqueeze(1)?;
        for layer in &self.layers {
            hidden = layer.apply(&hidden, &mask)?;
        }
        let weight = present.unsqueeze(D::Minus1)?;
        let sum = hidden.broadcast_mul(&weight)?.sum(1)?;
        let mean = sum.broadcast_div(&weight.sum(1)?)?;
        let length = mean.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        mean.broadcast_div(&(length + 1e-12)?)?.to_vec2()
    }
}

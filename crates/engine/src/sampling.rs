//! Choosing the next token.
//!
//! The order is Ollama's: penalties, `top_k`, temperature, `top_p`, `min_p`, draw. Randomness is a function of
//! the seed and of how many tokens the answer already has, so an answer that is continued elsewhere with
//! its exact tokens goes on with the very draws it would have had.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
};

use jarvis_protocol::ollama::Options;
use llama_cpp_2::token::{LlamaToken, data::LlamaTokenData, data_array::LlamaTokenDataArray};

use crate::{error::EngineError, grammar::Grammar};

/// The settings of one request, complete.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SamplingParams {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_last_n: usize,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    seed: u64,
}

impl SamplingParams {
    /// Takes what is given and fills in Ollama's defaults.
    ///
    /// # Errors
    /// A value that is no number or out of its range.
    pub(crate) fn new(options: &Options) -> Result<Self, EngineError> {
        Ok(Self {
            temperature: within("temperature", options.temperature, 0.8, 0.0, 100.0)?,
            top_k: usize::try_from(options.top_k.unwrap_or(40).max(0)).unwrap_or(0),
            top_p: within("top_p", options.top_p, 0.9, 0.0, 1.0)?,
            min_p: within("min_p", options.min_p, 0.0, 0.0, 1.0)?,
            repeat_last_n: match options.repeat_last_n.unwrap_or(64) {
                -1 => usize::MAX,
                n => usize::try_from(n)
                    .map_err(|_| EngineError::BadRequest(format!("invalid repeat_last_n {n}")))?,
            },
            repeat_penalty: within("repeat_penalty", options.repeat_penalty, 1.1, 0.01, 100.0)?,
            presence_penalty: within(
                "presence_penalty",
                options.presence_penalty,
                0.0,
                -100.0,
                100.0,
            )?,
            frequency_penalty: within(
                "frequency_penalty",
                options.frequency_penalty,
                0.0,
                -100.0,
                100.0,
            )?,
            seed: match options.seed {
                Some(seed) if seed >= 0 => seed.unsigned_abs(),
                _ => RandomState::new().build_hasher().finish(),
            },
        })
    }

    fn penalises(&self) -> bool {
        self.repeat_last_n > 0
            && (self.repeat_penalty.to_bits() != 1.0_f32.to_bits()
                || self.presence_penalty != 0.0
                || self.frequency_penalty != 0.0)
    }
}

fn within(
    name: &str,
    value: Option<f32>,
    default: f32,
    low: f32,
    high: f32,
) -> Result<f32, EngineError> {
    let value = value.unwrap_or(default);
    if value.is_finite() && (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(EngineError::BadRequest(format!(
            "invalid {name} {value}: expected {low} to {high}"
        )))
    }
}

/// Buffers that are used again for every token.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    logits: Vec<f32>,
    recent: Vec<i32>,
    heap: BinaryHeap<Candidate>,
    candidates: Vec<Candidate>,
}

/// Ordered so that the heap's top is the *worst* one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    logit: f32,
    id: i32,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .logit
            .total_cmp(&self.logit)
            .then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Scratch {
    /// The next token, by the model's `logits`, the tokens before it and `drawn`, the number of tokens the
    /// answer already has. With a grammar the token is one it allows; the grammar has then moved on.
    ///
    /// # Errors
    /// The grammar broke (a fault of the grammar, not of the request's other settings).
    pub(crate) fn sample(
        &mut self,
        params: &SamplingParams,
        logits: &[f32],
        before: &[LlamaToken],
        drawn: u64,
        grammar: Option<&mut Grammar>,
    ) -> Result<LlamaToken, EngineError> {
        let penalised = params.penalises();
        if penalised || grammar.is_some() {
            self.logits.clear();
            self.logits.extend_from_slice(logits);
        }
        if penalised {
            self.penalise(params, before);
        }
        let Some(grammar) = grammar else {
            let token = if penalised {
                let own = std::mem::take(&mut self.logits);
                let token = self.choose(params, &own, drawn);
                self.logits = own;
                token
            } else {
                self.choose(params, logits, drawn)
            };
            return Ok(token);
        };
        let mut own = std::mem::take(&mut self.logits);
        let mut token = self.choose(params, &own, drawn);
        if !grammar.allows(token) {
            let mut all = LlamaTokenDataArray::from_iter(
                (0..)
                    .zip(&own)
                    .map(|(id, logit)| LlamaTokenData::new(LlamaToken(id), *logit, 0.0)),
                false,
            );
            grammar.mask(&mut all);
            for candidate in &all.data {
                if let Ok(at) = usize::try_from(candidate.id().0) {
                    own[at] = candidate.logit();
                }
            }
            token = self.choose(params, &own, drawn);
        }
        self.logits = own;
        grammar.accept(token)?;
        Ok(token)
    }

    fn penalise(&mut self, params: &SamplingParams, before: &[LlamaToken]) {
        let from = before.len().saturating_sub(params.repeat_last_n);
        self.recent.clear();
        self.recent
            .extend(before[from..].iter().map(|token| token.0));
        self.recent.sort_unstable();
        for same in self.recent.chunk_by(|a, b| a == b) {
            let Some(logit) = usize::try_from(same[0])
                .ok()
                .and_then(|at| self.logits.get_mut(at))
            else {
                continue;
            };
            if *logit > 0.0 {
                *logit /= params.repeat_penalty;
            } else {
                *logit *= params.repeat_penalty;
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "a count of tokens in the window"
            )]
            let count = same.len() as f32;
            *logit -= count * params.frequency_penalty + params.presence_penalty;
        }
    }

    fn choose(&mut self, params: &SamplingParams, logits: &[f32], drawn: u64) -> LlamaToken {
        if params.temperature <= 0.0 || params.top_k == 1 {
            return likeliest(logits);
        }
        self.best(params.top_k, logits);
        let candidates = &mut self.candidates;
        let top = candidates.first().map_or(0.0, |best| best.logit);
        let mut sum = 0.0;
        for candidate in candidates.iter_mut() {
            candidate.logit = ((candidate.logit - top) / params.temperature).exp();
            sum += candidate.logit;
        }
        let keep = nucleus(candidates, params, sum);
        candidates.truncate(keep);
        let kept: f32 = candidates.iter().map(|candidate| candidate.logit).sum();
        let mut left = uniform(params.seed, drawn) * kept;
        for candidate in candidates.iter() {
            left -= candidate.logit;
            if left < 0.0 {
                return LlamaToken(candidate.id);
            }
        }
        LlamaToken(candidates.last().map_or(0, |last| last.id))
    }

    /// The `top_k` likeliest (0: all), best first, ties by id, into `self.candidates`.
    fn best(&mut self, top_k: usize, logits: &[f32]) {
        self.candidates.clear();
        let all = (0..)
            .zip(logits)
            .map(|(id, logit)| Candidate { logit: *logit, id });
        if top_k == 0 || top_k >= logits.len() {
            self.candidates
                .extend(all.filter(|c| c.logit > f32::NEG_INFINITY));
        } else {
            self.heap.clear();
            let mut bar = f32::NEG_INFINITY;
            for candidate in all {
                if candidate.logit > bar {
                    if self.heap.len() == top_k {
                        self.heap.pop();
                    }
                    self.heap.push(candidate);
                    if self.heap.len() == top_k {
                        bar = self.heap.peek().map_or(bar, |worst| worst.logit);
                    }
                }
            }
            self.candidates.extend(self.heap.drain());
        }
        self.candidates.sort_unstable();
    }
}

/// How many of the sorted candidates `top_p` and `min_p` leave; at least one.
fn nucleus(candidates: &[Candidate], params: &SamplingParams, sum: f32) -> usize {
    let mut keep = candidates.len();
    if params.top_p < 1.0 {
        let mut mass = 0.0;
        keep = candidates
            .iter()
            .position(|candidate| {
                mass += candidate.logit;
                mass >= params.top_p * sum
            })
            .map_or(keep, |at| at + 1);
    }
    let floor = candidates.first().map_or(0.0, |best| best.logit) * params.min_p;
    candidates[..keep]
        .iter()
        .take_while(|candidate| candidate.logit >= floor)
        .count()
        .max(1)
}

fn likeliest(logits: &[f32]) -> LlamaToken {
    // Two passes: the first one is a plain maximum that the compiler vectorises.
    let best = logits
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let at = logits
        .iter()
        .position(|logit| logit.to_bits() == best.to_bits())
        .unwrap_or(0);
    LlamaToken(i32::try_from(at).unwrap_or(0))
}

/// A number in [0, 1) that depends on nothing but its arguments (`SplitMix64`).
fn uniform(seed: u64, index: u64) -> f32 {
    let mut x = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32 exactly")]
    let unit = (x >> 40) as f32 / 16_777_216.0;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(options: &Options) -> SamplingParams {
        SamplingParams::new(options).unwrap()
    }

    fn draw(options: &Options, logits: &[f32], before: &[i32], drawn: u64) -> i32 {
        let before: Vec<_> = before.iter().copied().map(LlamaToken).collect();
        Scratch::default()
            .sample(&params(options), logits, &before, drawn, None)
            .unwrap()
            .0
    }

    #[test]
    fn temperature_zero_takes_the_likeliest() {
        let options = Options {
            temperature: Some(0.0),
            ..Options::default()
        };
        assert_eq!(draw(&options, &[0.0, 3.0, 3.0, -1.0], &[], 0), 1);
        assert_eq!(draw(&options, &[-3.0, -2.0, -f32::INFINITY], &[], 0), 1);
    }

    #[test]
    fn repetition_is_penalised_only_inside_its_window() {
        let options = Options {
            temperature: Some(0.0),
            repeat_penalty: Some(2.0),
            repeat_last_n: Some(1),
            ..Options::default()
        };
        assert_eq!(draw(&options, &[3.0, 2.0], &[1, 0], 0), 1);
        assert_eq!(draw(&options, &[3.0, 2.0], &[0, 1], 0), 0);
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_the_tail() {
        let logits: Vec<f32> = [5.0, 4.9, 1.0, 0.5].into();
        for (options, most) in [
            (
                Options {
                    top_k: Some(2),
                    top_p: Some(1.0),
                    ..Options::default()
                },
                1,
            ),
            (
                Options {
                    top_k: Some(0),
                    top_p: Some(0.6),
                    temperature: Some(1.0),
                    ..Options::default()
                },
                1,
            ),
            (
                Options {
                    top_k: Some(0),
                    top_p: Some(1.0),
                    min_p: Some(0.5),
                    ..Options::default()
                },
                1,
            ),
            (
                Options {
                    top_p: Some(0.0),
                    ..Options::default()
                },
                0,
            ),
        ] {
            for drawn in 0..200 {
                let options = Options {
                    seed: Some(7),
                    ..options.clone()
                };
                assert!(draw(&options, &logits, &[], drawn) <= most, "{options:?}");
            }
        }
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let options = Options {
            temperature: Some(1.0),
            top_k: Some(0),
            top_p: Some(1.0),
            seed: Some(1),
            ..Options::default()
        };
        let logits = [0.7_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()];
        let mut counts = [0_u32; 3];
        for drawn in 0..10_000 {
            counts[usize::try_from(draw(&options, &logits, &[], drawn)).unwrap()] += 1;
        }
        assert!((6_800..7_200).contains(&counts[0]), "{counts:?}");
        assert!((1_850..2_150).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        for options in [
            Options {
                temperature: Some(-1.0),
                ..Options::default()
            },
            Options {
                temperature: Some(f32::NAN),
                ..Options::default()
            },
            Options {
                top_p: Some(1.5),
                ..Options::default()
            },
            Options {
                repeat_penalty: Some(0.0),
                ..Options::default()
            },
            Options {
                repeat_last_n: Some(-2),
                ..Options::default()
            },
        ] {
            assert!(SamplingParams::new(&options).is_err(), "{options:?}");
        }
    }
}

//! What the bare library does: llama.cpp's decode loop without server, slots, sampling chain or text. The engine is
//! measured against it (`bench/engine.py`):
//! `bare_decode MODEL THREADS SEQUENCES TOKENS unified|streams PROMPT`.
//!
//! Computes PROMPT once for every sequence, then TOKENS steps of one token for each, greedily, whatever the model
//! says about the end. `unified`: all sequences in one cache, as the engine has it; `streams`: one cache each.
//! Prints one line of JSON.

use std::{error::Error, num::NonZeroU32, time::Instant};

use llama_cpp_2::{
    LogOptions,
    context::{LlamaContext, params::LlamaContextParams},
    llama_backend::LlamaBackend,
    llama_batch::LlamaBatch,
    model::{LlamaModel, params::LlamaModelParams},
    send_logs_to_tracing,
    token::LlamaToken,
};

const USAGE: &str = "bare_decode MODEL THREADS SEQUENCES TOKENS unified|streams PROMPT";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, threads, sequences, tokens, layout, prompt] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let (threads, sequences, tokens): (i32, i32, i32) =
        (threads.parse()?, sequences.parse()?, tokens.parse()?);
    let unified = match layout.as_str() {
        "unified" => true,
        "streams" => false,
        _ => return Err(USAGE.into()),
    };
    send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
    let backend = LlamaBackend::init()?;
    let model = LlamaModel::load_from_file(&backend, model, &LlamaModelParams::default())?;
    let prompt = model.vocab().tokenize(prompt.as_bytes(), true, true);
    let cells = u32::try_from(prompt.len())? + u32::try_from(tokens)?;
    let cells = cells.next_multiple_of(256) * u32::try_from(sequences)?;
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(cells))
        .with_n_seq_max(u32::try_from(sequences)?)
        .with_kv_unified(unified)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_no_perf(true);
    let mut context = model.new_context(&backend, params)?;
    let mut next = prefill(&mut context, &prompt, sequences)?;
    let began = Instant::now();
    let from = i32::try_from(prompt.len())?;
    decode(&mut context, &mut next, from..from + tokens)?;
    let seconds = began.elapsed().as_secs_f64();
    let computed = i64::from(sequences) * i64::from(tokens);
    println!(
        r#"{{"prompt_tokens": {}, "tokens": {computed}, "seconds": {seconds:.6}}}"#,
        prompt.len()
    );
    Ok(())
}

/// Computes the prompt of every sequence; the tokens that follow.
fn prefill(
    context: &mut LlamaContext<'_>,
    prompt: &[LlamaToken],
    sequences: i32,
) -> Result<Vec<LlamaToken>, Box<dyn Error>> {
    let mut next = Vec::new();
    let mut batch = LlamaBatch::new(prompt.len(), 1);
    for sequence in 0..sequences {
        batch.clear();
        for (position, token) in (0..).zip(prompt) {
            let last = usize::try_from(position)? + 1 == prompt.len();
            batch.add(*token, position, &[sequence], last)?;
        }
        context.decode(&mut batch)?;
        next.push(likeliest(context.get_logits_ith(batch.n_tokens() - 1)));
    }
    Ok(next)
}

/// One step for each position: the tokens of all sequences in one batch.
fn decode(
    context: &mut LlamaContext<'_>,
    next: &mut [LlamaToken],
    positions: std::ops::Range<i32>,
) -> Result<(), Box<dyn Error>> {
    let mut batch = LlamaBatch::new(next.len(), 1);
    for position in positions {
        batch.clear();
        for (sequence, token) in (0..).zip(next.iter()) {
            batch.add(*token, position, &[sequence], true)?;
        }
        context.decode(&mut batch)?;
        for (row, token) in (0..).zip(next.iter_mut()) {
            *token = likeliest(context.get_logits_ith(row));
        }
    }
    Ok(())
}

fn likeliest(logits: &[f32]) -> LlamaToken {
    let best = logits
        .iter()
        .copied()
        .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let at = logits
        .iter()
        .position(|logit| logit.to_bits() == best.to_bits());
    LlamaToken(i32::try_from(at.unwrap_or(0)).unwrap_or(0))
}

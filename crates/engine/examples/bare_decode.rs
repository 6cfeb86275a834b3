//! The bare llama.cpp loop, to compare the engine with in the same run: no server, no text, greedy tokens.
//!
//! `cargo run --release -p jarvis-engine --example bare_decode -- MODEL.gguf THREADS [TOKENS]` prints one line of
//! JSON for one sequence and one for a batch of four: tokens a second over all sequences, prompt excluded.

use std::{error::Error, num::NonZeroU32, time::Instant};

use llama_cpp_2::{
    LogOptions,
    context::params::LlamaContextParams,
    llama_backend::LlamaBackend,
    llama_batch::LlamaBatch,
    model::{LlamaModel, params::LlamaModelParams},
    sampling::LlamaSampler,
    send_logs_to_tracing,
};

const PROMPT: &str = "<|im_start|>user\nTell me a very long story about every animal there is.<|im_end|>\n<|im_start|>assistant\n";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("MODEL.gguf is missing")?;
    let threads: i32 = arguments.next().ok_or("THREADS is missing")?.parse()?;
    let tokens: i32 = arguments.next().map_or(Ok(256), |text| text.parse())?;
    send_logs_to_tracing(LogOptions::default().with_logs_enabled(false));
    let backend = LlamaBackend::init()?;
    let model = LlamaModel::load_from_file(&backend, &path, &LlamaModelParams::default())?;
    for sequences in [1, 4] {
        let rate = decode(&backend, &model, threads, sequences, tokens)?;
        println!(
            "{{\"sequences\":{sequences},\"threads\":{threads},\"tokens\":{tokens},\"tokens_per_second\":{rate:.2}}}"
        );
    }
    Ok(())
}

fn decode(
    backend: &LlamaBackend,
    model: &LlamaModel,
    threads: i32,
    sequences: i32,
    tokens: i32,
) -> Result<f64, Box<dyn Error>> {
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(4096))
        .with_n_seq_max(u32::try_from(sequences)?)
        .with_kv_unified(true)
        .with_n_threads(threads)
        .with_n_threads_batch(threads);
    let mut context = model.new_context(backend, params)?;
    let prompt = model.vocab().tokenize(PROMPT.as_bytes(), true, true);
    let mut batch = LlamaBatch::new(512, 1);
    let mut sampler = LlamaSampler::greedy();
    let mut next = Vec::new();
    for sequence in 0..sequences {
        batch.clear();
        batch.add_sequence(&prompt, sequence, false)?;
        context.decode(&mut batch)?;
        next.push(sampler.sample(&context, batch.n_tokens() - 1));
    }
    let start = i32::try_from(prompt.len())?;
    let began = Instant::now();
    for position in start..start + tokens {
        batch.clear();
        for (sequence, token) in (0..).zip(&next) {
            batch.add(*token, position, &[sequence], true)?;
        }
        context.decode(&mut batch)?;
        for (row, token) in (0..).zip(&mut next) {
            *token = sampler.sample(&context, row);
        }
    }
    Ok(f64::from(tokens * sequences) / began.elapsed().as_secs_f64())
}

//! What the requests of a trace say of the models: the values that `adaptive` starts with.

use super::{Request, Trace, trace::later_records};
use crate::policy::{Job, Lesson, Starting, Training};
use std::{
    fs::File,
    io::{self, BufReader, ErrorKind},
    path::Path,
};

/// Of a long trace only so many bytes at its end are read at a start: some twenty thousand requests.
const TAIL: u64 = 8 << 20;

impl Trace {
    /// What its requests say of the models. Requests without times say how long answers are, no more.
    pub fn starting(&self) -> Starting {
        let mut training = Training::default();
        for request in &self.requests {
            learn(&mut training, request);
        }
        training.values()
    }
}

/// What the last requests of the trace in this file say of the models; nothing if it is not there yet.
///
/// # Errors
/// It cannot be read.
pub(crate) fn starting_of_file(path: &Path) -> io::Result<Starting> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Starting::default()),
        Err(error) => return Err(error),
    };
    let (mut training, mut count) = (Training::default(), 0);
    for request in later_records(BufReader::new(file), TAIL)? {
        learn(&mut training, &request?);
        count += 1;
    }
    if count > 0 {
        tracing::info!("{count} requests of the trace say what the models take");
    }
    Ok(training.values())
}

fn learn(training: &mut Training, request: &Request) {
    let waited = request.waited.unwrap_or(0.0);
    training.learn(&Lesson {
        job: Job {
            model: &request.model,
            prompt_bytes: request.prompt_bytes,
            prefix: &request.links(),
            max_tokens: request.max_tokens,
        },
        tokens: request.tokens,
        ttft: request.ttft.map(|ttft| ttft - waited),
        total: request.total.map(|total| total - waited),
        load: request.load,
        prefill: request.prefill,
        decode: request.decode,
    });
}

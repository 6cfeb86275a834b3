//! A trace of requests: what arrived when and how big it was, never what it said.
//!
//! NDJSON. The first record is the [`Header`], every other a [`Request`].

use super::{NodeShape, ShapeError};
use crate::{Priority, policy::Link};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

/// The format's version.
pub const VERSION: u32 = 1;
/// The longest record, in bytes.
const LONGEST_RECORD: u64 = 4 << 20;

/// The first record of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The format's version, [`VERSION`].
    pub jarvis_trace: u32,
    /// The nodes to simulate, if the trace describes any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeShape>,
    /// How heavy the models are; those not named count as 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelShape>,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            jarvis_trace: VERSION,
            nodes: Vec::new(),
            models: Vec::new(),
        }
    }
}

/// What every version's first record has.
#[derive(Debug, Deserialize)]
struct Version {
    jarvis_trace: u32,
}

/// How heavy a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Its name.
    pub name: String,
    /// Everything takes it this many times as long as a node's description says.
    pub factor: f64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// When it arrived, in seconds after the trace's begin.
    pub at: f64,
    /// The model's name.
    pub model: String,
    /// Its prompt, in bytes.
    pub prompt_bytes: u32,
    /// The hash chain of the prompt: salted hash and bytes of each prefix, shortest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<(u64, u32)>,
    /// Tokens of the answer.
    pub tokens: u32,
    /// The longest answer that was wanted, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Who asked, as a salted hash.
    #[serde(default)]
    pub user: u64,
    /// How soon it is served.
    #[serde(default)]
    pub priority: Priority,
    /// Seconds from arrival to the first byte when it was recorded. The replay uses neither this nor what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft: Option<f64>,
    /// Seconds from arrival to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// Seconds in the queue, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited: Option<f64>,
    /// Seconds that loading the model took, as the node said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Seconds that the prompt took, as the node said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<f64>,
    /// Seconds that the answer's tokens took, as the node said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<f64>,
}

impl Request {
    pub(super) fn links(&self) -> Vec<Link> {
        let link = |&(hash, bytes): &(u64, u32)| Link { hash, bytes };
        self.prefix.iter().map(link).collect()
    }

    fn sensible(&self) -> bool {
        let growing = self.prefix.is_sorted_by_key(|(_, bytes)| bytes);
        let longest = self.prefix.last().map_or(0, |(_, bytes)| *bytes);
        (0.0..=1e9).contains(&self.at) && growing && longest <= self.prompt_bytes
    }
}

/// A trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// Its first record.
    pub header: Header,
    /// The requests, in order of arrival.
    pub requests: Vec<Request>,
    /// Records that were cut off and are left out.
    pub cut: usize,
}

/// A trace that cannot be read. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read at all.
    #[error("the trace cannot be read")]
    Io(#[from] io::Error),
    /// Nothing is in it.
    #[error("the trace is empty: its first record should be {{\"jarvis_trace\":1}}")]
    Empty,
    /// Another version.
    #[error("the trace is of version {0}, not {VERSION}")]
    Version(u32),
    /// A line that is no record.
    #[error("line {line} is no record of a trace")]
    Malformed {
        /// Which.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A line beyond the limit.
    #[error("line {line} is longer than {LONGEST_RECORD} bytes")]
    TooLong {
        /// Which.
        line: usize,
    },
    /// A request that cannot be.
    #[error(
        "line {line}: a request arrives at a time from 0 on, and its prefixes grow up to the prompt's length"
    )]
    Senseless {
        /// Which.
        line: usize,
    },
    /// A model's factor.
    #[error("model {0:?}: a factor is between 0.001 and 1000")]
    Factor(String),
    /// A node's description.
    #[error(transparent)]
    Node(#[from] ShapeError),
}

impl Trace {
    /// Reads a trace. Requests may stand in any order: a recorder writes them as they end. One that was killed while it wrote
    /// leaves a record that is cut off, at the end or before the next header: it is left out and counted.
    pub fn read(mut from: impl BufRead) -> Result<Self, TraceError> {
        let mut number = 0;
        let first = next_line(&mut from, &mut number)?.ok_or(TraceError::Empty)?;
        let mut trace = Self {
            header: header(&first, number)?,
            requests: Vec::new(),
            cut: 0,
        };
        let (mut begin, mut latest) = (0.0, 0.0_f64);
        let mut cut = None;
        while let Some(line) = next_line(&mut from, &mut number)? {
            // A recorder that is started again on the same file begins with its header, and counts from 0 again.
            if line.starts_with(b"{\"jarvis_trace\"") {
                header(&line, number)?;
                begin = latest;
                trace.cut += usize::from(cut.take().is_some());
                continue;
            }
            if let Some(error) = cut.take() {
                return Err(error);
            }
            let mut request: Request = match parsed(&line, number) {
                Ok(request) => request,
                Err(error) if error.is_cut() => {
                    cut = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !request.sensible() {
                return Err(TraceError::Senseless { line: number });
            }
            request.at += begin;
            latest = request.at.max(latest);
            trace.requests.push(request);
        }
        trace.cut += usize::from(cut.is_some());
        trace.requests.sort_by(|a, b| a.at.total_cmp(&b.at));
        Ok(trace)
    }

    /// Writes it as [`Self::read`] reads it.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        write_record(&mut to, &self.header)?;
        for request in &self.requests {
            write_record(&mut to, request)?;
        }
        to.flush()
    }
}

impl TraceError {
    /// A record ends in its midst.
    fn is_cut(&self) -> bool {
        matches!(self, Self::Malformed { source, .. } if source.is_eof())
    }
}

/// Reads descriptions of nodes, one JSON object a line.
pub(super) fn read_nodes(mut from: impl BufRead) -> Result<Vec<NodeShape>, TraceError> {
    let (mut number, mut nodes) = (0, Vec::new());
    while let Some(line) = next_line(&mut from, &mut number)? {
        let node: NodeShape = parsed(&line, number)?;
        node.validate()?;
        nodes.push(node);
    }
    Ok(nodes)
}

impl NodeShape {
    /// Reads descriptions of nodes, one JSON object a line.
    pub fn read_all(from: impl BufRead) -> Result<Vec<Self>, TraceError> {
        read_nodes(from)
    }
}

pub(super) fn write_record(mut to: impl Write, record: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    to.write_all(&line)
}

fn header(line: &[u8], number: usize) -> Result<Header, TraceError> {
    // Another version may have other fields.
    let Version { jarvis_trace } = parsed(line, number)?;
    if jarvis_trace != VERSION {
        return Err(TraceError::Version(jarvis_trace));
    }
    let header: Header = parsed(line, number)?;
    for node in &header.nodes {
        node.validate()?;
    }
    match header
        .models
        .iter()
        .find(|model| !(0.001..=1000.0).contains(&model.factor))
    {
        Some(model) => Err(TraceError::Factor(model.name.clone())),
        None => Ok(header),
    }
}

fn parsed<T: for<'a> Deserialize<'a>>(line: &[u8], number: usize) -> Result<T, TraceError> {
    serde_json::from_slice(line.trim_ascii_end()).map_err(|source| TraceError::Malformed {
        line: number,
        source,
    })
}

/// The requests among the last `tail` bytes. What is no request there (a header, a line that was cut) is passed over.
pub(super) fn later_records(
    mut from: impl BufRead + Seek,
    tail: u64,
) -> io::Result<impl Iterator<Item = io::Result<Request>>> {
    let length = from.seek(SeekFrom::End(0))?;
    let begin = length.saturating_sub(tail);
    from.seek(SeekFrom::Start(begin))?;
    if begin > 0 {
        from.skip_until(b'\n')?;
    }
    let requests = from.split(b'\n').map(|line| {
        let request: Option<Request> = serde_json::from_slice(&line?).ok();
        Ok(request.filter(Request::sensible))
    });
    Ok(requests.filter_map(Result::transpose))
}

/// The next line that is not blank.
fn next_line(from: &mut impl BufRead, number: &mut usize) -> Result<Option<Vec<u8>>, TraceError> {
    loop {
        let mut line = Vec::new();
        let read = from
            .by_ref()
            .take(LONGEST_RECORD + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        *number += 1;
        if u64::try_from(read).is_ok_and(|read| read > LONGEST_RECORD) {
            return Err(TraceError::TooLong { line: *number });
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
}

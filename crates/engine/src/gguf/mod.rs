//! Reading what a GGUF file says about itself, and whether all of it is there.
//!
//! Our own reader, because llama.cpp reports a broken file only to its log and gives up on some of them by
//! ending the process.

mod kinds;
mod reader;

use std::{fs::File, io::BufReader, path::Path};

use jarvis_protocol::ollama::ModelDetails;
use serde_json::{Map, Value};

use reader::Reader;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is something else.
    #[error("not a GGUF file")]
    NotGguf,
    /// A version nobody has written models in.
    #[error("GGUF version {0} is not supported")]
    Version(u32),
    /// Its end is missing.
    #[error("file is truncated: {expected} bytes expected, {actual} found")]
    Truncated {
        /// How long it would have to be at least, bytes.
        expected: u64,
        /// How long it is, bytes.
        actual: u64,
    },
    /// It has weights but no vocabulary, so nothing can be asked of it.
    #[error("no vocabulary in the file: it is no language model")]
    NoVocabulary,
    /// It contradicts itself.
    #[error("damaged GGUF file: {0}")]
    Damaged(&'static str),
}

/// The header of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// Key and value; long lists are left out (`null`).
    pub metadata: Map<String, Value>,
    /// Number of weights.
    pub parameters: u64,
    /// Number of tensors.
    pub tensors: u64,
}

const MOST_ENTRIES: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

impl Gguf {
    /// Reads the header and checks that every tensor it announces lies inside the file. The weights themselves
    /// are not read.
    ///
    /// # Errors
    /// See [`GgufError`].
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = Reader::new(BufReader::with_capacity(1 << 16, file), length);
        Self::read(&mut reader)
    }

    fn read(reader: &mut Reader<impl std::io::Read>) -> Result<Self, GgufError> {
        match reader.array::<4>() {
            Ok(magic) if &magic == b"GGUF" => {}
            Ok(_) | Err(GgufError::Truncated { .. }) => return Err(GgufError::NotGguf),
            Err(error) => return Err(error),
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = reader.u64()?;
        let entries = reader.u64()?;
        if tensors > MOST_ENTRIES || entries > MOST_ENTRIES {
            return Err(GgufError::Damaged("impossible number of entries"));
        }
        let mut metadata = Map::new();
        for _ in 0..entries {
            let key = reader.string()?;
            let value = reader.value()?;
            metadata.insert(key, value);
        }
        let (parameters, data) = read_tensors(reader, tensors)?;
        let alignment = metadata
            .get("general.alignment")
            .and_then(Value::as_u64)
            .unwrap_or(DEFAULT_ALIGNMENT);
        if alignment == 0 || alignment > 1 << 20 {
            return Err(GgufError::Damaged("impossible alignment"));
        }
        let expected = reader
            .position()
            .checked_next_multiple_of(alignment)
            .and_then(|start| start.checked_add(data))
            .ok_or(GgufError::Damaged("tensor outside any file"))?;
        if expected > reader.length() {
            return Err(GgufError::Truncated {
                expected,
                actual: reader.length(),
            });
        }
        Ok(Self {
            metadata,
            parameters,
            tensors,
        })
    }

    /// The architecture, for example `llama`.
    pub fn architecture(&self) -> &str {
        self.text("general.architecture").unwrap_or_default()
    }

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }

    /// Refuses a file without a vocabulary: llama.cpp ends the process at the first text it is to read with it.
    ///
    /// # Errors
    /// [`GgufError::NoVocabulary`].
    pub fn check_vocabulary(&self) -> Result<(), GgufError> {
        match self.text("tokenizer.ggml.model") {
            None | Some("" | "none" | "no_vocab") => Err(GgufError::NoVocabulary),
            Some(_) => Ok(()),
        }
    }

    /// What a list of models shows.
    pub fn details(&self) -> ModelDetails {
        let family = self.architecture().to_owned();
        ModelDetails {
            parent_model: String::new(),
            format: "gguf".to_owned(),
            families: vec![family.clone()],
            family,
            parameter_size: human(self.parameters),
            quantization_level: self
                .metadata
                .get("general.file_type")
                .and_then(Value::as_u64)
                .map_or("unknown", kinds::file_type)
                .to_owned(),
        }
    }
}

/// Number of weights, and how far behind the start of the data the last tensor ends.
fn read_tensors(
    reader: &mut Reader<impl std::io::Read>,
    tensors: u64,
) -> Result<(u64, u64), GgufError> {
    let impossible = GgufError::Damaged("impossible tensor size");
    let (mut parameters, mut end) = (0_u64, 0_u64);
    for _ in 0..tensors {
        reader.string()?;
        let dimensions = reader.u32()?;
        if dimensions > 8 {
            return Err(GgufError::Damaged("tensor of too many dimensions"));
        }
        let mut count = 1_u64;
        for _ in 0..dimensions {
            let Some(product) = count.checked_mul(reader.u64()?) else {
                return Err(impossible);
            };
            count = product;
        }
        let kind = reader.u32()?;
        let offset = reader.u64()?;
        let size = kinds::bytes(kind, count).ok_or(GgufError::Damaged("impossible tensor size"))?;
        let Some(stop) = offset.checked_add(size) else {
            return Err(impossible);
        };
        parameters = parameters.saturating_add(count);
        end = end.max(stop);
    }
    Ok((parameters, end))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
fn human(parameters: u64) -> String {
    let count = parameters as f64;
    match parameters {
        0..1_000 => format!("{parameters}"),
        1_000..1_000_000 => format!("{:.2}K", count / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", count / 1e6),
        _ => format!("{:.1}B", count / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    /// One F32 tensor of 8 weights, with its 32 bytes of data.
    fn file() -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend(1_u64.to_le_bytes());
        out.extend(2_u64.to_le_bytes());
        text(&mut out, "general.architecture");
        out.extend(8_u32.to_le_bytes());
        text(&mut out, "llama");
        text(&mut out, "tokenizer.ggml.tokens");
        out.extend(9_u32.to_le_bytes());
        out.extend(8_u32.to_le_bytes());
        out.extend(40_u64.to_le_bytes());
        for _ in 0..40 {
            text(&mut out, "t");
        }
        text(&mut out, "weights");
        out.extend(2_u32.to_le_bytes());
        out.extend(2_u64.to_le_bytes());
        out.extend(4_u64.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        out.resize(out.len().next_multiple_of(32) + 32, 0);
        out
    }

    fn read(bytes: &[u8]) -> Result<Gguf, GgufError> {
        Gguf::read(&mut Reader::new(bytes, bytes.len() as u64))
    }

    #[test]
    fn a_whole_file_is_read() {
        let gguf = read(&file()).unwrap();
        assert_eq!(gguf.architecture(), "llama");
        assert_eq!(gguf.parameters, 8);
        assert_eq!(gguf.metadata["tokenizer.ggml.tokens"], Value::Null);
        assert!(matches!(
            gguf.check_vocabulary(),
            Err(GgufError::NoVocabulary)
        ));
        for (kind, fine) in [("none", false), ("no_vocab", false), ("gpt2", true)] {
            let mut gguf = gguf.clone();
            gguf.metadata
                .insert("tokenizer.ggml.model".to_owned(), kind.into());
            assert_eq!(gguf.check_vocabulary().is_ok(), fine, "{kind}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let whole = file();
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(
                matches!(error, GgufError::Truncated { .. } | GgufError::NotGguf),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(read(b"PK\x03\x04zip"), Err(GgufError::NotGguf)));
        assert!(matches!(read(b""), Err(GgufError::NotGguf)));
        let mut old = file();
        old[4] = 1;
        assert!(matches!(read(&old), Err(GgufError::Version(1))));
    }

    #[test]
    fn a_flipped_byte_never_panics() {
        let whole = file();
        for at in 0..whole.len() {
            for bit in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= bit;
                let _ = read(&bytes);
            }
        }
    }
}

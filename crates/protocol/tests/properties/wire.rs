use std::fmt::Debug;

use jarvis_protocol::{
    RequestExtension, ResponseExtension, ndjson, ollama, openai,
    sse::{Decoder, Event},
};
use serde::{Serialize, de::DeserializeOwned};

/// The bytes are a body or a record. What any of the wire types reads from them it writes as one line, and
/// as one event, that is read as the same value.
pub fn wire(bytes: &[u8]) {
    survives::<RequestExtension>(bytes);
    survives::<ResponseExtension>(bytes);

    survives::<ollama::ChatRequest>(bytes);
    survives::<ollama::ChatResponse>(bytes);
    survives::<ollama::CopyRequest>(bytes);
    survives::<ollama::CreateProgress>(bytes);
    survives::<ollama::CreateRequest>(bytes);
    survives::<ollama::DeleteRequest>(bytes);
    survives::<ollama::EmbedRequest>(bytes);
    survives::<ollama::EmbedResponse>(bytes);
    survives::<ollama::EmbeddingsRequest>(bytes);
    survives::<ollama::EmbeddingsResponse>(bytes);
    survives::<ollama::ErrorBody>(bytes);
    survives::<ollama::GenerateRequest>(bytes);
    survives::<ollama::GenerateResponse>(bytes);
    survives::<ollama::PsResponse>(bytes);
    survives::<ollama::ShowRequest>(bytes);
    survives::<ollama::ShowResponse>(bytes);
    survives::<ollama::TagsResponse>(bytes);
    survives::<ollama::VersionResponse>(bytes);

    survives::<openai::ChatChunk>(bytes);
    survives::<openai::ChatCompletion>(bytes);
    survives::<openai::ChatRequest>(bytes);
    survives::<openai::Completion>(bytes);
    survives::<openai::CompletionRequest>(bytes);
    survives::<openai::EmbeddingRequest>(bytes);
    survives::<openai::EmbeddingResponse>(bytes);
    survives::<openai::ErrorEnvelope>(bytes);
    survives::<openai::ModelList>(bytes);
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let line = ndjson::encode(&value).expect("what was read can be written");
    let (end, text) = line.split_last().expect("a line");
    assert_eq!(*end, b'\n');
    assert!(!text.contains(&b'\n'), "one value, one line");
    let again: T = serde_json::from_slice(text).expect("what was written can be read");
    assert_eq!(again, value);

    let text = std::str::from_utf8(text).expect("JSON is UTF-8");
    let mut decoder = Decoder::new(usize::MAX);
    decoder.push(&Event::data(text).encode());
    assert_eq!(decoder.next_event(), Ok(Some(Event::data(text))));
}

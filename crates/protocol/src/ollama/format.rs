use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// Any JSON object (`"json"`).
    Json,
    /// JSON that satisfies this JSON schema.
    Schema(Value),
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json => serializer.serialize_str("json"),
            Self::Schema(schema) => schema.serialize(serializer),
        }
    }
}

/// `null` and the empty string mean no format, as with Ollama.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Format>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Value::String(name)) => match name.as_str() {
            "" => Ok(None),
            "json" => Ok(Some(Format::Json)),
            _ => Err(D::Error::custom(format!(
                "invalid format: {name:?}; expected \"json\" or a valid JSON Schema object"
            ))),
        },
        Some(schema @ Value::Object(_)) => Ok(Some(Format::Schema(schema))),
        Some(other) => Err(D::Error::custom(format!(
            "invalid format: {other}; expected \"json\" or a valid JSON Schema object"
        ))),
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        optional(deserializer)?.ok_or_else(|| D::Error::custom("no format given"))
    }
}

//! Answers of a given form: a grammar decides which tokens may come next.

use std::collections::HashSet;

use jarvis_protocol::ollama::Format;
use llama_cpp_2::{
    model::LlamaModel,
    sampling::LlamaSampler,
    token::{LlamaToken, data::LlamaTokenData, data_array::LlamaTokenDataArray},
};

use serde_json::Value;

use crate::error::EngineError;

/// Any JSON object. White space is bounded, because small models like to write it without end.
const JSON: &str = r#"root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;

/// The rules of a format, as text that a model's vocabulary can be bound to.
///
/// # Errors
/// A schema that cannot be turned into rules.
pub(crate) fn rules(format: &Format) -> Result<String, EngineError> {
    match format {
        Format::Json => Ok(JSON.to_owned()),
        Format::Schema(schema) => {
            let text = schema.to_string();
            bounded(schema, &text)?;
            let rules = llama_cpp_2::json_schema_to_grammar(&text)
                .map_err(|_| EngineError::BadRequest("invalid JSON schema in format".to_owned()))?;
            if rules.len() > MOST_RULES {
                return Err(too_large("its rules are too many"));
            }
            Ok(rules)
        }
    }
}

/// Bytes of a schema's text, values of all its `enum` and `const`, and bytes of the rules made of it. The rules are
/// tried on every candidate token, between the steps of everybody's answers.
const MOST_TEXT: usize = 32 << 10;
const MOST_VALUES: usize = 500;
const MOST_RULES: usize = 128 << 10;
/// Different places that `$ref` leads to, and so the longest chain of them: the converter follows it by recursion.
const MOST_REFERENCES: usize = 64;

fn too_large(why: &str) -> EngineError {
    EngineError::BadRequest(format!("the JSON schema in format is too large: {why}"))
}

/// Refuses a schema that could cost more than an answer of its form is worth.
fn bounded(schema: &Value, text: &str) -> Result<(), EngineError> {
    if text.len() > MOST_TEXT {
        return Err(too_large("at most 32768 bytes"));
    }
    let mut values = 0;
    let mut places = HashSet::new();
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                places.extend(fields.get("$ref").and_then(Value::as_str));
                values += usize::from(fields.contains_key("const"));
                values += fields
                    .get("enum")
                    .and_then(Value::as_array)
                    .map_or(0, Vec::len);
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    if values > MOST_VALUES {
        return Err(too_large("at most 500 enum and const values"));
    }
    if places.len() > MOST_REFERENCES {
        return Err(too_large("at most 64 places referred to by $ref"));
    }
    Ok(())
}

/// Rules bound to a model's vocabulary, somewhere in an answer.
pub(crate) struct Grammar {
    sampler: LlamaSampler,
}

impl Grammar {
    /// At the start of an answer.
    ///
    /// # Errors
    /// Rules that contradict themselves, for example a `pattern` the converter cannot express.
    pub(crate) fn new(model: &LlamaModel, rules: &str) -> Result<Self, EngineError> {
        let sampler = LlamaSampler::grammar(model, rules, "root").map_err(|_| {
            EngineError::BadRequest("this format cannot be turned into a grammar".to_owned())
        })?;
        Ok(Self { sampler })
    }

    /// Whether this token may come next.
    pub(crate) fn allows(&mut self, token: LlamaToken) -> bool {
        let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
        self.mask(&mut one);
        one.data
            .first()
            .is_some_and(|candidate| candidate.logit().is_finite())
    }

    /// Gives every token that may not come next the logit -∞.
    pub(crate) fn mask(&mut self, tokens: &mut LlamaTokenDataArray) {
        tokens.apply_sampler(&mut self.sampler);
    }

    /// Moves on by a token that [`Self::allows`]. The end of the answer needs no move.
    ///
    /// # Errors
    /// The token was not allowed.
    pub(crate) fn accept(&mut self, token: LlamaToken) -> Result<(), EngineError> {
        self.sampler
            .try_accept(token)
            .map_err(|error| EngineError::Internal(format!("grammar: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, json};

    fn refused(schema: Value, word: &str) {
        match rules(&Format::Schema(schema)) {
            Err(EngineError::BadRequest(text)) => assert!(text.contains(word), "{text}"),
            other => panic!("{word}: {other:?}"),
        }
    }

    fn chain(links: usize) -> Value {
        let mut definitions: Map<String, Value> = (0..links)
            .map(|at| {
                (
                    format!("d{at}"),
                    json!({"$ref": format!("#/$defs/d{}", at + 1)}),
                )
            })
            .collect();
        definitions.insert(format!("d{links}"), json!({"type": "string"}));
        json!({"$ref": "#/$defs/d0", "$defs": definitions})
    }

    #[test]
    fn a_schema_beyond_measure_is_refused() {
        let values = |count: usize| json!({"enum": (0..count).collect::<Vec<_>>()});
        refused(values(501), "500 enum");
        refused(values(10_000), "32768 bytes");
        refused(chain(64), "$ref");
        refused(chain(2_000), "32768 bytes");
        assert!(rules(&Format::Schema(values(500))).is_ok());
        assert!(rules(&Format::Schema(chain(60))).is_ok());
    }
}

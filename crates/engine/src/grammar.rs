//! Answers of a given form: a grammar decides which tokens may come next.

use jarvis_protocol::ollama::Format;
use llama_cpp_2::{
    model::LlamaModel,
    sampling::LlamaSampler,
    token::{LlamaToken, data::LlamaTokenData, data_array::LlamaTokenDataArray},
};

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
        Format::Schema(schema) => llama_cpp_2::json_schema_to_grammar(&schema.to_string())
            .map_err(|_| EngineError::BadRequest("invalid JSON schema in format".to_owned())),
    }
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

use std::fmt::Write as _;

use crate::error::EngineError;

/// A model's name with its tag, as every list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(String);

/// Of the name and of its manifest's file name, bytes.
const LONGEST: usize = 200;

/// What the names of manifests end in.
const ENDING: &str = ".json";

impl ModelName {
    /// Reads a name; `:latest` is implied.
    ///
    /// # Errors
    /// Empty, too long, or with characters that have no place in a name (letters, digits and `._-` in each
    /// part, parts joined by `/`, one `:` before the tag).
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        let invalid = || EngineError::BadRequest(format!("invalid model name: {text:?}"));
        if text.is_empty() {
            return Err(EngineError::BadRequest("model is required".to_owned()));
        }
        if text.len() > LONGEST {
            return Err(EngineError::BadRequest("model name too long".to_owned()));
        }
        let slash = text.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match text[slash..].find(':') {
            Some(colon) => (&text[..slash + colon], &text[slash + colon + 1..]),
            None => (text, "latest"),
        };
        let fine = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        if !fine(tag) || !path.split('/').all(fine) {
            return Err(invalid());
        }
        let name = Self(format!("{path}:{tag}"));
        if name.file_name().len() > LONGEST {
            return Err(EngineError::BadRequest("model name too long".to_owned()));
        }
        Ok(name)
    }

    /// `name:tag`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name whose manifest's file name is this, without its ending.
    pub(super) fn of_file(stem: &str) -> Option<Self> {
        let name = Self::parse(&stem.replace("%3a", ":").replace("%2f", "/")).ok()?;
        name.file_name()
            .strip_suffix(ENDING)
            .is_some_and(|same| same == stem)
            .then_some(name)
    }

    /// The file name of its manifest: what is not a letter, digit, `.`, `_` or `-` is percent-encoded.
    pub(super) fn file_name(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 8);
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02x}");
            }
        }
        out.push_str(ENDING);
        out
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_completed() {
        for (given, full) in [
            ("a", "a:latest"),
            ("smollm2:135m", "smollm2:135m"),
            ("hf.co/u/M-1_b:Q4", "hf.co/u/M-1_b:Q4"),
            ("u/m", "u/m:latest"),
        ] {
            assert_eq!(ModelName::parse(given).unwrap().as_str(), full);
        }
        assert_eq!(
            ModelName::parse("u/m:t").unwrap().file_name(),
            "u%2fm%3at.json"
        );
        let name = ModelName::of_file("u%2fm%3at").unwrap();
        assert_eq!(name.as_str(), "u/m:t");
        for other in ["odd", "u%2Fm%3at", "a b", ""] {
            assert_eq!(ModelName::of_file(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in [
            "",
            "../x",
            "a:b:c",
            "a b",
            "a\n",
            "a\0",
            "/a",
            "a/",
            ":t",
            "a:",
            "é",
            ".hidden",
            "a/../b",
            &"x".repeat(300),
            &format!("{}x", "x/".repeat(60)),
        ] {
            assert!(ModelName::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}

//! Errors in words.

use std::error::Error;

/// An error with everything that caused it, as one line: `what failed: why: why that`.
#[must_use]
pub fn sentence(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Failed {
        what: &'static str,
        #[source]
        why: Option<Box<Failed>>,
    }

    #[test]
    fn every_cause_is_told_in_order() {
        let failed = |what, why: Option<Failed>| Failed {
            what,
            why: why.map(Box::new),
        };
        let alone = failed("no route", None);
        assert_eq!(sentence(&alone), "no route");
        let deep = failed("not sent", Some(failed("not connected", Some(alone))));
        assert_eq!(sentence(&deep), "not sent: not connected: no route");
    }
}

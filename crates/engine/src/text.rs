//! From tokens to text: whole characters only, and nothing of a stop string.

/// Joins the bytes of tokens into text, holding back half a character until its rest comes.
#[derive(Debug, Default)]
pub(crate) struct Utf8Joiner {
    rest: Vec<u8>,
}

impl Utf8Joiner {
    /// Whether no half character is held back.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Adds the bytes of one token and appends to `out` what is whole. Bytes that can never become a
    /// character are replaced by U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        if self.rest.is_empty()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            out.push_str(text);
            return;
        }
        self.rest.extend_from_slice(bytes);
        let mut from = 0;
        while from < self.rest.len() {
            match std::str::from_utf8(&self.rest[from..]) {
                Ok(text) => {
                    out.push_str(text);
                    from = self.rest.len();
                }
                Err(error) => {
                    let valid = from + error.valid_up_to();
                    out.push_str(&String::from_utf8_lossy(&self.rest[from..valid]));
                    from = valid;
                    let Some(bad) = error.error_len() else {
                        break;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    from += bad;
                }
            }
        }
        self.rest.drain(..from);
    }
}

/// Withholds text that may turn out to be the start of a stop string.
#[derive(Debug, Default)]
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
}

impl StopFilter {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(),
            held: String::new(),
        }
    }

    /// Adds text; what may be shown is appended to `out`. `true`: a stop string was met, and what stands
    /// before it is in `out`.
    pub(crate) fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.stops.is_empty() {
            out.push_str(text);
            return false;
        }
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(at) = first {
            out.push_str(&self.held[..at]);
            self.held.clear();
            return true;
        }
        let keep = self.possible_start();
        let free = self.held.len() - keep;
        out.push_str(&self.held[..free]);
        self.held.drain(..free);
        false
    }

    /// The answer ended otherwise: what was withheld is text after all.
    pub(crate) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Length of the longest end of `held` that some stop string begins with.
    fn possible_start(&self) -> usize {
        self.stops
            .iter()
            .map(|stop| {
                let most = (stop.len() - 1).min(self.held.len());
                (1..=most)
                    .rev()
                    .find(|&n| self.held.as_bytes()[self.held.len() - n..] == stop.as_bytes()[..n])
                    .unwrap_or(0)
            })
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_a_character_waits_for_its_rest() {
        let text = "aé日🦀b";
        for size in 1..6 {
            let mut joiner = Utf8Joiner::default();
            let mut out = String::new();
            for piece in text.as_bytes().chunks(size) {
                joiner.push(piece, &mut out);
                assert!(text.starts_with(&out), "{out:?} is a whole beginning");
            }
            assert_eq!(out, text);
        }
    }

    #[test]
    fn bytes_that_are_no_character_are_replaced() {
        let mut joiner = Utf8Joiner::default();
        let mut out = String::new();
        joiner.push(b"a\xff", &mut out);
        joiner.push(b"\xe6\x97", &mut out);
        joiner.push(b"x", &mut out);
        assert_eq!(out, "a\u{fffd}\u{fffd}x");
    }

    #[test]
    fn a_stop_string_is_seen_across_pieces_and_not_shown() {
        let mut filter = StopFilter::new(vec!["END".into(), "\n\nUser".into()]);
        let mut out = String::new();
        assert!(!filter.push("ok E", &mut out));
        assert_eq!(out, "ok ");
        assert!(!filter.push("x\n", &mut out));
        assert_eq!(out, "ok Ex");
        assert!(!filter.push("\nU", &mut out));
        assert!(filter.push("ser: hi END", &mut out));
        assert_eq!(out, "ok Ex");
    }

    #[test]
    fn what_was_withheld_comes_at_the_end() {
        let mut filter = StopFilter::new(vec!["###".into()]);
        let mut out = String::new();
        assert!(!filter.push("a##", &mut out));
        assert_eq!(out, "a");
        filter.finish(&mut out);
        assert_eq!(out, "a##");
    }

    proptest! {
        #[test]
        fn the_same_text_whatever_the_pieces(text in "[abé]{0,30}", stop in "[abé]{1,4}", size in 1usize..6) {
            let mut filter = StopFilter::new(vec![stop.clone()]);
            let mut out = String::new();
            let mut met = false;
            let chars: Vec<char> = text.chars().collect();
            for piece in chars.chunks(size) {
                if filter.push(&piece.iter().collect::<String>(), &mut out) {
                    met = true;
                    break;
                }
            }
            if !met {
                filter.finish(&mut out);
            }
            let expected = text.find(&stop).map_or(text.as_str(), |at| &text[..at]);
            prop_assert_eq!(met, text.contains(&stop));
            prop_assert_eq!(out, expected);
        }
    }
}

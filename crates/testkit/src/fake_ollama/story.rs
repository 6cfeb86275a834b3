//! Text that depends on a prompt alone.

use super::model::{OPENING, THINK, THOUGHT, THOUGHTS};

/// The tokens there are; a token's id is its place. Some are parts of words, some hard to write down.
const VOCABULARY: [&str; 24] = [
    " le",
    " renard",
    " dit",
    ":",
    " \"oui",
    "\"",
    "\n",
    "\n\n",
    " été",
    " 日本",
    "語",
    " 😀",
    " a\\b",
    " <b>",
    "</b>",
    " &",
    "\t",
    " per",
    "haps",
    " every",
    "thing",
    " \u{2028}",
    " content",
    "  ",
];

/// What a prompt makes a model say.
pub(super) struct Story {
    /// The tokens of the question.
    pub(super) asked: u64,
    /// The tokens of the answer that the prompt holds already.
    pub(super) said: u64,
    /// What is still to be said: text and ids. The first may be the rest of a token.
    pub(super) rest: Vec<(String, i32)>,
}

impl Story {
    /// What follows this prompt. The answer begins after the last opening of the assistant's turn, or after the first line of
    /// a prompt without one. A prompt that holds what was never said gets an answer that says so.
    pub(super) fn after(prompt: &str, length: usize) -> Self {
        let begins = match prompt.rfind(OPENING) {
            Some(at) => at + OPENING.len(),
            None => prompt.find('\n').map_or(prompt.len(), |at| at + 1),
        };
        let (question, said) = prompt.split_at(begins);
        let thought = [THINK, &THOUGHTS.concat(), THOUGHT].concat();
        let (said, thoughts) = match said.strip_prefix(&thought) {
            Some(said) => (said, THOUGHTS.len() as u64),
            None => (said, 0),
        };
        let asked = question.split_whitespace().count() as u64;
        let tokens = tokens(question, length);
        let whole: String = tokens.iter().map(|id| VOCABULARY[*id]).collect();
        if !whole.starts_with(said) {
            let complaint = format!("[never said: {said:?}]");
            return Self {
                asked,
                said: 0,
                rest: vec![(complaint, 0)],
            };
        }
        let mut skip = said.len();
        let mut rest = Vec::new();
        let mut covered = 0;
        for id in tokens {
            let token = VOCABULARY[id];
            if skip >= token.len() {
                skip -= token.len();
                covered += 1;
                continue;
            }
            let id = i32::try_from(id).expect("a small vocabulary");
            rest.push((token[std::mem::take(&mut skip)..].to_owned(), id));
        }
        Self {
            asked,
            said: covered + thoughts,
            rest,
        }
    }
}

/// The text of these tokens.
pub(super) fn text_of(ids: &[i32]) -> String {
    ids.iter()
        .map(|id| VOCABULARY[usize::try_from(*id).expect("an id of ours")])
        .collect()
}

fn tokens(question: &str, length: usize) -> Vec<usize> {
    // FNV-1a for the seed, then SplitMix64.
    let seed = question
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..length)
        .map(|_| usize::try_from(next() % VOCABULARY.len() as u64).expect("a small vocabulary"))
        .collect()
}

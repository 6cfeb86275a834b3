//! Something that was freed, on its way through the queue.

use super::{board::Tag, order::Key};
use std::{fmt, sync::Arc};

type Suits = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Something was freed. It is offered to those whom it suits, one after the other, until it suits nobody any more.
#[derive(Clone)]
pub(super) struct Offer {
    /// Whom it suits, as of now; `None`: everybody.
    suits: Option<Suits>,
    /// The last who passed it on.
    pub(super) after: Option<Key>,
    /// Tags for which there was nothing left.
    pub(super) spent: Vec<Tag>,
}

impl Offer {
    pub(super) fn new(suits: Option<Suits>) -> Self {
        Self {
            suits,
            after: None,
            spent: Vec::new(),
        }
    }

    pub(super) fn suits(&self, tag: &Tag) -> bool {
        !self.spent.contains(tag) && self.suits.as_ref().is_none_or(|suits| suits(tag))
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("after", &self.after)
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}

//! Who may use a node, and who waits until one is free.
//!
//! [`Slots`] bounds what one node is given: a slot is claimed by compare-and-swap and freed on drop. How many there are is
//! configured, learnt from how the node answers, or left to the node.
//! [`Queue`] is the one place where requests wait, whatever node they end up at: bounded, by priority, fair between users,
//! first come first served for one user. When something is freed, those who can use it are asked, one after the other.

mod board;
mod capacity;
mod offer;
mod order;
mod slots;
#[cfg(test)]
mod tests;
mod waiter;

pub(crate) use board::{Place, Tag};
pub(crate) use capacity::Capacity;
pub use order::Priority;
pub(crate) use slots::{Claim, Freed, Slots};
pub(crate) use waiter::{Entry, Estimate, Line, Queue, Turn, Waiter};

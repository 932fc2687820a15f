//! What an answer must be, in the words of a dialect.

use allerac_wire::{Form, Tools};

use crate::Dialect;

/// The grammar, in llguidance's variant of Lark, of an answer that may call these tools and whose text must be of
/// `form`; `in_thought` says that the prompt has begun a thought. `None` where nothing in the dialect limits the
/// answer: no call is forced or strict, and no thought comes before the form.
#[must_use]
pub fn grammar(_dialect: Dialect, _tools: &Tools, _form: Option<&Form>, _in_thought: bool) -> Option<String> {
    None
}

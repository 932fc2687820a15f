//! What models say besides text: what they think, and what tools they call. Each family has its own words for that;
//! here they are read while they stream in, and written as grammars where a call is not left to the model.

mod arguments;
mod block;
mod call;
mod dialect;
mod escaped;
mod grammar;
mod input;
mod json;
mod kinds;
mod marked;
mod markup;
mod object;
mod parser;
mod schema;
mod sink;
mod spelling;
mod teach;
mod words;

pub use dialect::Dialect;
pub use escaped::escaped_lark;
pub use grammar::{Format, grammar};
pub use input::{Input, input_of};
pub use parser::{Parser, Piece};
pub use schema::closed;
pub use teach::{fitted, teach};

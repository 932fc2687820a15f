//! What the box keeps for people at their wish: responses and chat completions to be asked for again, files, batches,
//! and answers for retries.
//!
//! One `SQLite` file of its own, apart from the ledger's, because this is what people said. Everything that was said is
//! sealed at rest under a key that is derived from the secret of the box; a row that was damaged, or that another box
//! wrote, does not open and is as if it were not there. One thread owns the file and does what it is asked in order, so
//! whatever is read sees all that was written before. What is kept is bounded in bytes for each person, and in time.
//!
//! Commits are not synced one by one: they survive the end of the process, and a power cut may cost those of the last
//! moments.

mod copy;
mod error;
mod object;
mod person;
mod pieces;
mod schema;
mod seal;
mod store;

pub use copy::{Checked, check, copy};
pub use error::StoreError;
pub use object::{Kind, Listed, New, Object, Order, Page};
pub use person::Named;
pub use pieces::{PIECE_BYTES, Piece};
pub use seal::Seal;
pub use store::{Store, downgrade};

//! Who may use how much, and who used what: people, keys, plans, reservations and usage.
//!
//! One `SQLite` file, written by one thread that commits in groups (one `fsync` for all that wait) and read
//! over connections of its own. A request is paid in two steps: [`Ledger::reserve`] sets aside the most it
//! can cost before it starts, [`Reservation::settle`] replaces that by what it did cost. In every month,
//! for every account, `limit = used + reserved + free`.
//!
//! # What a crash leaves
//! While a request runs, its output tokens are counted in `inflight.bin` before they are sent. On the next
//! start [`Ledger::recover`] settles what was left open by one rule: *a request that had started is
//! charged its prompt and the tokens counted there; one that had not is released.* Killing the process
//! loses nothing; losing power loses at most what the disk had not yet written.

mod balance;
mod error;
mod inflight;
mod journal;
mod key;
mod ledger;
mod lock;
mod people;
mod plan;
mod plans;
mod reservation;
mod schema;
mod time;
mod usage;
mod users;
mod writer;

pub use error::{AuthError, LedgerError, ReserveError};
pub use journal::{Difference, Verified};
pub use key::{CreatedKey, KeyRow, NewKey, Principal, Role, UpstreamPolicy};
pub use ledger::{Clock, Ledger, Recovered};
pub use lock::{Occupied, ServeLock};
pub use plan::{Counts, DEFAULT_PLAN, OWNER_PLAN, Plan, UnknownWord, Urgency, Weight};
pub use plans::PlanRow;
pub use reservation::{Outcome, Reservation, Reserve, Settlement};
pub use usage::{QuotaState, UsageRow};
pub use users::{Increase, UserRow};

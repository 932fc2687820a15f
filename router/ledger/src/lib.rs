//! Who may use how much, and who used what: people, keys, plans, reservations and usage.
//!
//! One `SQLite` file, written by one thread that commits in groups (one `fsync` for all that wait) and read
//! over connections of its own. A request is paid in two steps: [`Ledger::reserve`] sets aside the most it
//! can cost before it starts, [`Reservation::settle`] replaces that by what it did cost. In every month,
//! for every account, `limit = used + reserved + free`: of tokens, and of money where another server computes.
//!
//! # What a crash leaves
//! While a request runs, its output tokens are counted in `inflight.bin` before they are sent. On the next
//! start [`Ledger::recover`] settles what was left open by one rule: *a request that had started is
//! charged its prompt and the tokens counted there; one that had not is released.* Killing the process
//! loses nothing. Losing power loses no settlement that was acknowledged, no key and no plan; of requests that ran then
//! it loses at most what was counted of them and not on the disk yet.
//!
//! # What can be checked
//! Balances follow from settled requests and open reservations alone: [`Ledger::verify`] adds them up again. Tests have
//! that checked within each transaction ([`Options::check`]). What administrators do is in a log whose entries are
//! chained: [`Ledger::verify_audit`].

mod alerts;
mod audit;
mod authenticate;
mod balance;
mod buckets;
mod check;
mod copy;
mod detail;
mod energy;
mod error;
mod gate;
mod hours;
mod identities;
mod inflight;
mod invitations;
mod journal;
mod key;
mod keys;
mod last_use;
mod ledger;
mod leftover;
mod lock;
mod notes;
mod owning;
mod passkeys;
mod password;
mod password_links;
mod people;
mod person;
mod plan;
mod plans;
mod prices;
mod reservation;
mod reserving;
mod role;
mod schema;
mod second_factor;
mod sessions;
mod settings;
mod spending;
mod sql;
mod teams;
mod time;
mod usage;
mod users;
mod writer;

pub use alerts::{Alert, DeliveriesWanted, Delivery, Tried};
pub use audit::{AuditEntry, AuditVerified, AuditWanted, Chain, Tampered};
pub use buckets::{BUCKETS_MAX, Bucket, BucketSum, Part, Wanted, Width};
pub use copy::{CheckedCopy, check_copy};
pub use detail::{Span, UsedRequest};
pub use energy::{EnergyBooking, EnergySources, OwnEnergy, Taken};
pub use error::{AuthError, LedgerError, ReserveError};
pub use hours::{Hours, NoHours};
pub use identities::{Identified, IdentityRow, NewIdentity};
pub use invitations::{Invitation, InvitationRow, Invited, Proof};
pub use journal::{Difference, Verified};
pub use key::{CreatedKey, Denied, KeyLimits, KeyRow, NewKey, Principal, UpstreamPolicy};
pub use ledger::{Clock, Ledger, Options, Recovered};
pub use lock::{Occupied, ServeLock};
pub use owning::{Machine, Owning};
pub use passkeys::{Holder as PasskeyHolder, KnownPasskey, NewPasskey, PasskeyRow};
pub use password::{hash_password, verify_password};
pub use people::{Login, PersonChange};
pub use person::{Person, PersonsKey};
pub use plan::{Counts, DEFAULT_PLAN, OWNER_PLAN, Plan, UnknownWord, Urgency, Weight};
pub use plans::PlanRow;
pub use prices::{Price, money_text};
pub use reservation::{Outcome, Reservation, Reserve, Settlement};
pub use role::{Right, Role, Scope, Scopes};
pub use second_factor::Enrolled;
pub use sessions::{SessionAbout, SessionRow};
pub use settings::time_zone;
pub use spending::{BudgetState, UpstreamBudget};
pub use sql::{DatabaseError, InvalidAddress, Postgres};
pub use teams::TeamRow;
pub use usage::{QuotaState, UsageRow};
pub use users::{Increase, UserRow};

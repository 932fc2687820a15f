//! The two databases that the books may be in, behind one face: a `SQLite` file, or `PostgreSQL`, which several routers
//! share. The texts of queries are the same for both. They keep to what both understand: parameters are `?1`, `?2`..., truth
//! is 0 or 1, what conflicts is named.

mod connection;
mod error;
mod postgres;
mod statement;
mod value;

pub(crate) use connection::{Connection, NONE};
pub use error::DatabaseError;
pub use postgres::{InvalidAddress, Postgres};
pub(crate) use statement::{OptionalExtension, Row};
pub(crate) use value::{AnyParam, Value, params};

pub(crate) type Result<T> = std::result::Result<T, DatabaseError>;

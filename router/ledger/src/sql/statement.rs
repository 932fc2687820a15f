//! Queries and their rows.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, ToSql};

use super::Result;
use super::error::DatabaseError;
use super::postgres::{self, Session};
use super::value::{AnyParam, Cell, FromCell, Param, read};

/// A query that may be asked again and again.
pub(crate) enum Statement<'c> {
    Sqlite(CachedStatement<'c>),
    Postgres { session: &'c Session, text: String },
}

/// Its answer, row by row.
pub(crate) enum Rows<'s> {
    Sqlite(rusqlite::Rows<'s>),
    Postgres(postgres::Rows),
}

/// A row.
#[derive(Clone, Copy)]
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r tokio_postgres::Row),
}

/// What goes into a query.
pub(crate) type Params<'p> = Vec<Param<'p>>;

fn bind<P: AnyParam>(params: &[P]) -> Params<'_> {
    params.iter().map(AnyParam::param).collect()
}

impl AnyParam for &dyn AnyParam {
    fn param(&self) -> Param<'_> {
        (**self).param()
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Nothing(_) => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl<'c> Statement<'c> {
    /// Changes rows; how many.
    pub(crate) fn execute<P: AnyParam>(&mut self, params: impl AsRef<[P]>) -> Result<usize> {
        let params = bind(params.as_ref());
        match self {
            Self::Sqlite(statement) => Ok(statement.execute(rusqlite::params_from_iter(params))?),
            Self::Postgres { session, text } => session.execute(text, &params),
        }
    }

    pub(crate) fn query<P: AnyParam>(&mut self, params: impl AsRef<[P]>) -> Result<Rows<'_>> {
        let params = bind(params.as_ref());
        Ok(match self {
            Self::Sqlite(statement) => Rows::Sqlite(statement.query(rusqlite::params_from_iter(params))?),
            Self::Postgres { session, text } => Rows::Postgres(session.query(text, &params)?),
        })
    }

    /// Reads the first row.
    ///
    /// # Errors
    /// [`DatabaseError::NoRow`] where there is none, and others.
    pub(crate) fn query_row<P: AnyParam, T>(
        &mut self,
        params: impl AsRef<[P]>,
        map: impl FnOnce(Row<'_>) -> Result<T>,
    ) -> Result<T> {
        map(self.query(params)?.next()?.ok_or(DatabaseError::NoRow)?)
    }

    /// Reads row by row.
    pub(crate) fn query_map<P: AnyParam, T, F: FnMut(Row<'_>) -> Result<T>>(
        &mut self,
        params: impl AsRef<[P]>,
        map: F,
    ) -> Result<Mapped<'_, F>> {
        Ok(Mapped { rows: self.query(params)?, map })
    }

    /// Whether there is a row.
    pub(crate) fn exists<P: AnyParam>(&mut self, params: impl AsRef<[P]>) -> Result<bool> {
        Ok(self.query(params)?.next()?.is_some())
    }
}

impl Rows<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        Ok(match self {
            Self::Sqlite(rows) => rows.next()?.map(Row::Sqlite),
            Self::Postgres(rows) => rows.next()?.map(Row::Postgres),
        })
    }
}

/// Rows as what they are read as.
pub(crate) struct Mapped<'s, F> {
    rows: Rows<'s>,
    map: F,
}

impl<T, F: FnMut(Row<'_>) -> Result<T>> Iterator for Mapped<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().and_then(|row| row.map(&mut self.map).transpose()).transpose()
    }
}

impl<'r> Row<'r> {
    /// A column, from 0.
    pub(crate) fn get<T: FromCell>(&self, column: usize) -> Result<T> {
        match self {
            Self::Sqlite(row) => read(sqlite_cell(row, column)?, column),
            Self::Postgres(row) => read(row.try_get(column)?, column),
        }
    }

    /// A column's text as it stands there; empty where it is none.
    pub(crate) fn text(&self, column: usize) -> &'r str {
        let text = match self {
            Self::Sqlite(row) => row.get_ref(column).ok().and_then(|cell| cell.as_str().ok()),
            Self::Postgres(row) => row.try_get(column).ok(),
        };
        text.unwrap_or_default()
    }
}

fn sqlite_cell<'r>(row: &'r rusqlite::Row<'_>, column: usize) -> Result<Cell<'r>> {
    let wrong = |reason: &str| DatabaseError::Column { column, reason: reason.to_owned() };
    Ok(match row.get_ref(column)? {
        ValueRef::Null => Cell::Nothing,
        ValueRef::Integer(number) => Cell::Number(number),
        ValueRef::Text(text) => Cell::Text(std::str::from_utf8(text).map_err(|_| wrong("the text is no UTF-8"))?),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes),
        ValueRef::Real(_) => return Err(wrong("nothing here is a broken number")),
    })
}

/// No row is not an error everywhere.
pub(crate) trait OptionalExtension<T> {
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(DatabaseError::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

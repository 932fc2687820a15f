//! What goes into queries and comes out of their rows.

use std::sync::Arc;

use super::Result;
use super::error::DatabaseError;

/// A value on its way into a query. What is nothing still has a kind, which `PostgreSQL` wants to know.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Param<'a> {
    Nothing(Kind),
    Number(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// The kinds of values that columns have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Text,
    Bytes,
    /// That of the place where it goes.
    OfItsPlace,
}

/// A value in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cell<'a> {
    Nothing,
    Number(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// A value of one's own, where its kind is known only as the program runs.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Nothing,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// What may go into a query.
pub(crate) trait AsParam {
    const KIND: Kind;
    fn as_param(&self) -> Param<'_>;
}

/// The same, without its kind, so that several may stand side by side.
pub(crate) trait AnyParam {
    fn param(&self) -> Param<'_>;
}

impl<T: AsParam> AnyParam for T {
    fn param(&self) -> Param<'_> {
        self.as_param()
    }
}

impl AnyParam for Value {
    fn param(&self) -> Param<'_> {
        match self {
            Self::Nothing => Param::Nothing(Kind::OfItsPlace),
            Self::Number(number) => Param::Number(*number),
            Self::Text(text) => Param::Text(text),
            Self::Bytes(bytes) => Param::Bytes(bytes),
        }
    }
}

/// Values of several types for one query.
macro_rules! params {
    ($($value:expr),* $(,)?) => { (&[$(&$value as &dyn $crate::sql::AnyParam),*] as &[&dyn $crate::sql::AnyParam]) };
}
pub(crate) use params;

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl AsParam for $number {
            const KIND: Kind = Kind::Number;
            fn as_param(&self) -> Param<'_> {
                Param::Number(i64::from(*self))
            }
        }
    )* };
}
numbers!(i64, u32, bool);

macro_rules! texts {
    ($($text:ty),*) => { $(
        impl AsParam for $text {
            const KIND: Kind = Kind::Text;
            fn as_param(&self) -> Param<'_> {
                Param::Text(self)
            }
        }
    )* };
}
texts!(str, String, Arc<str>);

macro_rules! bytes {
    ($($bytes:ty),*) => { $(
        impl AsParam for $bytes {
            const KIND: Kind = Kind::Bytes;
            fn as_param(&self) -> Param<'_> {
                Param::Bytes(self)
            }
        }
    )* };
}
bytes!([u8], Vec<u8>);

impl<const N: usize> AsParam for [u8; N] {
    const KIND: Kind = Kind::Bytes;
    fn as_param(&self) -> Param<'_> {
        Param::Bytes(self)
    }
}

impl<T: AsParam + ?Sized> AsParam for &T {
    const KIND: Kind = T::KIND;
    fn as_param(&self) -> Param<'_> {
        (**self).as_param()
    }
}

impl<T: AsParam> AsParam for Option<T> {
    const KIND: Kind = T::KIND;
    fn as_param(&self) -> Param<'_> {
        self.as_ref().map_or(Param::Nothing(T::KIND), AsParam::as_param)
    }
}

/// What a column can be read as.
pub(crate) trait FromCell: Sized {
    /// `None` where the column holds something else.
    fn from_cell(cell: Cell<'_>) -> Option<Self>;
}

/// Reads a column.
pub(crate) fn read<T: FromCell>(cell: Cell<'_>, column: usize) -> Result<T> {
    T::from_cell(cell).ok_or_else(|| {
        // Not what it holds: it may be a secret's hash.
        let held = match cell {
            Cell::Nothing => "nothing",
            Cell::Number(_) => "a number",
            Cell::Text(_) => "a text",
            Cell::Bytes(_) => "bytes",
        };
        let reason = format!("{held} cannot be read as {}", std::any::type_name::<T>());
        DatabaseError::Column { column, reason }
    })
}

impl FromCell for i64 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Number(number) = cell { Some(number) } else { None }
    }
}

impl FromCell for u32 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell)?.try_into().ok()
    }
}

impl FromCell for bool {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        Some(i64::from_cell(cell)? != 0)
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Text(text) = cell { Some(text.to_owned()) } else { None }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Bytes(bytes) = cell { Some(bytes.to_owned()) } else { None }
    }
}

impl<const N: usize> FromCell for [u8; N] {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        if let Cell::Bytes(bytes) = cell { bytes.try_into().ok() } else { None }
    }
}

impl FromCell for Value {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        Some(match cell {
            Cell::Nothing => Self::Nothing,
            Cell::Number(number) => Self::Number(number),
            Cell::Text(text) => Self::Text(text.to_owned()),
            Cell::Bytes(bytes) => Self::Bytes(bytes.to_owned()),
        })
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Nothing => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

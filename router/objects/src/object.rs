//! Objects: what is kept under one id.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::StoreError;
use crate::seal::Seal;
use crate::store::{Store, now_s};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A response of the Responses API.
    Response,
    /// A chat completion.
    Completion,
    /// The answer to a request that may come again.
    Answer,
    /// A file.
    File,
    /// A batch.
    Batch,
    /// A conversation that responses go on from.
    Conversation,
}

/// Bytes of what was said, for each person; beyond it the oldest goes.
const SAID_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Objects of what was said, for each person: a list looks at all of them.
const SAID_MAX: i64 = 20_000;
/// Files, and batches, of each person.
const OTHERS_MAX: i64 = 10_000;
/// What gives way to what is said now where its person may keep no more.
const GIVES_WAY: &str = "kind IN ('response', 'completion')";
/// The kinds that are bounded together by the first two.
const SAID: &str = "kind IN ('response', 'completion', 'answer', 'conversation')";

impl Kind {
    /// Its word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Completion => "completion",
            Self::Answer => "answer",
            Self::File => "file",
            Self::Batch => "batch",
            Self::Conversation => "conversation",
        }
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
        [Self::Response, Self::Completion, Self::Answer, Self::File, Self::Batch, Self::Conversation]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }

    fn is_said(self) -> bool {
        matches!(self, Self::Response | Self::Completion | Self::Answer | Self::Conversation)
    }
}

/// An object to be kept.
#[derive(Debug, Clone)]
pub struct New {
    /// What it is.
    pub kind: Kind,
    /// Whose: a number that stands for one person.
    pub owner: u64,
    /// Its name, among its owner's.
    pub id: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// When it goes, in seconds since 1970; never where `None`.
    pub expires_at: Option<i64>,
    /// Whether more is to come: a file that is being written, a batch that is being worked on.
    pub open: bool,
    /// What it says.
    pub head: Vec<u8>,
    /// What else it says, read apart.
    pub tail: Option<Vec<u8>>,
}

/// A kept object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Whose.
    pub owner: u64,
    /// Its name.
    pub id: String,
    /// Whether more is to come.
    pub open: bool,
    /// What it says.
    pub head: Vec<u8>,
}

/// Which part of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The object after which it begins; at the beginning where `None`.
    pub after: Option<String>,
    /// The most objects of it.
    pub limit: usize,
    /// By age.
    pub order: Order,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The objects.
    pub objects: Vec<Object>,
    /// Whether more come after.
    pub has_more: bool,
}

impl Store {
    /// Keeps an object, in place of the one of the same name where there is one, whose pieces stay. Of what was said,
    /// the oldest of the same person goes where it takes too much, or is too many.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] where it is none of what was said, and when it cannot be written.
    pub async fn put(&self, new: New) -> Result<(), StoreError> {
        self.put_within(new, None).await
    }

    /// The same, where its person may keep `bytes_max` in all. What was said before gives way to what is said now; what
    /// takes less than before is kept in any case.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`StoreError::NoRoom`].
    pub async fn put_within(&self, new: New, bytes_max: Option<u64>) -> Result<(), StoreError> {
        self.call(move |connection, seal| put_bounded(connection, seal, &new, bytes_max)).await
    }

    /// Bytes that somebody keeps; answers for requests that may come again are not counted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn kept_bytes(&self, owner: u64) -> Result<u64, StoreError> {
        self.call(move |connection, _| kept(connection, owner)).await
    }

    /// Refuses somebody who has no room for another word: what they keep beside what was said takes all of it.
    ///
    /// # Errors
    /// [`StoreError::NoRoom`], and when the store cannot be read.
    pub async fn refuse_full(&self, owner: u64, bytes_max: Option<u64>) -> Result<(), StoreError> {
        let Some(allowed) = bytes_max else { return Ok(()) };
        self.call(move |connection, _| {
            let lasting = format!("{KEPT} AND NOT {GIVES_WAY}");
            let lasting =
                connection.prepare_cached(&lasting)?.query_row([signed(owner)], |row| row.get::<_, i64>(0))?;
            let kept = lasting.unsigned_abs();
            if kept >= allowed { Err(StoreError::NoRoom { kept, allowed }) } else { Ok(()) }
        })
        .await
    }

    /// Keeps several objects, or none of them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn put_all(&self, all: Vec<New>) -> Result<(), StoreError> {
        self.call(move |connection, seal| all.iter().try_for_each(|new| put(connection, seal, new))).await
    }

    /// An object of somebody's.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, kind: Kind, owner: u64, id: &str) -> Result<Option<Object>, StoreError> {
        let id = id.to_owned();
        self.call(move |connection, seal| find(connection, seal, kind, owner, &id)).await
    }

    /// Looks at an object and keeps what follows from it, and nothing comes between. `change` is given the object, where
    /// there is one, and gives what is to be kept, as [`put_within`](Self::put_within) does.
    ///
    /// # Errors
    /// As [`put_within`](Self::put_within) and [`get`](Self::get).
    pub async fn change<T: Send + 'static>(
        &self,
        kind: Kind,
        owner: u64,
        id: &str,
        bytes_max: Option<u64>,
        change: impl FnOnce(Option<Object>) -> (Vec<New>, T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let id = id.to_owned();
        self.call(move |connection, seal| {
            let (kept, outcome) = change(find(connection, seal, kind, owner, &id)?);
            kept.iter().try_for_each(|new| put_bounded(connection, seal, new, bytes_max))?;
            Ok(outcome)
        })
        .await
    }

    /// What else an object says.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tail(&self, kind: Kind, owner: u64, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let id = id.to_owned();
        self.call(move |connection, seal| {
            let tail: Option<Option<Vec<u8>>> = connection
                .prepare_cached("SELECT tail FROM objects WHERE kind = ?1 AND owner = ?2 AND id = ?3")?
                .query_row(params![kind.as_str(), signed(owner), id], |row| row.get(0))
                .optional()?;
            Ok(tail.flatten().and_then(|tail| seal.open(&about(kind, owner, &id, "tail"), &tail)))
        })
        .await
    }

    /// Deletes an object of somebody's with its pieces; whether it was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn delete(&self, kind: Kind, owner: u64, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.call(move |connection, _| {
            let deleted = connection
                .prepare_cached("DELETE FROM objects WHERE kind = ?1 AND owner = ?2 AND id = ?3")?
                .execute(params![kind.as_str(), signed(owner), id])?;
            Ok(deleted > 0)
        })
        .await
    }

    /// Objects of somebody's that `wanted` picks; `None` where `page.after` is not there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        kind: Kind,
        owner: u64,
        page: Page,
        wanted: impl Fn(&Object) -> bool + Send + 'static,
    ) -> Result<Option<Listed>, StoreError> {
        self.call(move |connection, seal| {
            let Some(after) = place_of(connection, kind, owner, &page)? else { return Ok(None) };
            let (compare, order) = match page.order {
                Order::Ascending => (">", "ASC"),
                Order::Descending => ("<", "DESC"),
            };
            let mut statement = connection.prepare_cached(&format!(
                "{SELECT} WHERE kind = ?1 AND owner = ?2 AND {LASTS} ?3) AND seq {compare} ?4 ORDER BY seq {order}"
            ))?;
            let rows = statement.query_map(params![kind.as_str(), signed(owner), now_s(), after], raw)?;
            let mut listed = Listed { objects: Vec::new(), has_more: false };
            for row in rows {
                let Some(object) = row?.open(seal, kind).filter(&wanted) else { continue };
                if listed.objects.len() == page.limit {
                    listed.has_more = true;
                    break;
                }
                listed.objects.push(object);
            }
            Ok(Some(listed))
        })
        .await
    }

    /// Everybody's objects to which more is to come, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_objects(&self, kind: Kind) -> Result<Vec<Object>, StoreError> {
        self.call(move |connection, seal| {
            let mut statement =
                connection.prepare_cached(&format!("{SELECT} WHERE kind = ?1 AND open ORDER BY seq"))?;
            let rows = statement.query_map([kind.as_str()], raw)?.collect::<Result<Vec<_>, _>>()?;
            Ok(rows.into_iter().filter_map(|row| row.open(seal, kind)).collect())
        })
        .await
    }
}

const SELECT: &str = "SELECT owner, id, open, head FROM objects";
/// What has not had its time; to be followed by now and a bracket.
const LASTS: &str = "(expires_at IS NULL OR expires_at >";

struct Raw {
    owner: u64,
    id: String,
    open: bool,
    head: Vec<u8>,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let owner: i64 = row.get(0)?;
    Ok(Raw { owner: owner.cast_unsigned(), id: row.get(1)?, open: row.get(2)?, head: row.get(3)? })
}

impl Raw {
    /// `None` where it is damaged, or not of this box.
    fn open(self, seal: &Seal, kind: Kind) -> Option<Object> {
        let head = seal.open(&about(kind, self.owner, &self.id, "head"), &self.head);
        if head.is_none() {
            tracing::warn!(kind = kind.as_str(), id = %self.id, "an object does not open: damaged, or of another box");
        }
        Some(Object { head: head?, owner: self.owner, id: self.id, open: self.open })
    }
}

/// What a text belongs to.
pub(crate) fn about(kind: Kind, owner: u64, id: &str, part: &str) -> String {
    format!("{} {owner:x} {part} {id}", kind.as_str())
}

/// An object that has not had its time.
fn find(connection: &Connection, seal: &Seal, kind: Kind, owner: u64, id: &str) -> Result<Option<Object>, StoreError> {
    let row = connection
        .prepare_cached(&format!("{SELECT} WHERE kind = ?1 AND owner = ?2 AND id = ?3 AND {LASTS} ?4)"))?
        .query_row(params![kind.as_str(), signed(owner), id, now_s()], raw)
        .optional()?;
    Ok(row.and_then(|row| row.open(seal, kind)))
}

/// Keeps an object within the bounds of its person.
fn put_bounded(connection: &Connection, seal: &Seal, new: &New, bytes_max: Option<u64>) -> Result<(), StoreError> {
    let before = kept(connection, new.owner)?;
    if !new.kind.is_said() {
        refuse_too_many(connection, new)?;
    }
    put(connection, seal, new)?;
    if new.kind.is_said() {
        forget_oldest(connection, new, bytes_max)?;
    }
    let after = kept(connection, new.owner)?;
    match bytes_max {
        Some(allowed) if after > allowed && after > before => Err(StoreError::NoRoom { kept: before, allowed }),
        _ => Ok(()),
    }
}

fn put(connection: &Connection, seal: &Seal, new: &New) -> Result<(), StoreError> {
    let head = seal.seal(&about(new.kind, new.owner, &new.id, "head"), &new.head);
    let tail = new.tail.as_ref().map(|tail| seal.seal(&about(new.kind, new.owner, &new.id, "tail"), tail));
    let bytes = signed((head.len() + tail.as_ref().map_or(0, Vec::len)) as u64);
    connection
        .prepare_cached(
            "INSERT INTO objects (kind, owner, id, created_at, expires_at, open, bytes, head, tail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (kind, owner, id) DO UPDATE SET expires_at = ?5, open = ?6, head = ?8, tail = ?9,
             bytes = bytes + ?7 - length(head) - coalesce(length(tail), 0)",
        )?
        .execute(params![
            new.kind.as_str(),
            signed(new.owner),
            new.id,
            new.created_at,
            new.expires_at,
            new.open,
            bytes,
            head,
            tail
        ])?;
    Ok(())
}

/// What somebody keeps, without answers for requests that may come again.
const KEPT: &str = "SELECT coalesce(sum(bytes), 0) FROM objects WHERE owner = ?1 AND kind <> 'answer'";

pub(crate) fn kept(connection: &Connection, owner: u64) -> Result<u64, StoreError> {
    let kept: i64 = connection.prepare_cached(KEPT)?.query_row([signed(owner)], |row| row.get(0))?;
    Ok(kept.unsigned_abs())
}

/// Deletes the oldest of what a person said, until the rest is small enough: by itself, and beside all else that they keep,
/// as far as that helps. What is said now stays.
fn forget_oldest(connection: &Connection, new: &New, bytes_max: Option<u64>) -> Result<(), StoreError> {
    let sum = format!("SELECT coalesce(sum(bytes), 0), count(*) FROM objects WHERE owner = ?1 AND {SAID}");
    let sum = connection.prepare_cached(&sum)?.query_row([signed(new.owner)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (mut said, mut count): (i64, i64) = sum;
    while said.unsigned_abs() > SAID_BYTES_MAX || count > SAID_MAX {
        let Some(bytes) = forget_one(connection, SAID, new)? else { break };
        said -= bytes;
        count -= 1;
    }
    let Some(allowed) = bytes_max else { return Ok(()) };
    let mut all = signed(kept(connection, new.owner)?);
    while all > signed(allowed) {
        let Some(bytes) = forget_one(connection, GIVES_WAY, new)? else { break };
        all -= bytes;
    }
    Ok(())
}

/// Deletes a person's oldest object of some kinds, but for one; its bytes. Conversations go last: they grow, and their place
/// is that of their beginning.
fn forget_one(connection: &Connection, kinds: &str, but: &New) -> Result<Option<i64>, StoreError> {
    let query = format!(
        "DELETE FROM objects WHERE seq = (SELECT seq FROM objects WHERE owner = ?1 AND {kinds}
         AND NOT (kind = ?2 AND id = ?3) ORDER BY kind = 'conversation', seq LIMIT 1) RETURNING bytes"
    );
    let mut statement = connection.prepare_cached(&query)?;
    Ok(statement.query_row(params![signed(but.owner), but.kind.as_str(), but.id], |row| row.get(0)).optional()?)
}

/// Refuses an object that is new where its person has as many as they may.
fn refuse_too_many(connection: &Connection, new: &New) -> Result<(), StoreError> {
    let owner = signed(new.owner);
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM objects WHERE owner = ?1 AND kind = ?2")?
        .query_row(params![owner, new.kind.as_str()], |row| row.get(0))?;
    let is_known = || -> Result<bool, StoreError> {
        let known = "SELECT 1 FROM objects WHERE owner = ?1 AND kind = ?2 AND id = ?3";
        Ok(connection.prepare_cached(known)?.exists(params![owner, new.kind.as_str(), new.id])?)
    };
    if count >= OTHERS_MAX && !is_known()? {
        return Err(StoreError::TooMany { allowed: OTHERS_MAX.unsigned_abs() });
    }
    Ok(())
}

/// Where a page begins; `None` where the object before it is not there.
fn place_of(connection: &Connection, kind: Kind, owner: u64, page: &Page) -> Result<Option<i64>, StoreError> {
    let Some(after) = &page.after else {
        return Ok(Some(if page.order == Order::Ascending { i64::MIN } else { i64::MAX }));
    };
    let seq = connection
        .prepare_cached("SELECT seq FROM objects WHERE kind = ?1 AND owner = ?2 AND id = ?3")?
        .query_row(params![kind.as_str(), signed(owner), after], |row| row.get(0))
        .optional()?;
    Ok(seq)
}

/// A number as `SQLite` stores it.
pub(crate) fn signed(number: u64) -> i64 {
    number.cast_signed()
}

//! All that the books know of one person: to be handed to them, or to be taken out.
//!
//! What was settled stays, because sums follow from it; whose it was does not. The audit log is only added to, so names
//! that it noted stay in it.

use serde::Serialize;
use serde_json::json;

use crate::alerts;
use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::identities::{self, IdentityRow};
use crate::key::random_bytes;
use crate::ledger::Ledger;
use crate::passkeys::{self, PasskeyRow};
use crate::people;
use crate::schema;
use crate::sql::{Connection, DatabaseError, OptionalExtension, params};

/// A person, as the books know them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their name.
    pub name: String,
    /// What they are on this box.
    pub role: String,
    /// Their plan.
    pub plan: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// The number that what they keep lies under.
    #[serde(skip)]
    pub owner: u64,
    /// Their keys, without what opens them.
    pub keys: Vec<PersonsKey>,
    /// Their passkeys, without what devices call them.
    pub passkeys: Vec<PasskeyRow>,
    /// Whom other providers mean by them.
    pub identities: Vec<IdentityRow>,
}

/// A key of a person's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonsKey {
    /// The part that may be shown.
    pub id: String,
    /// What for.
    pub label: String,
    /// Its own plan.
    pub plan: Option<String>,
    /// Where it may leave the box for.
    pub upstreams: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Since when it is refused.
    pub revoked_at: Option<i64>,
}

impl Ledger {
    /// Somebody by their name.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when the ledger cannot be read.
    pub fn person(&self, name: &str) -> Result<Person, LedgerError> {
        self.read(|connection| {
            connection.at_one_moment(|| {
                let (id, mut person) = find(connection, name)?;
                let mut keys = connection.prepare_cached(
                    "SELECT public_id, label, plan, upstreams, created_at, revoked_at FROM keys
                     WHERE user_id = ?1 AND kind = 'key' ORDER BY id",
                )?;
                let keys = keys.query_map([id], |row| {
                    Ok(PersonsKey {
                        id: row.get(0)?,
                        label: row.get(1)?,
                        plan: row.get(2)?,
                        upstreams: row.get(3)?,
                        created_at: row.get(4)?,
                        revoked_at: row.get(5)?,
                    })
                })?;
                person.keys = keys.collect::<Result<_, _>>()?;
                person.passkeys = passkeys::of(connection, &person.name)?;
                person.identities = identities::of(connection, &person.name)?;
                Ok(person)
            })
        })
    }

    /// Lets somebody in no more, by whatever: the first step of erasing them.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::OwnerStays`], and when it cannot be written.
    pub async fn lock_out(&self, name: &str) -> Result<(), LedgerError> {
        let (name, now) = (name.to_owned(), self.now().seconds);
        let done = self.writer.call(move |connection| {
            let id = match erasable(connection, &name)? {
                Ok(id) => id,
                Err(error) => return Ok(Err(error)),
            };
            // What providers called them is overwritten in the file.
            connection.overwrite_deleted(true)?;
            people::shut_out(connection, id, now)?;
            connection.execute("DELETE FROM identities WHERE user_id = ?1", [id])?;
            connection.overwrite_deleted(false)?;
            Ok(Ok(()))
        });
        done.await?
    }

    /// Requests of somebody's that have not ended.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when the ledger cannot be read.
    pub fn open_requests(&self, name: &str) -> Result<u64, LedgerError> {
        self.read(|connection| {
            let (id, _) = find(connection, name)?;
            let query = "SELECT count(*) FROM reservations WHERE user_id = ?1";
            Ok(connection.query_row(query, [id], |row| row.get::<i64>(0))?.unsigned_abs())
        })
    }

    /// Takes somebody's name, keys and increases out of the books: the last step of erasing them. What they used stays,
    /// under a name that says nothing, which is returned.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::OwnerStays`], and when it cannot be written.
    pub async fn forget(&self, name: &str) -> Result<String, LedgerError> {
        let (name, now, actor) = (name.to_owned(), self.now().seconds, self.actor());
        let nobody = format!("erased-{:08x}", u32::from_le_bytes(random_bytes()));
        let (left, salt) = (nobody.clone(), i64::from_le_bytes(random_bytes()));
        let done = self.writer.call(move |connection| {
            let id = match erasable(connection, &name)? {
                Ok(id) => id,
                Err(error) => return Ok(Err(error)),
            };
            // What is replaced is overwritten in the file.
            connection.overwrite_deleted(true)?;
            connection.execute("UPDATE users SET name = ?2, salt = ?3 WHERE id = ?1", params![id, left, salt])?;
            connection.execute(
                "UPDATE keys SET label = '', upstreams = '', hash = ?3, revoked_at = coalesce(revoked_at, ?2)
                 WHERE user_id = ?1",
                params![id, now, [0_u8; 32]],
            )?;
            connection.execute("DELETE FROM increases WHERE user_id = ?1", [id])?;
            people::shut_out(connection, id, now)?;
            connection.execute("DELETE FROM identities WHERE user_id = ?1", [id])?;
            connection.execute("UPDATE invitations SET name = NULL WHERE user_id = ?1", [id])?;
            connection.execute("UPDATE invitations SET created_by = ?2 WHERE created_by = ?1", [&name, &left])?;
            connection.overwrite_deleted(false)?;
            alerts::forget(connection, id)?;
            // Not whose name it was.
            let act = Act { at: now, actor: &actor, action: "user.erase", subject: &left, detail: json!({}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        done.await??;
        self.empty_log()?;
        Ok(nobody)
    }

    /// Moves the log of the database into it: what was replaced stood in there too. Where somebody reads just now, it is
    /// left to the next time.
    fn empty_log(&self) -> Result<(), LedgerError> {
        match schema::open_writer(self.place())? {
            Connection::Sqlite(connection) => Ok(connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .map_err(DatabaseError::from)?),
            Connection::Postgres(_) => Ok(()),
        }
    }
}

fn find(connection: &Connection, name: &str) -> Result<(i64, Person), LedgerError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, name, role, plan, created_at, salt FROM users WHERE name = ?1 AND role <> 'team'",
    )?;
    let found = statement.query_row([name], |row| {
        let person = Person {
            name: row.get(1)?,
            role: row.get(2)?,
            plan: row.get(3)?,
            created_at: row.get(4)?,
            owner: row.get::<i64>(5)?.cast_unsigned(),
            keys: Vec::new(),
            passkeys: Vec::new(),
            identities: Vec::new(),
        };
        Ok((row.get(0)?, person))
    });
    found.optional()?.ok_or_else(|| LedgerError::UnknownUser(name.to_owned()))
}

fn erasable(connection: &Connection, name: &str) -> Result<Result<i64, LedgerError>, LedgerError> {
    Ok(match find(connection, name) {
        Ok((_, person)) if person.role == "owner" => Err(LedgerError::OwnerStays),
        Ok((id, _)) => Ok(id),
        Err(unknown @ LedgerError::UnknownUser(_)) => Err(unknown),
        Err(error) => return Err(error),
    })
}

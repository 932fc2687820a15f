//! Second factors: what is kept of them. Codes are computed elsewhere, from a secret that is not in this file.

use serde_json::json;

use crate::audit::{self, Act};
use crate::error::LedgerError;
use crate::key::random_bytes;
use crate::ledger::Ledger;
use crate::people::person;
use crate::sql::{OptionalExtension, params};

/// A second factor of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enrolled {
    /// What its secret is derived from, beside the secret of the box.
    pub nonce: [u8; 16],
    /// Whether a code of it was shown once: only then it is asked for.
    pub is_confirmed: bool,
}

impl Ledger {
    /// The second factor of somebody.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn second_factor(&self, user: &str) -> Result<Option<Enrolled>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT nonce, confirmed_at IS NOT NULL FROM second_factors JOIN users ON users.id = user_id
                 WHERE users.name = ?1 AND removed_at IS NULL",
            )?;
            let row = statement.query_row([user], |row| Ok(Enrolled { nonce: row.get(0)?, is_confirmed: row.get(1)? }));
            Ok(row.optional()?)
        })
    }

    /// Begins a second factor, in place of one that was begun and never confirmed.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::Conflict`] where there is one already, and when it cannot be written.
    pub async fn enrol(&self, user: &str) -> Result<Enrolled, LedgerError> {
        let (user, nonce) = (user.to_owned(), random_bytes::<16>());
        let begun = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let begun = connection
                .prepare_cached(
                    "INSERT INTO second_factors (user_id, nonce) VALUES (?1, ?2)
                     ON CONFLICT (user_id) DO UPDATE SET nonce = excluded.nonce, last_step = 0
                     WHERE second_factors.confirmed_at IS NULL",
                )?
                .execute(params![known.id, nonce])?;
            let reason = "there is a second factor already; remove it first".to_owned();
            Ok(if begun == 1 { Ok(()) } else { Err(LedgerError::Conflict { code: "second_factor_exists", reason }) })
        });
        begun.await??;
        Ok(Enrolled { nonce, is_confirmed: false })
    }

    /// Asks for the second factor from now on; its code of a time step was right. `codes` are the hashes of the recovery
    /// codes that stand for it once each.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], [`LedgerError::Conflict`] where none was begun, and when it cannot be written.
    pub async fn confirm_second_factor(
        &self,
        user: &str,
        (nonce, step): ([u8; 16], i64),
        codes: Vec<[u8; 32]>,
    ) -> Result<(), LedgerError> {
        let (user, actor, at) = (user.to_owned(), self.actor(), self.now().seconds);
        let confirmed = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            let changed = connection
                .prepare_cached(
                    "UPDATE second_factors SET confirmed_at = ?3, last_step = ?4
                     WHERE user_id = ?1 AND nonce = ?2 AND confirmed_at IS NULL",
                )?
                .execute(params![known.id, nonce, at, step])?;
            if changed == 0 {
                let reason = "no second factor waits to be confirmed; begin one".to_owned();
                return Ok(Err(LedgerError::Conflict { code: "no_second_factor", reason }));
            }
            connection.prepare_cached("DELETE FROM recovery_codes WHERE user_id = ?1")?.execute([known.id])?;
            let mut insert = connection.prepare_cached("INSERT INTO recovery_codes (user_id, hash) VALUES (?1, ?2)")?;
            for code in &codes {
                insert.execute(params![known.id, code])?;
            }
            let act =
                Act { at, actor: &actor, action: "user.second_factor", subject: &user, detail: json!({"set": true}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        confirmed.await?
    }

    /// Takes the code of a time step for the only time; whether it, and none after it, was used before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn use_step(&self, user: i64, step: i64) -> Result<bool, LedgerError> {
        let used = self.writer.call(move |connection| {
            let query = "UPDATE second_factors SET last_step = ?2 WHERE user_id = ?1 AND last_step < ?2";
            Ok(connection.prepare_cached(query)?.execute([user, step])? == 1)
        });
        used.await
    }

    /// Takes a recovery code for the only time, by its hash; whether it was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn use_recovery_code(&self, user: i64, hash: [u8; 32]) -> Result<bool, LedgerError> {
        let at = self.now().seconds;
        let used = self.writer.call(move |connection| {
            let query = "UPDATE recovery_codes SET used_at = ?3 WHERE user_id = ?1 AND hash = ?2 AND used_at IS NULL";
            Ok(connection.prepare_cached(query)?.execute(params![user, hash, at])? == 1)
        });
        used.await
    }

    /// Recovery codes that were not used.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn recovery_codes_left(&self, user: &str) -> Result<u64, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT count(*) FROM recovery_codes JOIN users ON users.id = user_id WHERE users.name = ?1
                 AND used_at IS NULL",
            )?;
            Ok(statement.query_row([user], |row| row.get::<i64>(0))?.unsigned_abs())
        })
    }

    /// Asks for no second factor any more.
    ///
    /// # Errors
    /// [`LedgerError::UnknownUser`], and when it cannot be written.
    pub async fn remove_second_factor(&self, user: &str) -> Result<(), LedgerError> {
        let (user, actor, at) = (user.to_owned(), self.actor(), self.now().seconds);
        let removed = self.writer.call(move |connection| {
            let Some(known) = person(connection, &user)? else {
                return Ok(Err(LedgerError::UnknownUser(user.clone())));
            };
            for table in ["second_factors", "recovery_codes"] {
                connection.execute(&format!("DELETE FROM {table} WHERE user_id = ?1"), [known.id])?;
            }
            let act =
                Act { at, actor: &actor, action: "user.second_factor", subject: &user, detail: json!({"set": false}) };
            audit::note(connection, act)?;
            Ok(Ok(()))
        });
        removed.await?
    }
}

//! The books against the journal: what each account used and has set aside follows from the settled requests and the
//! open reservations alone.

use rusqlite::Connection;
use serde::Serialize;

use crate::error::LedgerError;
use crate::ledger::Ledger;

/// Differences that are told. Beyond so many, how many there are says enough.
const DIFFERENCES_MAX: usize = 1000;

/// What was looked at, and what does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Accounts, each in each month.
    pub accounts: u64,
    /// Settled requests.
    pub requests: u64,
    /// Requests that tokens are set aside for.
    pub open: u64,
    /// What does not add up; empty when all is well.
    pub differences: Vec<Difference>,
}

/// A sum in the books that is not what the journal adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Whose: `user anna`, `key k3x7q2m9p4ab`, or the day of a key and a model.
    pub account: String,
    /// Which month.
    pub month: String,
    /// Of what: `used`, `reserved`, `requests`...
    pub what: &'static str,
    /// In the books.
    pub books: i64,
    /// By the journal.
    pub journal: i64,
}

impl Difference {
    /// By how much the books are too high.
    #[must_use]
    pub fn off_by(&self) -> i64 {
        self.books - self.journal
    }
}

impl Ledger {
    /// Adds the journal up again and compares it with the books: balances, and the sums of days. Also checks the file
    /// itself and what its rows refer to.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] where the file itself is, and when it cannot be read.
    pub fn verify(&self) -> Result<Verified, LedgerError> {
        self.read(|connection| {
            // One moment for all that is read.
            let transaction = connection.unchecked_transaction()?;
            check_file(&transaction)?;
            let count = |table: &str| -> Result<u64, LedgerError> {
                let query = format!("SELECT count(*) FROM {table}");
                Ok(transaction.query_row(&query, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
            };
            let differences = differences(&transaction)?;
            let (accounts, requests, open) = (count("balances")?, count("usage")?, count("reservations")?);
            Ok(Verified { accounts, requests, open, differences })
        })
    }
}

/// What does not add up.
pub(crate) fn differences(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let mut differences = balances(connection)?;
    differences.extend(days(connection)?);
    differences.truncate(DIFFERENCES_MAX);
    Ok(differences)
}

fn check_file(connection: &Connection) -> Result<(), LedgerError> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(LedgerError::Damaged(found));
    }
    let mut orphans = connection.prepare("PRAGMA foreign_key_check")?;
    let orphan = orphans.query_map([], |row| row.get::<_, String>(0))?.next().transpose()?;
    orphan.map_or(Ok(()), |table| Err(LedgerError::Damaged(format!("a row of {table} belongs to nothing"))))
}

fn balances(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let mut statement = connection.prepare(
        "WITH journal AS (
            SELECT 'user:' || user_id AS account, month, user_charge AS used, 0 AS reserved FROM usage
            UNION ALL SELECT 'key:' || key_id, month, key_charge, 0 FROM usage WHERE key_account
            UNION ALL SELECT 'user:' || user_id, month, 0, tokens FROM reservations
            UNION ALL SELECT 'key:' || key_id, month, 0, key_tokens FROM reservations WHERE key_account
        ), sums AS (
            SELECT account, month, sum(used) AS used, sum(reserved) AS reserved FROM journal GROUP BY account, month
        )
        SELECT coalesce(
            (SELECT 'user ' || name FROM users WHERE 'user:' || id = account),
            (SELECT 'key ' || public_id FROM keys WHERE 'key:' || id = account), account),
            month, coalesce(balances.used, 0), coalesce(sums.used, 0),
            coalesce(balances.reserved, 0), coalesce(sums.reserved, 0)
        FROM balances FULL JOIN sums USING (account, month)
        WHERE coalesce(balances.used, 0) <> coalesce(sums.used, 0)
            OR coalesce(balances.reserved, 0) <> coalesce(sums.reserved, 0)
        ORDER BY month, account",
    )?;
    let rows = statement.query_map([], |row| {
        let difference = |what, place| {
            let (account, month) = (row.get(0)?, row.get(1)?);
            Ok::<_, rusqlite::Error>(Difference {
                account,
                month,
                what,
                books: row.get(place)?,
                journal: row.get(place + 1)?,
            })
        };
        Ok([difference("used", 2)?, difference("reserved", 4)?])
    })?;
    let all = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().flatten().filter(|difference| difference.off_by() != 0).collect())
}

fn days(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let mut statement = connection.prepare(
        "WITH sums AS (
            SELECT month, day, key_id, model, served_by, count(*) AS requests, sum(prompt_tokens) AS prompt,
            sum(cached_tokens) AS cached, sum(completion_tokens) AS completion
            FROM usage GROUP BY month, day, key_id, model, served_by
        )
        SELECT (SELECT public_id FROM keys WHERE id = key_id) || ' on ' || day || ' with ' || model, month,
            coalesce(usage_daily.requests, 0), coalesce(sums.requests, 0),
            coalesce(prompt_tokens, 0), coalesce(prompt, 0), coalesce(cached_tokens, 0), coalesce(cached, 0),
            coalesce(completion_tokens, 0), coalesce(completion, 0)
        FROM usage_daily FULL JOIN sums USING (month, day, key_id, model, served_by)
        WHERE usage_daily.requests IS NOT sums.requests OR prompt_tokens IS NOT prompt OR cached_tokens IS NOT cached
            OR completion_tokens IS NOT completion",
    )?;
    let rows = statement.query_map([], |row| {
        let difference = |what, place| {
            let (account, month) = (row.get(0)?, row.get(1)?);
            Ok::<_, rusqlite::Error>(Difference {
                account,
                month,
                what,
                books: row.get(place)?,
                journal: row.get(place + 1)?,
            })
        };
        let of_prompts = [difference("requests", 2)?, difference("prompt tokens", 4)?];
        Ok([of_prompts, [difference("cached tokens", 6)?, difference("completion tokens", 8)?]].concat())
    })?;
    let all = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().flatten().filter(|difference| difference.off_by() != 0).collect())
}

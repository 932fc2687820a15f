//! The books against the journal: what each account used and has set aside follows from the settled requests and the
//! open reservations alone.

use serde::Serialize;

use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::sql::{Connection, NONE};

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
        self.read(verify)
    }
}

/// The same over a connection.
pub(crate) fn verify(connection: &Connection) -> Result<Verified, LedgerError> {
    connection.at_one_moment(|| {
        if let Some(damage) = connection.damage()? {
            return Err(LedgerError::Damaged(damage));
        }
        let count = |table: &str| -> Result<u64, LedgerError> {
            let query = format!("SELECT count(*) FROM {table}");
            Ok(connection.query_row(&query, NONE, |row| row.get::<i64>(0))?.unsigned_abs())
        };
        let differences = differences(connection)?;
        let (accounts, requests, open) = (count("balances")?, count("usage")?, count("reservations")?);
        Ok(Verified { accounts, requests, open, differences })
    })
}

/// What does not add up.
pub(crate) fn differences(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let mut differences = balances(connection)?;
    differences.extend(spending(connection)?);
    differences.extend(days(connection)?);
    differences.extend(months(connection)?);
    differences.truncate(DIFFERENCES_MAX);
    Ok(differences)
}

/// What the books say, and what the journal adds up to: first as rows of two columns for each sum, then added up by what
/// they belong to. (A join of both would compare each with each.)
fn balances(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let query = "WITH rows (account, month, books_used, used, books_reserved, reserved) AS (
            SELECT 'user:' || user_id, month, 0, sum(user_charge), 0, 0 FROM usage GROUP BY user_id, month
            UNION ALL SELECT 'key:' || key_id, month, 0, sum(key_charge), 0, 0 FROM usage WHERE key_account <> 0
                GROUP BY key_id, month
            UNION ALL SELECT 'user:' || user_id, month, 0, 0, 0, tokens FROM reservations
            UNION ALL SELECT 'key:' || key_id, month, 0, 0, 0, key_tokens FROM reservations WHERE key_account <> 0
            UNION ALL SELECT account, month, used, 0, reserved, 0 FROM balances
        )
        SELECT coalesce(
            (SELECT 'user ' || name FROM users WHERE 'user:' || id = account),
            (SELECT 'key ' || public_id FROM keys WHERE 'key:' || id = account), account), month,
            sum(books_used), sum(used), sum(books_reserved), sum(reserved)
        FROM rows GROUP BY account, month
        HAVING sum(books_used) <> sum(used) OR sum(books_reserved) <> sum(reserved) ORDER BY month, account";
    off(connection, query, &["used", "reserved"])
}

/// The same of money for other servers: of each account, and of each server's own budget.
fn spending(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let query = "WITH rows (account, month, books_used, used, books_reserved, reserved) AS (
            SELECT 'user:' || user_id, month, 0, sum(cost), 0, 0 FROM usage WHERE cost > 0 GROUP BY user_id, month
            UNION ALL SELECT 'key:' || key_id, month, 0, sum(cost), 0, 0 FROM usage WHERE cost > 0 AND key_account <> 0
                GROUP BY key_id, month
            UNION ALL SELECT served_by, month, 0, sum(cost), 0, 0 FROM usage WHERE cost > 0 GROUP BY served_by, month
            UNION ALL SELECT 'user:' || user_id, month, 0, 0, 0, cost FROM reservations WHERE cost > 0
            UNION ALL SELECT 'key:' || key_id, month, 0, 0, 0, cost FROM reservations WHERE cost > 0 AND key_account <> 0
            UNION ALL SELECT served_by, month, 0, 0, 0, cost FROM reservations WHERE cost > 0
            UNION ALL SELECT account, month, used, 0, reserved, 0 FROM spending
        )
        SELECT coalesce(
            (SELECT 'user ' || name FROM users WHERE 'user:' || id = account),
            (SELECT 'key ' || public_id FROM keys WHERE 'key:' || id = account), account), month,
            sum(books_used), sum(used), sum(books_reserved), sum(reserved)
        FROM rows GROUP BY account, month
        HAVING sum(books_used) <> sum(used) OR sum(books_reserved) <> sum(reserved) ORDER BY month, account";
    off(connection, query, &["money used", "money reserved"])
}

/// What is summed of requests, beside how many they are: the columns, and their words.
const SUMMED: [(&str, &str); 8] = [
    ("prompt_tokens", "prompt tokens"),
    ("cached_tokens", "cached tokens"),
    ("completion_tokens", "completion tokens"),
    ("cost", "cost"),
    ("energy_uj", "energy"),
    ("cpu_us", "time of processors"),
    ("electricity", "electricity"),
    ("machine", "machine"),
];

fn days(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let name = "(SELECT public_id FROM keys WHERE id = key_id) || ' on ' || day || ' with ' || model";
    sums(connection, "usage_daily", name, "month, day, key_id, model, served_by, endpoint")
}

fn months(connection: &Connection) -> Result<Vec<Difference>, LedgerError> {
    let name = "(SELECT public_id FROM keys WHERE id = key_id) || ' with ' || model";
    sums(connection, "usage_monthly", name, "month, key_id, model")
}

/// The differences between the sums of a table, which are kept by these columns, and the requests.
fn sums(connection: &Connection, table: &str, name: &str, by: &str) -> Result<Vec<Difference>, LedgerError> {
    let each = |of: &dyn Fn(&str) -> String| SUMMED.map(|(column, _)| of(column)).join(", ");
    let both = each(&|column| format!("books_{column}, {column}"));
    let (journal, books) = (each(&|column| format!("0, sum({column})")), each(&|column| format!("{column}, 0")));
    let told = each(&|column| format!("sum(books_{column}), sum({column})"));
    let differ = SUMMED.map(|(column, _)| format!("OR sum(books_{column}) <> sum({column})")).join(" ");
    let query = format!(
        "WITH rows ({by}, books_requests, requests, {both}) AS (
            SELECT {by}, 0, count(*), {journal} FROM usage GROUP BY {by}
            UNION ALL SELECT {by}, requests, 0, {books} FROM {table}
        )
        SELECT {name}, month, sum(books_requests), sum(requests), {told} FROM rows GROUP BY {by}
        HAVING sum(books_requests) <> sum(requests) {differ}"
    );
    let words: Vec<&'static str> = std::iter::once("requests").chain(SUMMED.map(|(_, word)| word)).collect();
    off(connection, &query, &words)
}

/// The differences that a query finds: whose, the month, and for each of these sums the books and the journal.
fn off(connection: &Connection, query: &str, sums: &[&'static str]) -> Result<Vec<Difference>, LedgerError> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(NONE)?;
    let mut differences = Vec::new();
    while let Some(row) = rows.next()? {
        for (index, what) in sums.iter().enumerate() {
            let (books, journal) = (row.get(2 + 2 * index)?, row.get(3 + 2 * index)?);
            differences.push(Difference { account: row.get(0)?, month: row.get(1)?, what, books, journal });
        }
    }
    differences.retain(|difference| difference.off_by() != 0);
    Ok(differences)
}

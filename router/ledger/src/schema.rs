//! The database's shape, as migrations in order, and how its connections are opened.

use std::path::Path;
use std::time::Duration;

use allerac_schema::Migration;
use rusqlite::OpenFlags;

use crate::error::LedgerError;
use crate::ledger::Place;
use crate::sql::{AnyParam, Connection, NONE};

/// How long a connection waits for another process that writes.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Pages of the log (32 MiB) after which a commit also moves it into the database, which takes as long as tens of
/// commits.
const CHECKPOINT_PAGES: u32 = 8192;

const MIGRATIONS: &[Migration] = &[
    Migration {
        up: FIRST,
        down: "DROP TABLE usage; DROP TABLE reservations; DROP TABLE balances; DROP TABLE keys; DROP TABLE users;",
    },
    Migration { up: include_str!("schema/2_up.sql"), down: include_str!("schema/2_down.sql") },
    Migration { up: include_str!("schema/3_up.sql"), down: include_str!("schema/3_down.sql") },
    Migration { up: include_str!("schema/4_up.sql"), down: include_str!("schema/4_down.sql") },
    Migration { up: include_str!("schema/5_up.sql"), down: include_str!("schema/5_down.sql") },
    Migration { up: include_str!("schema/6_up.sql"), down: include_str!("schema/6_down.sql") },
    Migration { up: include_str!("schema/7_up.sql"), down: include_str!("schema/7_down.sql") },
    Migration { up: include_str!("schema/8_up.sql"), down: include_str!("schema/8_down.sql") },
    Migration { up: include_str!("schema/9_up.sql"), down: include_str!("schema/9_down.sql") },
    Migration { up: include_str!("schema/10_up.sql"), down: include_str!("schema/10_down.sql") },
    Migration { up: include_str!("schema/11_up.sql"), down: include_str!("schema/11_down.sql") },
];

/// The same shape for `PostgreSQL`, by the number of the migration that it is the same as. It began with the eighth.
const SERVER_MIGRATIONS: &[(i64, &str)] = &[
    (8, include_str!("schema/postgres/8.sql")),
    (9, include_str!("schema/postgres/9.sql")),
    (10, include_str!("schema/postgres/10.sql")),
    (11, include_str!("schema/postgres/11.sql")),
];

const FIRST: &str = "CREATE TABLE users (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE COLLATE NOCASE,
        role TEXT NOT NULL,
        plan TEXT NOT NULL,
        salt INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        public_id TEXT NOT NULL UNIQUE,
        hash BLOB NOT NULL,
        user_id INTEGER NOT NULL REFERENCES users (id),
        label TEXT NOT NULL,
        plan TEXT,
        upstreams TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        revoked_at INTEGER
    ) STRICT;
    -- One row an account and month. An account is 'user:ID', or 'key:ID' for a key with a plan of its own.
    CREATE TABLE balances (
        account TEXT NOT NULL,
        month TEXT NOT NULL,
        used INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
        reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
        PRIMARY KEY (account, month)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE reservations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request_id TEXT NOT NULL UNIQUE,
        key_id INTEGER NOT NULL REFERENCES keys (id),
        user_id INTEGER NOT NULL REFERENCES users (id),
        key_account INTEGER NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        served_by TEXT NOT NULL,
        tokens INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        day TEXT NOT NULL,
        month TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE usage (
        id INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        key_id INTEGER NOT NULL REFERENCES keys (id),
        user_id INTEGER NOT NULL REFERENCES users (id),
        key_account INTEGER NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        served_by TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        day TEXT NOT NULL,
        month TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        settled_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX usage_by_day ON usage (day, key_id, model);";

/// Opens the database for writing and brings its schema up to date.
pub(crate) fn open_writer(place: &Place) -> Result<Connection, LedgerError> {
    let path = match place {
        Place::File(path) => path,
        Place::Server(server) => {
            let mut connection = Connection::server(server)?;
            migrate_server(&mut connection)?;
            return Ok(connection);
        }
    };
    let mut connection = rusqlite::Connection::open(path)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the log at every commit: what was promised survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.set_prepared_statement_cache_capacity(64);
    migrate(&mut connection)?;
    Ok(Connection::Sqlite(connection))
}

/// Brings the schema of a file up to date.
pub(crate) fn migrate(connection: &mut rusqlite::Connection) -> Result<(), LedgerError> {
    Ok(allerac_schema::to_latest(connection, MIGRATIONS)?)
}

/// Takes a file that a newer version shaped back to what is known here; says how many changes were taken back.
pub(crate) fn downgrade(path: &Path) -> Result<usize, LedgerError> {
    let mut connection = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(allerac_schema::to_known(&mut connection, MIGRATIONS)?)
}

/// Brings the schema of a server's database up to date. Several that start at once do it one after the other.
fn migrate_server(connection: &mut Connection) -> Result<(), LedgerError> {
    connection.write(|connection| {
        connection.batch("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")?;
        let version = "SELECT coalesce(max(version), 0) FROM schema_version";
        let version: i64 = connection.query_row(version, NONE, |row| row.get(0))?;
        if version > SERVER_MIGRATIONS.last().map_or(0, |(last, _)| *last) {
            return Err(LedgerError::Newer);
        }
        for (number, change) in SERVER_MIGRATIONS.iter().filter(|(number, _)| *number > version) {
            connection.batch(change)?;
            connection.execute("INSERT INTO schema_version (version) VALUES (?1)", [*number])?;
        }
        Ok(())
    })
}

/// Opens the database for reading.
pub(crate) fn open_reader(place: &Place) -> Result<Connection, LedgerError> {
    let path = match place {
        Place::File(path) => path,
        Place::Server(server) => {
            let connection = Connection::server(server)?;
            connection.batch("SET default_transaction_read_only = on")?;
            return Ok(connection);
        }
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(Connection::Sqlite(connection))
}

/// All tables; what a row of one refers to is in one before it.
pub(crate) fn tables() -> Result<Vec<String>, LedgerError> {
    let shaped = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> ?1 ORDER BY rowid";
    names(shaped, [allerac_schema::WAYS_BACK])
}

/// The columns of a table; the one that numbers its rows is the first.
pub(crate) fn columns(table: &str) -> Result<Vec<String>, LedgerError> {
    names("SELECT name FROM pragma_table_info(?1) ORDER BY cid", [table])
}

/// What empty books say about their shape.
fn names<P: AnyParam>(query: &str, params: impl AsRef<[P]>) -> Result<Vec<String>, LedgerError> {
    let mut empty = rusqlite::Connection::open_in_memory()?;
    migrate(&mut empty)?;
    let empty = Connection::Sqlite(empty);
    let mut statement = empty.prepare_cached(query)?;
    let names = statement.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names)
}

/// Empty books, for tests.
#[cfg(test)]
pub(crate) fn in_memory() -> Connection {
    let mut connection = rusqlite::Connection::open_in_memory().unwrap();
    allerac_schema::known(MIGRATIONS).to_latest(&mut connection).unwrap();
    Connection::Sqlite(connection)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use allerac_schema::known;

    use super::MIGRATIONS;
    use crate::sql;

    #[test]
    fn every_migration_goes_up_and_down() {
        let mut connection = Connection::open_in_memory().unwrap();
        let migrations = known(MIGRATIONS);
        migrations.validate().unwrap();
        migrations.to_latest(&mut connection).unwrap();
        migrations.to_version(&mut connection, 0).unwrap();
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
        migrations.to_latest(&mut connection).unwrap();
    }

    /// A box as the first version left it: a user without a limit, one whose key has a plan of its own, and one whose
    /// plan was never known; a settled request and an open one of each.
    const AS_IT_WAS: &str = "
        INSERT INTO users VALUES (1, 'olga', 'owner', 'unlimited', 5, 100), (2, 'kim', 'member', 'personal', 6, 200),
            (3, 'zoe', 'member', 'gold', 7, 300);
        INSERT INTO keys VALUES (1, 'aaaaaaaaaaaa', x'00', 1, 'first key', NULL, '', 100, NULL),
            (2, 'bbbbbbbbbbbb', x'01', 2, 'ide', 'starter', '', 200, NULL),
            (3, 'cccccccccccc', x'02', 3, 'x', 'silver', '*', 300, 400);
        INSERT INTO reservations VALUES (7, 'r7', 2, 2, 1, 'm', 'chat', 'local', 50, 0, '2026-11-02', '2026-11', 9),
            (8, 'r8', 1, 1, 0, 'm', 'chat', 'local', 60, 1, '2026-11-02', '2026-11', 9);
        INSERT INTO usage VALUES
            (1, 'r1', 1, 1, 0, 'm', 'chat', 'local', 10, 4, 5, 'completed', '2026-11-01', '2026-11', 9, 9),
            (2, 'r2', 2, 2, 1, 'm', 'chat', 'local', 20, 0, 7, 'completed', '2026-11-01', '2026-11', 9, 9),
            (3, 'r3', 2, 2, 1, 'm', 'chat', 'local', 1, 0, 1, 'cancelled', '2026-11-01', '2026-11', 9, 9);
        INSERT INTO balances VALUES ('user:1', '2026-11', 15, 60), ('user:2', '2026-11', 29, 50),
            ('key:2', '2026-11', 29, 50);";

    /// Does something over a connection as the ledger does.
    fn with<T>(connection: &mut Connection, work: impl FnOnce(&sql::Connection) -> T) -> T {
        let books = sql::Connection::Sqlite(std::mem::replace(connection, Connection::open_in_memory().unwrap()));
        let result = work(&books);
        if let sql::Connection::Sqlite(given_back) = books {
            *connection = given_back;
        }
        result
    }

    fn differences(connection: &mut Connection) -> Result<Vec<crate::Difference>, crate::LedgerError> {
        with(connection, crate::journal::differences)
    }

    fn rows(connection: &Connection, query: &str) -> Vec<String> {
        let mut statement = connection.prepare(query).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let cells = (0..columns).map(|index| match row.get_ref_unwrap(index) {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            });
            Ok(cells.collect::<Vec<_>>().join(" "))
        };
        statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn plans_become_rows_and_nothing_is_lost_on_the_way_up_or_down() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        let migrations = known(MIGRATIONS);
        migrations.to_version(&mut connection, 1).unwrap();
        connection.execute_batch(AS_IT_WAS).unwrap();
        migrations.to_latest(&mut connection).unwrap();
        assert_eq!(differences(&mut connection).unwrap(), []);
        let plans = rows(&connection, "SELECT users.plan, keys.plan FROM users JOIN keys ON keys.user_id = users.id");
        assert_eq!(plans, ["unlimited Null", "personal starter", "starter starter"]);
        let days = rows(&connection, "SELECT day, key_id, requests, prompt_tokens, completion_tokens FROM usage_daily");
        assert_eq!(days, ["2026-11-01 1 1 10 5", "2026-11-01 2 2 21 8"]);
        // An open request is settled as it would have been.
        with(&mut connection, |books| crate::reservation::settle(books, 7, None, 0)).unwrap();
        assert_eq!(differences(&mut connection).unwrap(), []);

        // Tokens that counted for more, under a plan that the older version has no word for.
        connection
            .execute_batch(
                "INSERT INTO plans (name, counts, class, upstreams) VALUES ('billed', 'weighted', 'chat', 0);
                 UPDATE users SET plan = 'billed' WHERE id = 2;
                 UPDATE usage SET user_charge = 54 WHERE id = 2;
                 UPDATE balances SET used = 56 WHERE account = 'user:2';
                 INSERT INTO increases VALUES (1, 2, 5, 10, 1);",
            )
            .unwrap();
        migrations.to_version(&mut connection, 1).unwrap();
        let balances = rows(&connection, "SELECT * FROM balances ORDER BY account");
        assert_eq!(balances, ["key:2 2026-11 29 0", "user:1 2026-11 15 60", "user:2 2026-11 29 0"]);
        assert_eq!(rows(&connection, "SELECT plan FROM users"), ["unlimited", "starter", "starter"]);
        assert_eq!(rows(&connection, "SELECT count(*) FROM usage"), ["3"]);
        migrations.to_latest(&mut connection).unwrap();
        assert_eq!(differences(&mut connection).unwrap(), []);
        assert_eq!(rows(&connection, "PRAGMA foreign_key_check"), Vec::<String>::new());
    }

    /// The version that has people's roles.
    const PEOPLE: usize = 7;

    #[test]
    fn what_the_version_before_cannot_hold_to_opens_nothing_there() {
        let mut connection = Connection::open_in_memory().unwrap();
        known(MIGRATIONS).to_latest(&mut connection).unwrap();
        let some = "
            INSERT INTO users (id, name, role, plan, salt, created_at, hours, password) VALUES
                (1, 'olga', 'owner', 'unlimited', 1, 1, '', 'h'), (2, 'kid', 'child', 'starter', 2, 1, '', NULL),
                (3, 'shop', 'team', 'pro', 3, 1, '', NULL), (4, 'ann', 'member', 'pro', 4, 1, '08:00-09:00', NULL);
            INSERT INTO keys (id, public_id, hash, user_id, label, upstreams, created_at, kind, scopes, team_id) VALUES
                (1, 'plain', x'00', 1, '', '', 1, 'key', '', NULL), (2, 'page', x'00', 1, '', '', 1, 'page', '', NULL),
                (3, 'scoped', x'00', 1, '', '', 1, 'key', 'files', NULL), (4, 'kids', x'00', 2, '', '', 1, 'key', '', NULL),
                (5, 'team', x'00', 1, '', '', 1, 'key', '', 3), (6, 'hours', x'00', 4, '', '', 1, 'key', '', NULL);
            INSERT INTO balances (account, month, used) VALUES ('user:3', '2026-11', 7);
            INSERT INTO sessions VALUES (1, 's', x'00', 2, '', '', 1, 2, 1);
            INSERT INTO members VALUES (3, 1, 1);";
        connection.execute_batch(some).unwrap();
        let migrations = known(MIGRATIONS);
        migrations.to_version(&mut connection, PEOPLE - 1).unwrap();
        let open = rows(&connection, "SELECT public_id FROM keys WHERE revoked_at IS NULL");
        assert_eq!(open, ["plain"]);
        let roles = rows(&connection, "SELECT name, role FROM users ORDER BY id");
        assert_eq!(roles, ["olga owner", "kid member", "shop member", "ann member"]);
        assert_eq!(rows(&connection, "SELECT account, used FROM balances"), ["user:3 7"]);
        migrations.to_latest(&mut connection).unwrap();
        let keys = rows(&connection, "SELECT public_id, kind, scopes FROM keys WHERE id = 3");
        assert_eq!(keys, ["scoped key "]);
        assert_eq!(rows(&connection, "PRAGMA foreign_key_check"), Vec::<String>::new());
    }

    /// The version that has budgets of money.
    const BUDGETS: usize = 11;

    #[test]
    fn what_was_spent_before_there_were_budgets_counts_for_them() {
        let mut connection = Connection::open_in_memory().unwrap();
        let migrations = known(MIGRATIONS);
        migrations.to_version(&mut connection, BUDGETS - 1).unwrap();
        let some = "
            INSERT INTO users (id, name, role, plan, salt, created_at) VALUES (1, 'olga', 'owner', 'pro', 1, 1);
            INSERT INTO keys (id, public_id, hash, user_id, label, plan, upstreams, created_at)
                VALUES (1, 'k', x'00', 1, '', 'pro', '', 1);
            INSERT INTO usage (request_id, key_id, user_id, key_account, model, endpoint, served_by, prompt_tokens,
                cached_tokens, completion_tokens, outcome, day, month, created_at, settled_at, cost) VALUES
                ('a', 1, 1, 0, 'm', 'e', 'upstream:far', 1, 0, 1, 'completed', 'd', '2026-11', 1, 1, 30),
                ('b', 1, 1, 1, 'm', 'e', 'upstream:far', 1, 0, 1, 'completed', 'd', '2026-11', 1, 1, 12),
                ('c', 1, 1, 1, 'm', 'e', 'local', 1, 0, 1, 'completed', 'd', '2026-11', 1, 1, 0);";
        connection.execute_batch(some).unwrap();
        migrations.to_latest(&mut connection).unwrap();
        let spent = rows(&connection, "SELECT account, month, used, reserved FROM spending ORDER BY account");
        assert_eq!(spent, ["key:1 2026-11 12 0", "upstream:far 2026-11 42 0", "user:1 2026-11 42 0"]);
        let spent = |off: &crate::Difference| off.what.starts_with("money");
        assert!(!differences(&mut connection).unwrap().iter().any(spent));
        // Whoever relied on there being no bound keeps none.
        let budgets = "SELECT count(*) FROM plans WHERE upstream_budget IS NOT NULL";
        assert_eq!(rows(&connection, budgets), ["0"]);
        migrations.to_version(&mut connection, BUDGETS - 1).unwrap();
        assert_eq!(rows(&connection, "SELECT sum(cost) FROM usage"), ["42"]);
    }

    /// The version that has passkeys.
    const PASSKEYS: usize = 9;

    #[test]
    fn people_stay_where_their_passkeys_go() {
        let mut connection = Connection::open_in_memory().unwrap();
        known(MIGRATIONS).to_latest(&mut connection).unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        let some = "
            INSERT INTO users (id, name, role, plan, salt, created_at, password) VALUES (1, 'olga', 'owner', 'pro', 1, 1, 'h');
            INSERT INTO passkeys VALUES (1, 'p', 1, 'allerac.local', x'01', x'02', 'phone', 3, 0, 1, NULL);
            INSERT INTO identities VALUES (1, 'i', 'https://id.example', 'sub', 1, 'olga@example', 1, NULL, NULL);
            INSERT INTO password_links VALUES (1, 'l', x'00', 1, 2);";
        connection.execute_batch(some).unwrap();
        let migrations = known(MIGRATIONS);
        migrations.to_version(&mut connection, PASSKEYS - 1).unwrap();
        assert_eq!(rows(&connection, "SELECT name, password FROM users"), ["olga h"]);
        migrations.to_latest(&mut connection).unwrap();
        assert_eq!(rows(&connection, "SELECT count(*) FROM passkeys"), ["0"]);
        assert_eq!(rows(&connection, "PRAGMA foreign_key_check"), Vec::<String>::new());
    }
}

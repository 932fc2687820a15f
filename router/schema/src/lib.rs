//! The shape of an `SQLite` file, as migrations in order that an older version of the program can take back.
//!
//! A version of the program knows the way back from every shape that it makes, and none of those that come after it. So
//! the ways lie in the file itself, in a table of their own: a box whose update did not work boots the version before,
//! and that one finds in the file how to get to the shape that it knows.

use std::collections::HashMap;
use std::ops::Range;

use rusqlite::Connection;
use rusqlite_migration::{Error, M, MigrationDefinitionError, Migrations};

/// The table with the ways back, which no migration makes or removes.
pub const WAYS_BACK: &str = "ways_back";

const MAKE_WAYS: &str = "CREATE TABLE IF NOT EXISTS ways_back (version INTEGER PRIMARY KEY, way TEXT NOT NULL) STRICT;";

/// One change of the shape: statements that make it, and statements that take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// To this shape.
    pub up: &'static str,
    /// To the one before. What that one has no place for is lost; whatever it has a place for stays.
    pub down: &'static str,
}

/// Brings a file to the newest shape, and leaves the ways back in it.
///
/// # Errors
/// [`Error::MigrationDefinition`] with [`MigrationDefinitionError::DatabaseTooFarAhead`] where a newer version of the
/// program has shaped the file, and whatever the database says; then nothing is changed.
pub fn to_latest(connection: &mut Connection, migrations: &[Migration]) -> Result<(), Error> {
    if version(connection)? > migrations.len() {
        return Err(Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead));
    }
    // First the ways: whenever power fails, there is one from wherever the file then is.
    leave_ways(connection, migrations)?;
    known(migrations).to_latest(connection)
}

/// Takes a file that a newer version of the program has shaped back to what this one knows. Says how many changes were
/// taken back; none where this version knows the file's shape.
///
/// # Errors
/// [`Error::MigrationDefinition`] with [`MigrationDefinitionError::DownNotDefined`] where the file lacks a way, and
/// whatever the database says; then nothing is changed.
pub fn to_known(connection: &mut Connection, migrations: &[Migration]) -> Result<usize, Error> {
    let beyond = migrations.len()..version(connection)?;
    if beyond.is_empty() {
        return Ok(0);
    }
    let ways = ways(connection, &beyond)?;
    // The shapes beyond are never made here: only their ways back matter.
    let steps = migrations.iter().map(|known| M::up(known.up).down(known.down));
    let steps = steps.chain(ways.iter().map(|way| M::up("").down(way)));
    Migrations::new(steps.collect()).to_version(connection, beyond.start)?;
    Ok(beyond.len())
}

/// The migrations as the library wants them.
#[must_use]
pub fn known(migrations: &[Migration]) -> Migrations<'static> {
    Migrations::new(migrations.iter().map(|one| M::up(one.up).down(one.down)).collect())
}

/// The number of changes that made a file what it is.
///
/// # Errors
/// Whatever the database says.
pub fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // A file that says less than nothing is nobody's: what is done to it next will say so.
    Ok(usize::try_from(version).unwrap_or_default())
}

fn leave_ways(connection: &mut Connection, migrations: &[Migration]) -> rusqlite::Result<()> {
    connection.execute_batch(MAKE_WAYS)?;
    let transaction = connection.transaction()?;
    for (version, migration) in (1i64..).zip(migrations) {
        // Writes only what is not there already: books are opened more often than their shape changes.
        transaction.execute(
            "INSERT INTO ways_back (version, way) VALUES (?1, ?2)
             ON CONFLICT (version) DO UPDATE SET way = excluded.way WHERE way <> excluded.way",
            (version, migration.down),
        )?;
    }
    transaction.commit()
}

/// The ways back from the shapes after those that are known, in order.
fn ways(connection: &Connection, beyond: &Range<usize>) -> Result<Vec<String>, Error> {
    let missing =
        || Error::MigrationDefinition(MigrationDefinitionError::DownNotDefined { migration_index: beyond.start });
    if !connection.table_exists(None::<&str>, WAYS_BACK)? {
        return Err(missing());
    }
    let mut select = connection.prepare("SELECT version, way FROM ways_back")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut left = rows.collect::<rusqlite::Result<HashMap<i64, String>>>()?;
    let way = |index: usize| left.remove(&i64::try_from(index + 1).ok()?);
    let found: Option<Vec<_>> = beyond.clone().map(way).collect();
    found.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [Migration; 1] = [Migration { up: "CREATE TABLE people (name TEXT);", down: "DROP TABLE people;" }];
    const NEW: [Migration; 3] = [
        OLD[0],
        Migration {
            up: "ALTER TABLE people ADD COLUMN age INTEGER NOT NULL DEFAULT 0;",
            down: "ALTER TABLE people DROP COLUMN age;",
        },
        Migration {
            up: "CREATE TABLE pets (name TEXT); INSERT INTO pets VALUES ('rex');",
            down: "INSERT INTO people (name, age) SELECT name, 1 FROM pets; DROP TABLE pets;",
        },
    ];

    fn new_file() -> Connection {
        let mut file = Connection::open_in_memory().unwrap();
        to_latest(&mut file, &OLD).unwrap();
        file.execute("INSERT INTO people VALUES ('kim')", []).unwrap();
        to_latest(&mut file, &NEW).unwrap();
        file
    }

    fn people(file: &Connection) -> Vec<String> {
        let mut select = file.prepare("SELECT * FROM people ORDER BY name").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn an_older_version_goes_back_by_what_the_newer_one_left() {
        let mut file = new_file();
        let refused = to_latest(&mut file, &OLD).unwrap_err();
        assert_eq!(refused, Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead));
        assert_eq!(to_known(&mut file, &OLD), Ok(2));
        assert_eq!(version(&file), Ok(1));
        assert_eq!(people(&file), ["kim", "rex"]);
        to_latest(&mut file, &OLD).unwrap();
        assert_eq!(to_known(&mut file, &OLD), Ok(0));
        // And forth again.
        to_latest(&mut file, &NEW).unwrap();
        assert_eq!(version(&file), Ok(3));
    }

    #[test]
    fn where_a_way_is_missing_or_leads_nowhere_nothing_changes() {
        for spoiled in [
            "DELETE FROM ways_back WHERE version = 2",
            "DROP TABLE ways_back",
            "UPDATE ways_back SET way = 'DROP TABLE nothing' WHERE version = 2",
        ] {
            let mut file = new_file();
            file.execute_batch(spoiled).unwrap();
            let has_ways = file.table_exists(None::<&str>, WAYS_BACK);
            to_known(&mut file, &OLD).unwrap_err();
            assert_eq!(file.table_exists(None::<&str>, WAYS_BACK), has_ways, "{spoiled}");
            assert_eq!(version(&file), Ok(3), "{spoiled}");
            assert_eq!(
                file.query_row("SELECT name FROM pets", [], |row| row.get(0)),
                Ok("rex".to_owned()),
                "{spoiled}"
            );
        }
    }

    #[test]
    fn a_way_that_was_mended_takes_the_place_of_the_one_before() {
        let mut file = new_file();
        file.execute_batch("UPDATE ways_back SET way = 'DROP TABLE nothing' WHERE version = 3").unwrap();
        to_latest(&mut file, &NEW).unwrap();
        assert_eq!(to_known(&mut file, &OLD), Ok(2));
    }
}

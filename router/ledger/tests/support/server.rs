//! The same tests over books in `PostgreSQL`: `scripts/with-postgres.sh` starts a server and says where it is.

use std::path::Path;

use allerac_ledger::Postgres;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

/// The address of a server that the tests may make databases on, without the name of one.
pub(crate) const SERVER: &str = "ALLERAC_TEST_POSTGRES";

/// The database of a data directory, made where it is missing; `None` where the books are in files.
pub(crate) fn database(directory: &Path) -> Option<Postgres> {
    let server = std::env::var(SERVER).ok()?;
    let name = directory.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let (maintenance, address) = (format!("{server}/postgres"), format!("{server}/t{name}"));
    let create = format!("CREATE DATABASE \"t{name}\"");
    // A runtime of its own: tests have one already.
    let made = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&maintenance, NoTls).await.unwrap();
            tokio::spawn(connection);
            match client.batch_execute(&create).await {
                Err(error) if error.code() != Some(&SqlState::DUPLICATE_DATABASE) => panic!("{error:?}"),
                _ => {}
            }
        });
    });
    made.join().unwrap();
    Some(Postgres::new(&address, None).unwrap())
}

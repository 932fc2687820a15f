//! The same tests over books in `PostgreSQL`: `scripts/with-postgres.sh` starts a server and says where it is.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use allerac_ledger::{Clock, Ledger, Options, Postgres};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

/// The address of a server that the tests may make databases on, without the name of one.
pub(crate) const SERVER: &str = "ALLERAC_TEST_POSTGRES";

fn database_name(directory: &Path) -> String {
    let name = directory.file_name().unwrap().to_string_lossy();
    format!("t{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// The database of a data directory, made where it is missing; `None` where the books are in files.
pub(crate) fn database(directory: &Path) -> Option<Postgres> {
    let server = std::env::var(SERVER).ok()?;
    let name = database_name(directory);
    let (maintenance, address) = (format!("{server}/postgres"), format!("{server}/{name}"));
    let create = format!("CREATE DATABASE \"{name}\"");
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

/// A way to the server that cuts a connection when the server has answered a commit, and keeps the answer; so often as
/// `cuts` says. The address of a data directory's database by this way.
pub(crate) async fn lossy(directory: &Path, cuts: Arc<AtomicU32>) -> Postgres {
    database(directory);
    let server = std::env::var(SERVER).unwrap();
    let (user, host) = server.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
    let host = host.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = database_name(directory);
    let address = format!("postgres://{user}@{}/{name}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&host).await.unwrap();
            tokio::spawn(carry(client, server, Arc::clone(&cuts)));
        }
    });
    Postgres::new(&address, None).unwrap()
}

async fn carry(mut client: TcpStream, mut server: TcpStream, cuts: Arc<AtomicU32>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_last = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(length @ 1..) => {
                    let is_commit = asked[..length].windows(6).any(|window| window == b"COMMIT");
                    let fewer = |left: u32| left.checked_sub(1);
                    is_last = is_commit && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok();
                    server.write_all(&asked[..length]).await.unwrap();
                }
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(length @ 1..) if !is_last => client.write_all(&answered[..length]).await.unwrap(),
                _ => return,
            },
        }
    }
}

/// When everything happens.
pub(crate) const NOW: i64 = 1_795_000_000;

pub(crate) fn clock() -> Clock {
    Clock::new(|| Timestamp::from_second(NOW).unwrap())
}

/// A server that shares the books of `books` and has its own data directory.
pub(crate) struct Replica {
    pub(crate) ledger: Ledger,
    pub(crate) folder: TempDir,
}

impl Replica {
    pub(crate) fn open(books: &TempDir) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Self::ledger(books, folder.path());
        Self { ledger, folder }
    }

    pub(crate) fn ledger(books: &TempDir, directory: &Path) -> Ledger {
        let database = database(books.path());
        assert!(database.is_some(), "{SERVER} is not set");
        Ledger::open_with(directory, TimeZone::UTC, Options { clock: clock(), check: true, database }).unwrap()
    }
}

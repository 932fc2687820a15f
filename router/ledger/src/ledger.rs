//! The handle that everything goes through.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::check;
use crate::error::LedgerError;
use crate::gate::Gate;
use crate::inflight::Inflight;
use crate::last_use::{self, LastUse};
use crate::leftover;
use crate::lock;
use crate::plan::Plan;
use crate::schema;
use crate::sql::{Connection, DatabaseError, Postgres};
use crate::time::Moment;
use crate::writer::Writer;

/// Reading connections kept open; more are opened while more are needed, and closed after.
const READERS_KEPT_MAX: usize = 8;

/// Who reads at once where the books are on a server, which has few connections for all; and how long others wait.
const READING_MAX: usize = 16;
const READING_WAIT: Duration = Duration::from_secs(10);

/// The ledger of one data directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) writer: Writer,
    zone: TimeZone,
    clock: Clock,
    actor: Arc<str>,
    /// The admin whose hands it is in, who governs some people and not others.
    admin: Option<Arc<str>>,
    shared: Arc<Shared>,
}

/// How a ledger is opened, where that is not as usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Tells the time.
    pub clock: Clock,
    /// Checks in each transaction that the books follow from the journal, and refuses it where they do not.
    pub check: bool,
    /// Where the books are, if not in a file of the data directory.
    pub database: Option<Postgres>,
}

/// Where the books are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Server(Postgres),
}

/// Tells the time. Clones tell the same.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock of one's own: tests let time jump.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> i64 {
        (self.0)().as_second()
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

type Readers = Vec<Connection>;

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    place: Place,
    /// Which of several servers that share the books this is; nothing where they are in a file.
    replica: String,
    readers: Mutex<Readers>,
    /// Those who read on a server.
    reading: Gate,
    inflight: OnceLock<Arc<Inflight>>,
    plans: Mutex<HashMap<i64, Arc<Plan>>>,
    last_use: Mutex<LastUse>,
}

/// What a start settled of the run before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Requests that had started, charged what was counted.
    pub charged: u32,
    /// Requests that had not, released.
    pub released: u32,
}

impl Ledger {
    /// Opens the ledger of a data directory, making both where they are missing. Months and days are
    /// those of `zone`. Any number of processes may have it open.
    ///
    /// # Errors
    /// [`LedgerError::NotWritable`], [`LedgerError::Full`] and others.
    pub fn open(directory: &Path, zone: TimeZone) -> Result<Self, LedgerError> {
        Self::open_with(directory, zone, Options::default())
    }

    /// Takes the ledger's file in a data directory, which a newer version of the program shaped, back to what this one
    /// knows: what only that one had a place for is lost. Says how many changes were taken back; none where there is
    /// nothing to do, or no file.
    ///
    /// # Errors
    /// [`LedgerError::NoWayBack`] where the file does not say how it is taken back, and others; then nothing is changed.
    pub fn downgrade(directory: &Path) -> Result<usize, LedgerError> {
        let path = database(directory);
        if !path.exists() {
            return Ok(0);
        }
        let _opening = lock::wait_to_open(directory)?;
        schema::downgrade(&path)
    }

    /// The same, otherwise than usual.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(directory: &Path, zone: TimeZone, options: Options) -> Result<Self, LedgerError> {
        let not_writable = |source| LedgerError::NotWritable { path: directory.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(not_writable)?;
        let opening = lock::wait_to_open(directory)?;
        let (place, replica) = match options.database {
            Some(server) => (Place::Server(server), lock::replica(directory)?),
            None => {
                let path = database(directory);
                make_private(&path)
                    .and_then(|made| if made { sync_folder(directory) } else { Ok(()) })
                    .map_err(|source| LedgerError::NotWritable { path: path.clone(), source })?;
                (Place::File(path), String::new())
            }
        };
        let connection = schema::open_writer(&place)?;
        drop(opening);
        if options.check {
            check::watch(&connection)?;
        }
        let writer = Writer::start(connection, options.check).map_err(not_writable)?;
        let shared = Shared {
            directory: directory.to_owned(),
            place,
            replica,
            readers: Mutex::default(),
            reading: Gate::default(),
            inflight: OnceLock::new(),
            plans: Mutex::default(),
            last_use: Mutex::default(),
        };
        Ok(Self { writer, zone, clock: options.clock, actor: "server".into(), admin: None, shared: Arc::new(shared) })
    }

    /// The same ledger in the hands of somebody else: who it is stands in the audit log.
    #[must_use]
    pub fn acting_as(self, actor: &str) -> Self {
        Self { actor: actor.into(), ..self }
    }

    /// The same ledger in the hands of an admin: it is noted whose secrets they have in hand.
    #[must_use]
    pub fn by_admin(self, name: &str) -> Self {
        Self { admin: Some(name.into()), ..self }
    }

    pub(crate) fn admin(&self) -> Option<Arc<str>> {
        self.admin.clone()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.shared.place
    }

    pub(crate) fn replica(&self) -> &str {
        &self.shared.replica
    }

    pub(crate) fn actor(&self) -> Arc<str> {
        Arc::clone(&self.actor)
    }

    /// The time zone of days and months.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        self.zone.clone()
    }

    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The time on the owner's wall.
    pub(crate) fn now_in_zone(&self) -> jiff::Zoned {
        (self.clock.0)().to_zoned(self.zone.clone())
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::at((self.clock.0)(), &self.zone)
    }

    /// Plans by the ids under which they were seen.
    pub(crate) fn known_plans(&self) -> MutexGuard<'_, HashMap<i64, Arc<Plan>>> {
        self.shared.plans.lock().expect("no code panics while it holds the plans")
    }

    /// Settles what the run before left open. Only for the process that holds the
    /// [`ServeLock`](crate::ServeLock), before it serves.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub async fn recover(&self) -> Result<Recovered, LedgerError> {
        let (inflight, clock, replica) = (self.inflight()?, self.clock(), self.replica().to_owned());
        self.writer
            .call(move |connection| {
                let left = leftover::find(connection, &replica, &inflight)?;
                leftover::settle_all(connection, &left, clock.seconds())
            })
            .await
    }

    /// Waits until everything asked for so far is durable.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        let seen = self.last_use().take();
        self.writer.call(move |connection| last_use::write(connection, &seen)).await
    }

    /// What was used since that was last written down.
    pub(crate) fn last_use(&self) -> MutexGuard<'_, LastUse> {
        self.shared.last_use.lock().expect("no code panics while it holds what was used")
    }

    /// The file that counts running requests.
    pub(crate) fn inflight(&self) -> Result<Arc<Inflight>, LedgerError> {
        if let Some(inflight) = self.shared.inflight.get() {
            return Ok(Arc::clone(inflight));
        }
        let path = self.shared.directory.join("inflight.bin");
        let opened = Inflight::open(&path).map_err(inflight_error)?;
        Ok(Arc::clone(self.shared.inflight.get_or_init(|| Arc::new(opened))))
    }

    /// Reads over one of the reading connections.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        match self.place() {
            Place::File(_) => self.read_here(work),
            Place::Server(_) => beside_others(|| {
                let _inside = self
                    .shared
                    .reading
                    .enter(READING_MAX, READING_WAIT)
                    .ok_or_else(|| LedgerError::Unreachable(DatabaseError::Crowded))?;
                self.read_here(work)
            }),
        }
    }

    fn read_here<T>(&self, work: impl FnOnce(&Connection) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let kept = self.readers().pop();
        let connection = match kept.filter(|connection| !connection.is_lost()) {
            Some(connection) => connection,
            None => schema::open_reader(self.place())?,
        };
        let result = work(&connection);
        let mut readers = self.readers();
        if readers.len() < READERS_KEPT_MAX && !connection.is_lost() {
            readers.push(connection);
        }
        result
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.shared.readers.lock().expect("no code panics while it holds the list of readers")
    }
}

/// Waits for a server's answer without keeping other tasks of this thread from their work.
fn beside_others<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Makes the database where it is missing (then it says so), and readable by its owner alone. An existing one is not opened for that:
/// closing any descriptor of it would give up the locks that `SQLite` holds on it in this process, and another
/// process would remove the log under us (sqlite.org/howtocorrupt.html, 2.2).
fn make_private(path: &Path) -> std::io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(0o600)).map(|()| false)
        }
        made => made.map(|_| true),
    }
}

/// Makes the names in a folder durable: a database that was synced is lost with the power while its name was not.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

pub(crate) fn database(directory: &Path) -> PathBuf {
    directory.join("ledger.db")
}

pub(crate) fn inflight_error(source: std::io::Error) -> LedgerError {
    if source.kind() == ErrorKind::StorageFull {
        return LedgerError::Full;
    }
    LedgerError::NotWritable { path: "inflight.bin".into(), source }
}

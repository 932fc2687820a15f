//! Where KV goes that has no place in the context: the file and its key.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use allerac_engine_archive::{DiskParams, Key, KvArchive, Params};
use allerac_engine_core::Backend;
use allerac_engine_link::protocol::KvKey;
use allerac_engine_llama::Context;

use crate::args::Args;

/// How long an entry waits to be written, so that a conversation that goes on is written once.
const WRITE_AFTER: Duration = Duration::from_secs(60);

/// How long an engine waits for the one before it to be through with the file: after a model got an adapter, the old one
/// writes what it knows while the new one begins.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often it looks.
const LOCK_LOOK: Duration = Duration::from_millis(50);

/// Opens the file before the process gives up the right to, and keeps it from others. Without it nothing is lost but time.
pub(crate) fn open_file(args: &Args) -> Option<File> {
    let path = args.kv_file.as_ref()?;
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let locked = opened.and_then(|file| lock(&file).map(|()| file));
    locked.inspect_err(|error| tracing::warn!("known prompts are not kept on disk: {}: {error}", path.display())).ok()
}

/// The kernel gives the lock back with the process.
#[expect(clippy::disallowed_methods, reason = "a lock that another process gives back tells nobody")]
fn lock(file: &File) -> io::Result<()> {
    let until = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_LOOK),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The archive of this process, with what earlier ones left for this model and version.
pub(crate) fn archive(
    args: &Args,
    file: Option<File>,
    key: Option<&KvKey>,
    context: &Context,
    wake: impl Fn() + Send + 'static,
) -> KvArchive {
    let purpose = format!("{} {}", env!("CARGO_PKG_VERSION"), context.kv_kind());
    let disk = file.zip(key).map(|(file, KvKey(key))| DiskParams {
        file,
        key: Key::derive(key, &purpose),
        bytes_max: args.kv_disk_bytes(),
        write_after: WRITE_AFTER,
    });
    let can_cut = context.limits().copy_min.is_some();
    KvArchive::new(Params { memory_bytes_max: args.kv_memory_bytes(), disk, can_cut }, wake)
}

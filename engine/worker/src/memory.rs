//! Where KV goes that has no place in the context: the file and its key.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use allerac_engine_archive::{DiskParams, Key, KvArchive, Params};
use allerac_engine_core::Backend;
use allerac_engine_link::protocol::KvKey;
use allerac_engine_llama::Context;

use crate::args::Args;

/// How long an entry waits to be written, so that a conversation that goes on is written once.
const WRITE_AFTER: std::time::Duration = std::time::Duration::from_secs(60);

/// Opens the file before the process gives up the right to. Without it nothing is lost but time.
pub(crate) fn open_file(args: &Args) -> Option<File> {
    let path = args.kv_file.as_ref()?;
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.inspect_err(|error| tracing::warn!("known prompts are not kept on disk: {}: {error}", path.display())).ok()
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

//! Counts the tokens of running requests in a file of fixed slots.
//!
//! Each count is one positioned write without a sync: it survives the end of the process exactly, costs
//! about a microsecond, and is only read when the process died before it could settle.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

/// Requests that can run at once.
pub(crate) const SLOTS: u32 = 4096;
/// Bytes of a slot: reservation id (8), prompt (4), cached (4), completion tokens (4), checksum (4).
const SLOT_BYTES: usize = 24;

/// What was counted of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) completion_tokens: u32,
}

/// The file and the slots that are free.
#[derive(Debug)]
pub(crate) struct Inflight {
    file: File,
    free: Mutex<Vec<u32>>,
}

impl Inflight {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(offset(SLOTS))?;
        Ok(Self { file, free: Mutex::new((0..SLOTS).rev().collect()) })
    }

    pub(crate) fn take_slot(&self) -> Option<u32> {
        self.free().pop()
    }

    pub(crate) fn give_back(&self, slot: u32) {
        self.free().push(slot);
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.free.lock().expect("no code panics while it holds the list of free slots")
    }

    pub(crate) fn write(&self, slot: u32, reservation: i64, counted: Counted) -> io::Result<()> {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..8].copy_from_slice(&reservation.to_le_bytes());
        bytes[8..12].copy_from_slice(&counted.prompt_tokens.to_le_bytes());
        bytes[12..16].copy_from_slice(&counted.cached_tokens.to_le_bytes());
        bytes[16..20].copy_from_slice(&counted.completion_tokens.to_le_bytes());
        let checksum = checksum(&bytes[..20]);
        bytes[20..].copy_from_slice(&checksum);
        self.file.write_all_at(&bytes, offset(slot))
    }

    /// What a slot holds of this reservation; `None` when it holds another's, or was torn.
    pub(crate) fn read(&self, slot: u32, reservation: i64) -> io::Result<Option<Counted>> {
        let mut bytes = [0; SLOT_BYTES];
        self.file.read_exact_at(&mut bytes, offset(slot))?;
        let number = |from: usize| u32::from_le_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]]);
        let whole = bytes[20..] == checksum(&bytes[..20]) && bytes[..8] == reservation.to_le_bytes();
        let counted = Counted { prompt_tokens: number(8), cached_tokens: number(12), completion_tokens: number(16) };
        Ok(whole.then_some(counted))
    }
}

/// Where a slot begins in the file.
fn offset(slot: u32) -> u64 {
    u64::from(slot) * SLOT_BYTES as u64
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let hash = blake3::hash(bytes);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_back_by_its_reservation_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inflight.bin");
        let counted = Counted { prompt_tokens: 7, cached_tokens: 3, completion_tokens: 5 };
        Inflight::open(&path).unwrap().write(9, 42, counted).unwrap();
        let inflight = Inflight::open(&path).unwrap();
        assert_eq!(inflight.read(9, 42).unwrap(), Some(counted));
        assert_eq!(inflight.read(9, 43).unwrap(), None);
        assert_eq!(inflight.read(8, 42).unwrap(), None);
        // A torn write.
        inflight.file.write_all_at(&[1], offset(9) + 16).unwrap();
        assert_eq!(inflight.read(9, 42).unwrap(), None);
    }
}

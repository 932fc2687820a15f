//! A file that is being fetched in several places at once, and what of it is there.
//!
//! `X.hub` has the length of the whole file from the beginning; `X.map` says which of its blocks are there, a byte each after
//! the length of the file. A block is marked after the disk has it, so a mark is true whatever was killed when.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a mark stands for, in bytes.
pub(crate) const BLOCK_BYTES: u64 = 1 << 20;
/// The length of a file stands before the marks.
const HEAD_BYTES: u64 = size_of::<u64>() as u64;
const HERE: u8 = b'#';
const MISSING: u8 = b'.';

/// A file of which blocks are there.
#[derive(Debug)]
pub(crate) struct Part {
    data: File,
    map: File,
    size_bytes: u64,
    here: Vec<bool>,
}

/// Where the blocks that are there of a file are marked.
fn map_path(path: &Path) -> PathBuf {
    path.with_extension("map")
}

/// Removes a file and its marks.
pub(crate) fn discard(path: &Path) {
    let _ = fs::remove_file(map_path(path));
    let _ = fs::remove_file(path);
}

impl Part {
    /// Takes up what is there of a file of this length; begins anew where that is of another one.
    pub(crate) fn open(path: &Path, size_bytes: u64) -> io::Result<Self> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let (data, map) = (open(path)?, open(&map_path(path))?);
        let count = usize::try_from(size_bytes.div_ceil(BLOCK_BYTES)).map_err(io::Error::other)?;
        let mut here = vec![false; count];
        match read_map(&map, size_bytes, count).filter(|_| data.metadata().is_ok_and(|data| data.len() == size_bytes)) {
            Some(marks) => here = marks,
            None => {
                map.set_len(0)?;
                map.write_all_at(&vec![MISSING; count], HEAD_BYTES)?;
                map.write_all_at(&size_bytes.to_le_bytes(), 0)?;
                map.sync_data()?;
                data.set_len(0)?;
                data.set_len(size_bytes)?;
            }
        }
        Ok(Self { data, map, size_bytes, here })
    }

    /// The files, for whoever writes blocks.
    pub(crate) fn files(&self) -> io::Result<Files> {
        Ok(Files { data: self.data.try_clone()?, map: self.map.try_clone()? })
    }

    /// Bytes that are there.
    pub(crate) fn done_bytes(&self) -> u64 {
        (0..self.here.len()).filter(|block| self.here[*block]).map(|block| length(self.size_bytes, block)).sum()
    }

    /// Notes what was written.
    pub(crate) fn written(&mut self, blocks: Range<usize>) {
        self.here[blocks].fill(true);
    }

    /// What is missing, in runs of at most so many blocks.
    pub(crate) fn missing(&self, blocks_max: usize) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for block in (0..self.here.len()).filter(|block| !self.here[*block]) {
            match runs.last_mut().filter(|run| run.end == block && run.len() < blocks_max) {
                Some(run) => run.end += 1,
                None => runs.push(block..block + 1),
            }
        }
        runs
    }
}

/// The length of a block, in bytes.
pub(crate) fn length(size_bytes: u64, block: usize) -> u64 {
    (size_bytes - block as u64 * BLOCK_BYTES).min(BLOCK_BYTES)
}

fn read_map(map: &File, size_bytes: u64, count: usize) -> Option<Vec<bool>> {
    let mut head = [0; size_of::<u64>()];
    map.read_exact_at(&mut head, 0).ok()?;
    let mut marks = vec![0; count];
    map.read_exact_at(&mut marks, HEAD_BYTES).ok()?;
    let whole = map.metadata().ok()?.len() == HEAD_BYTES + count as u64;
    (whole && u64::from_le_bytes(head) == size_bytes).then(|| marks.iter().map(|mark| *mark == HERE).collect())
}

/// Writes blocks and marks.
#[derive(Debug)]
pub(crate) struct Files {
    data: File,
    map: File,
}

impl Files {
    /// Writes a block.
    pub(crate) fn write(&self, block: usize, bytes: &[u8]) -> io::Result<()> {
        self.data.write_all_at(bytes, block as u64 * BLOCK_BYTES)
    }

    /// Marks blocks that were written, once the disk has them.
    pub(crate) fn mark(&self, blocks: &Range<usize>) -> io::Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        self.data.sync_data()?;
        self.map.write_all_at(&vec![HERE; blocks.len()], HEAD_BYTES + blocks.start as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_marked_is_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.hub");
        let size = BLOCK_BYTES * 5 + 7;
        let mut part = Part::open(&path, size).unwrap();
        assert_eq!((part.done_bytes(), part.missing(4)), (0, vec![0..4, 4..6]));
        let files = part.files().unwrap();
        files.write(2, &vec![1; 1 << 20]).unwrap();
        files.write(5, &[2; 7]).unwrap();
        // Killed here: what was written but not marked counts as missing.
        assert_eq!(Part::open(&path, size).unwrap().done_bytes(), 0);
        files.mark(&(2..3)).unwrap();
        files.mark(&(5..6)).unwrap();
        part.written(2..3);
        let again = Part::open(&path, size).unwrap();
        assert_eq!((again.done_bytes(), again.missing(9)), (BLOCK_BYTES + 7, vec![0..2, 3..5]));
        assert_eq!(part.done_bytes(), BLOCK_BYTES);
        // Of another length, or with marks that were cut: from the beginning.
        assert_eq!(Part::open(&path, size + 1).unwrap().done_bytes(), 0);
        let part = Part::open(&path, size).unwrap();
        part.files().unwrap().mark(&(0..6)).unwrap();
        fs::write(map_path(&path), size.to_le_bytes()).unwrap();
        assert_eq!(Part::open(&path, size).unwrap().done_bytes(), 0);
        discard(&path);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

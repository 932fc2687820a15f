//! The digests of a file's blocks: they tell which part of a file is damaged, so that no more than that is fetched again.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::ModelsError;
use crate::record::write_whole;

/// The length of a block, in bytes: a list takes 32 bytes of each million.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// The length of a digest.
const DIGEST_BYTES: usize = 32;

/// The digests of all blocks of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Blocks(Vec<[u8; DIGEST_BYTES]>);

impl Blocks {
    /// Reads a list; `None` where there is none, or it is not one for a file of this length.
    pub(crate) fn read(path: &Path, size_bytes: u64) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let (digests, rest) = bytes.as_chunks::<DIGEST_BYTES>();
        let fits = rest.is_empty() && digests.len() as u64 == size_bytes.div_ceil(BLOCK_BYTES as u64);
        fits.then(|| Self(digests.to_vec()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), ModelsError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(ModelsError::file("create", folder))?;
        }
        write_whole(path, self.0.concat())
    }

    /// The blocks in which another file differs.
    pub(crate) fn differing(&self, other: &Self) -> Vec<usize> {
        (0..self.0.len()).filter(|block| other.0.get(*block) != Some(&self.0[*block])).collect()
    }

    /// Whether this is the content of a block.
    pub(crate) fn is(&self, block: usize, content: &[u8]) -> bool {
        self.0.get(block).is_some_and(|digest| *digest == <[u8; DIGEST_BYTES]>::from(Sha256::digest(content)))
    }
}

/// The digest of a file, and those of its blocks.
pub(crate) fn of_file(path: &Path) -> std::io::Result<(String, Blocks)> {
    let mut file = File::open(path)?;
    let (mut whole, mut blocks) = (Sha256::new(), Vec::new());
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    loop {
        block.clear();
        (&mut file).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok((format!("{:x}", whole.finalize()), Blocks(blocks)));
        }
        whole.update(&block);
        blocks.push(Sha256::digest(&block).into());
    }
}

/// The same, on a thread that may wait for the disk.
pub(crate) async fn of_path(path: PathBuf) -> Result<(String, Blocks), ModelsError> {
    let read = tokio::task::spawn_blocking(move || of_file(&path).map_err(ModelsError::file("read", &path)));
    read.await.map_err(|error| ModelsError::Download(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_finds_what_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let (file, list) = (folder.path().join("f"), folder.path().join("l"));
        let mut content = vec![7; BLOCK_BYTES * 2 + 10];
        fs::write(&file, &content).unwrap();
        let (digest, blocks) = of_file(&file).unwrap();
        assert_eq!(digest, crate::digest::of_bytes(&content));
        blocks.write(&list).unwrap();
        let size = content.len() as u64;
        assert_eq!(Blocks::read(&list, size), Some(blocks.clone()));
        assert_eq!(Blocks::read(&list, size + BLOCK_BYTES as u64), None);
        content[BLOCK_BYTES * 2 + 9] = 8;
        fs::write(&file, &content).unwrap();
        assert_eq!(blocks.differing(&of_file(&file).unwrap().1), [2]);
        fs::write(&file, &content[..BLOCK_BYTES]).unwrap();
        assert_eq!(blocks.differing(&of_file(&file).unwrap().1), [1, 2]);
        assert!(
            blocks.is(0, &content[..BLOCK_BYTES]) && !blocks.is(2, &content[BLOCK_BYTES * 2..]) && !blocks.is(3, &[])
        );
        fs::write(&list, [1; 33]).unwrap();
        assert_eq!(Blocks::read(&list, size), None);
    }
}

//! Copies whole devices and single files, and reads them back.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

/// What is read and written at once.
const PIECE_BYTES: usize = 4 << 20;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// Copies all of a device onto the beginning of another, and waits until it is there. Tells how far it is.
pub(super) fn copy(from: &Path, to: &Path, mut reached: impl FnMut(u64, u64)) -> anyhow::Result<()> {
    let mut input = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let all = size(&mut input)?;
    let mut output = File::options().write(true).open(to).with_context(|| format!("cannot open {}", to.display()))?;
    each_piece(&mut input, |piece, done| {
        output.write_all(piece).with_context(|| format!("cannot write {}", to.display()))?;
        reached(done, all);
        Ok(())
    })?;
    output.sync_all().with_context(|| format!("cannot write {}", to.display()))
}

/// Reads all of a device.
pub(super) fn read(device: &Path, mut reached: impl FnMut(u64, u64)) -> anyhow::Result<()> {
    let mut input = File::open(device).with_context(|| format!("cannot open {}", device.display()))?;
    let all = size(&mut input)?;
    each_piece(&mut input, |_, done| {
        reached(done, all);
        Ok(())
    })
}

/// Copies a file into a folder that is made for it; the hash of what was read.
pub(super) fn copy_file(from: &Path, to: &Path) -> anyhow::Result<Hash> {
    fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
    let mut input = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut output = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut hash = Sha256::new();
    each_piece(&mut input, |piece, _| {
        hash.update(piece);
        output.write_all(piece).with_context(|| format!("cannot write {}", to.display()))
    })?;
    output.sync_all()?;
    Ok(hash.finalize().into())
}

/// Reads a file back.
pub(super) fn check_file(file: &Path, expected: &Hash) -> anyhow::Result<()> {
    let mut input = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut hash = Sha256::new();
    each_piece(&mut input, |piece, _| {
        hash.update(piece);
        Ok(())
    })?;
    if hash.finalize().as_slice() != expected {
        bail!("{} was read back with other contents than were written; the disk is damaged", file.display());
    }
    Ok(())
}

/// Calls with each piece and with how many bytes were read up to its end.
fn each_piece(input: &mut File, mut call: impl FnMut(&[u8], u64) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut done = 0;
    loop {
        let count = input.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        done += count as u64;
        call(&piece[..count], done)?;
    }
}

/// Of a file or a device, which has none in its metadata.
pub(super) fn size(file: &mut File) -> std::io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let content: Vec<u8> = (0..PIECE_BYTES + 1000).map(|at| u8::try_from(at % 251).unwrap()).collect();
        fs::write(&from, &content).unwrap();
        fs::write(&to, vec![9; content.len() + 10]).unwrap();
        let mut told = Vec::new();
        copy(&from, &to, |done, all| told.push((done, all))).unwrap();
        let copied = fs::read(&to).unwrap();
        assert!(copied[..content.len()] == content[..] && copied[content.len()..] == [9; 10]);
        let all = content.len() as u64;
        assert_eq!(told, [(PIECE_BYTES as u64, all), (all, all)]);
        read(&to, |done, all| told.push((done, all))).unwrap();
        assert_eq!(told.last(), Some(&(all + 10, all + 10)));
        assert!(copy(&folder.path().join("none"), &to, |_, _| {}).is_err());
    }

    #[test]
    fn a_file_that_changed_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("a/b/to"));
        fs::write(&from, "a kernel").unwrap();
        let hash = copy_file(&from, &to).unwrap();
        check_file(&to, &hash).unwrap();
        fs::write(&to, "a kernem").unwrap();
        assert!(check_file(&to, &hash).unwrap_err().to_string().contains("the disk is damaged"));
    }
}

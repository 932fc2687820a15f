//! The models that the stick brings, so that the first chat needs no internet.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::blocks::{self, Hash};

/// Of a store's folders, the one whose contents are not whole.
const PARTIAL: &str = "partial";
/// Folders in folders: a store has two levels.
const DEPTH_MAX: usize = 4;

/// All files of several stores by their place; where two have one, the first's.
pub(super) fn list(stores: &[PathBuf]) -> io::Result<BTreeMap<PathBuf, PathBuf>> {
    let mut files = BTreeMap::new();
    for store in stores.iter().filter(|store| store.is_dir()) {
        walk(store, Path::new(""), 0, &mut files)?;
    }
    Ok(files)
}

/// How many bytes they are.
pub(super) fn size(stores: &[PathBuf]) -> io::Result<u64> {
    list(stores)?.values().map(|file| Ok(fs::metadata(file)?.len())).sum()
}

fn walk(store: &Path, folder: &Path, depth: usize, files: &mut BTreeMap<PathBuf, PathBuf>) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    for entry in fs::read_dir(store.join(folder))? {
        let entry = entry?;
        let place = folder.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && entry.file_name() != PARTIAL {
            walk(store, &place, depth + 1, files)?;
        } else if kind.is_file() {
            files.entry(place).or_insert(entry.path());
        }
    }
    Ok(())
}

/// Copies them; what to expect when they are read back. Tells how many bytes are done.
pub(super) fn copy(
    stores: &[PathBuf],
    into: &Path,
    mut reached: impl FnMut(u64),
) -> anyhow::Result<BTreeMap<PathBuf, Hash>> {
    let mut done = 0;
    let mut hashes = BTreeMap::new();
    fs::create_dir_all(into)?;
    for (place, file) in list(stores)? {
        let hash = blocks::copy_file(&file, &into.join(&place))?;
        done += fs::metadata(&file)?.len();
        reached(done);
        hashes.insert(place, hash);
    }
    Ok(hashes)
}

pub(super) fn verify(hashes: &BTreeMap<PathBuf, Hash>, at: &Path) -> anyhow::Result<()> {
    hashes.iter().try_for_each(|(place, hash)| blocks::check_file(&at.join(place), hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_joined_without_what_is_partial() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for (file, text) in [
            ("own/installed/a.toml", "a of the stick"),
            ("own/blobs/sha256-1", "weights"),
            ("own/partial/x", "half"),
            ("image/installed/a.toml", "a of the image"),
            ("image/installed/b.toml", "b"),
        ] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), text).unwrap();
        }
        let stores = [at("own"), at("none"), at("image")];
        assert_eq!(size(&stores).unwrap(), 14 + 7 + 1);
        let mut told = 0;
        let hashes = copy(&stores, &at("to"), |done| told = done).unwrap();
        assert_eq!(told, 22);
        let places: Vec<&Path> = hashes.keys().map(PathBuf::as_path).collect();
        assert_eq!(places, ["blobs/sha256-1", "installed/a.toml", "installed/b.toml"].map(Path::new));
        assert_eq!(fs::read_to_string(at("to/installed/a.toml")).unwrap(), "a of the stick");
        verify(&hashes, &at("to")).unwrap();
        fs::write(at("to/blobs/sha256-1"), "Weights").unwrap();
        assert!(verify(&hashes, &at("to")).is_err());
    }
}

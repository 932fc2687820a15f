//! The versions that the boot loader knows, from the names of their files, as the Boot Loader Specification and systemd's
//! automatic boot assessment write them: `allerac_VERSION[+TRIES_LEFT[-TRIES_DONE]].efi`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where the boot loader's files are mounted.
const FOLDERS: [&str; 2] = ["efi/EFI/Linux", "boot/EFI/Linux"];

/// A version that can be booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Of the image.
    pub version: String,
    /// How often it may still be tried; nothing once it has proven itself.
    pub tries_left: Option<u32>,
    #[serde(skip)]
    file: PathBuf,
}

/// All of the system below a root, `/` for this one. None on a system without such files.
#[must_use]
pub fn all(root: &Path) -> Vec<Entry> {
    let files = FOLDERS.iter().map(|folder| within(&root.join(folder)));
    files.into_iter().find(|entries| !entries.is_empty()).unwrap_or_default()
}

fn within(folder: &Path) -> Vec<Entry> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<Entry> = files.filter_map(|file| Entry::new(file.path())).collect();
    entries.sort_by(|one, other| one.version.cmp(&other.version));
    entries
}

/// The version to go back to from the one that runs: another one that has proven itself here.
#[must_use]
pub fn before<'a>(running: &str, entries: &'a [Entry]) -> Option<&'a Entry> {
    entries.iter().rev().find(|entry| entry.version != running && entry.tries_left.is_none())
}

impl Entry {
    fn new(file: PathBuf) -> Option<Self> {
        let stem = file.file_name()?.to_str()?.strip_prefix("allerac_")?.strip_suffix(".efi")?;
        let (version, tries_left) = match stem.split_once('+') {
            None => (stem, None),
            Some((version, tries)) => {
                let left = tries.split_once('-').map_or(tries, |(left, _)| left);
                (version, Some(left.parse().ok()?))
            }
        };
        Some(Self { version: version.to_owned(), tries_left, file })
    }

    /// An entry without a file, as tests and what only shows entries need it.
    #[must_use]
    pub fn named(version: &str, tries_left: Option<u32>) -> Self {
        Self { version: version.to_owned(), tries_left, file: PathBuf::new() }
    }

    /// Leaves it no try, as if it had been tried in vain: the boot loader takes another version, and updates never bring
    /// this one again.
    ///
    /// # Errors
    /// When the boot partition cannot be written.
    pub fn give_up(&self) -> io::Result<()> {
        self.rename(&self.file, &self.given_up())
    }

    /// Takes [`give_up`](Self::give_up) back.
    ///
    /// # Errors
    /// When the boot partition cannot be written.
    pub fn keep(&self) -> io::Result<()> {
        self.rename(&self.given_up(), &self.file)
    }

    fn given_up(&self) -> PathBuf {
        self.folder().join(format!("allerac_{}+0-1.efi", self.version))
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        fs::File::open(self.folder())?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Option<(String, Option<u32>)> {
        Entry::new(PathBuf::from(name)).map(|entry| (entry.version, entry.tries_left))
    }

    #[test]
    fn names_say_how_often_a_version_may_be_tried() {
        let entry = |version: &str, tries_left| Some((version.to_owned(), tries_left));
        assert_eq!(parse("allerac_0.1.0.7.efi"), entry("0.1.0.7", None));
        assert_eq!(parse("allerac_0.1.0.8+3.efi"), entry("0.1.0.8", Some(3)));
        assert_eq!(parse("allerac_0.1.0.8+2-1.efi"), entry("0.1.0.8", Some(2)));
        assert_eq!(parse("allerac_0.1.0.8+0-3.efi"), entry("0.1.0.8", Some(0)));
        for other in ["allerac_0.1.efi.tmp", "debian_1.efi", "allerac_1+x.efi", ".#sysupdateallerac_1+3-0.efi1"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_folder_is_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["allerac_2+3.efi", "allerac_1.efi", "other.efi"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let versions: Vec<String> = within(folder.path()).into_iter().map(|entry| entry.version).collect();
        assert_eq!(versions, ["1", "2"]);
        assert_eq!(within(&folder.path().join("none")), []);
    }

    #[test]
    fn a_version_that_is_given_up_has_no_try_left() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["allerac_1.efi", "allerac_2.efi", "allerac_3+0-3.efi"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let entries = within(folder.path());
        assert_eq!(before("2", &entries).map(|entry| entry.version.as_str()), Some("1"));
        // What did not work is no place to go back to.
        assert_eq!(before("1", &entries[..1]), None);
        assert_eq!(before("1", &[entries[0].clone(), entries[2].clone()]), None);
        entries[1].give_up().unwrap();
        let tries: Vec<_> = within(folder.path()).into_iter().map(|entry| entry.tries_left).collect();
        assert_eq!(tries, [None, Some(0), Some(0)]);
        assert_eq!(fs::read_to_string(folder.path().join("allerac_2+0-1.efi")).unwrap(), "allerac_2.efi");
    }
}

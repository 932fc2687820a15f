//! The files in which a kernel tells of its machine: those of this one, or a recording of another.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest file of text that is read, in bytes: `/proc/cpuinfo` of a large server.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// The most entries of a folder that are looked at: a large server has a few hundred PCI devices.
const NAMES_MAX: usize = 4096;

/// Where `proc` and `sys` are.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Tree {
    /// The tree below a folder; `/` is this machine.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where a path of the machine is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file without the spaces around it; `None` where it cannot be read.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path, TEXT_BYTES_MAX).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The same, where it says something.
    pub(crate) fn word(&self, path: &str) -> Option<String> {
        self.text(path).filter(|text| !text.is_empty())
    }

    /// What a file says: a number, a list of processors.
    pub(crate) fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// A number that is written in hexadecimal, with `0x` before it.
    pub(crate) fn hexadecimal(&self, path: &str) -> Option<u32> {
        u32::from_str_radix(self.text(path)?.strip_prefix("0x")?, 16).ok()
    }

    /// At most so many bytes of a file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bytes(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// What is in a folder, in the order of the names; numbers in names count as numbers.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten().take(NAMES_MAX);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by(|a, b| in_order(a).cmp(&in_order(b)));
        names
    }

    /// The last name of what a link leads to.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        target.file_name().and_then(|name| name.to_str()).map(str::to_owned)
    }

    /// Where a file or folder really is, within the tree.
    pub(crate) fn real(&self, path: &str) -> Option<String> {
        let real = self.path(path).canonicalize().ok()?;
        let root = self.root.canonicalize().ok()?;
        Some(format!("/{}", real.strip_prefix(root).ok()?.to_str()?))
    }

    /// Whether there is a file or folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        Path::exists(&self.path(path))
    }
}

/// A name as what stands before its number, the number, and the rest.
fn in_order(name: &str) -> (&str, u64, &str) {
    let begin = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let digits = name[begin..].find(|c: char| !c.is_ascii_digit()).map_or(name.len(), |end| begin + end);
    (&name[..begin], name[begin..digits].parse().unwrap_or(0), &name[digits..])
}

#[cfg(test)]
pub(crate) mod fixtures {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree of these files.
    pub(crate) struct Written {
        folder: tempfile::TempDir,
    }

    impl Written {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            let written = Self { folder: tempfile::tempdir().unwrap() };
            files.iter().for_each(|(path, text)| written.file(path, text.as_bytes()));
            written
        }

        pub(crate) fn file(&self, path: &str, content: &[u8]) {
            let path = self.tree().path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        pub(crate) fn link(&self, path: &str, target: &str) {
            let path = self.tree().path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }

        pub(crate) fn tree(&self) -> Tree {
            Tree::new(self.folder.path())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::Written;

    #[test]
    fn files_folders_and_links_are_read_below_the_root() {
        let written = Written::new(&[("sys/a/x10", " 7 \n"), ("/sys/a/x9", "0x0300\n"), ("sys/a/empty", "\n")]);
        written.link("sys/b", "a/x10");
        let tree = written.tree();
        assert_eq!(tree.names("/sys/a"), ["empty", "x9", "x10"]);
        assert_eq!((tree.value::<u32>("/sys/a/x10"), tree.hexadecimal("sys/a/x9")), (Some(7), Some(0x300)));
        assert_eq!((tree.text("sys/a/empty").as_deref(), tree.word("sys/a/empty")), (Some(""), None));
        assert_eq!((tree.link("sys/b").as_deref(), tree.real("sys/b").as_deref()), (Some("x10"), Some("/sys/a/x10")));
        assert_eq!((tree.text("sys/none"), tree.names("sys/none"), tree.has("sys/a")), (None, vec![], true));
    }
}

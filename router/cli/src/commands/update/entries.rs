//! The versions that the boot loader knows, from the names of their files, as the Boot Loader Specification and systemd's
//! automatic boot assessment write them: `allerac_VERSION[+TRIES_LEFT[-TRIES_DONE]].efi`.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Where the boot loader's files are mounted.
const FOLDERS: [&str; 2] = ["/efi/EFI/Linux", "/boot/EFI/Linux"];

/// A version that can be booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) version: String,
    /// How often it may still be tried; nothing once it has proven itself.
    pub(super) tries_left: Option<u32>,
}

/// All of them. None on a system without such files.
pub(super) fn all() -> Vec<Entry> {
    let files = FOLDERS.iter().map(|folder| of(Path::new(folder)));
    files.into_iter().find(|entries| !entries.is_empty()).unwrap_or_default()
}

fn of(folder: &Path) -> Vec<Entry> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<Entry> = files.filter_map(|file| parse(file.file_name().to_str()?)).collect();
    entries.sort_by(|one, other| one.version.cmp(&other.version));
    entries
}

fn parse(name: &str) -> Option<Entry> {
    let stem = name.strip_prefix("allerac_")?.strip_suffix(".efi")?;
    let Some((version, tries)) = stem.split_once('+') else {
        return Some(Entry { version: stem.to_owned(), tries_left: None });
    };
    let left = tries.split_once('-').map_or(tries, |(left, _)| left);
    Some(Entry { version: version.to_owned(), tries_left: Some(left.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_often_a_version_may_be_tried() {
        let entry = |version: &str, tries_left| Some(Entry { version: version.to_owned(), tries_left });
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
        let versions: Vec<String> = of(folder.path()).into_iter().map(|entry| entry.version).collect();
        assert_eq!(versions, ["1", "2"]);
        assert_eq!(of(&folder.path().join("none")), []);
    }
}

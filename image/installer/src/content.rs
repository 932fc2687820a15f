//! What is on a disk: nothing, a box's system, or something that is somebody's.

use std::fmt;

use serde::Deserialize;

use crate::table::{EMPTY_NAME, Part, STATE_NAME, STATE_NUMBER, Table};

/// How many kinds of foreign data are told; the rest is counted.
const TOLD_MAX: usize = 6;

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// No sign of anything.
    Empty,
    /// A box's system, perhaps with what that box remembers.
    Box(Installed),
    /// Something else, in words.
    Foreign(Vec<String>),
    /// Nobody looked: the disk must not be written anyway.
    Unread,
}

/// A box's system on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) table: Table,
    /// Of the slots that have one.
    pub(crate) versions: Vec<String>,
    /// Whether an installation came to its end there, so that keys and models may be in it.
    pub(crate) has_state: bool,
}

/// What `wipefs --json` prints of a device with signatures.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Signatures {
    #[serde(default)]
    pub(crate) signatures: Vec<Signature>,
}

/// The mark of a file system, a partition table, or anything else that blkid knows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Signature {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) label: Option<String>,
}

impl Content {
    /// From the table that sfdisk reads there, the signatures of the disk and of its partitions, and whether its beginning
    /// and its end are all zeros: data of a form that nobody knows is somebody's too.
    pub(crate) fn of(table: Option<Table>, signatures: &[Signature], is_blank: bool) -> Self {
        if let Some(table) = table {
            return match table.as_box() {
                Some(parts) => {
                    let installed = (versions(parts), parts[STATE_NUMBER - 1].name == STATE_NAME);
                    Self::Box(Installed { versions: installed.0, has_state: installed.1, table })
                }
                None => Self::Foreign(foreign(Some(&table), signatures)),
            };
        }
        match (signatures.is_empty(), is_blank) {
            (true, true) => Self::Empty,
            (true, false) => Self::Foreign(vec!["data of an unknown form".to_owned()]),
            (false, _) => Self::Foreign(foreign(None, signatures)),
        }
    }
}

fn versions(parts: &[Part]) -> Vec<String> {
    let names = parts.iter().map(|part| part.name.as_str()).filter(|name| *name != EMPTY_NAME);
    let versions = names.filter_map(|name| name.strip_prefix("allerac_").filter(|name| !name.ends_with("_verity")));
    versions.map(str::to_owned).collect()
}

fn foreign(table: Option<&Table>, signatures: &[Signature]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    if let Some(table) = table {
        told.push(format!("a partition table ({}) with {} partitions", table.label, table.partitions.len()));
    }
    for Signature { kind, label } in
        signatures.iter().filter(|signature| !["gpt", "PMBR"].contains(&signature.kind.as_str()))
    {
        let label = label.as_deref().filter(|label| !label.is_empty());
        let words = label.map_or_else(|| kind.clone(), |label| format!("{kind} \"{}\"", plain(label)));
        if !told.contains(&words) {
            told.push(words);
        }
    }
    if told.is_empty() {
        told.push("a damaged partition table".to_owned());
    }
    if told.len() > TOLD_MAX {
        let more = told.len() - TOLD_MAX;
        told.truncate(TOLD_MAX);
        told.push(format!("{more} more"));
    }
    told
}

/// A label goes to a terminal, and a stranger may have written it.
fn plain(label: &str) -> String {
    label.chars().filter(|char| !char.is_control()).collect()
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str("empty"),
            Self::Box(Installed { has_state: false, .. }) => {
                formatter.write_str("an installation that was not finished")
            }
            Self::Box(Installed { versions, .. }) => write!(formatter, "a box, version {}", versions.join(" and ")),
            Self::Foreign(what) => write!(formatter, "holds {}", what.join(", ")),
            Self::Unread => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{RootHash, UNFINISHED_NAME};

    fn signature(kind: &str, label: Option<&str>) -> Signature {
        Signature { kind: kind.to_owned(), label: label.map(str::to_owned) }
    }

    fn table(state: &str) -> Table {
        let mut table = Table::new(8_000_000_000, 512, state);
        let hash = RootHash::from_command_line(&format!("usrhash={}", "ab".repeat(32))).unwrap();
        table.name_slots("0.1.0.7", &hash);
        table
    }

    #[test]
    fn a_disk_is_empty_only_without_any_sign() {
        assert_eq!(Content::of(None, &[], true), Content::Empty);
        for (signatures, is_blank, told) in [
            (vec![], false, "holds data of an unknown form"),
            (vec![signature("crypto_LUKS", None)], true, "holds crypto_LUKS"),
            (vec![signature("LVM2_member", None)], false, "holds LVM2_member"),
            (vec![signature("linux_raid_member", Some("nas:0"))], false, "holds linux_raid_member \"nas:0\""),
            (vec![signature("gpt", None), signature("PMBR", None)], false, "holds a damaged partition table"),
            (vec![signature("ext4", Some("\x1b[2Jphotos")); 3], false, "holds ext4 \"[2Jphotos\""),
        ] {
            assert_eq!(Content::of(None, &signatures, is_blank).to_string(), told);
        }
    }

    #[test]
    fn a_box_is_known_by_its_table() {
        let Content::Box(installed) = Content::of(Some(table(STATE_NAME)), &[signature("ext4", None)], false) else {
            panic!("it is a box");
        };
        assert_eq!((installed.versions, installed.has_state), (vec!["0.1.0.7".to_owned()], true));
        assert_eq!(Content::of(Some(table(STATE_NAME)), &[], false).to_string(), "a box, version 0.1.0.7");
        let unfinished = Content::of(Some(table(UNFINISHED_NAME)), &[], false);
        assert_eq!(unfinished.to_string(), "an installation that was not finished");
    }

    #[test]
    fn a_table_of_others_is_theirs() {
        let mut other = table("data");
        other.partitions.truncate(2);
        let signatures = [signature("gpt", None), signature("PMBR", None), signature("ntfs", Some("Windows"))];
        assert_eq!(
            Content::of(Some(other), &signatures, false).to_string(),
            "holds a partition table (gpt) with 2 partitions, ntfs \"Windows\""
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let many: Vec<Signature> = (0..9).map(|number| signature(&format!("fs{number}"), None)).collect();
        assert_eq!(Content::of(None, &many, false).to_string(), "holds fs0, fs1, fs2, fs3, fs4, fs5, 3 more");
    }
}

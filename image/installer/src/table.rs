//! Partition tables: how a box's disk is divided, what sfdisk(8) reads and what it is told to write.
//!
//! The order and the types are those of `repart.d` in the image, which finds its partitions by them at each boot; the UUIDs
//! of `/usr` and its hashes follow from the root hash (the Discoverable Partitions Specification).

use std::fmt::Write;

use serde::Deserialize;

/// The types of partitions, as their GUIDs.
pub(crate) const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
pub(crate) const USR: &str = "8484680C-9521-48C6-9C11-B0720656F69E";
pub(crate) const USR_VERITY: &str = "77FF5F63-E7B6-4633-ACF4-1565B864C0E6";
pub(crate) const ROOT: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";

/// What the slot is called that has no version in it.
pub(crate) const EMPTY_NAME: &str = "_empty";
/// What the state's partition is called.
pub(crate) const STATE_NAME: &str = "allerac-state";
/// What it is called until an installation is whole: what lies there is nobody's.
pub(crate) const UNFINISHED_NAME: &str = "_installing";

pub(crate) const MIB: u64 = 1 << 20;
/// As large as in the image's own partitions, all of them: updates need the room.
pub(crate) const ESP_BYTES: u64 = 512 * MIB;
pub(crate) const VERITY_BYTES: u64 = 64 * MIB;
pub(crate) const USR_BYTES: u64 = 1024 * MIB;
/// Before the first partition and after the last.
pub(crate) const MARGIN_BYTES: u64 = MIB;

/// Where each partition of a box's disk stands in its table, counted from one.
pub(crate) const ESP_NUMBER: usize = 1;
pub(crate) const VERITY_NUMBER: usize = 2;
pub(crate) const USR_NUMBER: usize = 3;
pub(crate) const STATE_NUMBER: usize = 6;
const PARTS: usize = 6;

/// A partition; sizes in sectors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) size: u64,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Where nothing is said, sfdisk makes one up.
    #[serde(default)]
    pub(crate) uuid: Option<String>,
    #[serde(default)]
    pub(crate) name: String,
}

/// What `sfdisk --json` prints of a disk with a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Table {
    pub(crate) label: String,
    #[serde(default)]
    pub(crate) partitions: Vec<Part>,
}

/// The envelope around a [`Table`].
#[derive(Debug, Deserialize)]
pub(crate) struct Dump {
    pub(crate) partitiontable: Table,
}

impl Table {
    /// The partitions of a disk that a box runs from, whole or half installed; nothing when it is another's.
    pub(crate) fn as_box(&self) -> Option<&[Part; PARTS]> {
        let parts: &[Part; PARTS] = self.partitions.as_slice().try_into().ok()?;
        let kinds = [ESP, USR_VERITY, USR, USR_VERITY, USR, ROOT];
        let is_kind = parts.iter().zip(kinds).all(|(part, kind)| part.kind.eq_ignore_ascii_case(kind));
        let names_slots = parts[1..5].iter().all(|part| part.name == EMPTY_NAME || part.name.starts_with("allerac_"));
        let state = parts[STATE_NUMBER - 1].name.as_str();
        (self.label == "gpt" && is_kind && names_slots && [STATE_NAME, UNFINISHED_NAME].contains(&state))
            .then_some(parts)
    }

    /// The table of a disk of this size that has nothing to keep.
    pub(crate) fn new(disk_bytes: u64, sector_bytes: u64, state_name: &str) -> Self {
        let sizes = [ESP_BYTES, VERITY_BYTES, USR_BYTES, VERITY_BYTES, USR_BYTES];
        let kinds = [ESP, USR_VERITY, USR, USR_VERITY, USR];
        let mut start = MARGIN_BYTES;
        let mut partitions = Vec::with_capacity(PARTS);
        for (size, kind) in sizes.into_iter().zip(kinds) {
            let name = if kind == ESP { "esp" } else { EMPTY_NAME };
            partitions.push(part(start, size, kind, name, sector_bytes));
            start += size;
        }
        let end = (disk_bytes - MARGIN_BYTES) / MIB * MIB;
        partitions.push(part(start, end - start, ROOT, state_name, sector_bytes));
        Self { label: "gpt".to_owned(), partitions }
    }

    /// Says which version lies in the first slot; the second has none.
    pub(crate) fn name_slots(&mut self, version: &str, root_hash: &RootHash) {
        let slots = [
            (format!("allerac_{version}_verity"), Some(root_hash.verity_uuid())),
            (format!("allerac_{version}"), Some(root_hash.usr_uuid())),
            (EMPTY_NAME.to_owned(), None),
            (EMPTY_NAME.to_owned(), None),
        ];
        for (part, (name, uuid)) in self.partitions[1..5].iter_mut().zip(slots) {
            part.name = name;
            part.uuid = uuid;
        }
    }

    /// What sfdisk is told.
    pub(crate) fn script(&self) -> String {
        let mut text = format!("label: {}\nunit: sectors\n", self.label);
        for part in &self.partitions {
            let Part { start, size, kind, name, .. } = part;
            let _ = write!(text, "start={start}, size={size}, type={kind}, name=\"{name}\"");
            if let Some(uuid) = &part.uuid {
                let _ = write!(text, ", uuid={uuid}");
            }
            text.push('\n');
        }
        text
    }
}

fn part(start_bytes: u64, size_bytes: u64, kind: &str, name: &str, sector_bytes: u64) -> Part {
    let (start, size) = (start_bytes / sector_bytes, size_bytes / sector_bytes);
    Part { start, size, kind: kind.to_owned(), uuid: None, name: name.to_owned() }
}

/// The root hash of a verity partition: SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootHash(String);

/// Characters of a SHA-256 in hexadecimal.
const HASH_CHARS: usize = 64;

impl RootHash {
    /// From the kernel's command line.
    pub(crate) fn from_command_line(line: &str) -> Option<Self> {
        let hash = line.split_whitespace().find_map(|word| word.strip_prefix("usrhash="))?;
        let is_hash = hash.len() == HASH_CHARS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| Self(hash.to_ascii_lowercase()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn usr_uuid(&self) -> String {
        uuid(&self.0[..HASH_CHARS / 2])
    }

    fn verity_uuid(&self) -> String {
        uuid(&self.0[HASH_CHARS / 2..])
    }
}

fn uuid(hex: &str) -> String {
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const HASH: &str = "82a33f2b7a4134226c831a88005defac8e0ee60fc67b4263f51306e704ea7cfb";

    #[test]
    fn the_script_says_where_everything_lies() {
        let mut table = Table::new(8_000_000_000, 512, STATE_NAME);
        let hash = RootHash::from_command_line(&format!("quiet usrhash={HASH} rw")).unwrap();
        table.name_slots("0.1.0.7", &hash);
        assert_eq!(
            table.script(),
            format!(
                "label: gpt\nunit: sectors\n\
                 start=2048, size=1048576, type={ESP}, name=\"esp\"\n\
                 start=1050624, size=131072, type={USR_VERITY}, name=\"allerac_0.1.0.7_verity\", \
                 uuid=8e0ee60f-c67b-4263-f513-06e704ea7cfb\n\
                 start=1181696, size=2097152, type={USR}, name=\"allerac_0.1.0.7\", \
                 uuid=82a33f2b-7a41-3422-6c83-1a88005defac\n\
                 start=3278848, size=131072, type={USR_VERITY}, name=\"_empty\"\n\
                 start=3409920, size=2097152, type={USR}, name=\"_empty\"\n\
                 start=5507072, size=10115072, type={ROOT}, name=\"allerac-state\"\n"
            )
        );
        assert!(table.as_box().is_some());
    }

    #[test]
    fn a_disk_of_large_sectors_counts_in_those() {
        let table = Table::new(8_000_000_000, 4096, UNFINISHED_NAME);
        assert_eq!((table.partitions[0].start, table.partitions[0].size), (256, 131_072));
        assert_eq!((table.partitions[5].start, table.partitions[5].size), (688_384, 1_264_384));
        assert_eq!(table.partitions[5].name, "_installing");
    }

    #[test]
    fn only_our_own_tables_are_a_boxs() {
        let table = Table::new(8_000_000_000, 512, STATE_NAME);
        let mut windows = table.clone();
        windows.partitions[5].name = "Basic data partition".to_owned();
        let mut more = table.clone();
        more.partitions.push(table.partitions[5].clone());
        let mut other_slot = table.clone();
        other_slot.partitions[2].name = "fedora".to_owned();
        let mut old = table.clone();
        old.label = "dos".to_owned();
        let mut order = table.clone();
        order.partitions.swap(0, 1);
        for (what, foreign) in
            [("name", windows), ("more", more), ("slot", other_slot), ("label", old), ("order", order)]
        {
            assert_eq!(foreign.as_box(), None, "{what}");
        }
    }

    #[test]
    fn a_root_hash_is_64_digits() {
        let hash = |line: &str| RootHash::from_command_line(line).map(|hash| hash.0);
        assert_eq!(hash(&format!("usrhash={}", HASH.to_uppercase())).as_deref(), Some(HASH));
        for line in
            ["quiet", "usrhash=", "usrhash=12", &format!("usrhash={HASH}0"), &format!("usrhash={}é", &HASH[2..])]
        {
            assert_eq!(hash(line), None, "{line}");
        }
    }
}

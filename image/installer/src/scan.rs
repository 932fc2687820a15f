//! Looks at the machine: which disks there are, and what is on them. Reads only.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::content::{Content, Signature, Signatures};
use crate::disk::{COLUMNS, Disk, Listing};
use crate::table::{Dump, Table};
use crate::tool;

/// Where the boot loader says which partition it was started from (systemd's Boot Loader Interface).
const BOOTED_VARIABLE: &str = "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Before the value of a variable of the firmware, as the kernel shows it.
const ATTRIBUTES_BYTES: usize = 4;
/// How much of a disk's beginning and end must be zeros for it to count as empty.
const BLANK_BYTES: u64 = 1 << 20;

pub(crate) fn disks() -> anyhow::Result<Vec<Disk>> {
    listing()?.disks(&booted()?, content)
}

pub(crate) fn listing() -> anyhow::Result<Listing> {
    let listed = tool::run("lsblk", &["--json", "--bytes", "--output", COLUMNS])?;
    serde_json::from_str(&listed).context("lsblk prints something else than was expected")
}

/// The UUID of the partition that this system was started from.
pub(crate) fn booted() -> anyhow::Result<String> {
    let value =
        fs::read(BOOTED_VARIABLE).context("the firmware does not say which disk this system was started from")?;
    let uuid = wide_text(value.get(ATTRIBUTES_BYTES..).unwrap_or_default());
    if uuid.is_empty() {
        bail!("the firmware does not say which disk this system was started from");
    }
    Ok(uuid)
}

/// The table of a disk, and the paths of its partitions; none where there is no table that can be read.
pub(crate) fn table(path: &str) -> anyhow::Result<(Option<Table>, Vec<String>)> {
    // A disk without a table is a failure to sfdisk; what is wrong with others, their signatures tell.
    let Ok(dumped) = tool::run("sfdisk", &["--json", path]) else { return Ok((None, Vec::new())) };
    let dumped: Value = serde_json::from_str(&dumped).context("sfdisk prints something else than was expected")?;
    let partitions = dumped["partitiontable"]["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let nodes = partitions.iter().filter_map(|part| part["node"].as_str()).map(str::to_owned).collect();
    // A table with things unlike a box's, such as partitions without a place: not one to read further.
    let table = serde_json::from_value::<Dump>(dumped).ok().map(|dump| dump.partitiontable);
    Ok((table, nodes))
}

fn content(path: &str, size_bytes: u64) -> anyhow::Result<Content> {
    let look = || {
        let (table, nodes) = table(path)?;
        let mut found = signatures(path)?;
        // A partition that the kernel does not know is in the table all the same.
        for node in nodes.into_iter().filter(|node| Path::new(node).exists()) {
            found.extend(signatures(&node)?);
        }
        Ok(Content::of(table, &found, is_blank(path, size_bytes)?))
    };
    // One disk that cannot be read is no reason to hide the others; nothing is written on it by mistake.
    Ok(look().unwrap_or_else(|error: anyhow::Error| Content::Foreign(vec![format!("what cannot be read: {error:#}")])))
}

fn signatures(path: &str) -> anyhow::Result<Vec<Signature>> {
    let found = tool::run("wipefs", &["--json", path])?;
    if found.trim().is_empty() {
        return Ok(Vec::new());
    }
    let found: Signatures = serde_json::from_str(&found).context("wipefs prints something else than was expected")?;
    Ok(found.signatures)
}

fn is_blank(path: &str, size_bytes: u64) -> io::Result<bool> {
    let mut disk = File::open(path)?;
    for from in [0, size_bytes.saturating_sub(BLANK_BYTES)] {
        disk.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&mut disk).take(BLANK_BYTES).read_to_end(&mut bytes)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// UTF-16 as the firmware writes it, up to its end.
fn wide_text(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(units.split(|unit| *unit == 0).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{RootHash, STATE_NAME};

    /// A file is as good as a disk to the programs that look.
    fn disk(size: u64) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        (file, path)
    }

    const SIZE: u64 = 8 << 30;

    #[test]
    fn an_empty_disk_is_empty() {
        let (_file, path) = disk(SIZE);
        assert_eq!(content(&path, SIZE).unwrap(), Content::Empty);
    }

    #[test]
    fn what_is_on_a_disk_is_found() {
        let (_file, path) = disk(SIZE);
        tool::run("mkfs.ext4", &["-q", "-L", "photos", &path]).unwrap();
        assert_eq!(content(&path, SIZE).unwrap().to_string(), "holds ext4 \"photos\"");
        let (_file, path) = disk(SIZE);
        tool::run_with_input("sfdisk", &["--quiet", &path], "label: dos\nstart=2048, type=7\n").unwrap();
        let told = content(&path, SIZE).unwrap().to_string();
        assert!(told.starts_with("holds a partition table (dos) with 1 partitions"), "{told}");
        let (file, path) = disk(SIZE);
        io::Write::write_all(&mut file.as_file(), b"a key file, perhaps").unwrap();
        assert_eq!(content(&path, SIZE).unwrap().to_string(), "holds data of an unknown form");
    }

    #[test]
    fn what_sfdisk_wrote_is_read_again() {
        let (_file, path) = disk(SIZE);
        let mut written = Table::new(SIZE, 512, STATE_NAME);
        let hash = RootHash::from_command_line(&format!("usrhash={}", "ab".repeat(32))).unwrap();
        written.name_slots("0.1.0.7", &hash);
        tool::run_with_input("sfdisk", &["--quiet", &path], &written.script()).unwrap();
        let Content::Box(installed) = content(&path, SIZE).unwrap() else { panic!("it is a box") };
        assert_eq!((installed.versions, installed.has_state), (vec!["0.1.0.7".to_owned()], true));
        let places = |table: &Table| table.partitions.iter().map(|part| (part.start, part.size)).collect::<Vec<_>>();
        assert_eq!(places(&installed.table), places(&written));
        // Written again as it was read, it is the same to the last UUID.
        tool::run_with_input("sfdisk", &["--quiet", "--wipe", "never", &path], &installed.table.script()).unwrap();
        assert_eq!(table(&path).unwrap().0, Some(installed.table));
    }

    #[test]
    fn the_firmwares_text_is_read() {
        let wide: Vec<u8> = "2a9b-é\0rest".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(wide_text(&wide), "2a9b-é");
        assert_eq!(wide_text(&[]), "");
    }
}

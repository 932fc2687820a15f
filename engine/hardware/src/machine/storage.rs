//! Where data and memory are written to.

use std::path::Path;

use serde::Serialize;

use crate::tree::Tree;

/// What a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// Memory that is compressed.
    Memory,
    /// Flash behind a fast bus, or at least without moving parts.
    SolidState,
    /// A card or a chip of the kind that cameras have.
    Card,
    /// Something that turns.
    Rotating,
}

/// A place that memory is written to when there is too little of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Swap {
    /// A device or a file.
    pub path: String,
    /// How much fits in.
    pub bytes: u64,
    /// How much is in it.
    pub used_bytes: u64,
    /// What it is on; `None` where that cannot be told.
    pub medium: Option<Medium>,
}

/// The file system that a folder is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Where it is mounted.
    pub mounted_at: String,
    /// `ext4`, `vfat`.
    pub file_system: String,
    /// What it is on; `None` where that cannot be told.
    pub medium: Option<Medium>,
    /// The largest file, in bytes, where that is less than models have.
    pub file_bytes_max: Option<u64>,
}

/// What `/proc/swaps` lists.
pub(super) fn swaps(tree: &Tree) -> Vec<Swap> {
    let text = tree.text("/proc/swaps").unwrap_or_default();
    let swap = |line: &str| {
        let mut words = line.split_whitespace();
        // Spaces in names are written in octal.
        let path = words.next()?.replace("\\040", " ");
        let is_file = words.next()? == "file";
        let kib = |word: Option<&str>| word?.parse::<u64>().ok()?.checked_mul(1024);
        let (bytes, used_bytes) = (kib(words.next())?, kib(words.next())?);
        let medium =
            if is_file { volume(tree, Path::new(&path))?.medium } else { medium(tree, path.strip_prefix("/dev/")?) };
        Some(Swap { path, bytes, used_bytes, medium })
    };
    text.lines().skip(1).filter_map(swap).collect()
}

/// The file system that a path is in.
#[must_use]
pub fn volume(tree: &Tree, path: &Path) -> Option<Volume> {
    // proc_pid_mountinfo(5): id, parent, device, root, where, options, optional fields, `-`, type, source, options.
    let mounts = tree.text("/proc/self/mountinfo")?;
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut words = before.split_whitespace().skip(2);
        let (device, at) = (words.next()?.to_owned(), words.nth(1)?.replace("\\040", " "));
        let mut words = after.split_whitespace();
        let (file_system, source) = (words.next()?.to_owned(), words.next()?.to_owned());
        path.starts_with(&at).then_some((at, file_system, device, source))
    };
    // The last one of the longest hides the others.
    let (mounted_at, file_system, device, source) = mounts.lines().filter_map(mount).max_by_key(|(at, ..)| at.len())?;
    let by_number = tree.real(&format!("/sys/dev/block/{device}")).and_then(|path| Some(name_of(&path)?.to_owned()));
    // Some file systems have numbers of their own, and say what they are on.
    let name = by_number.or_else(|| source.strip_prefix("/dev/").map(str::to_owned));
    // FAT counts the bytes of a file in 32 bits.
    let file_bytes_max = matches!(file_system.as_str(), "vfat" | "msdos").then_some(u64::from(u32::MAX));
    Some(Volume { mounted_at, medium: name.and_then(|name| medium(tree, &name)), file_system, file_bytes_max })
}

fn name_of(path: &str) -> Option<&str> {
    path.rsplit('/').next().filter(|name| !name.is_empty())
}

/// What a block device is, or the disk that it is a part of.
fn medium(tree: &Tree, name: &str) -> Option<Medium> {
    if name.starts_with("zram") {
        return Some(Medium::Memory);
    }
    let real = tree.real(&format!("/sys/class/block/{name}"))?;
    let disk = if tree.has(&format!("{real}/partition")) { real.rsplit_once('/')?.0.to_owned() } else { real };
    if name_of(&disk)?.starts_with("mmcblk") {
        return Some(Medium::Card);
    }
    match tree.value::<u32>(&format!("{disk}/queue/rotational"))? {
        // Disks of virtual machines say that they turn, and nobody knows what is beneath.
        1 if name_of(&disk)?.starts_with("vd") => None,
        0 => Some(Medium::SolidState),
        _ => Some(Medium::Rotating),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    fn machine() -> Written {
        let written = Written::new(&[
            (
                "proc/self/mountinfo",
                "22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
                 30 22 8:1 / /mnt/usb\\040stick rw - vfat /dev/sda1 rw\n\
                 31 22 0:40 / /data rw shared:3 master:1 - btrfs /dev/sdb rw\n\
                 32 22 0:41 / /run rw - tmpfs tmpfs rw\n",
            ),
            ("sys/devices/pci/nvme0n1/queue/rotational", "0"),
            ("sys/devices/pci/nvme0n1/nvme0n1p2/partition", "2"),
            ("sys/devices/usb/sda/queue/rotational", "1"),
            ("sys/devices/usb/sda/sda1/partition", "1"),
            ("sys/devices/ata/sdb/queue/rotational", "1"),
            ("sys/devices/mmc/mmcblk0/queue/rotational", "0"),
            (
                "proc/swaps",
                "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1000 10 100\n/swap\\040file file 2000 0 -2\n\
                 /dev/mmcblk0 partition 4 0 -3\n/dev/gone partition 4 0 -3\n",
            ),
        ]);
        for (link, target) in [
            ("sys/dev/block/259:2", "../../devices/pci/nvme0n1/nvme0n1p2"),
            ("sys/class/block/nvme0n1p2", "../../devices/pci/nvme0n1/nvme0n1p2"),
            ("sys/dev/block/8:1", "../../devices/usb/sda/sda1"),
            ("sys/class/block/sda1", "../../devices/usb/sda/sda1"),
            ("sys/class/block/sdb", "../../devices/ata/sdb"),
            ("sys/class/block/mmcblk0", "../../devices/mmc/mmcblk0"),
        ] {
            written.link(link, target);
        }
        written
    }

    #[test]
    fn a_folder_is_in_the_nearest_file_system() {
        let written = machine();
        let of = |path: &str| {
            let volume = volume(&written.tree(), Path::new(path)).unwrap();
            (volume.mounted_at, volume.file_system, volume.medium, volume.file_bytes_max)
        };
        let solid = Some(Medium::SolidState);
        assert_eq!(of("/var/lib/allerac"), ("/".into(), "ext4".into(), solid, None));
        let turns = Some(Medium::Rotating);
        assert_eq!(of("/mnt/usb stick/a"), ("/mnt/usb stick".into(), "vfat".into(), turns, Some(4_294_967_295)));
        assert_eq!(of("/mnt/usb").0, "/");
        assert_eq!(of("/data/x"), ("/data".into(), "btrfs".into(), turns, None));
        assert_eq!(of("/run"), ("/run".into(), "tmpfs".into(), None, None));
        assert_eq!(volume(&Written::new(&[]).tree(), Path::new("/")), None);
    }

    #[test]
    fn swap_is_memory_a_file_a_card_or_unknown() {
        let written = machine();
        let all: Vec<_> = swaps(&written.tree()).into_iter().map(|swap| (swap.path, swap.bytes, swap.medium)).collect();
        let expected = [
            ("/dev/zram0".to_owned(), 1_024_000, Some(Medium::Memory)),
            ("/swap file".to_owned(), 2_048_000, Some(Medium::SolidState)),
            ("/dev/mmcblk0".to_owned(), 4096, Some(Medium::Card)),
            ("/dev/gone".to_owned(), 4096, None),
        ];
        assert_eq!(all, expected);
    }
}

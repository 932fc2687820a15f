//! The disks of the machine, from what lsblk(8) lists.

use serde::Deserialize;

use crate::content::Content;

/// Sizes of sectors that partition tables are written for.
const SECTORS_KNOWN: [u64; 2] = [512, 4096];

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    /// As in `/dev/nvme0n1`.
    pub(crate) path: String,
    /// By which it is chosen; nothing when it tells none.
    pub(crate) serial: Option<String>,
    pub(crate) model: String,
    pub(crate) size_bytes: u64,
    /// The logical one, in bytes.
    pub(crate) sector_bytes: u64,
    /// Why nothing may be written on it, whatever is asked.
    pub(crate) barred: Option<Barred>,
    pub(crate) content: Content,
}

/// What bars a disk from being installed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Barred {
    #[error("the system runs from it")]
    RunsFromIt,
    #[error("it is in use")]
    InUse,
    #[error("it cannot be written")]
    ReadOnly,
    #[error("it is a stick or card")]
    Removable,
    #[error("its sectors are of a size that is not known here")]
    Sectors,
    #[error("it has no serial number, so it cannot be named for certain")]
    NoSerial,
}

/// What lsblk prints with `--json --bytes --output` [`COLUMNS`].
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    blockdevices: Vec<Device>,
}

/// The columns that a [`Listing`] is made of; with the name among them, lsblk lists partitions under their disks.
pub(crate) const COLUMNS: &str = "NAME,PATH,TYPE,SIZE,LOG-SEC,RO,RM,MODEL,SERIAL,PARTUUID,MOUNTPOINTS";

#[derive(Debug, Deserialize)]
struct Device {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    #[serde(rename = "log-sec")]
    log_sec: u64,
    ro: bool,
    rm: bool,
    model: Option<String>,
    serial: Option<String>,
    partuuid: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Device>,
}

impl Listing {
    /// The disks among what is listed, their contents told by `look`, which is asked only about disks that may be written.
    /// `booted` is the partition that the boot loader was started from.
    pub(crate) fn disks<E>(
        self,
        booted: &str,
        mut look: impl FnMut(&str, u64) -> Result<Content, E>,
    ) -> Result<Vec<Disk>, E> {
        let disks = self.blockdevices.into_iter().filter(|device| device.kind == "disk" && device.size > 0);
        disks.map(|device| device.into_disk(booted, &mut look)).collect()
    }

    /// The path of a partition by its UUID.
    pub(crate) fn partition(&self, uuid: &str) -> Option<&str> {
        let partitions = self.blockdevices.iter().flat_map(|device| &device.children);
        partitions.filter(|part| part.is(uuid)).map(|part| part.path.as_str()).next()
    }

    /// The path of the disk that has this partition.
    pub(crate) fn disk_of(&self, uuid: &str) -> Option<&str> {
        let mut disks = self.blockdevices.iter();
        disks.find(|device| device.children.iter().any(|part| part.is(uuid))).map(|device| device.path.as_str())
    }
}

impl Device {
    fn into_disk<E>(self, booted: &str, look: &mut impl FnMut(&str, u64) -> Result<Content, E>) -> Result<Disk, E> {
        let serial = self.serial.as_deref().map(str::trim).filter(|serial| !serial.is_empty()).map(str::to_owned);
        let barred = self.barred(booted, serial.is_some());
        let content = match barred {
            None => look(&self.path, self.size)?,
            Some(_) => Content::Unread,
        };
        Ok(Disk {
            serial,
            barred,
            content,
            model: self.model.unwrap_or_default().trim().to_owned(),
            path: self.path,
            size_bytes: self.size,
            sector_bytes: self.log_sec,
        })
    }

    fn barred(&self, booted: &str, has_serial: bool) -> Option<Barred> {
        let rules = [
            (self.children.iter().any(|part| part.is(booted)), Barred::RunsFromIt),
            (self.is_used(), Barred::InUse),
            (self.ro, Barred::ReadOnly),
            (self.rm, Barred::Removable),
            (!SECTORS_KNOWN.contains(&self.log_sec), Barred::Sectors),
            (!has_serial, Barred::NoSerial),
        ];
        rules.into_iter().find_map(|(applies, why)| applies.then_some(why))
    }

    /// Whether it is mounted, is swapped on, or something other than partitions is made of it.
    fn is_used(&self) -> bool {
        let is_mounted = self.mountpoints.iter().any(Option::is_some);
        is_mounted || self.children.iter().any(|child| child.kind != "part" || child.is_used())
    }

    fn is(&self, uuid: &str) -> bool {
        self.partuuid.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(uuid))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const BOOTED: &str = "2a9b7c1e-0000-4000-8000-000000000001";

    fn part(path: &str, extra: &str) -> String {
        format!(
            r#"{{"path": "{path}", "type": "part", "size": 1048576, "log-sec": 512, "ro": false, "rm": false,
                "model": null, "serial": null, "partuuid": null, "mountpoints": [null]{extra}}}"#
        )
    }

    fn listed(device: &str) -> Disk {
        let listing: Listing = serde_json::from_str(&format!(r#"{{"blockdevices": [{device}]}}"#)).unwrap();
        let look = |_: &str, _| Ok::<_, Infallible>(Content::Empty);
        listing.disks(BOOTED, look).unwrap().remove(0)
    }

    fn device(extra: &str) -> String {
        format!(
            r#"{{"path": "/dev/nvme0n1", "type": "disk", "size": 512110190592, "log-sec": 512, "ro": false, "rm": false,
                "model": "Quick SSD ", "serial": " S64DMX0T ", "partuuid": null, "mountpoints": [null]{extra}}}"#
        )
    }

    #[test]
    fn an_internal_disk_may_be_written() {
        let disk = listed(&device(""));
        assert_eq!(disk.barred, None);
        assert_eq!((disk.serial.as_deref(), disk.model.as_str()), (Some("S64DMX0T"), "Quick SSD"));
        assert_eq!((disk.size_bytes, disk.sector_bytes), (512_110_190_592, 512));
        let unmounted = format!(r#", "children": [{}]"#, part("/dev/nvme0n1p1", ""));
        assert_eq!(listed(&device(&unmounted)).barred, None);
    }

    #[test]
    fn what_must_not_be_written_is_barred() {
        let own = part("/dev/sda1", "").replace(r#""partuuid": null"#, &format!(r#""partuuid": "{BOOTED}""#));
        let mounted = part("/dev/sda2", "").replace(r#""mountpoints": [null]"#, r#""mountpoints": ["/srv"]"#);
        let holder = part("/dev/mapper/x", "").replace("\"part\"", "\"crypt\"");
        let held = part("/dev/sda3", &format!(r#", "children": [{holder}]"#));
        for (listing, why) in [
            (device(&format!(r#", "children": [{own}]"#)), Barred::RunsFromIt),
            (device(&format!(r#", "children": [{mounted}]"#)), Barred::InUse),
            (device(&format!(r#", "children": [{held}]"#)), Barred::InUse),
            (device("").replace(r#""mountpoints": [null]"#, r#""mountpoints": ["[SWAP]"]"#), Barred::InUse),
            (device("").replace(r#""ro": false"#, r#""ro": true"#), Barred::ReadOnly),
            (device("").replace(r#""rm": false"#, r#""rm": true"#), Barred::Removable),
            (device("").replace(": 512,", ": 520,"), Barred::Sectors),
            (device("").replace(" S64DMX0T ", " "), Barred::NoSerial),
        ] {
            let disk = listed(&listing);
            assert_eq!((disk.barred, &disk.content), (Some(why), &Content::Unread), "{listing}");
        }
    }

    #[test]
    fn the_stick_is_known_in_capitals_too() {
        let own = part("/dev/sda1", "")
            .replace("\"partuuid\": null", &format!("\"partuuid\": \"{}\"", BOOTED.to_uppercase()));
        let listing = device(&format!(r#", "children": [{own}]"#));
        assert_eq!(listed(&listing).barred, Some(Barred::RunsFromIt));
        let listing: Listing = serde_json::from_str(&format!(r#"{{"blockdevices": [{listing}]}}"#)).unwrap();
        assert_eq!(listing.partition(BOOTED), Some("/dev/sda1"));
        assert_eq!(listing.disk_of(BOOTED), Some("/dev/nvme0n1"));
        assert_eq!(listing.partition("other"), None);
    }

    #[test]
    fn what_is_no_disk_is_not_listed() {
        let listing = format!(
            r#"{{"blockdevices": [{}, {}]}}"#,
            device("").replace("\"disk\"", "\"loop\""),
            device("").replace("512110190592", "0")
        );
        let listing: Listing = serde_json::from_str(&listing).unwrap();
        assert_eq!(listing.disks(BOOTED, |_, _| Ok::<_, Infallible>(Content::Empty)), Ok(Vec::new()));
    }
}

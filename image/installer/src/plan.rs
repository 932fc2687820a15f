//! What will be done to which disk, or why nothing will: pure, from what the disks are and what was asked.

use crate::content::{Content, Installed};
use crate::disk::{Barred, Disk};
use crate::table::{
    ESP_BYTES, ESP_NUMBER, MARGIN_BYTES, MIB, RootHash, Table, UNFINISHED_NAME, USR_BYTES, USR_NUMBER, VERITY_BYTES,
    VERITY_NUMBER,
};

/// Both slots, the boot partition, and what lies before and after partitions.
const SYSTEM_BYTES: u64 = ESP_BYTES + 2 * (VERITY_BYTES + USR_BYTES) + 2 * MARGIN_BYTES;
/// The least that a box may have for what it remembers, beside the models that it begins with.
const STATE_BYTES_MIN: u64 = 2048 * MIB;

/// What the system that runs, and will be installed, is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) root_hash: RootHash,
    pub(crate) usr_bytes: u64,
    pub(crate) verity_bytes: u64,
    pub(crate) models_bytes: u64,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Of the disk to install on.
    pub(crate) serial: String,
    pub(crate) treatment: Treatment,
}

/// What is to become of what is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// There is nothing, or nothing will be done.
    Empty,
    /// It may all go.
    Replace,
    /// What a box remembers there stays; another's data are not touched.
    Preserve,
}

/// Everything that is needed to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) path: String,
    /// As it is while the installation goes on.
    pub(crate) table: Table,
    /// Whether the state's partition is left alone.
    pub(crate) keeps_state: bool,
}

/// Why nothing is done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no disk has the serial number {serial}; the list says which there are: {known}")]
    Unknown { serial: String, known: String },
    #[error("several disks have the serial number {0}; unplug all but one of them")]
    Ambiguous(String),
    #[error("{path} will not be written: {why}")]
    Barred { path: String, why: Barred },
    #[error("{path} is too small: it has {has_mib} MiB, and {needs_mib} are needed")]
    TooSmall { path: String, has_mib: u64, needs_mib: u64 },
    #[error("{path} {what}; say that it may be replaced, by its serial number, if nobody needs that any more")]
    Foreign { path: String, what: String },
    #[error("{path} holds a box, version {versions}; say whether its keys, people and models are kept or erased")]
    Undecided { path: String, versions: String },
    #[error("{path} holds no box whose memory could be kept")]
    NothingToKeep { path: String },
    #[error(
        "{path} holds version {version}, which is newer than this stick's: its memory may be of a form that this one cannot read; make a stick of the newest version"
    )]
    Newer { path: String, version: String },
    #[error("{path} is divided in another way than this version needs; back the box up, then replace it all")]
    OtherLayout { path: String },
    #[error("this stick's system is larger than the slots of a disk; build the image anew")]
    SystemTooLarge,
}

/// Decides.
///
/// # Errors
/// A [`Refusal`] where anything could be lost that was not named, or would not fit.
pub(crate) fn plan(disks: &[Disk], request: &Request, facts: &Facts) -> Result<Plan, Refusal> {
    let disk = find(disks, &request.serial)?;
    if facts.usr_bytes > USR_BYTES || facts.verity_bytes > VERITY_BYTES {
        return Err(Refusal::SystemTooLarge);
    }
    let path = disk.path.clone();
    if let Some(why) = disk.barred {
        return Err(Refusal::Barred { path, why });
    }
    match (&disk.content, request.treatment) {
        (Content::Box(installed), Treatment::Preserve) if installed.has_state => keep(disk, installed, facts),
        // What was begun here before and not finished is nobody's.
        (Content::Box(installed), Treatment::Empty) if installed.has_state => {
            Err(Refusal::Undecided { path, versions: installed.versions.join(" and ") })
        }
        (Content::Foreign(_), Treatment::Empty) => Err(Refusal::Foreign { path, what: disk.content.to_string() }),
        (Content::Foreign(_), Treatment::Preserve) => Err(Refusal::NothingToKeep { path }),
        (Content::Unread, _) => Err(Refusal::Barred { path, why: Barred::InUse }),
        (Content::Empty | Content::Box(_), _) | (Content::Foreign(_), Treatment::Replace) => begin(disk, facts),
    }
}

fn find<'a>(disks: &'a [Disk], serial: &str) -> Result<&'a Disk, Refusal> {
    let is_it = |disk: &&Disk| disk.serial.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(serial));
    let mut found = disks.iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(disk), None) => Ok(disk),
        (Some(_), Some(_)) => Err(Refusal::Ambiguous(serial.to_owned())),
        (None, _) => {
            let known: Vec<&str> = disks.iter().filter_map(|disk| disk.serial.as_deref()).collect();
            Err(Refusal::Unknown { serial: serial.to_owned(), known: known.join(", ") })
        }
    }
}

/// A disk that has nothing to keep.
fn begin(disk: &Disk, facts: &Facts) -> Result<Plan, Refusal> {
    let needs = SYSTEM_BYTES + STATE_BYTES_MIN + facts.models_bytes;
    if disk.size_bytes < needs {
        let (has_mib, needs_mib) = (disk.size_bytes / MIB, needs.div_ceil(MIB));
        return Err(Refusal::TooSmall { path: disk.path.clone(), has_mib, needs_mib });
    }
    let mut table = Table::new(disk.size_bytes, disk.sector_bytes, UNFINISHED_NAME);
    table.name_slots(&facts.version, &facts.root_hash);
    Ok(Plan { path: disk.path.clone(), table, keeps_state: false })
}

/// A box's disk: the state's partition stays to the sector, and so does where all else lies.
fn keep(disk: &Disk, installed: &Installed, facts: &Facts) -> Result<Plan, Refusal> {
    let path = disk.path.clone();
    if let Some(version) = installed.versions.iter().find(|version| is_newer(version, &facts.version)) {
        return Err(Refusal::Newer { path, version: version.clone() });
    }
    let has_room = |number: usize, bytes: u64| installed.table.partitions[number - 1].size * disk.sector_bytes >= bytes;
    let fits = has_room(ESP_NUMBER, ESP_BYTES)
        && has_room(VERITY_NUMBER, facts.verity_bytes)
        && has_room(USR_NUMBER, facts.usr_bytes);
    if !fits {
        return Err(Refusal::OtherLayout { path });
    }
    let mut table = installed.table.clone();
    table.name_slots(&facts.version, &facts.root_hash);
    Ok(Plan { path, table, keeps_state: true })
}

/// Whether a version like `0.1.0.231` is higher; a part that is no number counts as none.
fn is_newer(version: &str, than: &str) -> bool {
    let parts = |version: &str| version.split('.').map(|part| part.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>();
    parts(version) > parts(than)
}

impl Plan {
    /// The path of a partition by its number: `/dev/sda3`, `/dev/nvme0n1p3`.
    pub(crate) fn node(&self, number: usize) -> String {
        let is_digit = self.path.ends_with(|last: char| last.is_ascii_digit());
        format!("{}{}{number}", self.path, if is_digit { "p" } else { "" })
    }
}

#[cfg(test)]
mod tests;

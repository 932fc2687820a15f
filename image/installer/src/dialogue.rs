//! The questions on the screen: which disk, and what becomes of what is on it.

use std::io::{self, BufRead, Write};

use anyhow::bail;

use crate::content::{Content, Installed};
use crate::disk::Disk;
use crate::plan::{self, Facts, Plan, Request, Treatment};

/// Longest line that is read; serial numbers are shorter.
const LINE_BYTES_MAX: u64 = 1024;

/// Asks until there is a plan that may be carried out. An empty line looks for disks again.
///
/// # Errors
/// The terminal is gone, or the disks cannot be listed.
pub(crate) fn choose(
    input: &mut impl BufRead,
    output: &mut impl Write,
    facts: &Facts,
    mut disks: impl FnMut() -> anyhow::Result<Vec<Disk>>,
) -> anyhow::Result<Plan> {
    loop {
        let disks = disks()?;
        show(output, &disks, facts)?;
        let serial = read(input)?;
        if serial.is_empty() {
            continue;
        }
        let Some(treatment) = treatment(input, output, &disks, &serial)? else {
            writeln!(output, "\n  Nothing was changed.")?;
            continue;
        };
        match plan::plan(&disks, &Request { serial, treatment }, facts) {
            Ok(plan) => return Ok(plan),
            Err(refusal) => writeln!(output, "\n  Nothing was changed: {refusal}.")?,
        }
    }
}

fn show(output: &mut impl Write, disks: &[Disk], facts: &Facts) -> io::Result<()> {
    writeln!(output, "\n  Install Allerac {}\n", facts.version)?;
    for disk in disks {
        let Disk { path, model, .. } = disk;
        let serial = disk.serial.as_deref().unwrap_or("none");
        writeln!(output, "  {path}  {model}  {}", size(disk.size_bytes))?;
        writeln!(output, "      serial number  {serial}")?;
        match disk.barred {
            Some(why) => writeln!(output, "      not possible: {why}")?,
            None => writeln!(output, "      {}", disk.content)?,
        }
    }
    if disks.iter().all(|disk| disk.barred.is_some()) {
        writeln!(output, "\n  There is no disk to install on. Press Enter to look again.")?;
    } else {
        writeln!(output, "\n  Type the serial number of the disk to install on, or only Enter to look again:")?;
    }
    output.flush()
}

/// What becomes of what is on that disk; nothing where somebody thought better of it.
fn treatment(
    input: &mut impl BufRead,
    output: &mut impl Write,
    disks: &[Disk],
    serial: &str,
) -> anyhow::Result<Option<Treatment>> {
    let disk = disks.iter().find(|disk| disk.serial.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(serial)));
    let can_keep = match disk.map(|disk| (&disk.content, disk)) {
        Some((Content::Foreign(_), disk)) => {
            writeln!(output, "\n  This disk {}. All of it would be lost.", disk.content)?;
            false
        }
        Some((Content::Box(Installed { has_state: true, .. }), disk)) => {
            writeln!(output, "\n  This disk holds {}.", disk.content)?;
            writeln!(output, "  Type keep to keep its keys, people and models.")?;
            true
        }
        // The rest needs no word, or is refused.
        _ => return Ok(Some(Treatment::Empty)),
    };
    writeln!(output, "  Type erase {serial} to erase it all, or only Enter to leave it as it is:")?;
    output.flush()?;
    let answer = read(input)?;
    Ok(match answer.as_str() {
        "keep" if can_keep => Some(Treatment::Preserve),
        _ if answer == format!("erase {serial}") => Some(Treatment::Replace),
        _ => None,
    })
}

fn read(input: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    if io::Read::take(input, LINE_BYTES_MAX).read_line(&mut line)? == 0 {
        bail!("the terminal is gone");
    }
    Ok(line.trim().to_owned())
}

/// As it stands on the disk's label: 500 GB.
fn size(bytes: u64) -> String {
    const GB: u64 = 1_000_000_000;
    if bytes < GB { format!("{} MB", bytes / 1_000_000) } else { format!("{} GB", bytes / GB) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Barred;
    use crate::table::{RootHash, STATE_NAME, Table};

    const GIB: u64 = 1 << 30;

    fn disks() -> Vec<Disk> {
        let table = Table::new(64 * GIB, 512, STATE_NAME);
        let installed = Installed { table, versions: vec!["0.1.0.5".to_owned()], has_state: true };
        let disk = |path: &str, serial: &str, content, barred| Disk {
            path: path.to_owned(),
            serial: Some(serial.to_owned()),
            model: "Quick SSD".to_owned(),
            size_bytes: 64 * GIB,
            sector_bytes: 512,
            barred,
            content,
        };
        vec![
            disk("/dev/sda", "STICK", Content::Unread, Some(Barred::RunsFromIt)),
            disk("/dev/nvme0n1", "E1", Content::Empty, None),
            disk("/dev/nvme1n1", "F1", Content::Foreign(vec!["ntfs \"Windows\"".to_owned()]), None),
            disk("/dev/nvme2n1", "B1", Content::Box(installed), None),
        ]
    }

    fn facts() -> Facts {
        let root_hash = RootHash::from_command_line(&format!("usrhash={}", "ab".repeat(32))).unwrap();
        let (usr_bytes, verity_bytes, models_bytes) = (1 << 30, 64 << 20, 0);
        Facts { version: "0.1.0.7".to_owned(), root_hash, usr_bytes, verity_bytes, models_bytes }
    }

    /// What was planned for these lines, if anything was before they ended, and what the screen said.
    fn type_in(lines: &str) -> (Option<(String, bool)>, String) {
        let mut output = Vec::new();
        let plan = choose(&mut lines.as_bytes(), &mut output, &facts(), || Ok(disks()));
        (plan.ok().map(|plan| (plan.path, plan.keeps_state)), String::from_utf8(output).unwrap())
    }

    #[test]
    fn disks_are_shown_with_what_is_on_them() {
        let (_, screen) = type_in("");
        assert_eq!(
            screen,
            "
  Install Allerac 0.1.0.7

  /dev/sda  Quick SSD  68 GB
      serial number  STICK
      not possible: the system runs from it
  /dev/nvme0n1  Quick SSD  68 GB
      serial number  E1
      empty
  /dev/nvme1n1  Quick SSD  68 GB
      serial number  F1
      holds ntfs \"Windows\"
  /dev/nvme2n1  Quick SSD  68 GB
      serial number  B1
      a box, version 0.1.0.5

  Type the serial number of the disk to install on, or only Enter to look again:
"
        );
    }

    #[test]
    fn a_disk_is_written_only_after_its_serial_number_was_typed() {
        let planned = |path: &str, keeps| Some((path.to_owned(), keeps));
        for (lines, plan) in [
            ("e1\n", planned("/dev/nvme0n1", false)),
            ("\n\nE1\n", planned("/dev/nvme0n1", false)),
            ("/dev/nvme0n1\n1\nyes\n", None),
            ("STICK\n", None),
            ("F1\n\n", None),
            ("F1\nerase\n", None),
            ("F1\nyes\nkeep\n", None),
            ("F1\nerase E1\n", None),
            ("F1\nkeep\n", None),
            ("F1\nerase F1\n", planned("/dev/nvme1n1", false)),
            ("B1\n\n", None),
            ("B1\nkeep\n", planned("/dev/nvme2n1", true)),
            ("B1\nerase B1\n", planned("/dev/nvme2n1", false)),
            ("F1\n\nE1\n", planned("/dev/nvme0n1", false)),
        ] {
            assert_eq!(type_in(lines).0, plan, "{lines:?}");
        }
    }

    #[test]
    fn refusals_say_that_nothing_was_changed() {
        assert!(
            type_in("STICK\n")
                .1
                .contains("Nothing was changed: /dev/sda will not be written: the system runs from it.\n")
        );
        assert!(type_in("F1\nno\n").1.contains("This disk holds ntfs \"Windows\". All of it would be lost.\n"));
        assert!(type_in("B1\n").1.contains("This disk holds a box, version 0.1.0.5.\n"));
    }
}

//! How much energy the machine takes, as far as it counts: processors by Intel's RAPL, which `powercap` in sysfs shows
//! of AMD's too, and graphics cards by their sensors (hwmon).
//!
//! Power supply, disks and fans are in no counter: what a meter at the wall shows is more.

use std::io::ErrorKind;
use std::time::Duration;

use crate::machine::{Attachment, Graphics};
use crate::tree::Tree;

const POWERCAP: &str = "/sys/class/powercap";
/// A number in a file.
const NUMBER_BYTES_MAX: u64 = 64;
/// Files of a card's sensors, the best first: two that count energy, of the card or of its chip, and two that tell power.
const SENSORS: [(&str, bool); 4] =
    [("energy1_input", true), ("energy2_input", true), ("power1_average", false), ("power1_input", false)];

/// The counters of a machine, and what they said last.
#[derive(Debug)]
pub struct Energy {
    tree: Tree,
    counters: Vec<Counter>,
    unreadable: Vec<String>,
}

#[derive(Debug)]
struct Counter {
    name: String,
    path: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Millionths of a joule, up to `range`, then from 0 again.
    Counted { range: Option<u64>, last: Option<u64> },
    /// Millionths of a watt, of this moment.
    Power,
}

impl Energy {
    /// Looks for counters below a root.
    #[must_use]
    pub fn find(tree: Tree) -> Self {
        let mut energy = Self { tree, counters: Vec::new(), unreadable: Vec::new() };
        for (name, folder) in zones(&energy.tree) {
            let range = energy.tree.value(&format!("{folder}/max_energy_range_uj"));
            energy.add(name, format!("{folder}/energy_uj"), Kind::Counted { range, last: None });
        }
        for (name, path, counts) in cards(&energy.tree) {
            energy.add(name, path, if counts { Kind::Counted { range: None, last: None } } else { Kind::Power });
        }
        energy
    }

    fn add(&mut self, name: String, path: String, kind: Kind) {
        match self.tree.bytes(&path, NUMBER_BYTES_MAX) {
            Ok(_) => self.counters.push(Counter { name, path, kind }),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => self.unreadable.push(path),
            // Drivers have files for what their card does not measure.
            Err(_) => {}
        }
    }

    /// What is counted: `package-0`, `AMD card 0000:03:00.0`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.counters.iter().map(|counter| counter.name.clone()).collect()
    }

    /// Counters that are there and that this process may not read.
    #[must_use]
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// What the machine took since this was asked last, in millionths of a joule; that was so long ago. The first time, it
    /// is what cards that tell power only took.
    pub fn read(&mut self, elapsed: Duration) -> u64 {
        let Self { tree, counters, .. } = self;
        counters.iter_mut().fold(0, |sum, counter| sum.saturating_add(counter.read(tree, elapsed)))
    }
}

impl Counter {
    /// A counter that does not answer now is asked again the next time; it goes on meanwhile.
    fn read(&mut self, tree: &Tree, elapsed: Duration) -> u64 {
        let Some(now) = tree.value::<u64>(&self.path) else { return 0 };
        match &mut self.kind {
            Kind::Power => {
                let taken = u128::from(now) * elapsed.as_micros() / 1_000_000;
                u64::try_from(taken).unwrap_or(u64::MAX)
            }
            Kind::Counted { range, last } => match last.replace(now) {
                None => 0,
                Some(last) if now >= last => now - last,
                // It began anew: after its range, or with its driver.
                Some(last) => range.map_or(now, |range| range.saturating_sub(last).saturating_add(now)),
            },
        }
    }
}

/// Whole processors, and memory where it is counted: it is no part of a processor, though shown below one. Cores and
/// graphics are parts of it and are not counted twice; of two registers for the same processor, the first counts.
fn zones(tree: &Tree) -> Vec<(String, String)> {
    let mut zones: Vec<(String, String)> = Vec::new();
    let mut names = tree.names(POWERCAP);
    // Not all machines count in the registers that are mapped to memory.
    names.sort_by_key(|zone| zone.contains("mmio"));
    for zone in names {
        let folder = format!("{POWERCAP}/{zone}");
        let Some(name) = tree.word(&format!("{folder}/name")) else { continue };
        let name = match zone.split(':').collect::<Vec<_>>()[..] {
            [_, _] if name.starts_with("package-") => name,
            [_, package, _] if name == "dram" => format!("memory of processor {package}"),
            _ => continue,
        };
        if !zones.iter().any(|(known, _)| *known == name) {
            zones.push((name, folder));
        }
    }
    zones
}

/// Cards of their own: what is part of a processor is counted with it. With whether the file counts, or tells power.
fn cards(tree: &Tree) -> Vec<(String, String, bool)> {
    let card = |graphics: &Graphics| {
        let sensors = format!("/sys/bus/pci/devices/{}/hwmon", graphics.address);
        let folders = tree.names(&sensors).into_iter().map(|name| format!("{sensors}/{name}"));
        let files = folders.flat_map(|folder| SENSORS.map(|(file, counts)| (format!("{folder}/{file}"), counts)));
        let (path, counts) = files.into_iter().find(|(path, _)| tree.has(path))?;
        Some((format!("{} card {}", graphics.vendor, graphics.address), path, counts))
    };
    let all = crate::machine::graphics(tree);
    all.iter().filter(|graphics| graphics.attachment != Attachment::Integrated).filter_map(card).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    const SECOND: Duration = Duration::from_secs(1);

    fn zone(written: &Written, zone: &str, name: &str, energy: &str) {
        written.file(&format!("{POWERCAP}/{zone}/name"), name.as_bytes());
        written.file(&format!("{POWERCAP}/{zone}/energy_uj"), energy.as_bytes());
        written.file(&format!("{POWERCAP}/{zone}/max_energy_range_uj"), b"262143328850\n");
    }

    #[test]
    fn processors_count_once_and_go_round() {
        let written = Written::new(&[]);
        zone(&written, "intel-rapl:0", "package-0\n", "262143328000\n");
        zone(&written, "intel-rapl:0:0", "core\n", "1000\n");
        zone(&written, "intel-rapl:0:1", "dram\n", "500\n");
        zone(&written, "intel-rapl:1", "psys\n", "9\n");
        zone(&written, "intel-rapl-mmio:0", "package-0\n", "7\n");
        let mut energy = Energy::find(written.tree());
        assert_eq!(energy.names(), ["package-0", "memory of processor 0"]);
        assert_eq!(energy.read(SECOND), 0);
        let say = |zone: &str, text: &str| written.file(&format!("{POWERCAP}/{zone}/energy_uj"), text.as_bytes());
        say("intel-rapl:0", "262143328800");
        say("intel-rapl:0:0", "999999");
        say("intel-rapl:0:1", "700");
        assert_eq!(energy.read(SECOND), 800 + 200);
        say("intel-rapl:0", "150");
        assert_eq!(energy.read(SECOND), 50 + 150);
        // What is not told now is told the next time.
        say("intel-rapl:0", "");
        assert_eq!(energy.read(SECOND), 0);
        say("intel-rapl:0", "250");
        assert_eq!(energy.read(SECOND), 100);
    }

    #[test]
    fn cards_count_or_tell_power_and_parts_of_processors_do_not() {
        let written = Written::new(&[]);
        let card = |address: &str, vendor: &str, file: &str, text: &str| {
            let folder = format!("/sys/bus/pci/devices/{address}");
            written.file(&format!("{folder}/class"), b"0x030000");
            written.file(&format!("{folder}/vendor"), vendor.as_bytes());
            written.file(&format!("{folder}/device"), b"0x1");
            written.file(&format!("{folder}/hwmon/hwmon3/{file}"), text.as_bytes());
        };
        card("0000:00:02.0", "0x8086", "energy1_input", "1");
        card("0000:03:00.0", "0x8086", "energy1_input", "5000000");
        card("0000:04:00.0", "0x1002", "power1_average", "40000000");
        let mut energy = Energy::find(written.tree());
        assert_eq!(energy.names(), ["Intel card 0000:03:00.0", "AMD card 0000:04:00.0"]);
        assert_eq!(energy.read(Duration::ZERO), 0);
        card("0000:03:00.0", "0x8086", "energy1_input", "5000700");
        assert_eq!(energy.read(Duration::from_millis(250)), 700 + 10_000_000);
    }

    #[test]
    fn a_machine_without_counters_has_none() {
        let mut energy = Energy::find(Written::new(&[]).tree());
        assert_eq!(energy.read(SECOND), 0);
        assert!(energy.names().is_empty() && energy.unreadable().is_empty());
    }
}

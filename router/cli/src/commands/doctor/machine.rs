//! What the machine is made of, and what would make it faster.

use std::path::Path;

use allerac_hardware::Tree;
use allerac_hardware::machine::{Machine, Medium, Modules, volume as volume_of};

use super::{Check, words};
use crate::output::bytes;

/// How near to where the machine protects itself a temperature is worth a word, in degrees.
const HOT_CELSIUS: f64 = 5.0;

/// What the data directory is on, where that is a bad place.
pub(super) fn volume(tree: &Tree, data_dir: &Path) -> Option<Check> {
    let existing = data_dir.ancestors().find(|path| path.exists())?.canonicalize().ok()?;
    let volume = volume_of(tree, &existing)?;
    if let Some(file_bytes_max) = volume.file_bytes_max {
        let found =
            format!("{} on {} holds files of {} at most", volume.file_system, volume.mounted_at, bytes(file_bytes_max));
        let hint = "larger models do not fit: use ext4, xfs or btrfs, or move the data with --data-dir";
        return Some(Check::warning("file system", found, hint));
    }
    let what = match volume.medium? {
        Medium::Rotating => "a disk that turns",
        Medium::Card => "a card",
        Medium::Memory | Medium::SolidState => return None,
    };
    let found = format!("{} is on {what}, from which models take long to load", volume.mounted_at);
    Some(Check::warning("file system", found, "move the data to an SSD with --data-dir"))
}

/// What there is.
pub(super) fn found(machine: &Machine) -> Vec<Check> {
    let mut checks = vec![modules(&machine.modules)];
    if let [_, _, ..] = &machine.nodes[..] {
        let nodes = machine.nodes.iter().map(|node| format!("{} near {}", bytes(node.memory_bytes), node.processors));
        checks.push(Check::ok("memory nodes", nodes.collect::<Vec<_>>().join(", ")));
    }
    checks.extend(machine.graphics.iter().map(|card| Check::ok("graphics", words::graphics(card))));
    let hottest = machine.heat.temperatures.iter().max_by(|a, b| a.celsius.total_cmp(&b.celsius));
    if let Some(hottest) = hottest {
        let label = hottest.label.as_ref().map_or_else(String::new, |label| format!(" {label}"));
        let detail = format!("{:.0} °C at most ({}{label})", hottest.celsius, hottest.source);
        checks.push(match hottest.critical_celsius {
            Some(limit) if hottest.celsius > limit - HOT_CELSIUS => {
                Check::warning("temperature", detail, "it slows down or stops from here on: give it air")
            }
            _ => Check::ok("temperature", detail),
        });
    }
    if !machine.power_limits.is_empty() {
        let limits =
            machine.power_limits.iter().map(|limit| format!("{:.0} W ({})", limit.watts, limit.name.replace('_', " ")));
        checks.push(Check::ok("power", limits.collect::<Vec<_>>().join(", ")));
    }
    checks
}

/// What could be better.
pub(super) fn advice(machine: &Machine) -> Vec<Check> {
    let advice = machine.advice().into_iter();
    advice.map(|advice| Check::warning(advice.subject, advice.found, advice.hint)).collect()
}

fn modules(modules: &Modules) -> Check {
    const NAME: &str = "memory modules";
    match modules {
        Modules::Known(firmware) => Check::ok(NAME, words::firmware(firmware)),
        Modules::Denied => Check::ok(NAME, "only root may ask the firmware about them"),
        Modules::Untold => Check::ok(NAME, "the firmware does not tell; virtual machines seldom do"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_cannot_hold_models_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let warned = |mounts: &str| {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
            std::fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
            volume(&Tree::new(root.path()), &data_dir).map(|check| check.detail)
        };
        assert_eq!(
            warned("22 1 8:1 / / rw - vfat /dev/sda1 rw\n").as_deref(),
            Some("vfat on / holds files of 4.29 GB at most")
        );
        assert_eq!(warned("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"), None);
    }
}

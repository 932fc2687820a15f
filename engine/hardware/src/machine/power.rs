//! What the processor may draw (Intel's RAPL, which `powercap` in sysfs shows).

use serde::Serialize;

use crate::tree::Tree;

/// Limits of a zone that are looked at: for a long and a short time, and the peak.
const CONSTRAINTS_MAX: u32 = 4;

/// What a processor may draw on average over some time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PowerLimit {
    /// `package-0`.
    pub zone: String,
    /// `long_term`, `short_term` or `peak_power`.
    pub name: String,
    /// What is set.
    pub watts: f64,
    /// What the processor is made for, where it tells.
    pub own_watts: Option<f64>,
    /// Over how long, in seconds.
    pub seconds: Option<f64>,
}

/// Limits of whole processors. There may be two registers for the same; the lower one counts.
pub(super) fn read(tree: &Tree) -> Vec<PowerLimit> {
    const FOLDER: &str = "/sys/class/powercap";
    let mut limits: Vec<PowerLimit> = Vec::new();
    for zone in tree.names(FOLDER) {
        let folder = format!("{FOLDER}/{zone}");
        let name = tree.word(&format!("{folder}/name")).filter(|name| name.starts_with("package-"));
        let Some(name) = name else { continue };
        for limit in (0..CONSTRAINTS_MAX).filter_map(|number| constraint(tree, &folder, &name, number)) {
            match limits.iter_mut().find(|other| (&other.zone, &other.name) == (&limit.zone, &limit.name)) {
                Some(other) if other.watts <= limit.watts => other.own_watts = other.own_watts.or(limit.own_watts),
                Some(other) => *other = PowerLimit { own_watts: limit.own_watts.or(other.own_watts), ..limit },
                None => limits.push(limit),
            }
        }
    }
    limits
}

fn constraint(tree: &Tree, folder: &str, zone: &str, number: u32) -> Option<PowerLimit> {
    let millionths = |file: &str| {
        let value: u64 = tree.value(&format!("{folder}/constraint_{number}_{file}"))?;
        (value > 0).then_some(value as f64 / 1e6)
    };
    Some(PowerLimit {
        zone: zone.to_owned(),
        name: tree.word(&format!("{folder}/constraint_{number}_name"))?,
        watts: millionths("power_limit_uw")?,
        own_watts: millionths("max_power_uw"),
        seconds: millionths("time_window_us"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    #[test]
    fn the_lower_of_two_registers_counts() {
        let written = Written::new(&[]);
        let zone = |zone: &str, watts: &str, own: &str| {
            let file = |name: &str, text: &str| {
                written.file(&format!("sys/class/powercap/{zone}/{name}"), text.as_bytes());
            };
            file("name", "package-0\n");
            file("constraint_0_name", "long_term");
            file("constraint_0_power_limit_uw", watts);
            file("constraint_0_max_power_uw", own);
            file("constraint_0_time_window_us", "27983872");
        };
        zone("intel-rapl:0", "65000000", "65000000");
        zone("intel-rapl-mmio:0", "35000000", "0");
        written.file("sys/class/powercap/intel-rapl:0:0/name", b"core");
        written.file("sys/class/powercap/intel-rapl:0:0/constraint_0_power_limit_uw", b"1");
        let expected = PowerLimit {
            zone: "package-0".into(),
            name: "long_term".into(),
            watts: 35.0,
            own_watts: Some(65.0),
            seconds: Some(27.983_872),
        };
        assert_eq!(read(&written.tree()), [expected]);
    }
}

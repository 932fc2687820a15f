//! The processor: its cores by kind, its caches, and by what rule it changes its clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cpus::CpuSet;
use crate::topology::{CoreKind, Topology};
use crate::tree::Tree;

/// The most caches that one core knows of.
const CACHES_MAX: u32 = 16;

/// A processor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Processor {
    /// As it names itself.
    pub model: String,
    /// `GenuineIntel`, `AuthenticAMD`.
    pub vendor: String,
    /// Its family, model and stepping, by which documents name it.
    pub signature: (u32, u32, u32),
    /// Its cores.
    pub cores: Vec<CoreGroup>,
    /// Its caches, near ones first.
    pub caches: Vec<Cache>,
    /// By what rule its clock follows the work; `None` where the system cannot change it.
    pub governor: Option<Governor>,
}

/// Cores of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoreGroup {
    /// `cores`, `P-cores` or `E-cores`.
    pub kind: &'static str,
    /// How many.
    pub cores: u32,
    /// Their processors: hyper-threads count each.
    pub processors: CpuSet,
    /// The highest clock of the fastest of them, in MHz.
    pub mhz_max: Option<u32>,
}

/// Caches that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cache {
    /// How far it is from the core.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// The size of each.
    pub bytes: u64,
    /// How many there are.
    pub count: u32,
}

/// By what rule a clock follows the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Governor {
    /// `performance`, `powersave`, `schedutil`.
    pub name: String,
    /// Who sets the clock: `intel_pstate`, `amd-pstate-epp`, `acpi-cpufreq`.
    pub driver: String,
    /// What such a driver was told to prefer: `performance`, `balance_performance`, `power`.
    pub preference: Option<String>,
}

impl Governor {
    /// Whether it keeps the clock low while there is work. Where the processor itself sets the clock, `powersave` is merely
    /// the name of doing so, and the preference is what counts.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        let by_itself = matches!(self.driver.as_str(), "intel_pstate" | "amd-pstate-epp");
        if by_itself { self.preference.as_deref() == Some("power") } else { self.name == "powersave" }
    }
}

impl Processor {
    pub(super) fn read(tree: &Tree, cpuinfo: &str, topology: &Topology) -> Self {
        let number = |name| field(cpuinfo, name).parse().unwrap_or(0);
        Self {
            model: field(cpuinfo, "model name").to_owned(),
            vendor: field(cpuinfo, "vendor_id").to_owned(),
            signature: (number("cpu family"), number("model"), number("stepping")),
            cores: cores(tree, topology),
            caches: caches(tree, topology),
            governor: governor(tree, topology),
        }
    }
}

/// What the first processor says of itself.
fn field<'a>(cpuinfo: &'a str, name: &str) -> &'a str {
    let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

/// What the first processor can do, as the kernel spells it.
pub(super) fn flags(cpuinfo: &str) -> impl Iterator<Item = &str> {
    field(cpuinfo, "flags").split_whitespace()
}

fn cores(tree: &Tree, topology: &Topology) -> Vec<CoreGroup> {
    let group = |(kind, name)| {
        let processors: CpuSet = topology.of(kind).collect();
        let mhz = |cpu| tree.value::<u32>(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq"));
        let mhz_max = processors.iter().filter_map(mhz).max().map(|khz| khz / 1000);
        let cores = topology.cores(Some(&processors));
        (cores > 0).then_some(CoreGroup { kind: name, cores, processors, mhz_max })
    };
    let kinds = [(CoreKind::Performance, "P-cores"), (CoreKind::Efficiency, "E-cores"), (CoreKind::Alike, "cores")];
    kinds.into_iter().filter_map(group).collect()
}

/// Each cache once, though every processor that shares it tells of it.
fn caches(tree: &Tree, topology: &Topology) -> Vec<Cache> {
    let mut alike: BTreeMap<(u32, String, u64), BTreeSet<String>> = BTreeMap::new();
    for cpu in topology.all().iter() {
        for index in 0..CACHES_MAX {
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}/cache/index{index}");
            let text = |name: &str| tree.word(&format!("{folder}/{name}"));
            let Some(level) = text("level").and_then(|level| level.parse().ok()) else { break };
            let (Some(kind), Some(bytes)) = (text("type"), text("size").as_deref().and_then(size_bytes)) else {
                continue;
            };
            let shared = text("shared_cpu_list").unwrap_or_else(|| cpu.to_string());
            alike.entry((level, kind, bytes)).or_default().insert(shared);
        }
    }
    let count = |shared: BTreeSet<String>| u32::try_from(shared.len()).unwrap_or(u32::MAX);
    alike.into_iter().map(|((level, kind, bytes), shared)| Cache { level, kind, bytes, count: count(shared) }).collect()
}

/// `48K`, `24M`, as the kernel writes it.
fn size_bytes(text: &str) -> Option<u64> {
    let unit = |suffix, bytes| text.strip_suffix(suffix)?.parse::<u64>().ok()?.checked_mul(bytes);
    unit('K', 1 << 10).or_else(|| unit('M', 1 << 20)).or_else(|| text.parse().ok())
}

/// That of the first processor that has one; they are set together.
fn governor(tree: &Tree, topology: &Topology) -> Option<Governor> {
    let of = |cpu| {
        let text = |name: &str| tree.word(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/{name}"));
        Some(Governor {
            name: text("scaling_governor")?,
            driver: text("scaling_driver")?,
            preference: text("energy_performance_preference"),
        })
    };
    topology.all().iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powersave_is_slow_only_where_the_system_sets_the_clock() {
        let is_slow = |driver: &str, name: &str, preference: Option<&str>| {
            let preference = preference.map(str::to_owned);
            Governor { name: name.into(), driver: driver.into(), preference }.is_slow()
        };
        assert!(is_slow("acpi-cpufreq", "powersave", None) && is_slow("intel_cpufreq", "powersave", None));
        assert!(!is_slow("intel_pstate", "powersave", Some("balance_performance")));
        assert!(is_slow("intel_pstate", "powersave", Some("power")));
        assert!(!is_slow("amd-pstate-epp", "powersave", None) && !is_slow("acpi-cpufreq", "schedutil", None));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            ["48K", "24M", "64", "x", "K"].map(size_bytes),
            [Some(49152), Some(25_165_824), Some(64), None, None]
        );
    }
}

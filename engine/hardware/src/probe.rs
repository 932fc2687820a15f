//! Reads what the kernel tells of the machine.

use std::collections::BTreeSet;

use crate::cpus::CpuSet;
use crate::topology::Topology;
use crate::tree::Tree;

/// Instruction sets that matter to inference; a processor's list has a hundred more.
const FEATURES: [&str; 6] = ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8"];

/// What this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// As the processor names itself.
    pub cpu_model: String,
    /// Instruction sets that matter to inference, as the kernel spells them.
    pub features: Vec<String>,
    /// The processors that this program may use.
    pub topology: Topology,
    /// Main memory.
    pub memory_bytes: u64,
}

/// Reads this machine's `/proc` and `/sys`. What cannot be read is empty.
#[must_use]
pub fn probe() -> Probe {
    Probe::read(&Tree::default(), &CpuSet::allowed().unwrap_or_default())
}

impl Probe {
    /// Reads `/proc` and `/sys` of a tree, of the processors that are allowed.
    #[must_use]
    pub fn read(tree: &Tree, allowed: &CpuSet) -> Self {
        let text = |path| tree.text(path).unwrap_or_default();
        from_proc(&text("/proc/cpuinfo"), &text("/proc/meminfo"), Topology::read(tree, allowed))
    }
}

fn from_proc(cpuinfo: &str, meminfo: &str, topology: Topology) -> Probe {
    let fields =
        || cpuinfo.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()));
    let first = |name: &str| fields().find(|(key, _)| *key == name).map_or("", |(_, value)| value);
    let flags: BTreeSet<&str> = first("flags").split_whitespace().collect();
    Probe {
        cpu_model: first("model name").to_owned(),
        features: FEATURES.iter().filter(|name| flags.contains(*name)).map(ToString::to_string).collect(),
        topology,
        memory_bytes: memory_bytes(meminfo),
    }
}

pub(crate) fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processor_speaks_for_all() {
        let processor = "processor\t: 0\nmodel name\t: 13th Gen Intel(R) Core(TM) i5-13400\nphysical id\t: 0\n\
                         core id\t\t: 0\nflags\t\t: fpu avx2 fma avx_vnni\n\n";
        let meminfo = "MemTotal:       32646340 kB\nMemFree: 1 kB\n";
        let probe = from_proc(&processor.repeat(2), meminfo, Topology::default());
        assert_eq!(probe.cpu_model, "13th Gen Intel(R) Core(TM) i5-13400");
        assert_eq!(probe.features, ["avx2", "fma", "avx_vnni"]);
        assert_eq!(probe.memory_bytes, 33_429_852_160);
    }

    #[test]
    fn this_machine_tells_what_it_is() {
        let probe = probe();
        assert!(probe.memory_bytes > 0 && probe.topology.processors() >= probe.topology.cores(None));
    }
}

//! Reads what the kernel tells of the machine.

use std::collections::BTreeSet;
use std::fs;

/// Instruction sets that matter to inference; a processor's list has a hundred more.
const FEATURES: [&str; 6] = ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8"];

/// What this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// As the processor names itself.
    pub cpu_model: String,
    /// Instruction sets that matter to inference, as the kernel spells them.
    pub features: Vec<String>,
    /// Cores, hyper-threads not counted.
    pub physical_cores: u32,
    /// Processors as the scheduler sees them.
    pub logical: u32,
    /// Main memory.
    pub memory_bytes: u64,
}

/// Reads `/proc`. What cannot be read is empty, or one.
#[must_use]
pub fn probe() -> Probe {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    from_proc(&cpuinfo, &meminfo)
}

fn from_proc(cpuinfo: &str, meminfo: &str) -> Probe {
    let fields =
        || cpuinfo.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()));
    let first = |name: &str| fields().find(|(key, _)| *key == name).map_or("", |(_, value)| value);
    let flags: BTreeSet<&str> = first("flags").split_whitespace().collect();
    let logical = count(fields().filter(|(key, _)| *key == "processor").count());
    // A physical core is a pair of package and core; processors without the two count by themselves.
    let mut cores = BTreeSet::new();
    let mut package = "";
    for (key, value) in fields() {
        match key {
            "physical id" => package = value,
            "core id" => {
                cores.insert((package, value));
            }
            _ => {}
        }
    }
    Probe {
        cpu_model: first("model name").to_owned(),
        features: FEATURES.iter().filter(|name| flags.contains(*name)).map(ToString::to_string).collect(),
        physical_cores: if cores.is_empty() { logical } else { count(cores.len()) },
        logical,
        memory_bytes: memory_bytes(meminfo),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX).max(1)
}

fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_threads_are_not_cores() {
        let processor = |processor: u32, core: u32| {
            format!(
                "processor\t: {processor}\nmodel name\t: 13th Gen Intel(R) Core(TM) i5-13400\nphysical id\t: 0\ncore id\t\t: {core}\nflags\t\t: fpu avx2 fma avx_vnni\n\n"
            )
        };
        let cpuinfo = [processor(0, 0), processor(1, 0), processor(2, 1), processor(3, 1)].concat();
        let probe = from_proc(&cpuinfo, "MemTotal:       32646340 kB\nMemFree: 1 kB\n");
        assert_eq!(probe.cpu_model, "13th Gen Intel(R) Core(TM) i5-13400");
        assert_eq!((probe.physical_cores, probe.logical), (2, 4));
        assert_eq!(probe.features, ["avx2", "fma", "avx_vnni"]);
        assert_eq!(probe.memory_bytes, 33_429_852_160);
    }

    #[test]
    fn a_machine_that_tells_nothing_has_one_core() {
        let probe = from_proc("", "");
        assert_eq!((probe.physical_cores, probe.logical, probe.memory_bytes), (1, 1, 0));
    }

    #[test]
    fn this_machine_tells_what_it_is() {
        let probe = probe();
        assert!(probe.memory_bytes > 0 && probe.physical_cores <= probe.logical);
    }
}

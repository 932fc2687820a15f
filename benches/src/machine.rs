//! What was measured, on what.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Cores, hyper-threads not counted.
pub(crate) fn physical_cores() -> u32 {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let (mut cores, mut package) = (BTreeSet::new(), "");
    for (name, value) in fields(&cpuinfo) {
        match name {
            "physical id" => package = value,
            "core id" => drop(cores.insert((package, value))),
            _ => {}
        }
    }
    u32::try_from(cores.len()).unwrap_or(u32::MAX).max(1)
}

/// The processor's name.
pub(crate) fn cpu() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = fields(&cpuinfo).find_map(|(name, value)| (name == "model name").then(|| value.to_owned()));
    name.unwrap_or_else(|| "unknown".to_owned())
}

/// Memory in GiB.
pub(crate) fn memory_gib() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = fields(&meminfo).find_map(|(name, value)| (name == "MemTotal").then_some(value));
    let kibibytes: u64 = total.and_then(|total| total.trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    (kibibytes + 512 * 1024) / (1024 * 1024)
}

/// The first line that a command prints.
pub(crate) fn first_line(program: &str, parts: &[&str]) -> String {
    let output = Command::new(program).args(parts).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()))
}

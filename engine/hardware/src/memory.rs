//! How much memory this program may have, and how much of it is free: what the kernel says of the machine, and of the
//! control groups that this program is in.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are (cgroup v2).
const CGROUPS: &str = "/sys/fs/cgroup";

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that this program may have together with others.
    pub total_bytes: u64,
    /// What can be had of it now without taking it from another program.
    pub available_bytes: u64,
}

/// What there is now.
#[must_use]
pub fn memory() -> Memory {
    of(|path| fs::read_to_string(path).ok())
}

fn of(read: impl Fn(&Path) -> Option<String>) -> Memory {
    let meminfo = read(Path::new("/proc/meminfo")).unwrap_or_default();
    let line = |name: &str| meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = |name: &str| line(name).and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let mut memory = Memory {
        total_bytes: kib("MemTotal").unwrap_or(0).saturating_mul(1024),
        available_bytes: kib("MemAvailable").unwrap_or(0).saturating_mul(1024),
    };
    let own = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    for group in Path::new(CGROUPS).join(own).ancestors().take_while(|path| path.starts_with(CGROUPS)) {
        if let Some((max, free)) = limit(group, &read) {
            memory.total_bytes = memory.total_bytes.min(max);
            memory.available_bytes = memory.available_bytes.min(free);
        }
    }
    memory
}

/// What a group may have, and what of that is free; `None` where it is not limited.
fn limit(group: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<(u64, u64)> {
    let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
    let max = number("memory.max")?;
    let stat = read(&PathBuf::from(group).join("memory.stat")).unwrap_or_default();
    // Of files that were read long ago the kernel lets go at once.
    let old = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok());
    let used = number("memory.current").unwrap_or(0).saturating_sub(old.unwrap_or(0));
    Some((max, max.saturating_sub(used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       16384000 kB\nMemFree: 1 kB\nMemAvailable:   8192000 kB\n";

    #[test]
    fn the_tightest_limit_counts() {
        let machine = |path: &Path| (path == Path::new("/proc/meminfo")).then(|| MEMINFO.to_owned());
        let plain = Memory { total_bytes: 16_384_000 * 1024, available_bytes: 8_192_000 * 1024 };
        assert_eq!(of(machine), plain);
        let grouped = |path: &Path| match path.to_str()? {
            "/proc/self/cgroup" => Some("0::/system.slice/allerac.service\n".to_owned()),
            "/sys/fs/cgroup/system.slice/allerac.service/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/system.slice/memory.max" => Some("1000000\n".to_owned()),
            "/sys/fs/cgroup/system.slice/memory.current" => Some("700000\n".to_owned()),
            "/sys/fs/cgroup/system.slice/memory.stat" => Some("anon 5\ninactive_file 200000\n".to_owned()),
            _ => machine(path),
        };
        assert_eq!(of(grouped), Memory { total_bytes: 1_000_000, available_bytes: 500_000 });
        assert_eq!(of(|_| None), Memory { total_bytes: 0, available_bytes: 0 });
    }

    #[test]
    fn this_machine_has_memory() {
        let Memory { total_bytes, available_bytes } = memory();
        assert!(0 < available_bytes && available_bytes <= total_bytes);
    }
}

//! The memory's modules, and what of it is near to which processors.

use std::io;

use serde::Serialize;

use crate::cpus::CpuSet;
use crate::smbios::Firmware;
use crate::tree::Tree;

/// The firmware's table as the kernel gives it to root.
const TABLE: &str = "/sys/firmware/dmi/tables/DMI";
/// The longest table, in bytes: those of large servers have some ten thousand.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// What is known of the modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Modules {
    /// As the firmware says.
    Known(Firmware),
    /// Only root may read it.
    Denied,
    /// The firmware does not tell, or this machine has none.
    Untold,
}

impl Modules {
    pub(super) fn read(tree: &Tree) -> Self {
        Self::told(tree.bytes(TABLE, TABLE_BYTES_MAX))
    }

    fn told(table: io::Result<Vec<u8>>) -> Self {
        match table {
            Ok(table) => match Firmware::parse(&table) {
                firmware if firmware.modules.is_empty() => Self::Untold,
                firmware => Self::Known(firmware),
            },
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Denied,
            Err(_) => Self::Untold,
        }
    }
}

/// Memory that is nearer to some processors than to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The kernel's number.
    pub id: u32,
    /// The processors that are near.
    pub processors: CpuSet,
    /// How much memory it has.
    pub memory_bytes: u64,
}

pub(super) fn nodes(tree: &Tree) -> Vec<Node> {
    const FOLDER: &str = "/sys/devices/system/node";
    let node = |name: String| {
        let id: u32 = name.strip_prefix("node")?.parse().ok()?;
        let meminfo = tree.text(&format!("{FOLDER}/{name}/meminfo"))?;
        let line = meminfo.lines().find_map(|line| line.split_once("MemTotal:"));
        let kib: u64 = line.and_then(|(_, rest)| rest.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0);
        // A node of memory alone has an empty list.
        let processors = tree.value(&format!("{FOLDER}/{name}/cpulist")).unwrap_or_default();
        Some(Node { id, processors, memory_bytes: kib.saturating_mul(1024) })
    };
    tree.names(FOLDER).into_iter().filter_map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smbios::tests::{Wanted, table};
    use crate::tree::fixtures::Written;

    #[test]
    fn the_firmwares_table_is_known_denied_or_not_told() {
        let written = Written::new(&[]);
        assert_eq!(Modules::read(&written.tree()), Modules::Untold);
        written.file(TABLE, &table(2, &[]));
        assert_eq!(Modules::read(&written.tree()), Modules::Untold);
        written.file(TABLE, &table(2, &[Wanted::default()]));
        assert!(matches!(Modules::read(&written.tree()), Modules::Known(firmware) if firmware.slots == 2));
        // Root may read everything, so this cannot be tried on a file.
        let error = |kind: io::ErrorKind| Modules::told(Err(kind.into()));
        assert_eq!(error(io::ErrorKind::PermissionDenied), Modules::Denied);
        assert_eq!(error(io::ErrorKind::NotFound), Modules::Untold);
    }

    #[test]
    fn nodes_have_memory_and_processors() {
        let written = Written::new(&[
            ("sys/devices/system/node/node0/cpulist", "0-3\n"),
            ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       1000 kB\nNode 0 MemFree: 1 kB\n"),
            ("sys/devices/system/node/node1/cpulist", "\n"),
            ("sys/devices/system/node/node1/meminfo", "Node 1 MemTotal:       2000 kB\n"),
            ("sys/devices/system/node/possible", "0-1\n"),
        ]);
        let node = |id, processors: &str, memory_bytes| Node {
            id,
            processors: processors.parse().unwrap_or_default(),
            memory_bytes,
        };
        assert_eq!(nodes(&written.tree()), [node(0, "0-3", 1_024_000), node(1, "", 2_048_000)]);
    }
}

//! What a machine is made of, how it is set up and how it fares, as far as the kernel tells.
//!
//! Everything is read below one root, so that recordings of other machines are read by the same code. Nothing here guesses:
//! what cannot be known is absent.

mod advice;
mod graphics;
mod heat;
mod memory;
mod power;
mod processor;
mod storage;
mod thunderbolt;

pub use advice::Advice;
pub(crate) use graphics::read as graphics;
pub use graphics::{Attachment, Graphics, Link};
pub use heat::{Heat, Temperature, Throttling};
pub use memory::{Modules, Node};
pub use power::PowerLimit;
pub use processor::{Cache, CoreGroup, Governor, Processor};
pub use storage::{Medium, Swap, Volume, volume};
pub use thunderbolt::Thunderbolt;

use serde::Serialize;

use crate::topology::Topology;
use crate::tree::Tree;

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Who made it and what they call it.
    pub name: Option<String>,
    /// Whether it is a virtual one, which sees little of what is beneath it.
    pub is_virtual: bool,
    /// Its processor.
    pub processor: Processor,
    /// Memory that programs can have, in bytes.
    pub memory_bytes: u64,
    /// What that memory is made of.
    pub modules: Modules,
    /// Memory by what is near to which processors.
    pub nodes: Vec<Node>,
    /// Graphics processors.
    pub graphics: Vec<Graphics>,
    /// What is plugged into Thunderbolt and USB4 ports.
    pub thunderbolt: Vec<Thunderbolt>,
    /// How hot it is, and whether it became slower by it.
    pub heat: Heat,
    /// What the processor may draw.
    pub power_limits: Vec<PowerLimit>,
    /// Where memory is written to when there is too little.
    pub swaps: Vec<Swap>,
}

impl Machine {
    /// Reads what a tree tells, of the processors of a topology.
    #[must_use]
    pub fn read(tree: &Tree, topology: &Topology) -> Self {
        let cpuinfo = tree.text("/proc/cpuinfo").unwrap_or_default();
        Self {
            name: name(tree),
            is_virtual: processor::flags(&cpuinfo).any(|flag| flag == "hypervisor"),
            processor: Processor::read(tree, &cpuinfo, topology),
            memory_bytes: crate::probe::memory_bytes(&tree.text("/proc/meminfo").unwrap_or_default()),
            modules: Modules::read(tree),
            nodes: memory::nodes(tree),
            graphics: graphics(tree),
            thunderbolt: thunderbolt::read(tree),
            heat: Heat::read(tree),
            power_limits: power::read(tree),
            swaps: storage::swaps(tree),
        }
    }
}

/// Firmware of cheap machines was often never filled in.
fn name(tree: &Tree) -> Option<String> {
    const NOTHING: [&str; 4] =
        ["to be filled by o.e.m.", "default string", "system manufacturer", "system product name"];
    let word = |name: &str| {
        tree.word(&format!("/sys/class/dmi/id/{name}")).filter(|word| !NOTHING.contains(&word.to_lowercase().as_str()))
    };
    let words: Vec<String> = [word("sys_vendor"), word("product_name")].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    #[test]
    fn names_that_were_never_filled_in_are_none() {
        let named = |vendor, product| {
            let written =
                Written::new(&[("sys/class/dmi/id/sys_vendor", vendor), ("sys/class/dmi/id/product_name", product)]);
            name(&written.tree())
        };
        assert_eq!(named("Beelink\n", "EQ12\n").as_deref(), Some("Beelink EQ12"));
        assert_eq!(named("Default string", "To be filled by O.E.M."), None);
    }

    #[test]
    fn an_empty_tree_tells_nothing() {
        let written = Written::new(&[]);
        let machine = Machine::read(&written.tree(), &Topology::default());
        assert_eq!((machine.name, machine.is_virtual, machine.memory_bytes), (None, false, 0));
        assert_eq!((machine.modules, machine.nodes.len()), (Modules::Untold, 0));
        assert_eq!((machine.graphics.len(), machine.thunderbolt.len(), machine.swaps.len()), (0, 0, 0));
    }
}

//! Which processors share a core, and of what kind the cores are.

use std::collections::{BTreeMap, BTreeSet};

use crate::cpus::CpuSet;
use crate::tree::Tree;

/// What a core is good at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreKind {
    /// All cores of this machine are alike.
    Alike,
    /// Fast, of a hybrid processor.
    Performance,
    /// Small, of a hybrid processor.
    Efficiency,
}

/// One processor as the scheduler sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's number.
    pub id: u32,
    /// The lowest number among the processors that share its core.
    pub core: u32,
    /// The kind of its core.
    pub kind: CoreKind,
}

/// The processors that this program may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    cpus: Vec<Cpu>,
}

impl Topology {
    /// Reads this machine's.
    #[must_use]
    pub fn probe() -> Self {
        Self::read(&Tree::default(), &CpuSet::allowed().unwrap_or_default())
    }

    /// Reads `/sys` of a tree, and keeps what is allowed. What it does not tell counts as one core a processor, all alike.
    #[must_use]
    pub fn read(tree: &Tree, allowed: &CpuSet) -> Self {
        let list = |path: &str| tree.value(&format!("/sys/devices/{path}"));
        let online: CpuSet = list("system/cpu/online").map_or_else(|| allowed.clone(), |set: CpuSet| set.and(allowed));
        // Only where a processor has cores of two kinds there are these two.
        let (performance, efficiency) = (list("cpu_core/cpus"), list("cpu_atom/cpus"));
        let kinds = performance.zip(efficiency);
        let cpu = |id: u32| {
            let topology = format!("system/cpu/cpu{id}/topology");
            // The second name is that of kernels before 5.3.
            let siblings = list(&format!("{topology}/core_cpus_list"));
            let siblings = siblings.or_else(|| list(&format!("{topology}/thread_siblings_list")));
            let kind = match &kinds {
                Some((performance, _)) if performance.contains(id) => CoreKind::Performance,
                Some((_, efficiency)) if efficiency.contains(id) => CoreKind::Efficiency,
                _ => CoreKind::Alike,
            };
            Cpu { id, core: siblings.and_then(|set: CpuSet| set.iter().next()).unwrap_or(id), kind }
        };
        Self { cpus: online.iter().map(cpu).collect() }
    }

    /// The processors whose cores are of a kind.
    pub fn of(&self, kind: CoreKind) -> impl Iterator<Item = u32> {
        self.cpus.iter().filter(move |cpu| cpu.kind == kind).map(|cpu| cpu.id)
    }

    /// Where engines run, unless measuring says otherwise: how many threads, and on which processors where not on all. The
    /// threads of a step wait for each other, so small cores beside fast ones hold these up; and a hyper-thread adds nothing
    /// to a computation that waits for memory.
    #[must_use]
    pub fn placement(&self) -> (u32, Option<CpuSet>) {
        let fast = self.performance();
        (self.cores(fast.as_ref()), fast)
    }

    /// Processors; hyper-threads count each.
    #[must_use]
    pub fn processors(&self) -> u32 {
        count(self.cpus.len())
    }

    /// Cores, hyper-threads not counted, among the given processors, or all.
    #[must_use]
    pub fn cores(&self, among: Option<&CpuSet>) -> u32 {
        let within = self.cpus.iter().filter(|cpu| among.is_none_or(|set| set.contains(cpu.id)));
        count(within.map(|cpu| cpu.core).collect::<BTreeSet<_>>().len())
    }

    /// The processors of the fast cores, where there are slow ones too.
    #[must_use]
    pub fn performance(&self) -> Option<CpuSet> {
        let fast: CpuSet = self.of(CoreKind::Performance).collect();
        (!fast.is_empty() && self.of(CoreKind::Efficiency).next().is_some()).then_some(fast)
    }

    /// All processors.
    #[must_use]
    pub fn all(&self) -> CpuSet {
        self.cpus.iter().map(|cpu| cpu.id).collect()
    }

    /// Cores of each kind, as people say it: `6 P-cores, 4 E-cores, 16 threads`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut kinds: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for cpu in &self.cpus {
            let name = match cpu.kind {
                CoreKind::Alike => "cores",
                CoreKind::Performance => "P-cores",
                CoreKind::Efficiency => "E-cores",
            };
            kinds.entry(name).or_default().insert(cpu.core);
        }
        let mut parts: Vec<String> =
            kinds.iter().rev().map(|(name, cores)| format!("{} {name}", cores.len())).collect();
        if self.processors() > self.cores(None) {
            parts.push(format!("{} threads", self.processors()));
        }
        parts.join(", ")
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("the kernel counts processors in an int")
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;

    use crate::tree::fixtures::Written;

    /// A tree with processors in cores of so many each.
    pub(crate) fn sysfs(cores: &[&[u32]], kinds: Option<(&str, &str)>) -> Written {
        let written = Written::new(&[]);
        let write =
            |path: &str, text: &str| written.file(&format!("sys/devices/{path}"), format!("{text}\n").as_bytes());
        let all: CpuSet = cores.iter().flat_map(|core| core.iter().copied()).collect();
        write("system/cpu/online", &all.to_string());
        for core in cores {
            let siblings: CpuSet = core.iter().copied().collect();
            for cpu in *core {
                write(&format!("system/cpu/cpu{cpu}/topology/core_cpus_list"), &siblings.to_string());
            }
        }
        if let Some((performance, efficiency)) = kinds {
            write("cpu_core/cpus", performance);
            write("cpu_atom/cpus", efficiency);
        }
        written
    }

    fn read(cores: &[&[u32]], kinds: Option<(&str, &str)>) -> Topology {
        Topology::read(&sysfs(cores, kinds).tree(), &(0..CPUS).collect())
    }

    pub(super) const CPUS: u32 = 64;

    /// Six P-cores of two threads, then four E-cores.
    pub(crate) fn i5_13400() -> Topology {
        let cores: [&[u32]; 10] = [&[0, 1], &[2, 3], &[4, 5], &[6, 7], &[8, 9], &[10, 11], &[12], &[13], &[14], &[15]];
        read(&cores, Some(("0-11", "12-15")))
    }

    /// Four E-cores and nothing else: no hybrid.
    pub(crate) fn n100() -> Topology {
        read(&[&[0], &[1], &[2], &[3]], None)
    }

    /// Six cores of two threads; the second threads are numbered after all the first ones.
    pub(crate) fn ryzen_7600() -> Topology {
        read(&[&[0, 6], &[1, 7], &[2, 8], &[3, 9], &[4, 10], &[5, 11]], None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::fixtures::Written;

    #[test]
    fn a_hybrid_has_cores_of_two_kinds() {
        let topology = fixtures::i5_13400();
        assert_eq!((topology.cores(None), topology.processors()), (10, 16));
        assert_eq!(topology.performance().unwrap().to_string(), "0-11");
        assert_eq!(topology.cores(topology.performance().as_ref()), 6);
        assert_eq!(topology.describe(), "6 P-cores, 4 E-cores, 16 threads");
        assert_eq!(topology.placement(), (6, Some("0-11".parse().unwrap())));
        assert_eq!(topology.cpus[5], Cpu { id: 5, core: 4, kind: CoreKind::Performance });
        assert_eq!(topology.cpus[12], Cpu { id: 12, core: 12, kind: CoreKind::Efficiency });
    }

    #[test]
    fn cores_that_are_all_small_are_alike() {
        let topology = fixtures::n100();
        assert_eq!((topology.cores(None), topology.processors(), topology.performance()), (4, 4, None));
        assert_eq!((topology.describe().as_str(), topology.placement()), ("4 cores", (4, None)));
    }

    #[test]
    fn hyper_threads_may_be_numbered_apart() {
        let topology = fixtures::ryzen_7600();
        assert_eq!((topology.cores(None), topology.processors(), topology.performance()), (6, 12, None));
        assert_eq!(topology.cores(Some(&"0-2,6-8".parse().unwrap())), 3);
        assert_eq!(topology.describe(), "6 cores, 12 threads");
    }

    #[test]
    fn only_what_may_be_used_counts() {
        let sysfs = fixtures::sysfs(&[&[0, 1], &[2, 3], &[4], &[5]], Some(("0-3", "4-5")));
        let topology = Topology::read(&sysfs.tree(), &"0-2".parse().unwrap());
        assert_eq!((topology.cores(None), topology.processors()), (2, 3));
        // Of the other kind there is none that may be used.
        assert_eq!(topology.performance(), None);
    }

    #[test]
    fn what_sysfs_does_not_tell_is_taken_as_plain() {
        let old = Written::new(&[("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n")]);
        let topology = Topology::read(&old.tree(), &"0-3".parse().unwrap());
        assert_eq!((topology.cores(None), topology.processors()), (3, 4));
        assert!(Topology::probe().cores(None) >= 1);
    }
}

//! Sets of processors.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kernel's own bound on what one call can bind to.
const CPUS_MAX: u32 = 1024;

/// Processors by the kernel's numbers; written as the kernel writes them: `0-7,16`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<u32>);

/// Text that is no list of processors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no list of processors; write it like 0-7,16, with numbers below {CPUS_MAX}")]
pub struct InvalidCpuSet(String);

impl CpuSet {
    /// The processors that the calling thread may run on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn allowed() -> io::Result<Self> {
        let set = rustix::thread::sched_getaffinity(None)?;
        Ok((0..CPUS_MAX).filter(|cpu| set.is_set(*cpu as usize)).collect())
    }

    /// Lets the calling thread, and what it starts from now on, run on these processors alone.
    ///
    /// # Errors
    /// When the machine has none of them, or the process may use none of them.
    pub fn bind(&self) -> io::Result<()> {
        let mut set = rustix::thread::CpuSet::new();
        self.0.iter().for_each(|cpu| set.set(*cpu as usize));
        Ok(rustix::thread::sched_setaffinity(None, &set)?)
    }

    /// Whether a processor is in it.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = InvalidCpuSet;

    fn from_str(text: &str) -> Result<Self, InvalidCpuSet> {
        let number = |text: &str| text.trim().parse().ok().filter(|cpu| *cpu < CPUS_MAX);
        let part = |part: &str| match part.split_once('-') {
            None => number(part).map(|cpu| cpu..=cpu),
            Some((first, last)) => Some(number(first)?..=number(last)?).filter(|range| !range.is_empty()),
        };
        let parts: Option<Vec<_>> = text.trim().split(',').map(part).collect();
        parts.map(|parts| parts.into_iter().flatten().collect()).ok_or_else(|| InvalidCpuSet(text.to_owned()))
    }
}

impl TryFrom<String> for CpuSet {
    type Error = InvalidCpuSet;

    fn try_from(text: String) -> Result<Self, InvalidCpuSet> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(formatter, "{comma}{first}")?;
            if last > first {
                write!(formatter, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_writes_them() {
        for (text, cpus, written) in [
            ("0", vec![0], "0"),
            ("0-3,16\n", vec![0, 1, 2, 3, 16], "0-3,16"),
            ("5, 1,0", vec![0, 1, 5], "0-1,5"),
            ("1023", vec![1023], "1023"),
        ] {
            let set: CpuSet = text.parse().unwrap();
            assert_eq!(set.iter().collect::<Vec<_>>(), cpus);
            assert_eq!(set.to_string(), written);
        }
        for bad in ["", "a", "1-", "-1", "3-1", "1,,2", "1024", "0-4294967295"] {
            assert_eq!(bad.parse::<CpuSet>(), Err(InvalidCpuSet(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn a_thread_is_bound_and_what_it_starts_inherits_it() {
        let bound = std::thread::spawn(|| {
            let one: CpuSet = CpuSet::allowed().unwrap().iter().take(1).collect();
            one.bind().unwrap();
            let inherited = std::thread::spawn(|| CpuSet::allowed().unwrap()).join().unwrap();
            (one, inherited)
        });
        let (one, inherited) = bound.join().unwrap();
        assert_eq!(inherited, one);
        assert!("1023".parse::<CpuSet>().unwrap().bind().is_err(), "this machine has 1024 processors?");
    }
}

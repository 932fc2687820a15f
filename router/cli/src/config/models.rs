use std::sync::Arc;
use std::time::Duration;

use allerac_router_core::Memory;
use serde::Deserialize;

use super::load::Bounded;

/// What is left for the system and other programs where nothing is configured: an eighth of all memory, within these
/// bounds.
const RESERVE_MIB: std::ops::RangeInclusive<u64> = 512..=4096;
/// What stays free at any time: with less the kernel begins to take files out of memory that are in use.
const FREE_MIN_MIB: u64 = 256;

/// `[models]`: which models stay in memory, and how much of it they may have.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ModelsSection {
    /// All models together, in MiB.
    memory_mib: Option<Bounded<64, 16_777_216>>,
    /// Minutes that a model stays in memory that nobody uses; without it, until its memory is wanted.
    idle_minutes: Option<Bounded<0, 525_600>>,
    /// Models that stay in memory once they are there.
    pub(crate) pinned: Vec<String>,
}

impl ModelsSection {
    /// What models may have of a machine with so much memory.
    pub(crate) fn memory(&self, total_bytes: u64) -> Memory {
        let reserve = (total_bytes >> 23).clamp(*RESERVE_MIB.start(), *RESERVE_MIB.end()) << 20;
        let budget_bytes = match self.memory_mib {
            Some(mib) => u64::from(mib.get()) << 20,
            None => total_bytes.saturating_sub(reserve),
        };
        let free_bytes = || allerac_hardware::memory().available_bytes.saturating_sub(FREE_MIN_MIB << 20);
        Memory { budget_bytes, free_bytes: Arc::new(free_bytes) }
    }

    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle_minutes.map(|minutes| Duration::from_secs(u64::from(minutes.get()) * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_is_left_for_others() {
        let section = ModelsSection::default();
        let budget = |gib: u64| section.memory(gib << 30).budget_bytes >> 20;
        assert_eq!([budget(2), budget(16), budget(64)], [1536, 14 * 1024, 60 * 1024]);
        assert_eq!(section.idle(), None);
        let section: ModelsSection = toml::from_str("memory_mib = 3000\nidle_minutes = 5\npinned = [\"m\"]").unwrap();
        assert_eq!(section.memory(1 << 40).budget_bytes, 3000 << 20);
        assert_eq!(section.idle(), Some(Duration::from_secs(300)));
        assert!((section.memory(1 << 40).free_bytes)() < allerac_hardware::memory().total_bytes);
    }
}

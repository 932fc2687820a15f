//! What each owner was served, by virtual token counting (Sheng et al., "Fairness in Serving Large Language Models",
//! 2024): whoever comes back after a while begins at the least of those who are here, so that nobody saves up.

use std::collections::HashMap;

/// Owners whose counters are kept; a box has fewer people.
pub(crate) const OWNERS_MAX: usize = 1024;

/// Counters by owner. An owner is known by the salt of their requests.
#[derive(Debug, Default)]
pub(crate) struct Shares(HashMap<u64, u64>);

impl Shares {
    /// What an owner was served.
    pub(crate) fn of(&self, owner: u64) -> u64 {
        self.0.get(&owner).copied().unwrap_or(0)
    }

    /// Counts what was computed for an owner.
    pub(crate) fn count(&mut self, owner: u64, tokens: u64) {
        let served = self.0.entry(owner).or_default();
        *served = served.saturating_add(tokens);
    }

    /// An owner comes, while these are here.
    pub(crate) fn arrive(&mut self, owner: u64, here: &[u64]) {
        if here.contains(&owner) {
            return;
        }
        let least = here.iter().map(|owner| self.of(*owner)).min().unwrap_or(0);
        self.forget_one(here);
        let counter = self.0.entry(owner).or_default();
        *counter = least.max(*counter);
    }

    /// Owners that are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes room for another owner. Whoever is away and was served least loses nothing by being forgotten.
    fn forget_one(&mut self, here: &[u64]) {
        if self.0.len() >= OWNERS_MAX {
            let away = self.0.iter().filter(|(owner, _)| !here.contains(owner));
            if let Some(owner) = away.min_by_key(|(_, served)| **served).map(|(owner, _)| *owner) {
                self.0.remove(&owner);
            }
        }
    }
}

//! What each model of the catalogue would do on this box, before it is fetched.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use allerac_models::fit::{Facts, Rates, Speed, Verdict, verdict};
use allerac_models::{Catalogue, Entry};
use tokio::sync::Mutex;

use crate::model::LocalModel;
use crate::registry::Registry;
use crate::residency::plan;

/// Measures how fast the machine reads and multiplies, on one thread and on as many as engines compute with. It takes seconds.
type Measure = dyn Fn() -> Vec<Rates> + Send + Sync;

/// What predictions are made from. Clones share it.
#[derive(Clone)]
pub struct Outlook {
    measure: Arc<Measure>,
    /// Held while it is being measured, so that two who ask do not disturb each other.
    measured: Arc<Mutex<Option<Arc<Measured>>>>,
}

/// What was measured of the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// When.
    pub at: SystemTime,
    /// On each number of threads.
    pub rates: Vec<Rates>,
}

/// A model of the catalogue.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// What the catalogue says of it.
    pub entry: &'static Entry,
    /// Whether it is installed, under this name or another.
    pub is_installed: bool,
    /// What it would do; `None` where its layers are not known, as of encoders, which are small.
    pub outcome: Option<Outcome>,
}

/// What a model would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Memory that it cannot do without, with the conversations that the settings allow.
    pub memory_bytes: u64,
    /// Tokens a second.
    pub speed: Speed,
    /// Whether it is any good.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

impl Outlook {
    /// Nothing is measured before somebody asks.
    #[must_use]
    pub fn new(measure: Arc<dyn Fn() -> Vec<Rates> + Send + Sync>) -> Self {
        Self { measure, measured: Arc::default() }
    }

    /// What was measured last, or what is measured now where nothing was, or `anew` is asked.
    pub async fn measured(&self, anew: bool) -> Arc<Measured> {
        let mut measured = Arc::clone(&self.measured).lock_owned().await;
        if let Some(known) = measured.as_ref().filter(|_| !anew) {
            return Arc::clone(known);
        }
        let measure = Arc::clone(&self.measure);
        // It goes on when nobody waits for it any more, and keeps others away meanwhile.
        let now = tokio::task::spawn_blocking(move || {
            let now = Arc::new(Measured { rates: measure(), at: SystemTime::now() });
            *measured = Some(Arc::clone(&now));
            now
        });
        now.await.expect("measuring does not panic")
    }
}

impl fmt::Debug for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlook({:?})", self.measured)
    }
}

impl Registry {
    /// What models may have together, in bytes.
    #[must_use]
    pub fn budget_bytes(&self) -> u64 {
        self.config().memory.budget_bytes
    }

    /// Every model of the catalogue, in its order.
    #[must_use]
    pub fn prospects(&self, measured: &Measured) -> Vec<Prospect> {
        let models = self.models();
        let prospect = |entry: &'static Entry| {
            let local = models.iter().find(|model| model.model == entry.id && model.base.is_none());
            let facts = local.and_then(|local| of_file(local)).or_else(|| Facts::of_entry(entry));
            let outcome = facts.map(|facts| self.outcome(&facts, measured));
            Prospect { entry, is_installed: local.is_some(), outcome }
        };
        Catalogue::builtin().entries().iter().map(prospect).collect()
    }

    fn outcome(&self, facts: &Facts, measured: &Measured) -> Outcome {
        let (needed, speed) = (facts.needed(&plan(&self.config().settings)), facts.speed(&measured.rates));
        let (verdict, reason) = verdict(&needed, self.budget_bytes(), &speed);
        Outcome { memory_bytes: needed.lasting(), speed, verdict, reason }
    }
}

/// The file that is here knows best.
fn of_file(local: &LocalModel) -> Option<Facts> {
    Facts::of_header(local.header.as_ref()?, local.weights_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::model::test_model;

    fn outlook(gigabytes: f64) -> (Outlook, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let measure = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            vec![Rates { threads: 4, bytes_per_second: gigabytes * 1e9, products_per_second: 500e9 }]
        };
        (Outlook::new(Arc::new(measure)), count)
    }

    #[tokio::test]
    async fn it_is_measured_once_until_somebody_wants_it_anew() {
        let (outlook, count) = outlook(30.0);
        let (one, two) = tokio::join!(outlook.measured(false), outlook.measured(false));
        assert_eq!((one, count.load(Ordering::Relaxed)), (two, 1));
        outlook.measured(true).await;
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn larger_models_are_slower_and_what_is_here_is_known() {
        let registry = Registry::test(vec![test_model("qwen2.5-7b-instruct", 1)]);
        let all = registry.prospects(&*outlook(30.0).0.measured(false).await);
        assert_eq!(all.len(), Catalogue::builtin().entries().len());
        let of = |id: &str| all.iter().find(|one| one.entry.id == id).unwrap();
        let decode = |id: &str| of(id).outcome.as_ref().unwrap().speed.decode;
        assert!(decode("llama-3.2-1b-instruct") > decode("qwen2.5-7b-instruct"));
        assert!(decode("qwen2.5-7b-instruct") > decode("llama-3.3-70b-instruct"));
        assert_eq!(of("llama-3.3-70b-instruct").outcome.as_ref().unwrap().verdict, Verdict::Slow);
        assert!(of("qwen2.5-7b-instruct").is_installed && !of("llama-3.2-1b-instruct").is_installed);
        assert_eq!(of("all-minilm-l6-v2").outcome, None);
    }
}

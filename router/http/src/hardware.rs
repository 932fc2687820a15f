//! What the box is made of, as its owner is told. Whoever starts the server looks; nothing here reads the machine.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

/// Looks at the machine now. Clones share it.
#[derive(Clone)]
pub struct Look(Arc<dyn Fn() -> Hardware + Send + Sync>);

impl Look {
    /// By this function, which may wait for the kernel.
    #[must_use]
    pub fn new(look: impl Fn() -> Hardware + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    pub(crate) async fn now(&self) -> Hardware {
        let look = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || look()).await.expect("reading files does not panic")
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// What the box is made of, what was chosen for it, and what would make it faster.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Hardware {
    /// `hardware`.
    pub object: &'static str,
    /// Who made the machine and what they call it.
    pub name: Option<String>,
    /// Whether it is a virtual machine, which sees little of what is beneath it.
    pub is_virtual: bool,
    /// The hardware profile in use.
    pub profile: String,
    /// The processor.
    pub processor: String,
    /// Its cores, as people say it.
    pub cores: String,
    /// Instruction sets that matter to inference.
    pub features: Vec<String>,
    /// Threads that compute answers.
    pub threads: u32,
    /// Where those run; null for everywhere.
    pub cpus: Option<String>,
    /// Main memory.
    pub memory_bytes: u64,
    /// What models may have of it together.
    pub model_memory_bytes: u64,
    /// Memory modules, in words; empty where the firmware does not tell whoever runs the server.
    pub memory_modules: Vec<String>,
    /// Graphics processors, in words.
    pub graphics: Vec<String>,
    /// What sensors say.
    pub temperatures: Vec<TemperatureObject>,
    /// What the processor may draw.
    pub power_limits: Vec<PowerObject>,
    /// The best model that the profile knows for this much memory.
    pub recommended_model: Option<String>,
    /// What would make it faster.
    pub advice: Vec<AdviceObject>,
}

/// A temperature.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TemperatureObject {
    /// Whose sensor, and of what.
    pub source: String,
    /// Degrees.
    pub celsius: f64,
}

/// A limit of power.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PowerObject {
    /// Over a long or a short time.
    pub name: String,
    /// What is set.
    pub watts: f64,
    /// What the processor is made for, where it tells.
    pub own_watts: Option<f64>,
}

/// Something that could be better.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AdviceObject {
    /// In a word or two.
    pub subject: String,
    /// What is so.
    pub found: String,
    /// What to do about it.
    pub hint: String,
}

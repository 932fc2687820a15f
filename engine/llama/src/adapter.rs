//! Adapters of a model: small matrices that are added to its own while a batch is computed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use allerac_engine_core::{AdapterId, BackendError};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};

use crate::model::LoadError;

/// Adapters by their names are added as strong as their files say.
const SCALE: f32 = 1.0;

/// The adapters that were loaded with a model, and those that could not be.
#[derive(Debug, Default)]
pub struct Adapters {
    loaded: BTreeMap<AdapterId, LlamaLoraAdapter>,
    /// Why others are missing.
    pub refused: Vec<LoadError>,
}

impl Adapters {
    /// Loads files for a model. They stay in memory as long as it does.
    pub(crate) fn load(model: &mut LlamaModel, files: &[(AdapterId, PathBuf)]) -> Self {
        let mut this = Self::default();
        for (id, path) in files {
            match load(model, path) {
                Ok(adapter) => drop(this.loaded.insert(*id, adapter)),
                Err(error) => this.refused.push(error),
            }
        }
        this
    }

    pub(crate) fn has(&self, id: AdapterId) -> bool {
        id == AdapterId::NONE || self.loaded.contains_key(&id)
    }

    /// Has a context compute with one of them, or with none.
    pub(crate) fn set(&mut self, id: AdapterId, context: &mut LlamaContext<'_>) -> Result<(), BackendError> {
        let is_set = if id == AdapterId::NONE {
            // It removes all; which one is named makes no difference.
            let any = self.loaded.values_mut().next();
            any.is_none_or(|any| context.lora_adapter_remove(any).is_ok())
        } else {
            self.loaded.get_mut(&id).is_some_and(|adapter| context.lora_adapter_set(adapter, SCALE).is_ok())
        };
        if is_set { Ok(()) } else { Err(BackendError::NoAdapter) }
    }
}

fn load(model: &mut LlamaModel, path: &Path) -> Result<LlamaLoraAdapter, LoadError> {
    // llama.cpp's crate wants the file to be there.
    std::fs::metadata(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
    model.lora_adapter_init(path).map_err(|_| LoadError::Adapter(path.to_owned()))
}

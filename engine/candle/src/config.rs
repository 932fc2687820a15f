//! What a model's own files say about it: `config.json` of transformers, `modules.json` and the pooling's
//! `config.json` of sentence-transformers.

use std::collections::HashMap;

use serde::Deserialize;

use crate::error::LoadError;

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const MODULES: &str = "modules.json";
pub(crate) const POOLING: &str = "1_Pooling/config.json";

/// The widest vectors: 2,048 of them fit one frame to the router.
const HIDDEN_MAX: usize = 2048;
/// The deepest models of this family have 24 layers.
const LAYERS_MAX: usize = 64;
/// The longest inputs of this family are 8192 tokens.
const POSITIONS_MAX: usize = 16_384;
/// The largest vocabularies have a quarter of a million tokens.
const VOCABULARY_MAX: usize = 1 << 20;

/// `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    pub(crate) model_type: String,
    #[serde(default)]
    architectures: Vec<String>,
    // The other names are DistilBERT's.
    #[serde(alias = "dim")]
    pub(crate) hidden_size: usize,
    #[serde(alias = "hidden_dim")]
    pub(crate) intermediate_size: usize,
    #[serde(alias = "n_layers")]
    pub(crate) num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    pub(crate) num_attention_heads: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) vocab_size: usize,
    #[serde(default = "one")]
    pub(crate) type_vocab_size: usize,
    #[serde(default)]
    pub(crate) pad_token_id: usize,
    #[serde(default = "norm_epsilon")]
    pub(crate) layer_norm_eps: f32,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    #[serde(default = "distance_buckets")]
    relative_attention_num_buckets: usize,
    position_embedding_type: Option<String>,
    id2label: Option<HashMap<String, String>>,
}

fn one() -> usize {
    1
}

fn distance_buckets() -> usize {
    32
}

fn norm_epsilon() -> f32 {
    1e-12
}

/// Which of the family it is: they differ in names, in where positions begin, and in what a token knows of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Bert,
    /// RoBERTa and XLM-R.
    Roberta,
    /// Sanh et al., "DistilBERT" (2019): without types of texts.
    DistilBert,
    /// Song et al., "MPNet" (2020): without types of texts, and with a bias for how far tokens are apart.
    Mpnet,
}

/// The function between the two halves of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// With the error function, as the paper has it.
    Gelu,
    Relu,
}

/// How the vectors of a sequence's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// That of the first token.
    First,
    Mean,
    Max,
    /// The sum divided by the square root of the length.
    MeanSqrt,
}

impl Config {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let config: Self = serde_json::from_slice(bytes).map_err(|error| LoadError::invalid(CONFIG, &error))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), LoadError> {
        let bounds = [
            ("hidden_size", self.hidden_size, HIDDEN_MAX),
            ("intermediate_size", self.intermediate_size, 8 * HIDDEN_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, self.hidden_size),
            ("max_position_embeddings", self.max_position_embeddings, POSITIONS_MAX),
            ("vocab_size", self.vocab_size, VOCABULARY_MAX),
            ("type_vocab_size", self.type_vocab_size, 16),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets, 256),
        ];
        for (name, value, max) in bounds {
            if value == 0 || value > max {
                return Err(LoadError::invalid(CONFIG, &format!("{name} is {value}, and must be 1 to {max}")));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(LoadError::invalid(CONFIG, &"hidden_size is no multiple of num_attention_heads"));
        }
        if self.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Err(LoadError::unsupported(CONFIG, "positions that are not absolute"));
        }
        if self.context() == 0 || !self.layer_norm_eps.is_finite() || self.layer_norm_eps <= 0.0 {
            return Err(LoadError::invalid(CONFIG, &"pad_token_id or layer_norm_eps is out of range"));
        }
        self.family()?;
        self.activation().map(|_| ())
    }

    pub(crate) fn family(&self) -> Result<Family, LoadError> {
        match self.model_type.as_str() {
            "bert" => Ok(Family::Bert),
            "roberta" | "xlm-roberta" => Ok(Family::Roberta),
            "distilbert" => Ok(Family::DistilBert),
            "mpnet" => Ok(Family::Mpnet),
            other => Err(LoadError::unsupported(CONFIG, format!("the architecture `{other}`"))),
        }
    }

    pub(crate) fn activation(&self) -> Result<Activation, LoadError> {
        match self.hidden_act.as_deref() {
            None | Some("gelu") => Ok(Activation::Gelu),
            Some("relu") => Ok(Activation::Relu),
            Some(other) => Err(LoadError::unsupported(CONFIG, format!("the activation `{other}`"))),
        }
    }

    /// The position of a sequence's first token. RoBERTa's come after that of padding.
    pub(crate) fn first_position(&self) -> usize {
        if matches!(self.model_type.as_str(), "bert" | "distilbert") { 0 } else { self.pad_token_id.saturating_add(1) }
    }

    /// Whether tokens know which of two texts they are of.
    pub(crate) fn has_types(&self) -> Result<bool, LoadError> {
        Ok(matches!(self.family()?, Family::Bert | Family::Roberta))
    }

    /// In how many classes the distance between two tokens falls, for each of which each head has a bias; 0 where none has.
    pub(crate) fn distance_buckets(&self) -> Result<usize, LoadError> {
        Ok(if self.family()? == Family::Mpnet { self.relative_attention_num_buckets } else { 0 })
    }

    /// The longest sequence, in tokens.
    pub(crate) fn context(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    /// Whether it gives pairs a score, rather than texts vectors.
    pub(crate) fn is_classifier(&self) -> Result<bool, LoadError> {
        if !self.architectures.iter().any(|name| name.ends_with("ForSequenceClassification")) {
            return Ok(false);
        }
        match self.id2label.as_ref().map_or(2, HashMap::len) {
            1 => Ok(true),
            labels => {
                Err(LoadError::unsupported(CONFIG, format!("a classifier with {labels} labels; a reranker has 1")))
            }
        }
    }
}

/// What `modules.json` says comes after the encoder.
#[derive(Debug, Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's own shape")]
struct PoolingConfig {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

/// How a sequence's vector is made, and whether its length is then 1. A model that does not say gets what most have.
pub(crate) fn pooling(modules: Option<&[u8]>, pooling: Option<&[u8]>) -> Result<(Pooling, bool), LoadError> {
    let normalise = modules.map(normalises).transpose()?.unwrap_or(true);
    let Some(bytes) = pooling else { return Ok((Pooling::Mean, normalise)) };
    let config: PoolingConfig = serde_json::from_slice(bytes).map_err(|error| LoadError::invalid(POOLING, &error))?;
    let modes = [
        (config.pooling_mode_cls_token, Some(Pooling::First)),
        (config.pooling_mode_mean_tokens, Some(Pooling::Mean)),
        (config.pooling_mode_max_tokens, Some(Pooling::Max)),
        (config.pooling_mode_mean_sqrt_len_tokens, Some(Pooling::MeanSqrt)),
        (config.pooling_mode_weightedmean_tokens || config.pooling_mode_lasttoken, None),
    ];
    match modes.into_iter().filter(|(on, _)| *on).collect::<Vec<_>>().as_slice() {
        [(_, Some(pooling))] => Ok((*pooling, normalise)),
        _ => Err(LoadError::unsupported(POOLING, "no pooling, or one besides cls, mean, max and mean_sqrt_len")),
    }
}

fn normalises(bytes: &[u8]) -> Result<bool, LoadError> {
    let modules: Vec<Module> = serde_json::from_slice(bytes).map_err(|error| LoadError::invalid(MODULES, &error))?;
    let mut normalise = false;
    for module in modules {
        // A class by its whole path, of which versions differ.
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Pooling" => {}
            "Normalize" => normalise = true,
            other => return Err(LoadError::unsupported(MODULES, format!("the module `{other}`"))),
        }
    }
    Ok(normalise)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINI: &str = r#"{"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 384, "vocab_size": 30522,
        "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12, "max_position_embeddings": 512,
        "hidden_act": "gelu", "type_vocab_size": 2, "pad_token_id": 1}"#;

    fn refused(from: &str, to: &str) -> String {
        Config::parse(MINI.replace(from, to).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn positions_begin_where_the_family_has_them() {
        let bert = Config::parse(MINI.as_bytes()).unwrap();
        assert_eq!((bert.first_position(), bert.context()), (0, 512));
        let roberta = Config::parse(MINI.replace("\"bert\"", "\"xlm-roberta\"").as_bytes()).unwrap();
        assert_eq!((roberta.first_position(), roberta.context()), (2, 510));
    }

    #[test]
    fn what_is_out_of_bounds_or_unknown_is_named() {
        assert!(refused("384", "385").contains("no multiple of num_attention_heads"));
        assert!(refused("384", "999999999").contains("hidden_size is 999999999"));
        assert!(refused("30522", "0").contains("vocab_size is 0"));
        assert!(refused("\"bert\"", "\"t5\"").contains("the architecture `t5`"));
        assert!(refused("\"gelu\"", "\"silu\"").contains("the activation `silu`"));
        assert!(refused("\"vocab_size\"", "\"x\"").contains("vocab_size"));
    }

    #[test]
    fn distilbert_has_other_names() {
        let text = r#"{"model_type": "distilbert", "dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12,
            "max_position_embeddings": 512, "vocab_size": 30522, "activation": "gelu", "pad_token_id": 0}"#;
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!((config.hidden_size, config.intermediate_size, config.num_hidden_layers), (768, 3072, 6));
        assert_eq!(
            (config.context(), config.has_types().unwrap(), config.distance_buckets().unwrap()),
            (512, false, 0)
        );
        assert_eq!(config.activation().unwrap(), Activation::Gelu);
        let mpnet = Config::parse(MINI.replace("\"bert\"", "\"mpnet\"").as_bytes()).unwrap();
        assert_eq!((mpnet.context(), mpnet.has_types().unwrap(), mpnet.distance_buckets().unwrap()), (510, false, 32));
    }

    #[test]
    fn only_classifiers_of_one_label_are_rerankers() {
        let of = |more: &str| {
            let text = MINI.replace("\"BertModel\"]", &format!("\"BertForSequenceClassification\"]{more}"));
            Config::parse(text.as_bytes()).unwrap().is_classifier()
        };
        assert!(of(r#", "id2label": {"0": "LABEL_0"}"#).unwrap());
        assert!(of("").is_err());
        assert!(!Config::parse(MINI.as_bytes()).unwrap().is_classifier().unwrap());
    }

    #[test]
    fn pooling_is_as_the_model_says() {
        let modules =
            |last: &str| format!(r#"[{{"type": "sentence_transformers.models.Transformer"}}, {{"type": "x.{last}"}}]"#);
        let cls = br#"{"pooling_mode_cls_token": true, "word_embedding_dimension": 384}"#;
        assert_eq!(pooling(Some(modules("Normalize").as_bytes()), Some(cls)).unwrap(), (Pooling::First, true));
        assert_eq!(pooling(Some(modules("Pooling").as_bytes()), Some(cls)).unwrap(), (Pooling::First, false));
        assert_eq!(pooling(None, None).unwrap(), (Pooling::Mean, true));
        assert!(pooling(Some(modules("Dense").as_bytes()), Some(cls)).unwrap_err().to_string().contains("`Dense`"));
        assert!(pooling(None, Some(br#"{"pooling_mode_lasttoken": true}"#)).is_err());
        let two = br#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#;
        assert!(pooling(None, Some(two)).is_err());
    }
}

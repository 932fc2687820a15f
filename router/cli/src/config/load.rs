//! Reads the file, and turns each mistake into one line that names file, line and key.

use std::fs;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::ConfigFile;
use super::{alias, upstream};
use crate::failure::{Exit, Failure};

/// A configuration is a page of text; anything near this size is another file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A mistake in the file and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) key: String,
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
}

impl Mistake {
    /// A mistake in the value of a key.
    pub(super) fn at<T>(key: String, value: &Spanned<T>, message: String) -> Self {
        Self { key, span: Some(value.span()), message }
    }
}

pub(super) fn read(path: &Path) -> Result<ConfigFile, Failure> {
    let unreadable = |error: &std::io::Error| {
        Failure::from_io("read the configuration file", path, error).hint("check the path given with --config")
    };
    let size = fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, format!("{} is too large for a configuration file", path.display())));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    parse(&text).map_err(|mistake| {
        let line = mistake.span.map(|span| line_of(&text, span.start)).map_or(String::new(), |n| format!(", line {n}"));
        let key = if mistake.key.is_empty() { String::new() } else { format!(": `{}`", mistake.key) };
        Failure::new(Exit::Usage, format!("{}{line}{key}: {}", path.display(), mistake.message))
            .hint("correct the configuration file; the README shows an example")
    })
}

fn parse(text: &str) -> Result<ConfigFile, Mistake> {
    let unreadable = |error: &toml::de::Error| Mistake {
        key: String::new(),
        span: error.span(),
        message: error.message().to_owned(),
    };
    let document = toml::Deserializer::parse(text).map_err(|error| unreadable(&error))?;
    let config: ConfigFile = serde_path_to_error::deserialize(document).map_err(|error| {
        let key = error.path().to_string();
        let key = if key == "." { String::new() } else { key };
        Mistake { key, ..unreadable(error.inner()) }
    })?;
    alias::check(&config.aliases)?;
    upstream::check(&config.upstream)?;
    Ok(config)
}

/// Lines count from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// A whole number within bounds, checked where it is read so that the message has its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub(super) struct Bounded<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    pub(super) fn get(self) -> u32 {
        self.0
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<u32> for Bounded<MIN, MAX> {
    type Error = String;

    fn try_from(value: u32) -> Result<Self, String> {
        if (MIN..=MAX).contains(&value) { Ok(Self(value)) } else { Err(format!("{value} is not in {MIN} to {MAX}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> (usize, String, String) {
        let mistake = parse(text).expect_err("the mistake was not found");
        let line = line_of(text, mistake.span.expect("a place").start);
        (line, mistake.key, mistake.message)
    }

    #[test]
    fn everything_set() {
        let text = r#"
            listen = "0.0.0.0:8080"
            name = "library"
            profile = "home"
            time_zone = "Europe/Vienna"
            aliases = { "gpt-4o-mini" = "m", "claude-*" = "big" }
            [mdns]
            enabled = false
            [engine]
            binary = "/usr/lib/allerac-engine"
            default_model = "m"
            threads = 4
            cpus = "0-3"
            flash_attention = "on"
            kv_type_k = "q8_0"
            kv_type_v = "q8_0"
            gpu = "off"
            gpu_layers = 20
            [models]
            memory_mib = 8000
            idle_minutes = 10
            pinned = ["m"]
            [downloads]
            endpoint = "https://hub.example.org"
            kib_per_second = 2000
            hours = "23:00-07:00"
            connections = 2
            [[upstream]]
            name = "office"
            base_url = "http://10.0.0.5:8000/v1"
            key_env = "OFFICE_KEY"
            models = ["llama"]
            aliases = { big = "llama" }
        "#;
        let config = parse(text).unwrap();
        assert_eq!(config.label().host(), "library.local");
        assert!(!config.mdns.enabled);
        assert_eq!(config.upstream.len(), 1);
    }

    #[test]
    fn nothing_set() {
        let config = parse("").unwrap();
        assert!(config.mdns.enabled);
        assert_eq!(config.label().host(), "allerac.local");
    }

    #[test]
    fn each_mistake_names_its_line_and_key() {
        let upstream = "[[upstream]]\nname = \"a\"\nbase_url = \"http://h/v1\"\nmodels = [\"m\"]\n";
        let cases: &[(String, usize, &str, &str)] = &[
            ("\nlisten = \"8080\"".into(), 2, "listen", "invalid socket address"),
            ("lisen = \"127.0.0.1:1\"".into(), 1, "lisen", "unknown field"),
            ("name = \"my box\"".into(), 1, "name", "cannot be a host name"),
            ("time_zone = \"Mars\"".into(), 1, "time_zone", "no such time zone"),
            ("[engine]\nthreads = \"4\"".into(), 2, "engine.threads", "expected u32"),
            ("[engine]\ncontext = 1".into(), 2, "engine.context", "not in 256 to"),
            (
                "[engine]\nkv_type_k = \"q9\"".into(),
                2,
                "engine.kv_type_k",
                "unknown variant `q9`, expected one of `f32`",
            ),
            (
                "[engine]\ngpu = \"yes\"".into(),
                2,
                "engine.gpu",
                "unknown variant `yes`, expected one of `auto`, `on`, `off`",
            ),
            ("[engine]\ngpu_layers = 0".into(), 2, "engine.gpu_layers", "not in 1 to"),
            ("[engine]\ncpus = \"all\"".into(), 2, "engine.cpus", "no list of processors"),
            ("[engine]\nspeed = 1".into(), 2, "engine.speed", "unknown field"),
            ("[models]\nmemory_mib = 1".into(), 2, "models.memory_mib", "not in 64 to"),
            ("[models]\npined = []".into(), 2, "models.pined", "unknown field"),
            ("[downloads]\nhours = \"11pm\"".into(), 2, "downloads.hours", "like 23:00-07:00"),
            ("[downloads]\nkib_per_second = 1".into(), 2, "downloads.kib_per_second", "not in 16 to"),
            ("[downloads]\nendpoint = \"hub\"".into(), 2, "downloads.endpoint", "an address like"),
            ("[energy]\nprice_per_kwh = -1.0".into(), 2, "energy.price_per_kwh", "is no price"),
            (
                "[[energy.times]]\nhours = \"night\"\nprice_per_kwh = 0.2".into(),
                2,
                "energy.times[0].hours",
                "are no hours",
            ),
            ("[energy.machine]\nprice = 500.0\nyears = 0".into(), 3, "energy.machine.years", "not in 1 to"),
            ("[mdns]\nenabled = 1".into(), 2, "mdns.enabled", "expected a boolean"),
            ("[[upstream]]\nname = \"a\"".into(), 1, "upstream[0]", "missing field"),
            (upstream.replace("http://h/v1", "ftp://h"), 3, "upstream[0].base_url", "http"),
            (upstream.replace("\"a\"", "\"all\""), 2, "upstream[0].name", "means something else"),
            (upstream.replace("\"m\"", ""), 4, "upstream[0].models", "at least one"),
            (format!("{upstream}{upstream}"), 6, "upstream[1].name", "used twice"),
            (format!("{upstream}key_env = \"A\"\nkey_file = \"b\""), 5, "upstream[0].key_env", "not both"),
            (format!("{upstream}aliases = {{ big = \"x\" }}"), 5, "upstream[0].aliases.big", "`x` is not in"),
            ("[aliases]\n\"*gpt\" = \"m\"".into(), 2, "aliases.*gpt", "at its end"),
            ("[aliases]\na = \"\"".into(), 2, "aliases.a", "name of a model"),
            ("[aliases]\na = \"m\"\nb = \"a\"".into(), 3, "aliases.b", "is an alias itself"),
            ("listen = ".into(), 1, "", "string"),
        ];
        for (text, line, key, part) in cases {
            let (found_line, found_key, message) = mistake(text);
            assert_eq!((found_line, found_key.as_str()), (*line, *key), "in {text:?}: {message}");
            assert!(message.contains(part), "in {text:?}: {message}");
        }
    }
}

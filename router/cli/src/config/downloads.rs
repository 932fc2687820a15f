use std::env;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use allerac_models::{CONNECTIONS, Downloads, HUB, Hours, Hub, Pace};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::load::Bounded;
use crate::failure::Failure;

/// `[downloads]`: where models are fetched from, as whom, how fast, and when.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DownloadsSection {
    /// A mirror of the hub; `HF_ENDPOINT` wins.
    #[serde(deserialize_with = "endpoint")]
    endpoint: Option<String>,
    /// The token of an account at the hub; `HF_TOKEN` wins.
    token_file: Option<PathBuf>,
    kib_per_second: Option<Bounded<16, 104_857_600>>,
    /// Of the day, in the box's time zone.
    #[serde(deserialize_with = "hours")]
    hours: Option<Hours>,
    /// For one file.
    connections: Option<Bounded<1, 16>>,
}

impl DownloadsSection {
    /// What the file says, and the environment, which other programs that use the hub know too.
    pub(super) fn build(&self, folder: &Path, zone: TimeZone) -> Result<Downloads, Failure> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let endpoint = set("HF_ENDPOINT").or_else(|| self.endpoint.clone()).unwrap_or_else(|| HUB.to_owned());
        let token = match (set("HF_TOKEN"), &self.token_file) {
            (Some(token), _) => Some(token.trim().to_owned()),
            (None, Some(file)) => {
                let path = folder.join(file);
                let read = fs::read_to_string(&path);
                let read = read.map_err(|error| Failure::from_io("read the token of the hub", &path, &error))?;
                Some(read.trim().to_owned())
            }
            (None, None) => {
                token_paths(set).find_map(|path| fs::read_to_string(path).ok()).map(|token| token.trim().to_owned())
            }
        };
        let bytes = self.kib_per_second.and_then(|kib| NonZeroU64::new(u64::from(kib.get()) * 1024));
        Ok(Downloads {
            hub: Hub::new(&endpoint, token.filter(|token| !token.is_empty())),
            pace: Pace::new(bytes, self.hours.map(|hours| (hours, zone))),
            connections: self.connections.map_or(CONNECTIONS, |connections| connections.get() as usize),
        })
    }
}

/// Where the hub's own programs keep a token.
fn token_paths(set: impl Fn(&str) -> Option<String>) -> impl Iterator<Item = PathBuf> {
    let home = || set("HOME").map(|home| Path::new(&home).join(".cache/huggingface"));
    let named = set("HF_TOKEN_PATH").map(PathBuf::from);
    let kept = set("HF_HOME").map(PathBuf::from).or_else(home).map(|folder| folder.join("token"));
    named.into_iter().chain(kept)
}

fn endpoint<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let address = String::deserialize(deserializer)?;
    if address.starts_with("http://") || address.starts_with("https://") {
        return Ok(Some(address));
    }
    Err(serde::de::Error::custom("write an address like https://hub.example.org"))
}

fn hours<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Hours>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

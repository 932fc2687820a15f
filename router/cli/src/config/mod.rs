//! The configuration file: strict, so that a misspelt key is an error and not a surprise.

mod alerts;
mod alias;
mod backup;
mod downloads;
mod energy;
mod engine;
mod load;
mod models;
mod money;
mod oidc;
mod owning;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use allerac_discovery::Label;
use allerac_ledger::{Machine, Price};
use allerac_models::Downloads;
use allerac_router_core::{Aliases, Upstreams};
use allerac_tls::Files;
use jiff::tz::TimeZone;
use serde::Deserialize;
use toml::Spanned;

use alerts::AlertsSection;
pub(crate) use backup::Schedule;
pub(crate) use backup::{BackupSection, line};
use downloads::DownloadsSection;
use energy::EnergySection;
pub(crate) use engine::EngineSection;
use models::ModelsSection;
pub(crate) use oidc::OidcSection;
use owning::OwningSection;
use tls::TlsSection;
use upstream::UpstreamSection;

use crate::failure::{Exit, Failure};

/// The file as written. Every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    /// Where to listen.
    pub(crate) listen: Option<SocketAddr>,
    /// The box's name on the network, without `.local`.
    #[serde(deserialize_with = "label")]
    pub(crate) name: Option<Label>,
    /// The hardware profile.
    pub(crate) profile: Option<String>,
    /// The time zone of days and months.
    #[serde(deserialize_with = "time_zone")]
    pub(crate) time_zone: Option<TimeZone>,
    pub(crate) mdns: MdnsSection,
    pub(crate) engine: EngineSection,
    pub(crate) models: ModelsSection,
    pub(crate) backup: BackupSection,
    pub(crate) energy: EnergySection,
    pub(crate) alerts: AlertsSection,
    /// What prices are in, as ISO 4217 has it.
    currency: Option<String>,
    downloads: DownloadsSection,
    pub(crate) tls: TlsSection,
    pub(crate) oidc: Option<OidcSection>,
    upstream: Vec<UpstreamSection>,
    /// Machines that could do what other servers are paid for.
    owning: Vec<OwningSection>,
    /// Other names for models.
    aliases: BTreeMap<String, Spanned<String>>,
    /// The folder of the file; relative paths in it start there.
    #[serde(skip)]
    folder: PathBuf,
}

/// Announcing the box on the network.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MdnsSection {
    pub(crate) enabled: bool,
}

impl Default for MdnsSection {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl ConfigFile {
    /// Reads a file, or takes the defaults when there is none.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let mut config = load::read(path)?;
        config.folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(config)
    }

    /// The name on the network.
    pub(crate) fn label(&self) -> Label {
        self.name.clone().unwrap_or_else(|| Label::new("allerac").expect("the default name is a host name"))
    }

    /// How models are fetched. `zone` is that of the hours of a day, where the file does not say it.
    pub(crate) fn downloads(&self, zone: TimeZone) -> Result<Downloads, Failure> {
        self.downloads.build(&self.folder, self.time_zone.clone().unwrap_or(zone))
    }

    /// The other servers, with their keys read.
    pub(crate) fn upstreams(&self) -> Result<Upstreams, Failure> {
        upstream::build(&self.upstream, &self.folder)
    }

    /// What other servers take for tokens.
    pub(crate) fn prices(&self) -> Vec<Price> {
        upstream::prices(&self.upstream)
    }

    /// What other servers may take in a month.
    pub(crate) fn upstream_budgets(&self) -> BTreeMap<String, u64> {
        upstream::budgets(&self.upstream)
    }

    /// Machines that could do what other servers are paid for.
    pub(crate) fn machines(&self) -> Vec<Machine> {
        let per_kwh = self.energy.tariff().per_kwh;
        self.owning.iter().map(|section| section.machine(per_kwh)).collect()
    }

    /// What prices are in.
    pub(crate) fn currency(&self) -> Result<String, Failure> {
        let currency = self.currency.clone().unwrap_or_else(|| "EUR".to_owned());
        if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Ok(currency.to_ascii_lowercase());
        }
        Err(Failure::new(Exit::Usage, format!("`currency` cannot be `{currency}`")).hint("write it like EUR"))
    }

    /// Other names for models.
    pub(crate) fn aliases(&self) -> Aliases {
        Aliases::new(self.aliases.iter().map(|(name, model)| (name.clone(), model.get_ref().clone())).collect())
    }

    /// Where relative paths in the file begin.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate that the owner brought, where there is one.
    pub(crate) fn certificate(&self) -> Result<Option<Files>, Failure> {
        self.tls.files(&self.folder)
    }

    /// A path as it is written in the file.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

fn label<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Label>, D::Error> {
    let name = String::deserialize(deserializer)?;
    Label::new(&name).map(Some).map_err(serde::de::Error::custom)
}

fn time_zone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<TimeZone>, D::Error> {
    let name = String::deserialize(deserializer)?;
    crate::place::parse_time_zone(&name).map(Some).map_err(serde::de::Error::custom)
}

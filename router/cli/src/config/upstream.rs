use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use allerac_ledger::Price;
use allerac_router_core::{Secret, UpstreamConfig, Upstreams};
use serde::Deserialize;
use toml::Spanned;

use super::load::Mistake;
use super::money::Money;
use crate::failure::{Exit, Failure};

/// Names that say something else where an upstream's name could stand.
const RESERVED: [&str; 3] = ["all", "none", "local"];

/// `[[upstream]]`: another server that speaks the OpenAI API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamSection {
    name: Spanned<String>,
    base_url: Spanned<String>,
    key_file: Option<Spanned<PathBuf>>,
    key_env: Option<Spanned<String>>,
    models: Spanned<Vec<String>>,
    #[serde(default)]
    aliases: BTreeMap<String, Spanned<String>>,
    /// What it takes for the tokens of its models.
    #[serde(default)]
    prices: BTreeMap<Spanned<String>, PricePerMillion>,
    /// What it may take in a calendar month, of all who use it together.
    budget_a_month: Option<Money>,
}

/// What a million tokens cost, in the currency.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct PricePerMillion {
    input: Thousandths,
    /// For tokens that it knew from before; as much as for others where it is not said.
    cached_input: Option<Thousandths>,
    output: Thousandths,
}

/// A price, in thousandths of the currency.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Thousandths(u32);

impl TryFrom<f64> for Thousandths {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        let thousandths = (value * 1000.0).round();
        if !(0.0..=1_000_000.0).contains(&thousandths) || (value * 1000.0 - thousandths).abs() > 1e-6 {
            return Err(format!("{value} is no price: write 0 to 1000, with three digits after the point at most"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be small and whole")]
        Ok(Self(thousandths as u32))
    }
}

/// What a type cannot say about the sections.
pub(super) fn check(sections: &[UpstreamSection]) -> Result<(), Mistake> {
    let mut names = BTreeSet::new();
    for (index, section) in sections.iter().enumerate() {
        let key = |name: &str| format!("upstream[{index}].{name}");
        check_one(section, key)?;
        if !names.insert(section.name.get_ref()) {
            return Err(Mistake::at(key("name"), &section.name, "this name is used twice".to_owned()));
        }
    }
    Ok(())
}

fn check_one(section: &UpstreamSection, key: impl Fn(&str) -> String) -> Result<(), Mistake> {
    let name = section.name.get_ref();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        let message = "use letters, digits, hyphens, underscores and dots".to_owned();
        return Err(Mistake::at(key("name"), &section.name, message));
    }
    if RESERVED.contains(&name.as_str()) {
        return Err(Mistake::at(key("name"), &section.name, format!("`{name}` means something else; choose another")));
    }
    if !["http://", "https://"].iter().any(|scheme| section.base_url.get_ref().starts_with(scheme)) {
        let message = "write an address like http://10.0.0.5:8000/v1".to_owned();
        return Err(Mistake::at(key("base_url"), &section.base_url, message));
    }
    if let (Some(variable), Some(_)) = (&section.key_env, &section.key_file) {
        return Err(Mistake::at(key("key_env"), variable, "give key_env or key_file, not both".to_owned()));
    }
    let models = section.models.get_ref();
    if models.is_empty() {
        return Err(Mistake::at(key("models"), &section.models, "name at least one model".to_owned()));
    }
    for (alias, model) in &section.aliases {
        if !models.contains(model.get_ref()) {
            let message = format!("`{}` is not in this upstream's models", model.get_ref());
            return Err(Mistake::at(key(&format!("aliases.{alias}")), model, message));
        }
    }
    for name in section.prices.keys() {
        if !models.contains(name.get_ref()) && !section.aliases.contains_key(name.get_ref()) {
            let message = format!("`{}` is not in this upstream's models", name.get_ref());
            return Err(Mistake::at(key(&format!("prices.{}", name.get_ref())), name, message));
        }
    }
    Ok(())
}

/// What they take for tokens. Requests are known by the server's own names for models, so an alias stands for one of these.
pub(super) fn prices(sections: &[UpstreamSection]) -> Vec<Price> {
    let of = |section: &UpstreamSection| {
        let served_by = served_by(section);
        let mut by_model = BTreeMap::new();
        for (name, price) in &section.prices {
            match section.aliases.get(name.get_ref()) {
                None => drop(by_model.insert(name.get_ref().clone(), *price)),
                Some(model) => drop(by_model.entry(model.get_ref().clone()).or_insert(*price)),
            }
        }
        let price = move |(model, price): (String, PricePerMillion)| Price {
            served_by: served_by.clone(),
            model,
            // A thousandth for a million tokens is a billionth for one.
            input: price.input.0,
            cached_input: price.cached_input.map(|price| price.0),
            output: price.output.0,
        };
        by_model.into_iter().map(price).collect::<Vec<_>>()
    };
    sections.iter().flat_map(of).collect()
}

/// What they may take in a month, in billionths of the currency.
pub(super) fn budgets(sections: &[UpstreamSection]) -> BTreeMap<String, u64> {
    sections.iter().filter_map(|section| Some((served_by(section), section.budget_a_month?.0))).collect()
}

/// How the ledger calls what it computed.
fn served_by(section: &UpstreamSection) -> String {
    format!("upstream:{}", section.name.get_ref())
}

/// Reads the keys and builds the clients.
pub(super) fn build(sections: &[UpstreamSection], folder: &Path) -> Result<Upstreams, Failure> {
    let configs = sections.iter().map(|section| {
        Ok(UpstreamConfig {
            name: section.name.get_ref().clone(),
            base_url: section.base_url.get_ref().trim_end_matches('/').to_owned(),
            key: key(section, folder)?,
            models: section.models.get_ref().clone(),
            aliases: section.aliases.iter().map(|(alias, model)| (alias.clone(), model.get_ref().clone())).collect(),
        })
    });
    let configs = configs.collect::<Result<Vec<_>, Failure>>()?;
    Upstreams::new(configs).map_err(|error| Failure::from_error(Exit::Usage, &error))
}

fn key(section: &UpstreamSection, folder: &Path) -> Result<Option<Secret>, Failure> {
    let name = section.name.get_ref();
    let text = if let Some(path) = &section.key_file {
        let path = folder.join(path.get_ref());
        fs::read_to_string(&path).map_err(|error| {
            Failure::from_io(&format!("read the key of upstream {name} from"), &path, &error)
                .hint("correct its key_file, or make the file readable for this user")
        })?
    } else if let Some(variable) = &section.key_env {
        let variable = variable.get_ref();
        env::var(variable).map_err(|_| {
            Failure::new(Exit::Usage, format!("the environment has no {variable}, the key of upstream {name}"))
                .hint("set it, or correct the upstream's key_env")
        })?
    } else {
        return Ok(None);
    };
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_control) {
        return Err(Failure::new(Exit::Usage, format!("the key of upstream {name} is not one line of text"))
            .hint("write the key alone into the file or the variable"));
    }
    Ok(Some(Secret::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(prices: &str) -> Vec<UpstreamSection> {
        let text = format!(
            "[[upstream]]\nname = \"far\"\nbase_url = \"http://far/v1\"\nmodels = [\"big\"]\n\
             aliases = {{ large = \"big\" }}\n{prices}"
        );
        #[derive(Deserialize)]
        struct File {
            upstream: Vec<UpstreamSection>,
        }
        toml::from_str::<File>(&text).unwrap().upstream
    }

    #[test]
    fn prices_and_budgets_are_read_to_the_last_digit() {
        let far = sections(
            "prices = { big = { input = 2.5, cached_input = 0.25, output = 10.125 } }\nbudget_a_month = 12.345678",
        );
        let price = Price {
            served_by: "upstream:far".into(),
            model: "big".into(),
            input: 2500,
            cached_input: Some(250),
            output: 10_125,
        };
        assert_eq!(prices(&far), [price]);
        assert_eq!(budgets(&far), BTreeMap::from([("upstream:far".to_owned(), 12_345_678_000)]));
        assert_eq!(budgets(&sections("")), BTreeMap::new());
    }

    #[test]
    fn a_price_under_an_alias_is_that_of_its_model() {
        let input = |text: &str| {
            let prices = prices(&sections(text));
            prices.iter().map(|price| (price.model.clone(), price.input)).collect::<Vec<_>>()
        };
        assert_eq!(input("prices = { large = { input = 1, output = 1 } }"), [("big".to_owned(), 1000)]);
        let both = "prices = { big = { input = 2, output = 1 }, large = { input = 1, output = 1 } }";
        assert_eq!(input(both), [("big".to_owned(), 2000)]);
    }
}

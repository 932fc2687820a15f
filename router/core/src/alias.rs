//! Other names for models, given by the administrator: for clients that insist on a name they know.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::registry::Registry;
use crate::upstream::Upstreams;

/// What Ollama's clients add to a name that has no tag.
const LATEST: &str = ":latest";

/// Other names for models. A name that ends in `*` stands for all that begin like it.
#[derive(Debug, Clone, Default)]
pub struct Aliases {
    exact: BTreeMap<String, String>,
    /// Beginnings of names, the longest first.
    beginnings: Vec<(String, String)>,
}

impl Aliases {
    /// From names to models.
    #[must_use]
    pub fn new(names: BTreeMap<String, String>) -> Self {
        let mut aliases = Self::default();
        for (name, model) in names {
            match name.strip_suffix('*') {
                Some(beginning) => aliases.beginnings.push((beginning.to_owned(), model)),
                None => drop(aliases.exact.insert(name, model)),
            }
        }
        aliases.beginnings.sort_by_key(|(beginning, _)| std::cmp::Reverse(beginning.len()));
        aliases
    }

    /// The names that can be listed: those without `*`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(String::as_str)
    }

    /// The models that names stand for.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.exact.values().chain(self.beginnings.iter().map(|(_, model)| model)).map(String::as_str)
    }

    fn exactly(&self, name: &str) -> Option<&str> {
        self.exact.get(name).map(String::as_str)
    }

    fn by_beginning(&self, name: &str) -> Option<&str> {
        self.beginnings.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, model)| model.as_str())
    }

    /// The model that a name stands for: the one that has it, else what the administrator says, else the one of the box
    /// that a name with a tag means; a name with Ollama's `:latest` is also the name without it. A name that stands for
    /// nothing stands for itself.
    pub fn model<'a>(&'a self, name: &'a str, registry: &Registry, upstreams: &Upstreams) -> Cow<'a, str> {
        let exists = |name: &str| registry.find(name).is_some() || upstreams.serving(name).next().is_some();
        let names = || [Some(name), name.strip_suffix(LATEST)].into_iter().flatten();
        names()
            .find(|name| exists(name))
            .or_else(|| names().find_map(|name| self.exactly(name)))
            .or_else(|| names().find_map(|name| self.by_beginning(name)))
            .map(Cow::Borrowed)
            .or_else(|| registry.named(name).map(Cow::Owned))
            .unwrap_or(Cow::Borrowed(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::test_model;
    use crate::upstream::UpstreamConfig;

    #[tokio::test]
    async fn a_name_is_its_own_before_it_is_an_alias() {
        let registry = Registry::test(vec![test_model("tiny-1b-chat", 1)]);
        let upstream = UpstreamConfig {
            name: "a".into(),
            base_url: "http://127.0.0.1:1/v1".into(),
            key: None,
            models: vec!["big".into(), "claude-real".into(), "tagged:latest".into()],
            aliases: BTreeMap::new(),
        };
        let upstreams = Upstreams::new(vec![upstream]).unwrap();
        let names = [("gpt-4o-mini", "small"), ("big", "small"), ("claude-*", "big"), ("claude-haiku-*", "small")];
        let aliases = Aliases::new(names.map(|(name, model)| (name.to_owned(), model.to_owned())).into());
        for (name, model) in [
            ("gpt-4o-mini", "small"),
            ("gpt-4o-mini:latest", "small"),
            ("gpt-4o", "gpt-4o"),
            ("big", "big"),
            ("big:latest", "big"),
            ("tagged:latest", "tagged:latest"),
            ("claude-real", "claude-real"),
            ("claude-opus-9", "big"),
            ("claude-haiku-9", "small"),
            ("claude-", "big"),
            ("nobody:latest", "nobody:latest"),
            ("tiny:1b", "tiny-1b-chat"),
            ("tiny", "tiny"),
        ] {
            assert_eq!(aliases.model(name, &registry, &upstreams), model, "{name}");
        }
        assert_eq!(aliases.names().collect::<Vec<_>>(), ["big", "gpt-4o-mini"]);
        assert_eq!(aliases.models().collect::<Vec<_>>(), ["small", "small", "small", "big"]);
    }
}
